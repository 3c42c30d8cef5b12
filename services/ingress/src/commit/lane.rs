//! Lanes: each takes what waits, makes one batch of it and commits it, while the others do the same.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use ravenpost_chassis::Context;
use ravenpost_core::ids::EndpointId;
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::time::sleep;

use super::Pending;
use super::batch::Writer;
use crate::settings::CommitSettings;

/// Most bytes of bodies in a batch.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// A batch of so many events is large: it need not wait for more, unless others have more under way.
const MANY: usize = 32;
/// While no more events than these are being committed, one of an endpoint that has none among them goes at once.
const FEW: usize = 8;
/// Large bodies that wait for their turn; memory is bounded before they get here.
const LARGE_QUEUE: usize = 256;
/// Lanes for large bodies: so many are stored at once.
pub(super) const LARGE_LANES: u16 = 16;

/// What the lanes of one queue share.
struct Queue {
    waiting: Mutex<mpsc::Receiver<Pending>>,
    /// What is being committed.
    under_way: StdMutex<UnderWay>,
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
        under_way: StdMutex::default(),
        ended: Notify::new(),
        most,
        linger,
    });
    let large = serve(ctx, &writer, common..all, LARGE_QUEUE, |waiting| Queue {
        waiting,
        under_way: StdMutex::default(),
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
                let endpoints: Vec<EndpointId> = batch.iter().map(Pending::endpoint).collect();
                writer.commit(lane, batch).await;
                queue.ended(&endpoints);
            }
            Ok(())
        });
    }
    sender
}

impl Queue {
    /// What is committed next: everything that waits, within bounds. A lone event goes at once; only while other lanes
    /// are at work does a batch wait for company, as each costs the stores about the same, however large it is. An
    /// endpoint's event does not wait for what others send. `None` when the committer is gone.
    async fn next_batch(&self) -> Option<Vec<Pending>> {
        let mut waiting = self.waiting.lock().await;
        let first = waiting.recv().await?;
        let mut bytes = first.body.len();
        let mut endpoints = vec![first.endpoint()];
        let mut batch = vec![first];
        let patience = sleep(self.linger);
        tokio::pin!(patience);
        while batch.len() < self.most && bytes < BATCH_BYTES {
            // Made before it is looked whether others are at work, so that no end of theirs is missed.
            let ended = self.ended.notified();
            let next = match waiting.try_recv() {
                Ok(next) => next,
                Err(_) if self.under_way().lets_go(&endpoints) => break,
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
            endpoints.push(next.endpoint());
            batch.push(next);
        }
        // Before the next lane has its turn.
        self.under_way().begin(&endpoints);
        Some(batch)
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch with events of these endpoints is over.
    fn ended(&self, endpoints: &[EndpointId]) {
        self.under_way().end(endpoints);
        self.ended.notify_waiters();
    }
}

/// What is being committed: how many events, and of each endpoint.
#[derive(Default)]
struct UnderWay {
    events: usize,
    of: HashMap<EndpointId, usize>,
}

impl UnderWay {
    fn begin(&mut self, endpoints: &[EndpointId]) {
        self.events += endpoints.len();
        for endpoint in endpoints {
            *self.of.entry(*endpoint).or_default() += 1;
        }
    }

    fn end(&mut self, endpoints: &[EndpointId]) {
        self.events -= endpoints.len();
        for endpoint in endpoints {
            if let Some(events) = self.of.get_mut(endpoint) {
                *events -= 1;
                if *events == 0 {
                    self.of.remove(endpoint);
                }
            }
        }
    }

    /// Whether a batch with events of these endpoints goes without company: nothing else is under way; or little, and
    /// nothing of one of them; or the batch is large, and as large as what is under way.
    fn lets_go(&self, endpoints: &[EndpointId]) -> bool {
        let is_quiet = |endpoint: &EndpointId| !self.of.contains_key(endpoint);
        match self.events {
            0 => true,
            1..=FEW if endpoints.iter().any(is_quiet) => true,
            others => endpoints.len() >= others.max(MANY),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn under_way(endpoints: &[EndpointId]) -> UnderWay {
        let mut under_way = UnderWay::default();
        under_way.begin(endpoints);
        under_way
    }

    #[test]
    fn a_batch_waits_only_while_others_are_at_work_and_for_no_more_than_it_is_worth() {
        let endpoint = EndpointId(Uuid::from_u128(1));
        let lets_go = |events: usize, others: usize| {
            under_way(&vec![endpoint; others]).lets_go(&vec![endpoint; events])
        };
        assert!(lets_go(1, 0), "a lone event goes at once");
        assert!(!lets_go(1, 1));
        assert!(!lets_go(20, 10), "few others: they are over soon");
        assert!(lets_go(32, 10), "many need nobody");
        assert!(!lets_go(99, 100) && lets_go(100, 100));
    }

    #[test]
    fn an_endpoint_does_not_wait_for_what_another_sends() {
        let [busy, quiet] = [1, 2].map(|number| EndpointId(Uuid::from_u128(number)));
        let mut few = under_way(&[busy; FEW]);
        assert!(few.lets_go(&[quiet]) && few.lets_go(&[busy, quiet]));
        assert!(!few.lets_go(&[busy]));
        few.begin(&[quiet]);
        assert!(!few.lets_go(&[quiet]), "it has one under way, and all have many");
        few.end(&[busy]);
        assert!(!few.lets_go(&[quiet]), "it still has one under way");
        few.end(&[quiet]);
        assert!(few.lets_go(&[quiet]));
        few.end(&[busy; FEW - 1]);
        assert!(few.lets_go(&[busy]) && few.of.is_empty());
    }
}
