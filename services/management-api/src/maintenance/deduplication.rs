//! Forgets the keys of producers' retries that have expired, in small steps (PROTOCOLS I7).

use std::time::Duration;

use ravenpost_chassis::Context;
use ravenpost_store::System;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(30);
/// Most keys of one step.
const STEP: i64 = 5_000;

/// Runs until the process stops. Several replicas may be at it at once: each takes what the others don't hold.
pub async fn keep(system: System, ctx: Context) -> anyhow::Result<()> {
    ctx.stopping.run_until_cancelled(forget(&system)).await;
    Ok(())
}

async fn forget(system: &System) {
    loop {
        match system.sweep_deduplication(STEP).await {
            Ok(forgotten) if i64::try_from(forgotten).is_ok_and(|forgotten| forgotten >= STEP) => continue,
            Ok(_) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "expired deduplication keys stay for now");
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}
