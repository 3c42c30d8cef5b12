//! The sweeper: finds what was accepted, should wait, and waits nowhere, since Kafka has lost its message (PROTOCOLS W11).
//!
//! ```text
//! published through X (Postgres) ──▶ where the logs end (Kafka) ──▶ the group has committed that far ──▶ met through X
//!                                                                                                        │
//!                                            what of it still has no row anywhere gets one: swept ◀──────┘
//! ```
//!
//! In this order nothing is taken for lost that is only late: whatever was published before X was in the logs when their
//! ends were asked for, and an offset is committed after its record. One worker at a time does it, by a lease; two of
//! them would do no harm.

use std::time::Duration;

use chrono::TimeDelta;
use ravenpost_bus::Progress;
use ravenpost_bus::progress::{Ends, Reach};
use ravenpost_chassis::{Context, random};
use ravenpost_core::ids::EventId;
use ravenpost_store::System;
use ravenpost_store::system::SweeperState;
use tracing::{error, warn};
use uuid::Uuid;

use crate::metrics::WorkerMetrics;

/// How often a step is made.
const EVERY: Duration = Duration::from_secs(5);
/// For how long a worker that is heard of no more keeps the others from it.
const LEASE: TimeDelta = TimeDelta::seconds(30);
/// Events that are looked at in one statement.
const PAGE: i64 = 5_000;
/// Pages of one step: after that the lease is renewed.
const PAGES: usize = 20;

/// Everything that was published, and where the logs ended after that.
struct Checkpoint {
    through: EventId,
    ends: Ends,
}

/// Sweeps, as long as it holds the lease.
pub struct Sweeper {
    holder: Uuid,
    system: System,
    progress: Progress,
    metrics: WorkerMetrics,
    checkpoint: Option<Checkpoint>,
}

/// Why a step could not be made.
#[derive(Debug, thiserror::Error)]
enum Hindrance {
    #[error(transparent)]
    Store(#[from] ravenpost_store::Error),
    #[error(transparent)]
    Bus(#[from] ravenpost_bus::Error),
}

impl Sweeper {
    /// A sweeper of what this group consumes.
    pub fn new(system: System, progress: Progress, metrics: WorkerMetrics) -> Self {
        Self { holder: Uuid::from_bytes(random::bytes()), system, progress, metrics, checkpoint: None }
    }

    /// Runs until the process stops. A store or a Kafka that is away is waited for.
    pub async fn run(mut self, ctx: Context) -> anyhow::Result<()> {
        while ctx.stopping.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            match ctx.stopping.run_until_cancelled(self.step()).await {
                Some(Ok(())) | None => {}
                Some(Err(error)) => {
                    self.checkpoint = None;
                    warn!(error = &error as &dyn std::error::Error, "nothing is swept for now");
                }
            }
        }
        // Somebody else may go on at once; otherwise when the lease is over.
        let _ = self.system.hold_sweeper(self.holder, TimeDelta::zero()).await;
        Ok(())
    }

    async fn step(&mut self) -> Result<(), Hindrance> {
        let Some(mut state) = self.system.hold_sweeper(self.holder, LEASE).await? else {
            self.checkpoint = None;
            return Ok(());
        };
        if let Some(met) = self.advance().await? {
            self.system.met(met).await?;
            state.met_through = state.met_through.max(met);
        }
        self.sweep(state).await
    }

    /// Up to where everything is met, if a checkpoint was passed. Then the next one is set.
    async fn advance(&mut self) -> Result<Option<EventId>, Hindrance> {
        let mut met = None;
        if let Some(checkpoint) = &self.checkpoint {
            match self.progress.reach(&checkpoint.ends).await? {
                Reach::Behind => return Ok(None),
                Reach::Passed => met = Some(checkpoint.through),
                Reach::Anew => {}
            }
        }
        // In this order: what was published by then is before the ends.
        let through = self.system.published_through().await?;
        let ends = self.progress.ends().await?;
        self.checkpoint = Some(Checkpoint { through, ends });
        Ok(met)
    }

    async fn sweep(&self, state: SweeperState) -> Result<(), Hindrance> {
        let mut after = state.swept_through;
        for _ in 0..PAGES {
            if after >= state.met_through {
                break;
            }
            let (reached, swept) = self.system.sweep(after, state.met_through, PAGE).await?;
            if swept.count() > 0 {
                let first = swept.pairs.first().map(|(event, _)| *event).or(swept.dropped.first().copied());
                error!(
                    swept = swept.count(),
                    first_event_id = first.map(tracing::field::display),
                    "events waited nowhere and are scheduled now: Kafka has lost their messages"
                );
                self.metrics.swept.inc_by(u64::try_from(swept.count()).unwrap_or(u64::MAX));
            }
            after = reached;
        }
        Ok(())
    }
}
