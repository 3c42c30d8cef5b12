//! Overwrites expunged payloads that could not be overwritten at once.

use std::time::Duration;

use ravenpost_chassis::{Context, random};
use ravenpost_store::{Payloads, System};
use tracing::warn;
use uuid::Uuid;

/// How often it is looked for them.
const EVERY: Duration = Duration::from_secs(30);

/// Runs until the process stops. Several replicas may be at it at once: each holds the object that it is at.
pub async fn keep(system: System, payloads: Payloads, ctx: Context) -> anyhow::Result<()> {
    ctx.stopping.run_until_cancelled(erase(&system, &payloads)).await;
    Ok(())
}

async fn erase(system: &System, payloads: &Payloads) {
    let holder = Uuid::from_bytes(random::bytes());
    loop {
        match system.erase(payloads, None, holder).await {
            Ok(0) => {}
            Ok(_) => continue,
            Err(error) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "expunged payloads stay in the store for now"
                );
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}
