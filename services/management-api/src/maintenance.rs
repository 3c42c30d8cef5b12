//! Keeps the schema usable: refuses an older one at start, and makes partitions ahead of time (PROTOCOLS D1).

pub mod deduplication;
pub mod expunged;
pub mod leftovers;
pub mod rejected;
pub mod retention;
pub mod statistics;

use std::time::Duration;

use ravenpost_chassis::Context;
use ravenpost_store::migrations::SchemaError;
use ravenpost_store::{Error, Store};

/// How many days ahead partitions are made.
pub const DAYS_AHEAD: i32 = 7;
/// How often they are looked after, and how soon again after a failure: seven days of them are in stock.
const EVERY: Duration = Duration::from_hours(1);
const AFTER_FAILURE: Duration = Duration::from_secs(30);
/// How soon to ask again for the schema while Postgres is away.
const AWAY: Duration = Duration::from_secs(1);

/// Runs until the process stops. The check `schema` passes once the schema is new enough and has its partitions; an
/// older schema is an error, Postgres being away is not.
pub async fn keep(store: Store, ctx: Context) -> anyhow::Result<()> {
    let stopping = ctx.stopping.clone();
    match stopping.run_until_cancelled(maintain(store, ctx)).await {
        Some(Err(error)) => Err(error.into()),
        Some(Ok(never)) => match never {},
        None => Ok(()),
    }
}

async fn maintain(store: Store, ctx: Context) -> Result<std::convert::Infallible, SchemaError> {
    let check = ctx.health.register("schema");
    loop {
        match store.require_schema().await {
            Ok(()) => break,
            Err(SchemaError::Store(error)) if error.is_transient() => check.fail(error.to_string()),
            Err(error) => return Err(error),
        }
        tokio::time::sleep(AWAY).await;
    }
    loop {
        let made = store.system().ensure_partitions(DAYS_AHEAD).await;
        if made.is_ok() {
            check.ok();
        }
        tokio::time::sleep(next(made)).await;
    }
}

fn next(made: Result<i32, Error>) -> Duration {
    match made {
        Ok(made) => {
            tracing::info!(made, "partitions are there for the next {DAYS_AHEAD} days; {made} were made");
            EVERY
        }
        Err(error) => {
            tracing::error!(error = %chain(&error), "partitions could not be made");
            AFTER_FAILURE
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
