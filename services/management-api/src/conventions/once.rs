//! `Idempotency-Key` on every POST (draft-ietf-httpapi-idempotency-key-header, as Stripe does it): a repeat is answered as
//! the first request was, and does nothing. What is about an organization is kept there; what a person does for themselves
//! (found an organization, join one, leave one) is kept with the person.
//!
//! ```text
//! claim the key ──▶ new: carry out, keep the answer     answered: that answer again, Idempotency-Replayed: true
//!                   another request's: 422              in progress, or its answer was lost: 409
//! ```
//!
//! A caller that goes away does not stop what it has begun: otherwise the answer that its repeat is to get would be lost.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ravenpost_chassis::problem::{Kind, Problem};
use ravenpost_chassis::{clock, random};
use ravenpost_core::access::Actor;
use ravenpost_core::secret::Secret;
use ravenpost_store::Tenant;
use ravenpost_store::tenant::{Claimed, KeyClaim, ToSeal};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::Instrument as _;
use uuid::Uuid;

use super::origin::Origin;
use crate::api::{Api, Failure, MAX_BODY};
use crate::auth::{Identity, admitted};

/// The header, and the parameter's name in the document.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Says that an answer is the one to an earlier request.
pub(crate) const IDEMPOTENCY_REPLAYED: &str = "idempotency-replayed";
/// The longest key.
pub(crate) const MAX_KEY: usize = 255;
/// How long an answer is kept.
const KEPT: Duration = Duration::from_hours(24);
/// How long a request is believed to be at work: longer than any takes.
const LOCKED: Duration = Duration::from_secs(60);
/// When to ask again for the answer to a request that is at work.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The longest answer that is kept, in bytes.
const MAX_REPLY: u64 = 512 * 1_024;
/// What of an answer's head is kept; the rest is made anew.
const KEPT_HEADERS: [HeaderName; 3] = [header::CONTENT_TYPE, header::LOCATION, header::ETAG];

/// An answer as it is kept.
#[derive(Serialize, Deserialize)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

pub(super) async fn once(State(api): State<Api>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST || !request.headers().contains_key(IDEMPOTENCY_KEY) {
        return next.run(request).await;
    }
    match keyed(&api, request, next).await {
        Ok(response) => response,
        Err(failure) => failure.into_response(),
    }
}

async fn keyed(api: &Api, request: Request, next: Next) -> Result<Response, Failure> {
    let key = key(request.headers())?;
    let Some(identity) = request.extensions().get::<Identity>().cloned() else {
        return Ok(next.run(request).await);
    };
    let (mut parts, body) = request.into_parts();
    let origin = Origin::of(&parts.extensions);
    let owner = match (admitted(&identity, &mut parts, api).await?, &identity) {
        (Some((organization, actor, _)), _) => api.store.tenant(organization, origin.author(actor)),
        (None, Identity::Person(person)) => {
            api.store.personal(person.id, origin.author(Actor::User(person.id)))
        }
        // No person: the handler refuses it.
        (None, Identity::Program(_)) => return Ok(next.run(Request::from_parts(parts, body)).await),
    };
    let body = to_bytes(body, MAX_BODY).await.map_err(|_| {
        Problem::new(Kind::PayloadTooLarge, "the body is larger than this operation takes, or ended early")
    })?;
    let request = Request::from_parts(parts, body);
    to_its_end(claim_and_carry_out(owner, key, identity.actor_id(), request, next)).await
}

/// Whether or not anybody waits for it still.
async fn to_its_end(
    work: impl Future<Output = Result<Response, Failure>> + Send + 'static,
) -> Result<Response, Failure> {
    let ended = tokio::spawn(work.in_current_span()).await;
    // The panic hook has logged it.
    ended.unwrap_or_else(|_| Err(Problem::new(Kind::Internal, "something went wrong on our side").into()))
}

async fn claim_and_carry_out(
    owner: Tenant,
    key: String,
    actor_id: Uuid,
    mut request: Request<Bytes>,
    next: Next,
) -> Result<Response, Failure> {
    let request_id = Uuid::from_bytes(random::bytes());
    let claim = KeyClaim {
        actor_id,
        key: &key,
        fingerprint: fingerprint(request.uri(), request.body()),
        request_id,
        lock: LOCKED,
        keep: KEPT,
    };
    match owner.claim_key(&claim, clock::now()).await? {
        Claimed::Ours => {}
        Claimed::Answered(reply) => return Ok(again(&reply)),
        refused => return Err(refusal(&refused).into()),
    }
    let origin = Origin { request: Some(request_id), ..Origin::of(request.extensions()) };
    request.extensions_mut().insert(origin);
    Ok(carry_out(owner, request_id, request.map(Body::from), next).await)
}

/// The answer to the request, which is kept if a repeat would be answered so as well.
async fn carry_out(owner: Tenant, request_id: Uuid, request: Request, next: Next) -> Response {
    let (parts, body) = next.run(request).await.into_parts();
    let short = axum::body::HttpBody::size_hint(&body).exact().is_some_and(|length| length <= MAX_REPLY);
    if !is_final(parts.status) || !short {
        settle(owner.release_key(request_id).await);
        return Response::from_parts(parts, body);
    }
    let Ok(body) = to_bytes(body, usize::try_from(MAX_REPLY).unwrap_or(usize::MAX)).await else {
        settle(owner.release_key(request_id).await);
        return Problem::new(Kind::Internal, "something went wrong on our side").into_response();
    };
    match kept(parts.status, &parts.headers, &body) {
        Some(secret) => {
            let reply = ToSeal { secret: &secret, nonce: random::bytes() };
            settle(owner.keep_reply(request_id, reply).await);
        }
        None => settle(owner.release_key(request_id).await),
    }
    Response::from_parts(parts, Body::from(body))
}

