//! From the token in the URL to the endpoint.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use ravenpost_chassis::problem::{Kind, Problem};
use ravenpost_store::System;
use ravenpost_store::system::Endpoint;

/// How long an endpoint is believed to be as it was read: a change takes effect within this time.
const FRESH: Duration = Duration::from_secs(1);
/// Endpoints remembered at once; unknown tokens count too, so that guessing costs the database little.
const REMEMBERED: u64 = 100_000;
/// No token of ours is longer.
const MAX_TOKEN: usize = 64;
/// When to come back while Postgres is away.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Endpoints by token.
pub struct Endpoints {
    system: System,
    known: Cache<String, Option<Arc<Endpoint>>>,
}

impl Endpoints {
    /// Reads through to the store.
    pub fn new(system: System) -> Self {
        Self { system, known: Cache::builder().max_capacity(REMEMBERED).time_to_live(FRESH).build() }
    }

    /// The endpoint of a token; a problem when there is none, or none any more.
    pub async fn resolve(&self, token: &str) -> Result<Arc<Endpoint>, Problem> {
        let unknown = || Problem::new(Kind::UnknownToken, "no endpoint has this token; check the URL");
        if token.len() > MAX_TOKEN {
            return Err(unknown());
        }
        let load = async { Ok(self.system.endpoint_by_token(token).await?.map(Arc::new)) };
        let found = match self.known.try_get_with_by_ref(token, load).await {
            Ok(found) => found,
            Err(error) => return Err(unreadable(&error)),
        };
        let endpoint = found.ok_or_else(unknown)?;
        if endpoint.deleted {
            return Err(Problem::new(Kind::Gone, "this endpoint was deleted; stop sending to it"));
        }
        Ok(endpoint)
    }

    /// Reads the endpoint anew the next time.
    pub async fn forget(&self, token: &str) {
        self.known.invalidate(token).await;
    }
}

fn unreadable(error: &Arc<ravenpost_store::Error>) -> Problem {
    if error.is_transient() {
        tracing::warn!(error = error.as_ref() as &dyn std::error::Error, "an endpoint can't be read");
        return Problem::unavailable("the event can't be stored just now", RETRY_AFTER);
    }
    Problem::internal(error.as_ref())
}
