//! Adds up what was recorded and accepted, forgets what is older than it is kept, and what nobody listens to any more.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ravenpost_chassis::{Context, clock};
use ravenpost_core::statistics::Grain;
use ravenpost_store::system::StatisticsKept;
use ravenpost_store::{Result, System};
use tracing::warn;

/// How often it is added up, and forgotten.
const EVERY: Duration = Duration::from_secs(3);
const FORGET_EVERY: Duration = Duration::from_mins(1);

/// What is kept of each grain, and so which one can tell of a time.
#[derive(Debug, Clone, Copy)]
pub struct Kept(pub StatisticsKept);

impl Kept {
    /// The finest grain from `grain` on that still has what was at `from`; days if none has.
    pub fn kept(&self, grain: Grain, from: DateTime<Utc>, now: DateTime<Utc>) -> Grain {
        let has = |grain: &Grain| from >= now - self.0.of(*grain);
        Grain::ALL.into_iter().filter(|one| *one >= grain).find(has).unwrap_or(Grain::Day)
    }
}

/// Runs until the process stops. One replica at a time does a step; which one does not matter.
pub async fn keep(system: System, kept: Kept, ctx: Context) -> anyhow::Result<()> {
    ctx.stopping.run_until_cancelled(tend(&system, kept)).await;
    Ok(())
}

async fn tend(system: &System, kept: Kept) {
    let mut forgotten_at: Option<tokio::time::Instant> = None;
    loop {
        if let Err(error) = add_up(system).await {
            warn!(error = &error as &dyn std::error::Error, "statistics are behind for now");
        }
        if forgotten_at.is_none_or(|at| at.elapsed() >= FORGET_EVERY) {
            forgotten_at = Some(tokio::time::Instant::now());
            if let Err(error) = forget(system, kept).await {
                warn!(error = &error as &dyn std::error::Error, "old statistics stay for now");
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn add_up(system: &System) -> Result<()> {
    while system.roll_statistics().await?.is_some_and(|rolled| rolled.more) {}
    Ok(())
}

async fn forget(system: &System, kept: Kept) -> Result<()> {
    let now = clock::now();
    while system.forget_statistics(kept.0, now).await? > 0 {}
    system.forget_live(now).await
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn of_what_is_too_old_for_minutes_hours_tell() {
        let kept = Kept(StatisticsKept {
            minutes: TimeDelta::days(2),
            hours: TimeDelta::days(90),
            days: TimeDelta::days(1_000),
        });
        let now: DateTime<Utc> = "2026-03-01T00:00:00Z".parse().unwrap();
        let of = |grain, ago| kept.kept(grain, now - ago, now);
        assert_eq!(of(Grain::Minute, TimeDelta::hours(1)), Grain::Minute);
        assert_eq!(of(Grain::Minute, TimeDelta::days(3)), Grain::Hour);
        assert_eq!(of(Grain::Minute, TimeDelta::days(91)), Grain::Day);
        assert_eq!(of(Grain::Hour, TimeDelta::hours(1)), Grain::Hour);
        assert_eq!(of(Grain::Hour, TimeDelta::days(9_000)), Grain::Day);
    }
}
