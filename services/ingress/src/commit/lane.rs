//! Lanes: each takes what waits, makes one batch of it and commits it, while the others do the same.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ravenpost_chassis::Context;
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::time::sleep;

use super::Pending;
use super::batch::Writer;
use crate::settings::CommitSettings;

/// Most bytes of bodies in a batch.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// A batch of so many events is large: it need not wait for more, unless others have more under way.
const MANY: usize = 32;
/// Large bodies that wait for their turn; memory is bounded before they get here.
const LARGE_QUEUE: usize = 256;
/// Lanes for large bodies: so many are stored at once.
pub(super) const LARGE_LANES: u16 = 16;

/// What the lanes of one queue share.
struct Queue {
    waiting: Mutex<mpsc::Receiver<Pending>>,
    /// Events that are being committed.
    in_flight: AtomicUsize,
    /// A batch has been committed, or has failed.
    ended: Notify,
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
        ended: Notify::new(),
        most,
        linger,
    });
    let large = serve(ctx, &writer, common..all, LARGE_QUEUE, |waiting| Queue {
        waiting,
        in_flight: AtomicUsize::new(0),
        ended: Notify::new(),
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
                let events = batch.len();
                writer.commit(lane, batch).await;
                queue.ended(events);
            }
            Ok(())
        });
    }
    sender
}

impl Queue {
    /// What is committed next: everything that waits, within bounds. A lone event goes at once; only while other lanes
    /// are at work does a batch wait for company, as each costs the stores about the same, however large it is. `None`
    /// when the committer is gone.
    async fn next_batch(&self) -> Option<Vec<Pending>> {
        let mut waiting = self.waiting.lock().await;
        let first = waiting.recv().await?;
        let mut bytes = first.body.len();
        let mut batch = vec![first];
        let patience = sleep(self.linger);
        tokio::pin!(patience);
        while batch.len() < self.most && bytes < BATCH_BYTES {
            // Made before it is looked whether others are at work, so that no end of theirs is missed.
            let ended = self.ended.notified();
            let next = match waiting.try_recv() {
                Ok(next) => next,
                Err(_) if is_company(batch.len(), self.others()) => break,
                Err(_) => tokio::select! {
                    next = waiting.recv() => match next {
                        Some(next) => next,
                        None => break,
                    },
                    () = ended => continue,
                    () = &mut patience => break,
                },
            };
            bytes += next.body.len();
            batch.push(next);
        }
        // Before the next lane has its turn.
        self.in_flight.fetch_add(batch.len(), Ordering::Relaxed);
        Some(batch)
    }

    fn others(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// A batch of so many events is over.
    fn ended(&self, events: usize) {
        self.in_flight.fetch_sub(events, Ordering::Relaxed);
        self.ended.notify_waiters();
    }
}

/// Nobody else is at work, or this batch is large, and as large as what the others have.
fn is_company(events: usize, others: usize) -> bool {
    others == 0 || events >= others.max(MANY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_waits_only_while_others_are_at_work_and_for_no_more_than_it_is_worth() {
        assert!(is_company(1, 0), "a lone event goes at once");
        assert!(!is_company(1, 1));
        assert!(!is_company(20, 10), "few others: they are over soon");
        assert!(is_company(32, 10), "many need nobody");
        assert!(!is_company(99, 100) && is_company(100, 100));
    }
}
