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

/// Checks the request as its endpoint demands.
pub fn verify(admitted: Admitted) -> Result<Verified, Problem> {
    let endpoint = &admitted.endpoint;
    signature::verify(
        &endpoint.verification,
        &endpoint.secrets,
        &admitted.headers,
        &admitted.body,
        admitted.received_at,
    )
    .map_err(|rejection| {
        tracing::debug!(endpoint_id = %endpoint.id, reason = rejection.reason(), "a request is not believed");
        problem(&rejection)
    })?;
    Ok(Verified(admitted))
}

fn problem(rejection: &Rejection) -> Problem {
    let kind = match rejection {
        Rejection::MissingHeader(_) => Kind::SignatureMissing,
        Rejection::MalformedHeader(..) | Rejection::WrongSignature => Kind::SignatureInvalid,
        Rejection::Stale(..) => Kind::TimestampStale,
    };
    Problem::new(kind, rejection.to_string())
}
