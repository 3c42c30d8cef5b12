//! Lanes: each takes what waits, makes one batch of it and commits it, while the others do the same.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
/// While one batch of no more events is being committed, one of a quiet endpoint goes at once.
const FEW: usize = 8;
/// An endpoint is quiet when the last batch with an event of it began so many lingers ago, over or not.
const QUIET: u32 = 2;
/// Large bodies that wait for their turn; memory is bounded before they get here.
const LARGE_QUEUE: usize = 256;
/// Lanes for large bodies: so many are stored at once.
pub(super) const LARGE_LANES: u16 = 16;

/// What a lane knows of what waits.
pub(super) trait Waiting {
    /// Through which endpoint it came.
    fn endpoint(&self) -> EndpointId;
    /// How long its body is.
    fn bytes(&self) -> usize;
}

/// What the lanes of one queue share.
struct Queue<T> {
    waiting: Mutex<mpsc::Receiver<T>>,
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
    let queue = serve(ctx, &writer, 0..common, capacity, |waiting| Queue::new(waiting, most, linger));
    let large =
        serve(ctx, &writer, common..all, LARGE_QUEUE, |waiting| Queue::new(waiting, 1, Duration::ZERO));
    (queue, large)
}

/// Starts lanes over one queue.
fn serve(
    ctx: &Context,
    writer: &Arc<Writer>,
    lanes: Range<usize>,
    capacity: usize,
    queue: impl FnOnce(mpsc::Receiver<Pending>) -> Queue<Pending>,
) -> mpsc::Sender<Pending> {
    let (sender, waiting) = mpsc::channel(capacity);
    let queue = Arc::new(queue(waiting));
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

impl<T: Waiting> Queue<T> {
    fn new(waiting: mpsc::Receiver<T>, most: usize, linger: Duration) -> Self {
        let (under_way, ended) = (StdMutex::new(UnderWay::new(QUIET * linger)), Notify::new());
        Self { waiting: Mutex::new(waiting), under_way, ended, most, linger }
    }

    /// What is committed next: everything that waits, within bounds. A lone event goes at once; only while other lanes are
    /// at work does a batch wait for company, as each costs the stores about the same, however large it is. `None` when the
    /// committer is gone.
    async fn next_batch(&self) -> Option<Vec<T>> {
        let mut waiting = self.waiting.lock().await;
        let first = waiting.recv().await?;
        let mut bytes = first.bytes();
        let mut endpoints = vec![first.endpoint()];
        let mut batch = vec![first];
        let patience = sleep(self.linger);
        tokio::pin!(patience);
        while batch.len() < self.most && bytes < BATCH_BYTES {
            // Made before it is looked whether others are at work, so that no end of theirs is missed.
            let ended = self.ended.notified();
            let next = match waiting.try_recv() {
                Ok(next) => next,
                Err(_) if self.under_way().lets_go(&endpoints, Instant::now()) => break,
                Err(_) => tokio::select! {
                    next = waiting.recv() => match next {
                        Some(next) => next,
                        None => break,
                    },
                    () = ended => continue,
                    () = &mut patience => break,
                },
            };
            bytes += next.bytes();
            endpoints.push(next.endpoint());
            batch.push(next);
        }
        // Before the next lane has its turn.
        self.under_way().begin(&endpoints, Instant::now());
        Some(batch)
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch of so many events is over.
    fn ended(&self, events: usize) {
        self.under_way().end(events);
        self.ended.notify_waiters();
    }
}

/// What is being committed, and whose turn was just now.
struct UnderWay {
    batches: usize,
    events: usize,
    /// When the last batch with an event of an endpoint began, unless that is longer ago than makes it quiet.
    busy: HashMap<EndpointId, Instant>,
    quiet_after: Duration,
}

impl UnderWay {
    fn new(quiet_after: Duration) -> Self {
        Self { batches: 0, events: 0, busy: HashMap::new(), quiet_after }
    }

    fn begin(&mut self, endpoints: &[EndpointId], now: Instant) {
        self.batches += 1;
        self.events += endpoints.len();
        let quiet_after = self.quiet_after;
        self.busy.retain(|_, began| now.saturating_duration_since(*began) < quiet_after);
        self.busy.extend(endpoints.iter().map(|endpoint| (*endpoint, now)));
    }

    fn end(&mut self, events: usize) {
        self.batches -= 1;
        self.events -= events;
    }

    /// Whether a batch with events of these endpoints goes without company: nothing else is under way; or one batch of few
    /// events, and one of these endpoints is quiet; or the batch is large, and as large as what is under way.
    fn lets_go(&self, endpoints: &[EndpointId], now: Instant) -> bool {
        let is_quiet = |endpoint: &EndpointId| {
            let began = self.busy.get(endpoint);
            began.is_none_or(|began| now.saturating_duration_since(*began) >= self.quiet_after)
        };
        match (self.batches, self.events) {
            (0, _) => true,
            (1, 1..=FEW) if endpoints.iter().any(is_quiet) => true,
            (_, others) => endpoints.len() >= others.max(MANY),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use uuid::Uuid;

    use super::*;

    /// An event of an endpoint.
    impl Waiting for EndpointId {
        fn endpoint(&self) -> EndpointId {
            *self
        }

        fn bytes(&self) -> usize {
            1
        }
    }

    fn endpoint(number: u128) -> EndpointId {
        EndpointId(Uuid::from_u128(number))
    }

    const QUIET_AFTER: Duration = Duration::from_millis(10);

    fn under_way(endpoints: &[EndpointId], began: Instant) -> UnderWay {
        let mut under_way = UnderWay::new(QUIET_AFTER);
        if !endpoints.is_empty() {
            under_way.begin(endpoints, began);
        }
        under_way
    }

    #[test]
    fn a_batch_waits_only_while_others_are_at_work_and_for_no_more_than_it_is_worth() {
        let now = Instant::now();
        let lets_go = |events: usize, others: usize| {
            under_way(&vec![endpoint(1); others], now).lets_go(&vec![endpoint(1); events], now)
        };
        assert!(lets_go(1, 0), "a lone event goes at once");
        assert!(!lets_go(1, 1));
        assert!(!lets_go(20, 10), "few others: they are over soon");
        assert!(lets_go(32, 10), "many need nobody");
        assert!(!lets_go(99, 100) && lets_go(100, 100));
    }

    #[test]
    fn a_quiet_endpoint_waits_for_no_batch_of_others_unless_much_is_under_way() {
        let began = Instant::now();
        let later = began + QUIET_AFTER;
        let [busy, quiet, other] = [1, 2, 3].map(endpoint);
        let mut few = under_way(&[busy; FEW], began);
        assert!(few.lets_go(&[quiet], began) && few.lets_go(&[busy, quiet], began));
        assert!(!few.lets_go(&[busy], began) && few.lets_go(&[busy], later), "its last batch began long ago");
        few.begin(&[quiet], began);
        few.end(FEW);
        assert!(!few.lets_go(&[busy], began), "though its own batch is over");
        assert!(!few.lets_go(&[quiet], began) && few.lets_go(&[other], began));
        few.begin(&[busy], later);
        assert_eq!(few.busy.len(), 1, "the other one is quiet again");
        assert!(!few.lets_go(&[other], later), "two batches are under way");
        assert!(!under_way(&[busy; FEW + 1], began).lets_go(&[other], began), "many events are under way");
        few.end(1);
        few.end(1);
        assert!(few.lets_go(&[busy], later));
    }

    async fn send(events: &mpsc::Sender<EndpointId>, numbers: &[u128]) {
        for number in numbers {
            events.send(endpoint(*number)).await.unwrap();
        }
    }

    #[tokio::test]
    async fn company_is_waited_for_until_others_end() {
        let (events, waiting) = mpsc::channel(9);
        let queue = Queue::new(waiting, 9, Duration::from_secs(3600));
        send(&events, &[1, 1]).await;
        let one = queue.next_batch().now_or_never().flatten().expect("nothing else is under way");
        assert_eq!(one, [endpoint(1); 2]);
        send(&events, &[1, 2]).await;
        let other = queue.next_batch().now_or_never().flatten().expect("one is of a quiet endpoint");
        queue.ended(one.len());
        send(&events, &[1]).await;
        let mut waits = Box::pin(queue.next_batch());
        assert!(waits.as_mut().now_or_never().is_none());
        send(&events, &[2]).await;
        queue.ended(other.len());
        assert_eq!(waits.await.unwrap(), [endpoint(1), endpoint(2)], "with what has come meanwhile");
    }

    #[tokio::test]
    async fn company_is_waited_for_no_longer_than_the_linger() {
        let (events, waiting) = mpsc::channel(9);
        let queue = Queue::new(waiting, 9, Duration::from_millis(1));
        send(&events, &[1]).await;
        queue.next_batch().await.unwrap();
        send(&events, &[1]).await;
        assert_eq!(queue.next_batch().await.unwrap(), [endpoint(1)], "though the other has not ended");
    }
}
