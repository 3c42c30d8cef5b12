//! Lanes: each takes what waits, makes one batch of it and commits it, while the others do the same.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ravenpost_chassis::Context;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout_at};

use super::Pending;
use super::batch::Writer;
use crate::settings::CommitSettings;

/// Most bytes of bodies in a batch.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Large bodies that wait for their turn; memory is bounded before they get here.
const LARGE_QUEUE: usize = 256;
/// Lanes for large bodies: so many are stored at once.
pub(super) const LARGE_LANES: u16 = 16;

/// What the lanes of one queue share.
struct Queue {
    waiting: Mutex<mpsc::Receiver<Pending>>,
    in_flight: AtomicUsize,
    most: usize,
    linger: Duration,
}

/// Starts the lanes, and answers the ways into their queues: one for all bodies, and one for large ones, each of which
/// is a batch of its own.
pub(super) fn start(
    ctx: &Context,
    settings: &CommitSettings,
    writer: Writer,
) -> (mpsc::Sender<Pending>, mpsc::Sender<Pending>) {
    let writer = Arc::new(writer);
    let common = usize::from(settings.commit_lanes);
    let all = common + usize::from(LARGE_LANES);
    let (most, linger) = (usize::from(settings.commit_batch), settings.commit_linger);
    let capacity = usize::try_from(settings.commit_queue).unwrap_or(usize::MAX >> 4);
    let queue = serve(ctx, &writer, 0..common, capacity, |waiting| Queue {
        waiting,
        in_flight: AtomicUsize::new(0),
        most,
        linger,
    });
    let large = serve(ctx, &writer, common..all, LARGE_QUEUE, |waiting| Queue {
        waiting,
        in_flight: AtomicUsize::new(0),
        most: 1,
        linger: Duration::ZERO,
    });
    (queue, large)
}

/// Starts lanes over one queue.
fn serve(
    ctx: &Context,
    writer: &Arc<Writer>,
    lanes: Range<usize>,
    capacity: usize,
    queue: impl FnOnce(Mutex<mpsc::Receiver<Pending>>) -> Queue,
) -> mpsc::Sender<Pending> {
    let (sender, waiting) = mpsc::channel(capacity);
    let queue = Arc::new(queue(Mutex::new(waiting)));
    for lane in lanes {
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
    sender
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
