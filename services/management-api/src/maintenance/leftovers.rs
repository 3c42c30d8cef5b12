//! Removes what nobody needs any more: credentials and states of what was deleted, expired secrets and keys, bulk replays
//! that ended long ago. One replica at a time does a step; which one does not matter.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_chassis::{Context, clock};
use ravenpost_store::system::{Keeping, Leftover};
use ravenpost_store::{Result, System};

use crate::metrics::Metrics;
use crate::settings::LeftoverSettings;

/// How often it is looked.
const EVERY: Duration = Duration::from_mins(5);
/// How long a deletion can be taken back by an operator, in the database.
const OF_DELETED: TimeDelta = TimeDelta::days(1);
/// How long something expired stays all the same: no clock is so far off.
const SETTLED: TimeDelta = TimeDelta::minutes(1);

/// Keeps the store free of leftovers.
pub struct Remover {
    system: System,
    keeping: Keeping,
    metrics: Metrics,
}

impl Remover {
    /// A remover from this store.
    pub fn new(system: System, settings: &LeftoverSettings, metrics: Metrics) -> Self {
        let replay_jobs = TimeDelta::from_std(settings.replay_job_retention).unwrap_or(TimeDelta::MAX);
        Self { system, keeping: Keeping { of_deleted: OF_DELETED, replay_jobs }, metrics }
    }

    /// Runs until the process stops. A store that is away is waited for.
    pub async fn run(self, ctx: Context) -> anyhow::Result<()> {
        ctx.stopping.run_until_cancelled(self.keep()).await;
        Ok(())
    }

    async fn keep(&self) {
        loop {
            self.remove(clock::now() - SETTLED).await;
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Removes all that is left over at `now`, in steps. What fails of one kind keeps no other from it.
    pub async fn remove(&self, now: DateTime<Utc>) {
        for leftover in Leftover::ALL {
            if let Err(error) = self.remove_all(leftover, now).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, leftovers = leftover.as_str(), "leftovers stay for now");
                self.metrics.leftover_failures.with_label_values(&[leftover.as_str()]).inc();
            }
        }
    }

    async fn remove_all(&self, leftover: Leftover, now: DateTime<Utc>) -> Result<()> {
        while let Some(removed) = self.system.remove_leftovers(leftover, self.keeping, now).await? {
            self.metrics.leftovers_removed.with_label_values(&[leftover.as_str()]).inc_by(removed.count);
            if !removed.more {
                break;
            }
        }
        Ok(())
    }
}