/// The caller has its answer in any case; a repeat finds out from the key that it was carried out.
fn settle(result: ravenpost_store::Result<()>) {
    if let Err(error) = result {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "an answer could not be kept for its repeat"
        );
    }
}

/// Whether a repeat would be answered the same. What depends on the moment or on the caller's rights would not: neither
/// would it have done anything.
fn is_final(status: StatusCode) -> bool {
    let passing = [
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::CONFLICT,
        StatusCode::PRECONDITION_FAILED,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    !status.is_server_error() && !passing.contains(&status)
}

/// The key as it is sent: bare, or a string of structured fields (RFC 9651), as the draft wants it.
fn key(headers: &HeaderMap) -> Result<String, Problem> {
    let invalid = || {
        let message = format!("one key of 1 to {MAX_KEY} visible ASCII characters");
        Problem::invalid_parameter(IDEMPOTENCY_KEY, message)
    };
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(invalid()) };
    let text = value.to_str().map_err(|_| invalid())?.trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let well_formed = (1..=MAX_KEY).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if well_formed { Ok(text.to_owned()) } else { Err(invalid()) }
}

/// Of what is asked for: a key can't stand for anything else.
fn fingerprint(uri: &Uri, body: &Bytes) -> [u8; 32] {
    let target = uri.path_and_query().map(axum::http::uri::PathAndQuery::as_str).unwrap_or_default();
    let mut digest = Sha256::new_with_prefix((target.len() as u64).to_be_bytes());
    digest.update(target);
    digest.update(body);
    digest.finalize().into()
}

fn refusal(claimed: &Claimed) -> Problem {
    match claimed {
        Claimed::Other => Problem {
            kind: Kind::IdempotencyKeyReused,
            ..Problem::invalid_parameter(IDEMPOTENCY_KEY, "it came with another request before")
        },
        Claimed::Lost => Problem::new(
            Kind::IdempotencyKeyInUse,
            "the request was carried out, and its answer was lost: look at what it was to change, and use a new key",
        )
        .retry_after(KEPT),
        Claimed::Ours | Claimed::Answered(_) | Claimed::InProgress => {
            Problem::new(Kind::IdempotencyKeyInUse, "a request with this key has not ended yet")
                .retry_after(RETRY_AFTER)
        }
    }
}

/// An answer as it is kept; `None` for one that is no text.
fn kept(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Option<Secret> {
    let header = |name: &HeaderName| {
        let value = headers.get(name)?.to_str().ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    };
    let reply = Reply {
        status: status.as_u16(),
        headers: KEPT_HEADERS.iter().filter_map(header).collect(),
        body: String::from_utf8(body.to_vec()).ok()?,
    };
    serde_json::to_string(&reply).ok().map(Secret::new)
}

fn again(kept: &Secret) -> Response {
    let reply: Reply = match serde_json::from_str(kept.reveal()) {
        Ok(reply) => reply,
        Err(error) => return Problem::internal(&error).into_response(),
    };
    let status = StatusCode::from_u16(reply.status).unwrap_or_default();
    let mut response = (status, reply.body).into_response();
    let headers = response.headers_mut();
    headers.clear();
    for (name, value) in reply.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(values: &[&str]) -> Result<String, Problem> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IDEMPOTENCY_KEY, value.parse().unwrap());
        }
        key(&headers)
    }

    #[test]
    fn keys_are_bare_or_in_quotes() {
        assert_eq!(keys(&["8e03978e"]).unwrap(), "8e03978e");
        assert_eq!(keys(&["\"8e03978e\""]).unwrap(), "8e03978e");
        assert_eq!(keys(&[&"k".repeat(255)]).unwrap().len(), 255);
        for bad in [&["" as &str] as &[&str], &["\"\""], &["a b"], &["a", "a"], &["a\tb"], &["\u{fc}"]] {
            assert_eq!(keys(bad).unwrap_err().kind, Kind::InvalidParameter, "{bad:?}");
        }
        assert!(keys(&[&"k".repeat(256)]).is_err());
    }

    #[test]
    fn a_key_stands_for_path_query_and_body() {
        let of = |uri: &str, body: &'static str| fingerprint(&uri.parse().unwrap(), &body.into());
        let one = of("/endpoints", "{}");
        assert_eq!(of("/endpoints", "{}"), one);
        for (uri, body) in
            [("/channels", "{}"), ("/endpoints?a", "{}"), ("/endpoints", "{ }"), ("/endpoint", "s{}")]
        {
            assert_ne!(of(uri, body), one, "{uri} {body}");
        }
    }

    #[tokio::test]
    async fn an_answer_comes_back_as_it_was() {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, "/api/v1/endpoints/1".parse().unwrap());
        headers.insert(header::DATE, "now".parse().unwrap());
        let kept = kept(StatusCode::CREATED, &headers, &"{}".into()).unwrap();
        let response = again(&kept);
        assert_eq!(response.status(), StatusCode::CREATED);
        assert_eq!(response.headers()["location"], "/api/v1/endpoints/1");
        assert_eq!(response.headers()[IDEMPOTENCY_REPLAYED], "true");
        assert!(!response.headers().contains_key("date"));
        assert_eq!(to_bytes(response.into_body(), 100).await.unwrap(), "{}");
    }
}
