//! Finds what waits in the schedule and tells the owners of its partitions: rows that a replay, another worker or an
//! earlier run of this one has left. What an owner schedules itself it knows without being told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ravenpost_chassis::{Context, clock};
use ravenpost_core::ids::{DestinationId, OrganizationId};
use ravenpost_store::System;
use ravenpost_store::system::Waiting;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::metrics::WorkerMetrics;
use crate::partition::Hint;

/// How often the schedule is swept: a replay or a resumed destination starts within this time.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Steps of cancelling for one destination in one sweep: others are waiting for theirs.
const CANCEL_STEPS: usize = 4;

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

/// Sweeps until the process stops.
pub fn sweep(ctx: &Context, system: System, partitions: i32, owned: Owned, metrics: WorkerMetrics) {
    let stopping = ctx.stopping.clone();
    ctx.spawn("schedule sweep", async move {
        while stopping.run_until_cancelled(tokio::time::sleep(SWEEP_EVERY)).await.is_some() {
            if let Err(error) = sweep_once(&system, partitions, &owned, &metrics).await {
                warn!(error = &error as &dyn std::error::Error, "the schedule can't be swept");
            }
        }
        Ok(())
    });
}

async fn sweep_once(
    system: &System,
    partitions: i32,
    owned: &Owned,
    metrics: &WorkerMetrics,
) -> ravenpost_store::Result<()> {
    let waiting = system.waiting().await?;
    let oldest = waiting.iter().map(|waiting| waiting.due_at).min();
    metrics.oldest_waiting(oldest.and_then(|due| (clock::now() - due).to_std().ok()).unwrap_or_default());
    let to_cancel = hint(waiting, partitions, owned);
    for (organization_id, destination_id) in to_cancel {
        cancel(system, organization_id, destination_id).await;
    }
    Ok(())
}

/// Tells owners what waits; gives the deleted destinations of theirs.
fn hint(waiting: Vec<Waiting>, partitions: i32, owned: &Owned) -> Vec<(OrganizationId, DestinationId)> {
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

/// Whoever deletes a destination cancels what waits for it; here is what it has left behind when it died meanwhile.
async fn cancel(system: &System, organization_id: OrganizationId, destination_id: DestinationId) {
    for _ in 0..CANCEL_STEPS {
        match system.cancel_waiting(organization_id, destination_id, clock::now()).await {
            Ok(0) => return,
            Ok(pairs) => info!(%destination_id, pairs, "what waits for a deleted destination is cancelled"),
            Err(error) => {
                // Mostly somebody else is just cancelling it.
                return debug!(
                    %destination_id,
                    error = &error as &dyn std::error::Error,
                    "what waits for a deleted destination can't be cancelled yet"
                );
            }
        }
    }
}
