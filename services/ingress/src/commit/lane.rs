//! Lanes: each takes what waits, makes one batch of it and commits it, while the others do the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ravenpost_chassis::Context;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};

use super::Pending;
use super::batch::Writer;
use crate::settings::CommitSettings;

/// Most bytes of bodies in a batch.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Large bodies that wait for their turn; memory is bounded before they get here.
pub(super) const LARGE_QUEUE: usize = 256;
/// Large bodies that are stored at once.
const LARGE_AT_ONCE: usize = 16;

/// What all lanes share.
struct Queue {
    waiting: Mutex<mpsc::Receiver<Pending>>,
    in_flight: AtomicUsize,
    most: usize,
    linger: Duration,
}

/// Starts the lanes over one queue.
pub(super) fn start(
    ctx: &Context,
    settings: &CommitSettings,
    writer: &Arc<Writer>,
    waiting: mpsc::Receiver<Pending>,
) {
    let queue = Arc::new(Queue {
        waiting: Mutex::new(waiting),
        in_flight: AtomicUsize::new(0),
        most: usize::from(settings.commit_batch),
        linger: settings.commit_linger,
    });
    for lane in 0..i32::from(settings.commit_lanes) {
        let (queue, writer) = (Arc::clone(&queue), Arc::clone(writer));
        ctx.spawn("commit lane", async move {
            while let Some(batch) = queue.next_batch().await {
                queue.in_flight.fetch_add(1, Ordering::Relaxed);
                writer.commit(lane, batch).await;
                queue.in_flight.fetch_sub(1, Ordering::Relaxed);
            }
            Ok(())
        });
    }
}

/// Starts the way of large bodies: each its own batch, some at once.
pub(super) fn start_large(ctx: &Context, writer: &Arc<Writer>, mut waiting: mpsc::Receiver<Pending>) {
    let writer = Arc::clone(writer);
    let slots = Arc::new(Semaphore::new(LARGE_AT_ONCE));
    ctx.spawn("commit of large bodies", async move {
        while let Some(pending) = waiting.recv().await {
            let slot = Arc::clone(&slots).acquire_owned().await?;
            let writer = Arc::clone(&writer);
            tokio::spawn(async move {
                writer.commit(0, vec![pending]).await;
                drop(slot);
            });
        }
        // What is in flight is answered before the lane ends.
        let most = u32::try_from(LARGE_AT_ONCE).unwrap_or(u32::MAX);
        slots.acquire_many(most).await?.forget();
        Ok(())
    });
}

impl Queue {
    /// What is committed next: everything that waits, within bounds. A lone event goes at once; only while other
    /// lanes are at work does a batch wait a moment for company. `None` when the committer is gone.
    async fn next_batch(&self) -> Option<Vec<Pending>> {
        let mut waiting = self.waiting.lock().await;
        let first = waiting.recv().await?;
        let mut bytes = first.body.len();
        let mut batch = vec![first];
        let deadline = Instant::now() + self.linger;
        while batch.len() < self.most && bytes < BATCH_BYTES {
            let next = match waiting.try_recv() {
                Ok(next) => next,
                Err(_) if self.in_flight.load(Ordering::Relaxed) == 0 => break,
                Err(_) => match timeout_at(deadline, waiting.recv()).await {
                    Ok(Some(next)) => next,
                    Ok(None) | Err(_) => break,
                },
            };
            bytes += next.body.len();
            batch.push(next);
        }
        Some(batch)
    }
}
