//! Events whose payload a person has had expunged: nothing that is still in memory or in Kafka is sent (PROTOCOLS D2).
//!
//! What waits in the schedule is gone from there; what a lane holds, or a message brings, is compared with this set, which
//! is a second behind at most while Postgres answers.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_chassis::{Context, clock};
use ravenpost_core::ids::EventId;
use ravenpost_store::{Result, System};
use tracing::warn;

/// How often it is asked what is new.
const EVERY: Duration = Duration::from_secs(1);
/// How far each question goes back behind the one before: a transaction ends later than its time says.
const OVERLAP: TimeDelta = TimeDelta::seconds(30);
/// For how long an event is remembered: longer than anything stays in memory or in Kafka.
const REMEMBERED: TimeDelta = TimeDelta::days(14);
/// How often everything is asked anew, so that what is older is forgotten.
const ANEW: TimeDelta = TimeDelta::hours(1);

/// The events. Cheap to clone.
#[derive(Clone, Default)]
pub struct Expunged(Arc<RwLock<HashSet<EventId>>>);

impl Expunged {
    /// Whether an event is among them.
    pub fn contains(&self, event: EventId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&event)
    }

    /// Keeps them up to date until the process stops.
    pub async fn keep(self, system: System, ctx: Context) -> anyhow::Result<()> {
        let (mut all_at, mut asked_at): (Option<DateTime<Utc>>, _) = (None, clock::now());
        loop {
            let now = clock::now();
            let anew = all_at.is_none_or(|at| now - at >= ANEW);
            let since = if anew { now - REMEMBERED } else { asked_at - OVERLAP };
            match self.ask(&system, since, anew).await {
                Ok(()) if anew => (all_at, asked_at) = (Some(now), now),
                Ok(()) => asked_at = now,
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "it can't be asked what is expunged");
                }
            }
            if ctx.stopping.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
                return Ok(());
            }
        }
    }

    async fn ask(&self, system: &System, since: DateTime<Utc>, anew: bool) -> Result<()> {
        let events = system.expunged_since(since).await?;
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if anew {
            known.clear();
        }
        known.extend(events);
        Ok(())
    }
}
