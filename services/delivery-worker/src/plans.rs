//! Keeps Postgres from planning for tables as small as it last found them (docs/decisions 0040): the schedule is empty
//! until a destination fails, and what is recorded must not read the whole of it from then on.

use std::time::Duration;

use ravenpost_chassis::Context;
use ravenpost_store::System;
use tracing::warn;

/// How soon after Postgres has counted small tables their sizes are forgotten.
const EVERY: Duration = Duration::from_secs(5);

/// Runs until the process stops.
pub async fn keep(system: System, ctx: Context) -> anyhow::Result<()> {
    while let Some(forgotten) = ctx.stopping.run_until_cancelled(system.expect_growth()).await {
        if let Err(error) = forgotten {
            warn!(
                error = &error as &dyn std::error::Error,
                "Postgres may plan for tables smaller than they are"
            );
        }
        if ctx.stopping.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            break;
        }
    }
    Ok(())
}
