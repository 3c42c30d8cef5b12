//! Is it really from the producer? From here on it is.

mod aside;
mod challenge;

use std::time::Duration;

use ravenpost_chassis::problem::{Kind, Problem};
use ravenpost_core::signature::{self, Rejection, Request, Url};

use crate::admit::Admitted;
use crate::receive::Ingress;
pub use aside::Aside;
pub use challenge::challenge;

/// From this many bytes on, a body is checked apart: hashing it would keep others waiting.
const LARGE: usize = 64 * 1_024;
/// When to come back while a certificate can't be fetched.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// A request that its endpoint believes.
pub struct Verified(Admitted);

impl Verified {
    /// The request.
    pub fn into_inner(self) -> Admitted {
        self.0
    }

    /// A request that has just brought the secret that its endpoint verifies with from now on.
    pub fn by_first_secret(admitted: Admitted) -> Self {
        Self(admitted)
    }

    /// The request, to look at.
    pub fn admitted(&self) -> &Admitted {
        &self.0
    }
}

/// The request as verification sees it.
pub fn request<'a>(ingress: &'a Ingress, admitted: &'a Admitted) -> Request<'a> {
    request_at(&ingress.hook_base_url, admitted)
}

fn request_at<'a>(hook_base_url: &'a str, admitted: &'a Admitted) -> Request<'a> {
    let path_and_query = admitted.uri.path_and_query().map_or("/", |path| path.as_str());
    Request {
        method: &admitted.method,
        url: Url { base: hook_base_url, path_and_query },
        headers: &admitted.headers,
        body: &admitted.body,
        peer: admitted.peer,
        received_at: admitted.received_at,
        fetched: None,
    }
}

/// A request that its endpoint does not believe.
pub struct Unbelieved {
    /// The request.
    pub admitted: Admitted,
    /// Why.
    pub rejection: Rejection,
}

/// Checks the request as its endpoint demands.
pub async fn verify(ingress: &Ingress, admitted: Admitted) -> Result<Verified, Box<Unbelieved>> {
    let (admitted, outcome) = if admitted.body.len() > LARGE {
        // Boxed: rare, and large.
        Box::pin(verify_aside(ingress, admitted)).await
    } else {
        let endpoint = &admitted.endpoint;
        let request = request(ingress, &admitted);
        let (verification, secrets) = (&endpoint.verification, &endpoint.secrets);
        let outcome = ingress.certificates.verify(endpoint.id, verification, secrets, request).await;
        (admitted, outcome)
    };
    match outcome {
        Ok(()) => Ok(Verified(admitted)),
        Err(rejection) => {
            let endpoint_id = admitted.endpoint.id;
            tracing::debug!(%endpoint_id, reason = rejection.reason(), "a request is not believed");
            Err(Box::new(Unbelieved { admitted, rejection }))
        }
    }
}

/// Checks a large body where it keeps nobody waiting.
async fn verify_aside(ingress: &Ingress, admitted: Admitted) -> (Admitted, Result<(), Rejection>) {
    let base = ingress.hook_base_url.clone();
    let judged = ingress.aside.run(move || {
        let outcome = judge(&base, &admitted, None);
        (admitted, outcome)
    });
    let (admitted, outcome) = judged.await;
    let url = match outcome {
        Ok(Some(url)) => url,
        other => return (admitted, other.map(|_| ())),
    };
    let certificate = match ingress.certificates.get(admitted.endpoint.id, &url).await {
        Ok(certificate) => certificate,
        Err(rejection) => return (admitted, Err(rejection)),
    };
    let base = ingress.hook_base_url.clone();
    let judged = ingress.aside.run(move || {
        let outcome = judge(&base, &admitted, Some(&certificate));
        (admitted, outcome.map(|_| ()))
    });
    judged.await
}

/// Whether a request is believed, or else what has to be fetched to tell.
fn judge(
    hook_base_url: &str,
    admitted: &Admitted,
    fetched: Option<&[u8]>,
) -> Result<Option<url::Url>, Rejection> {
    let (verification, secrets) = (&admitted.endpoint.verification, &admitted.endpoint.secrets);
    let request = Request { fetched, ..request_at(hook_base_url, admitted) };
    if fetched.is_none()
        && let Some(url) = signature::to_fetch(verification, secrets, &request)?
    {
        return Ok(Some(url));
    }
    signature::verify(verification, secrets, &request).map(|()| None)
}

/// What its producer is told.
pub fn problem(rejection: &Rejection) -> Problem {
    let kind = match rejection {
        Rejection::MissingHeader(_) | Rejection::MissingField(_) => Kind::SignatureMissing,
        Rejection::Stale(..) => Kind::TimestampStale,
        Rejection::CertificateUnavailable => return Problem::unavailable(rejection.to_string(), RETRY_AFTER),
        Rejection::MalformedHeader(..)
        | Rejection::MalformedField(..)
        | Rejection::WrongSignature
        | Rejection::WrongCredentials
        | Rejection::AddressNotAllowed(_)
        | Rejection::NoSecret
        | Rejection::Certificate(_) => Kind::SignatureInvalid,
    };
    Problem::new(kind, rejection.to_string())
}
