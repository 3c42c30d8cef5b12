//! What a provider asks before it sends events is answered here; core says what and how.

use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ravenpost_chassis::problem::{Kind, Problem};
use ravenpost_chassis::{clock, random};
use ravenpost_core::handshake::{self, Answer, Step};
use ravenpost_core::ids::SecretId;
use ravenpost_core::secret::Secret;
use ravenpost_store::system::{Change, Endpoint};

use crate::admit::Admitted;
use crate::receive::Ingress;
use crate::verify::{Verified, request};

/// When to come back while a handshake can't be finished.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(5);

/// Whether an endpoint takes requests of this method: POST, and what its provider's handshake needs.
pub fn allow(endpoint: &Endpoint, method: &Method) -> Result<(), Problem> {
    if method == Method::POST || handshake::of(&endpoint.verification).allows(method) {
        return Ok(());
    }
    Err(Problem::new(Kind::MethodNotAllowed, format!("{method} is not allowed at this endpoint")))
}

/// What a request without a verified signature turns out to be.
pub enum Asked {
    /// No handshake: it is to be verified.
    Nothing,
    /// A handshake, with its answer.
    Answered(Response),
    /// A handshake that has brought the endpoint's secret, and that a person has to see: an event, although nobody could
    /// sign it yet.
    Shown,
}

/// Answers a handshake that its provider does not sign.
pub async fn unsigned(ingress: &Ingress, token: &str, admitted: &Admitted) -> Result<Asked, Problem> {
    let endpoint = &admitted.endpoint;
    let step = handshake::unsigned(&endpoint.verification, &endpoint.secrets, &request(ingress, admitted));
    match step {
        Some(step) => {
            let answer = carry_out(ingress, token, endpoint, step).await?;
            Ok(answer.map_or(Asked::Shown, Asked::Answered))
        }
        None if admitted.method == Method::POST => Ok(Asked::Nothing),
        None => Err(Problem::new(Kind::Malformed, "not the handshake of this endpoint's provider")),
    }
}

/// Answers a handshake whose signature has been verified. `None` when the request is an event.
pub async fn signed(
    ingress: &Ingress,
    token: &str,
    verified: &Verified,
) -> Result<Option<Response>, Problem> {
    let admitted = verified.admitted();
    let endpoint = &admitted.endpoint;
    let step = handshake::signed(&endpoint.verification, &endpoint.secrets, &request(ingress, admitted));
    match step {
        Some(step) => carry_out(ingress, token, endpoint, step).await,
        None => Ok(None),
    }
}

async fn carry_out(
    ingress: &Ingress,
    token: &str,
    endpoint: &Endpoint,
    step: Step,
) -> Result<Option<Response>, Problem> {
    match step {
        Step::Answer(answer) => Ok(Some(response(&answer))),
        Step::Keep(secret, answer) => {
            keep(ingress, token, endpoint, &secret).await?;
            Ok(answer.as_ref().map(response))
        }
        Step::Confirm(url) => {
            if ingress.certificates.confirm(endpoint.id, &url).await {
                tracing::info!(endpoint_id = %endpoint.id, "a subscription was confirmed");
                return Ok(Some(response(&Answer::empty(200))));
            }
            Err(Problem::unavailable("the subscription can't be confirmed just now", RETRY_AFTER))
        }
    }
}

/// Keeps the secret, and forgets what is remembered of the endpoint, since what follows is signed with it.
async fn keep(ingress: &Ingress, token: &str, endpoint: &Endpoint, secret: &Secret) -> Result<(), Problem> {
    let now = clock::now();
    let id = SecretId::new(now, random::bytes());
    let decided_on = &endpoint.verification;
    let kept =
        ingress.system.keep_first_secret(endpoint.id, decided_on, id, secret, random::bytes(), now).await;
    let kept = kept.map_err(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, "a secret can't be kept");
        Problem::unavailable("the secret can't be kept just now", RETRY_AFTER)
    })?;
    ingress.endpoints.forget(&Change::Endpoint(token.to_owned())).await;
    if kept {
        tracing::info!(endpoint_id = %endpoint.id, "a handshake brought the endpoint's first secret");
        return Ok(());
    }
    Err(Problem::new(
        Kind::Conflict,
        "the endpoint has a secret already, or is verified otherwise by now; remove the secret to take another one",
    ))
}

fn response(answer: &Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = (status, answer.body.clone()).into_response();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    // What is echoed is somebody else's text: no browser shall make anything of it.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some((name, value)) = &answer.header
        && let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
    {
        headers.insert(name, value);
    }
    response
}
