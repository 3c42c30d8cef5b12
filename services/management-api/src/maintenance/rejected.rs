//! Removes what is too much of rejected requests: beyond their endpoint's caps, too old, or deleted by a person.
//!
//! First the object, then its row: whatever interrupts it, the row is still there and is removed the next time. Several
//! replicas may be at it at once; to delete twice does no harm.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_chassis::{Context, clock};
use ravenpost_core::event::PayloadLocation;
use ravenpost_core::ids::RejectedRequestId;
use ravenpost_store::system::RejectedCaps;
use ravenpost_store::{Payloads, Result, System};

use crate::metrics::Metrics;
use crate::settings::RejectedSettings;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(20);
/// Most rows of one step.
const STEP: i64 = 200;
/// How long counts are kept.
const COUNTS: TimeDelta = TimeDelta::days(31);

/// Keeps rejected requests within their caps.
pub struct Sweeper {
    system: System,
    payloads: Payloads,
    caps: RejectedCaps,
    metrics: Metrics,
}

impl Sweeper {
    /// A sweeper over these stores.
    pub fn new(system: System, payloads: Payloads, settings: &RejectedSettings, metrics: Metrics) -> Self {
        let caps = RejectedCaps {
            count: settings.rejected_count.into(),
            bytes: settings.rejected_bytes.into(),
            age: TimeDelta::from_std(settings.rejected_age).unwrap_or(COUNTS),
        };
        Self { system, payloads, caps, metrics }
    }

    /// Runs until the process stops. A store that is away is waited for.
    pub async fn run(self, ctx: Context) -> anyhow::Result<()> {
        ctx.stopping.run_until_cancelled(self.keep()).await;
        Ok(())
    }

    async fn keep(&self) {
        // At first all endpoints are looked at, later those of which something was kept since.
        let mut active_since = clock::now() - COUNTS;
        loop {
            let now = clock::now();
            match self.sweep(active_since, now).await {
                // Counts are by the hour, and what was kept a moment ago is not settled yet.
                Ok(()) => active_since = now - TimeDelta::hours(2),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "rejected requests beyond their caps stay for now");
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Removes all that is too much now, in steps; of endpoints that were active since.
    pub async fn sweep(&self, active_since: DateTime<Utc>, now: DateTime<Utc>) -> Result<()> {
        loop {
            let removable = self.system.removable_rejected(&self.caps, active_since, now, STEP).await?;
            if removable.is_empty() {
                return self.system.remove_rejected_counts(now - COUNTS).await;
            }
            self.remove(&removable).await?;
        }
    }

    async fn remove(&self, requests: &[RejectedRequestId]) -> Result<()> {
        for request in requests {
            self.payloads.delete(&PayloadLocation::of_rejected(*request, 0).s3_key).await?;
        }
        self.system.remove_rejected(requests).await?;
        self.metrics.rejected_removed.inc_by(u64::try_from(requests.len()).unwrap_or(u64::MAX));
        Ok(())
    }
}
