//! Is it really from the producer? From here on it is.

use std::time::Duration;

use ravenpost_chassis::problem::{Kind, Problem};
use ravenpost_core::signature::{Rejection, Request, Url};

use crate::admit::Admitted;
use crate::receive::Ingress;

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
    let path_and_query = admitted.uri.path_and_query().map_or("/", |path| path.as_str());
    Request {
        method: &admitted.method,
        url: Url { base: &ingress.hook_base_url, path_and_query },
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
    let endpoint = &admitted.endpoint;
    let request = request(ingress, &admitted);
    match ingress.certificates.verify(&endpoint.verification, &endpoint.secrets, request).await {
        Ok(()) => Ok(Verified(admitted)),
        Err(rejection) => {
            let endpoint_id = admitted.endpoint.id;
            tracing::debug!(%endpoint_id, reason = rejection.reason(), "a request is not believed");
            Err(Box::new(Unbelieved { admitted, rejection }))
        }
    }
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
