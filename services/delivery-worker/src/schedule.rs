//! Finds what waits in the schedule and tells the owners of its partitions: rows that a replay, another worker or an
//! earlier run of this one has left. What an owner schedules itself it knows without being told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ravenpost_chassis::{Context, clock};
use ravenpost_core::ids::{DestinationId, OrganizationId};
use ravenpost_store::System;
use ravenpost_store::system::Waiting;
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use crate::metrics::WorkerMetrics;
use crate::partition::Hint;

/// How often the schedule is swept: a replay or a resumed destination starts within this time.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Steps of cancelling for one destination in one round: others are waiting for theirs.
const CANCEL_STEPS: usize = 4;

/// Of so many rounds in a row in which nothing of a destination's can be cancelled, the last is told to people.
const TELL_EVERY: u32 = 10;

/// A deleted destination for which something waits, and whose it is.
type ToCancel = (OrganizationId, DestinationId);

/// The partitions that this process owns, and how to reach their owners.
#[derive(Clone, Default)]
pub struct Owned(Arc<Mutex<HashMap<i32, mpsc::UnboundedSender<Hint>>>>);

impl Owned {
    /// This process owns a partition now.
    pub fn insert(&self, partition: i32, hints: mpsc::UnboundedSender<Hint>) {
        self.owners().insert(partition, hints);
    }

    /// It no longer does.
    pub fn remove(&self, partition: i32) {
        self.owners().remove(&partition);
    }

    fn owners(&self) -> std::sync::MutexGuard<'_, HashMap<i32, mpsc::UnboundedSender<Hint>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sweeps until the process stops. Cancelling goes beside it: what is due waits for none of that.
pub fn sweep(ctx: &Context, system: System, partitions: i32, owned: Owned, metrics: WorkerMetrics) {
    let (found, to_cancel) = watch::channel(Vec::new());
    let (stopping, cancelling) = (ctx.stopping.clone(), cancel_all(system.clone(), to_cancel));
    ctx.spawn("cancelling for deleted destinations", async move {
        stopping.run_until_cancelled(cancelling).await;
        Ok(())
    });
    let stopping = ctx.stopping.clone();
    ctx.spawn("schedule sweep", async move {
        while stopping.run_until_cancelled(tokio::time::sleep(SWEEP_EVERY)).await.is_some() {
            match sweep_once(&system, partitions, &owned, &metrics).await {
                Ok(deleted) => drop(found.send_replace(deleted)),
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "the schedule can't be swept");
                }
            }
        }
        Ok(())
    });
}

/// One sweep; answers for which destinations what waits is to be cancelled.
async fn sweep_once(
    system: &System,
    partitions: i32,
    owned: &Owned,
    metrics: &WorkerMetrics,
) -> ravenpost_store::Result<Vec<ToCancel>> {
    let waiting = system.waiting().await?;
    let oldest = waiting.iter().map(|waiting| waiting.due_at).min();
    metrics.oldest_waiting(oldest.and_then(|due| (clock::now() - due).to_std().ok()).unwrap_or_default());
    Ok(hint(waiting, partitions, owned))
}

/// Tells owners what waits; answers the deleted destinations of theirs.
fn hint(waiting: Vec<Waiting>, partitions: i32, owned: &Owned) -> Vec<ToCancel> {
    let owners = owned.owners();
    let mut to_cancel = Vec::new();
    for Waiting { destination_id, slot, due_at, resumed_at, deleted } in waiting {
        let Some(hints) = owners.get(&slot.partition(partitions)) else { continue };
        match deleted {
            Some(organization_id) => to_cancel.push((organization_id, destination_id)),
            // An owner that has just ended needs no hint.
            None => drop(hints.send(Hint { destination_id, due_at, resumed_at })),
        }
    }
    to_cancel
}

/// Cancels for what the newest sweep has found, round after round, until there are no more sweeps.
async fn cancel_all(system: System, mut found: watch::Receiver<Vec<ToCancel>>) {
    let mut failures: HashMap<DestinationId, u32> = HashMap::new();
    while found.changed().await.is_ok() {
        let to_cancel = found.borrow_and_update().clone();
        let mut still_failing = HashMap::new();
        for (organization_id, destination_id) in to_cancel {
            if let Err(error) = cancel(&system, organization_id, destination_id).await {
                let rounds = failures.get(&destination_id).map_or(1, |rounds| rounds + 1);
                tell(destination_id, rounds, &error);
                still_failing.insert(destination_id, rounds);
            }
        }
        failures = still_failing;
    }
}

/// Whoever deletes a destination cancels what waits for it; here is what it has left behind when it died meanwhile.
async fn cancel(
    system: &System,
    organization_id: OrganizationId,
    destination_id: DestinationId,
) -> ravenpost_store::Result<()> {
    for _ in 0..CANCEL_STEPS {
        let pairs = system.cancel_waiting(organization_id, destination_id, clock::now()).await?;
        if pairs == 0 {
            break;
        }
        info!(%destination_id, pairs, "what waits for a deleted destination is cancelled");
    }
    Ok(())
}

/// A round that fails alone is no news: mostly somebody else is just cancelling.
fn tell(destination_id: DestinationId, rounds: u32, error: &ravenpost_store::Error) {
    if rounds.is_multiple_of(TELL_EVERY) {
        warn!(
            %destination_id,
            rounds,
            error = error as &dyn std::error::Error,
            "what waits for a deleted destination can't be cancelled"
        );
    } else {
        debug!(
            %destination_id,
            rounds,
            error = error as &dyn std::error::Error,
            "what waits for a deleted destination can't be cancelled yet"
        );
    }
}
