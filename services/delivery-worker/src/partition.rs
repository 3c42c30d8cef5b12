//! The owner of a partition: one task that decides for all endpoints of it, so that nothing needs coordination.
//!
//! The task only moves things between messages, lanes, attempts, records and the schedule; whatever takes time runs
//! beside it and reports back. Its state and rules stand in [`owner`], its way from messages to jobs in [`intake`], and what it
//! leaves to the schedule in [`park`].

mod intake;

mod agenda;

mod owner;

mod due;

mod expire;

mod pace;

mod park;

mod recorder;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use ravenpost_bus::Partition;
use ravenpost_bus::consumer::Liveness;
use ravenpost_chassis::clock;
use ravenpost_core::ids::{DestinationId, EventId};
use ravenpost_store::System;
use ravenpost_store::system::{Ask, Due, Expiring, Pace};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::WorkerMetrics;
use crate::record::{Recorded, Recorder};
use crate::route::Routes;
use crate::send::{Done, Sender};
use crate::settings::PacingSettings;
use owner::Owner;

/// How often the owner looks at what is slow.
const TICK: Duration = Duration::from_millis(50);
/// How long the group has to say that a partition is another worker's.
const SETTLE: Duration = Duration::from_secs(3);
/// How long to wait before a store is asked again.
const AGAIN: Duration = Duration::from_millis(500);

/// What owners share.
pub struct Shared {
    /// Where what is due and what is known is read.
    pub system: System,
    /// Where to record.
    pub recorder: Recorder,
    /// Where events go.
    pub routes: Routes,
    /// Sends.
    pub sender: Arc<Sender>,
    /// What is counted.
    pub metrics: WorkerMetrics,
    /// How fast destinations are sent to.
    pub pacing: PacingSettings,
    /// Whether this process may still send.
    pub liveness: Arc<Liveness>,
    /// How many partitions the ingest topic has.
    pub partitions: i32,
}

/// Something waits in the schedule for a destination of this partition.
#[derive(Debug, Clone, Copy)]
pub struct Hint {
    /// For which one.
    pub destination_id: DestinationId,
    /// When the first of it is due.
    pub due_at: DateTime<Utc>,
    /// When a person resumed the destination.
    pub resumed_at: Option<DateTime<Utc>>,
}

/// An event for a destination.
type Pair = (EventId, DestinationId);

/// What comes back to the owner.
enum Report {
    /// An attempt ended.
    Done(Pair, Done),
    /// A record was made.
    Recorded(Recorded),
    /// What is due.
    Due(Poll),
    /// What is to be given up; `None` when it can't be asked.
    Expiring(Option<Expiring>),
}

/// A look into the schedule, and what it has shown.
struct Poll {
    /// For whom.
    asked: Vec<Ask>,
    /// Those of which nothing can be due that is neither under way nor found now.
    clean: HashSet<DestinationId>,
    /// Who they are and how they fare.
    paces: Vec<Pace>,
    /// What is due, oldest first for each.
    rows: Vec<Due>,
    /// Nothing could be read.
    failed: bool,
}

/// How an ownership ended.
enum Ended {
    /// The group took the partition away, or the process stops.
    Stopped,
    /// Another worker took the epoch, though the group has not said so. Where the log is to be gone on with.
    Lost { resume_at: Option<i64> },
}

/// Owns the partition until the group takes it away and everything in the air is recorded.
pub async fn run(
    shared: Arc<Shared>,
    partition: Partition,
    stop: CancellationToken,
    mut hints: mpsc::UnboundedReceiver<Hint>,
) {
    while let Ended::Lost { resume_at } = own(&shared, &partition, &stop, &mut hints).await {
        // A late taker (one that was stopped before its statement left) must not leave the partition to nobody: if the
        // group still gives it to us after a while, it is ours and is taken again.
        if stop.run_until_cancelled(tokio::time::sleep(SETTLE)).await.is_none() {
            return;
        }
        if let Some(offset) = resume_at
            && stop.run_until_cancelled(rewind(&partition, offset)).await.is_none()
        {
            return;
        }
    }
}

async fn own(
    shared: &Arc<Shared>,
    partition: &Partition,
    stop: &CancellationToken,
    hints: &mut mpsc::UnboundedReceiver<Hint>,
) -> Ended {
    let Some((epoch, log_end)) = stop.run_until_cancelled(take(shared, partition)).await else {
        return Ended::Stopped;
    };
    info!(partition = partition.id, epoch, log_end, "partition taken");
    let (reports, mut reported) = mpsc::unbounded_channel();
    let over = stop.child_token();
    let mut owner = Owner::new(Arc::clone(shared), partition.id, epoch, reports, over.clone());
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);

    while !over.is_cancelled() {
        tokio::select! {
            () = over.cancelled() => break,
            Some(report) = reported.recv() => owner.hear(report, clock::now()),
            Some(hint) = hints.recv() => owner.heed(hint, clock::now()),
            () = until(owner.next_wake()) => owner.wake(clock::now()),
            () = until(owner.next_due()) => {}
            _ = tick.tick() => owner.tick(Instant::now(), clock::now()),
            batch = intake::next_batch(partition), if owner.has_room() => {
                intake::accept(shared, &mut owner, log_end, batch, &over).await;
            }
        }
        owner.poll_due(clock::now());
        owner.poll_expiring(clock::now());
        owner.flush();
        store_offset(partition, &mut owner);
    }
    owner.park_in_flight(clock::now());
    owner.flush();
    while owner.is_busy() {
        let Some(report) = reported.recv().await else { break };
        owner.hear(report, clock::now());
        owner.flush();
        store_offset(partition, &mut owner);
    }
    info!(partition = partition.id, "partition let go");
    if stop.is_cancelled() { Ended::Stopped } else { Ended::Lost { resume_at: owner.resume_at() } }
}

/// Forever when there is no such time.
async fn until(time: Option<DateTime<Utc>>) {
    match time {
        Some(time) => tokio::time::sleep((time - clock::now()).to_std().unwrap_or_default()).await,
        None => std::future::pending().await,
    }
}

async fn rewind(partition: &Partition, offset: i64) {
    while let Err(error) = partition.rewind(offset).await {
        warn!(
            partition = partition.id,
            error = &error as &dyn std::error::Error,
            "a partition can't be rewound yet"
        );
        tokio::time::sleep(AGAIN).await;
    }
}

/// Takes the partition: from now on its decisions are ours alone.
async fn take(shared: &Shared, partition: &Partition) -> (i64, i64) {
    let epoch = loop {
        match shared.system.take_partition(partition.id).await {
            Ok(epoch) => break epoch,
            Err(error) => warn!(error = &error as &dyn std::error::Error, "a partition can't be taken yet"),
        }
        tokio::time::sleep(AGAIN).await;
    };
    loop {
        match partition.log_end().await {
            Ok(end) => return (epoch, end),
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "the end of a log is not known yet");
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn store_offset(partition: &Partition, owner: &mut Owner) {
    let Some(offset) = owner.committable() else { return };
    if let Err(error) = partition.store_offset(offset) {
        // Revoked meanwhile: the next owner looks up what was handled.
        warn!(
            partition = partition.id,
            error = &error as &dyn std::error::Error,
            "an offset can't be stored"
        );
    }
}
