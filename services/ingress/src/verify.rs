//! Is it really from the producer? From here on it is.

use ravenpost_chassis::problem::{Kind, Problem};
use ravenpost_core::signature::{self, Rejection};

use crate::admit::Admitted;

/// A request that its endpoint believes.
pub struct Verified(Admitted);

impl Verified {
    /// The request.
    pub fn into_inner(self) -> Admitted {
        self.0
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
pub fn verify(admitted: Admitted) -> Result<Verified, Box<Unbelieved>> {
    let endpoint = &admitted.endpoint;
    let verified = signature::verify(
        &endpoint.verification,
        &endpoint.secrets,
        &admitted.headers,
        &admitted.body,
        admitted.received_at,
    );
    match verified {
        Ok(()) => Ok(Verified(admitted)),
        Err(rejection) => {
            tracing::debug!(endpoint_id = %endpoint.id, reason = rejection.reason(), "a request is not believed");
            Err(Box::new(Unbelieved { admitted, rejection }))
        }
    }
}

/// What its producer is told.
pub fn problem(rejection: &Rejection) -> Problem {
    let kind = match rejection {
        Rejection::MissingHeader(_) => Kind::SignatureMissing,
        Rejection::MalformedHeader(..) | Rejection::WrongSignature => Kind::SignatureInvalid,
        Rejection::Stale(..) => Kind::TimestampStale,
    };
    Problem::new(kind, rejection.to_string())
}
