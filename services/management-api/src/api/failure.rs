//! How a handler fails: with a problem that it found, or because a store did.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use ravenpost_chassis::problem::{Kind, Problem};
use ravenpost_store::Error;

/// When it is worth trying again after a store was away.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// What handlers fail with; `?` makes it of either.
#[derive(Debug)]
pub enum Failure {
    /// The caller is told so.
    Problem(Problem),
    /// Logged here, once, and told without its causes.
    Store(Error),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Problem(problem) => problem,
            Self::Store(error) if error.is_transient() => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(%error, cause, "a request can't be served now");
                Problem::unavailable(error.to_string(), RETRY_AFTER)
            }
            Self::Store(Error::Superseded) => {
                Problem::new(Kind::IdempotencyKeyInUse, "another request with this key has taken over")
                    .retry_after(RETRY_AFTER)
            }
            Self::Store(error) => Problem::internal(&error),
        }
        .into_response()
    }
}
