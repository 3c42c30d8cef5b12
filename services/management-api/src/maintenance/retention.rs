//! Lets go of events that were kept for as long as they are to be: drops their days, then their payloads (PROTOCOLS D2).
//!
//! Payloads go by their keys, which begin with the time of an event; one that is of an event which is still there is never
//! touched. Several replicas may be at it at once; to delete twice does no harm.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use ravenpost_chassis::{Context, clock};
use ravenpost_core::ids::EventId;
use ravenpost_store::system::DayDropped;
use ravenpost_store::{Payloads, Result, System};

use crate::metrics::Metrics;
use crate::settings::RetentionSettings;

/// How often it is looked.
const EVERY: Duration = Duration::from_mins(10);
/// How soon again when somebody was in the way for a moment.
const SOON: Duration = Duration::from_secs(5);
/// Payloads of one step.
const STEP: usize = 1_000;
/// A payload stays for so much longer than its event: it is named after an event that was committed with it.
const AFTER: TimeDelta = TimeDelta::days(1);

/// Lets go of what is old.
pub struct Dropper {
    system: System,
    payloads: Payloads,
    kept: TimeDelta,
    metrics: Metrics,
}

impl Dropper {
    /// Of these stores.
    pub fn new(system: System, payloads: Payloads, settings: &RetentionSettings, metrics: Metrics) -> Self {
        let kept = TimeDelta::from_std(settings.event_retention).unwrap_or(TimeDelta::MAX);
        Self { system, payloads, kept, metrics }
    }

    /// Runs until the process stops. A store that is away is waited for.
    pub async fn run(self, ctx: Context) -> anyhow::Result<()> {
        ctx.stopping.run_until_cancelled(self.keep()).await;
        Ok(())
    }

    async fn keep(&self) {
        loop {
            let wait = self.drop_days().await.unwrap_or_else(|error| {
                self.failed(&error, "events stay for longer than they are to be kept");
                EVERY
            });
            if let Err(error) = self.remove_payloads().await {
                self.failed(&error, "payloads stay for longer than they are to be kept");
            }
            tokio::time::sleep(wait).await;
        }
    }

    fn failed(&self, error: &ravenpost_store::Error, what: &str) {
        self.metrics.retention_failures.inc();
        tracing::warn!(error = error as &dyn std::error::Error, "{what}");
    }

    /// Drops all days whose time is over and for which nothing waits. Answers when to look again.
    pub async fn drop_days(&self) -> Result<Duration> {
        self.system.keep_events(self.kept).await?;
        let wait = loop {
            match self.system.drop_day().await? {
                DayDropped::Dropped(day) => {
                    self.metrics.days_dropped.inc();
                    tracing::info!(%day, "the events of a day were kept for long enough and are dropped");
                }
                DayDropped::NotYet => break EVERY,
                DayDropped::Busy(day) => {
                    tracing::debug!(%day, "a day can't be dropped: somebody reads it");
                    break SOON;
                }
                DayDropped::Waiting(day) => {
                    tracing::warn!(%day, "a day is not dropped: deliveries of its events are waiting, or the workers are behind");
                    break EVERY;
                }
            }
        };
        if let Some(oldest) = self.system.oldest_day().await? {
            self.metrics.oldest_events(age(oldest, clock::now()));
        }
        Ok(wait)
    }

    /// Removes the payloads of events that are gone, in steps.
    pub async fn remove_payloads(&self) -> Result<()> {
        let bound = EventId::floor(self.system.kept_from().await?.drawn_at() - AFTER);
        loop {
            let removed = self.payloads.delete_below(bound, STEP).await?;
            self.metrics.payloads_removed.inc_by(u64::try_from(removed).unwrap_or(u64::MAX));
            if removed < STEP {
                return Ok(());
            }
        }
    }
}

fn age(day: NaiveDate, now: DateTime<Utc>) -> Duration {
    (now - day.and_time(NaiveTime::MIN).and_utc()).to_std().unwrap_or_default()
}
