//! Lets go of events that were kept for as long as they are to be: drops their days, then their payloads (PROTOCOLS D2).
//!
//! Payloads go by their keys, which begin with the time of an event; one that is of an event which is still there is never
//! touched. Several replicas may be at it at once; to delete twice does no harm.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use ravenpost_chassis::{Context, clock};
use ravenpost_core::event::PayloadLocation;
use ravenpost_core::ids::EventId;
use ravenpost_store::system::DayDropped;
use ravenpost_store::{Payloads, Store};

use crate::metrics::Metrics;
use crate::settings::RetentionSettings;

/// How often it is looked.
const EVERY: Duration = Duration::from_mins(10);
/// How soon again when somebody was in the way for a moment; then less and less often.
const SOON: Duration = Duration::from_secs(5);
/// A payload stays for so much longer than its event: it is named after an event that was committed with it.
const AFTER: TimeDelta = TimeDelta::days(1);

/// Lets go of what is old. Cheap to clone.
#[derive(Clone)]
pub struct Dropper {
    store: Store,
    payloads: Payloads,
    kept: TimeDelta,
    metrics: Metrics,
}

impl Dropper {
    /// Of these stores.
    pub fn new(store: Store, payloads: Payloads, settings: &RetentionSettings, metrics: Metrics) -> Self {
        let kept = TimeDelta::from_std(settings.event_retention).unwrap_or(TimeDelta::MAX);
        Self { store, payloads, kept, metrics }
    }

    /// Drops days until the process stops. A store that is away is waited for.
    pub async fn keep_events(self, ctx: Context) -> anyhow::Result<()> {
        ctx.stopping.run_until_cancelled(self.drop_for_ever()).await;
        Ok(())
    }

    /// Removes payloads until the process stops.
    pub async fn keep_payloads(self, ctx: Context) -> anyhow::Result<()> {
        ctx.stopping.run_until_cancelled(self.remove_for_ever()).await;
        Ok(())
    }

    async fn drop_for_ever(&self) {
        let mut soon = SOON;
        loop {
            let in_the_way = self.drop_days().await.unwrap_or_else(|error| {
                self.failed(error.as_ref(), "events stay for longer than they are to be kept");
                false
            });
            let wait = if in_the_way { soon } else { EVERY };
            soon = if in_the_way { (soon * 2).min(EVERY) } else { SOON };
            tokio::time::sleep(wait).await;
        }
    }

    async fn remove_for_ever(&self) {
        loop {
            if let Err(error) = self.remove_payloads().await {
                self.failed(&error, "payloads stay for longer than they are to be kept");
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    fn failed(&self, error: &(dyn std::error::Error + 'static), what: &str) {
        self.metrics.retention_failures.inc();
        tracing::warn!(error, "{what}");
    }

    /// Drops all days whose time is over and for which nothing waits. `true`: somebody is in the way for a moment.
    pub async fn drop_days(&self) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
        // What a clock that is wrong takes for old is not dropped.
        self.store.check(clock::now).await?;
        let system = self.store.system();
        system.keep_events(self.kept).await?;
        let in_the_way = loop {
            match system.drop_day().await? {
                DayDropped::Dropped(day) => {
                    self.metrics.days_dropped.inc();
                    tracing::info!(%day, "the events of a day were kept for long enough and are dropped");
                }
                DayDropped::NotYet => break false,
                DayDropped::Busy(day) => {
                    tracing::debug!(%day, "a day can't be dropped: somebody reads it");
                    break true;
                }
                DayDropped::Waiting(day) => {
                    tracing::warn!(
                        %day,
                        "a day is not dropped: deliveries of its events are waiting, or the workers are behind"
                    );
                    break false;
                }
            }
        };
        if let Some(oldest) = system.oldest_day().await? {
            self.metrics.oldest_events(age(oldest, clock::now()));
        }
        Ok(in_the_way)
    }

    /// Removes the payloads of events that are gone, page by page. One that can't be removed keeps no other from it.
    pub async fn remove_payloads(&self) -> ravenpost_store::Result<()> {
        let bound = EventId::floor(self.store.system().kept_from().await?.drawn_at() - AFTER);
        let mut failed = None;
        for prefix in PayloadLocation::PREFIXES {
            let mut after = None;
            loop {
                let deleted = self.payloads.delete_below(prefix, bound, after.as_deref()).await?;
                self.metrics.payloads_removed.inc_by(u64::try_from(deleted.count).unwrap_or(u64::MAX));
                failed = failed.or(deleted.failed);
                after = deleted.after;
                if after.is_none() {
                    break;
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

fn age(day: NaiveDate, now: DateTime<Utc>) -> Duration {
    (now - day.and_time(NaiveTime::MIN).and_utc()).to_std().unwrap_or_default()
}
