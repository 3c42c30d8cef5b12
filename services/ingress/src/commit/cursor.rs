//! Ids are drawn where batches are cut, and the cursor follows what is published (PROTOCOLS I2).
//!
//! ```text
//! cut ──▶ Writing ──rows──▶ Publishing ──acknowledged──▶ (gone)
//!            │                  └──late──▶ Overdue ──acknowledged──▶ (gone)
//!            │                                └──failed──▶ Backlog ──relayed──▶ (gone)
//!            ├──rows, while there is a backlog───────────▶ Backlog
//!            └──lost──▶ Doubtful ──it is committed───────▶ Backlog
//!                           └──it is not──▶ (gone)
//! ```

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ravenpost_chassis::{clock, random};
use ravenpost_core::ids::{EventId, EventIds, InstanceId};
use tokio::sync::Notify;

/// A backlog of up to so many events, while it is being relayed, is soon gone: who comes behind it waits for that.
const NEAR: usize = 1_000;

/// The ids of this run: drawn, unfinished, published.
pub(super) struct Cursor {
    state: Mutex<State>,
    advanced: Notify,
}

#[derive(Default)]
struct State {
    ids: EventIds,
    cut: u64,
    /// The last that was heard of the backlog is that some of it was published.
    draining: bool,
    /// What may be committed and is not published, by first ids: the cursor is just below the lowest.
    batches: BTreeMap<EventId, Batch>,
}

/// One batch, or several that lie side by side in the backlog.
#[derive(Debug, Clone, Copy)]
struct Batch {
    last: EventId,
    /// The numbers of the first and the last batch, in the order in which they were cut.
    numbers: (u64, u64),
    events: usize,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its rows are being written.
    Writing,
    /// It is committed, and Kafka has not acknowledged it yet.
    Publishing,
    /// As before, for so long that its producers were answered.
    Overdue,
    /// It is committed and will be published from Postgres.
    Backlog,
    /// Nobody knows whether it is committed: the statement through this lane was not heard of again.
    Doubtful { lane: usize },
}

/// How a committed batch goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Straight to Kafka.
    Direct,
    /// As soon as the backlog before it is gone ([`Cursor::until_clear`]): otherwise it would never be, under load.
    Soon,
    /// Behind what waits to be published: the relay takes it.
    Relayed,
}

/// What the relay has to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing.
    Nothing,
    /// Something below the backlog is on its way: look again soon.
    Wait,
    /// Publish what is committed of these ids.
    Publish { first: EventId, last: EventId },
    /// Find out what is committed of these ids, which were sent through this lane.
    Settle { first: EventId, last: EventId, lane: usize },
}

/// What is committed, or may be, and waits for Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outbox {
    /// Events.
    pub(super) events: usize,
    /// How long the oldest of them has waited.
    pub(super) age: Duration,
}

impl Cursor {
    /// The cursor of a run that has drawn nothing yet.
    pub(super) fn of(instance: InstanceId) -> Self {
        let state = State { ids: EventIds::of(instance), ..State::default() };
        Self { state: Mutex::new(state), advanced: Notify::new() }
    }

    /// Draws the ids of a batch and registers it as unfinished, under one lock: no later batch can have a lower id
    /// and no reader of the cursor can miss this one.
    pub(super) fn cut(&self, events: usize) -> Vec<EventId> {
        let now = clock::now();
        let mut state = self.state();
        let ids: Vec<EventId> = (0..events).map(|_| state.ids.next(now, random::bytes())).collect();
        let (Some(first), Some(last)) = (ids.first().copied(), ids.last().copied()) else { return ids };
        state.cut += 1;
        let numbers = (state.cut, state.cut);
        state.batches.insert(first, Batch { last, numbers, events, stage: Stage::Writing });
        ids
    }

    /// A batch is published, or certainly not committed.
    pub(super) fn finish(&self, first: EventId) {
        self.state().batches.remove(&first);
        self.advanced.notify_waiters();
    }

    /// A batch is committed. While older ones wait to be published it waits behind them (PROTOCOLS I5).
    pub(super) fn committed(&self, first: EventId) -> Way {
        let mut state = self.state();
        match state.waiting_before(first) {
            0 => {
                state.set(first, Stage::Publishing);
                Way::Direct
            }
            ..=NEAR if state.draining => Way::Soon,
            _ => {
                state.join_backlog(first);
                Way::Relayed
            }
        }
    }

    /// Waits until nothing older waits to be published; from then on the batch is on its way to Kafka.
    pub(super) async fn until_clear(&self, first: EventId) {
        loop {
            let advanced = self.advanced.notified();
            {
                let mut state = self.state();
                if state.waiting_before(first) == 0 {
                    return state.set(first, Stage::Publishing);
                }
            }
            advanced.await;
        }
    }

    /// Kafka takes its time with a batch: new ones wait behind it.
    pub(super) fn overdue(&self, first: EventId) {
        let mut state = self.state();
        state.draining = false;
        state.set(first, Stage::Overdue);
    }

    /// A batch is committed and Kafka did not take all of it.
    pub(super) fn leave_to_relay(&self, first: EventId) {
        self.state().join_backlog(first);
    }

    /// A batch may be committed: the statement through `lane` was not heard of again.
    pub(super) fn doubt(&self, first: EventId, lane: usize) {
        self.state().set(first, Stage::Doubtful { lane });
    }

    /// Everything in the backlog up to this id is published: so many events.
    pub(super) fn relayed(&self, through: EventId, events: usize) {
        let mut left = events;
        let mut state = self.state();
        state.draining = true;
        self.advanced.notify_waiters();
        while let Some(entry) = state.batches.first_entry()
            && *entry.key() <= through
            && entry.get().stage == Stage::Backlog
        {
            let batch = entry.remove();
            if batch.last > through {
                let events = batch.events.saturating_sub(left);
                state.batches.insert(through.successor(), Batch { events, ..batch });
                return;
            }
            left = left.saturating_sub(batch.events);
        }
    }

    /// The backlog can't be published just now.
    pub(super) fn stuck(&self) {
        self.state().draining = false;
    }

    /// What the relay has to do.
    pub(super) fn next(&self) -> Next {
        let state = self.state();
        let Some((first, lowest)) = state.batches.first_key_value() else { return Next::Nothing };
        match lowest.stage {
            Stage::Backlog => Next::Publish { first: *first, last: lowest.last },
            Stage::Doubtful { lane } => Next::Settle { first: *first, last: lowest.last, lane },
            Stage::Overdue => Next::Wait,
            Stage::Writing | Stage::Publishing => {
                if state.batches.values().any(Batch::waits) {
                    Next::Wait
                } else {
                    Next::Nothing
                }
            }
        }
    }

    /// What waits for Kafka.
    pub(super) fn outbox(&self) -> Outbox {
        let state = self.state();
        let mut waiting = state.batches.iter().filter(|(_, batch)| batch.waits()).peekable();
        let oldest = waiting.peek().and_then(|(first, _)| first.timestamp());
        let age = oldest.and_then(|oldest| (clock::now() - oldest).to_std().ok()).unwrap_or_default();
        Outbox { events: waiting.map(|(_, batch)| batch.events).sum(), age }
    }

    /// Everything that this run commits with an id up to this one is in Kafka. While nothing is under way it follows the
    /// time: whoever adopts a run that had nothing to do shall not look for its events in all of history.
    pub(super) fn published_through(&self) -> EventId {
        let mut state = self.state();
        match state.batches.first_key_value() {
            Some((first, _)) => first.predecessor(),
            None => state.ids.next(clock::now(), random::bytes()),
        }
    }

    /// Nothing is committed that is not published.
    pub(super) fn is_published(&self) -> bool {
        self.state().batches.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    /// What is newer waits behind it.
    fn waits(&self) -> bool {
        !matches!(self.stage, Stage::Writing | Stage::Publishing)
    }
}

impl State {
    /// How many events older than a batch wait to be published.
    fn waiting_before(&self, first: EventId) -> usize {
        let older = self.batches.range(..first).filter(|(_, older)| older.waits());
        older.map(|(_, older)| older.events).sum()
    }

    fn set(&mut self, first: EventId, stage: Stage) {
        if let Some(batch) = self.batches.get_mut(&first) {
            batch.stage = stage;
        }
    }

    /// Puts a batch into the backlog, behind which newer ones wait. One that was cut right after another of the backlog becomes one with it, so that
    /// a long outage takes little memory.
    fn join_backlog(&mut self, first: EventId) {
        self.set(first, Stage::Backlog);
        let Some(batch) = self.batches.get(&first).copied() else { return };
        let follows =
            |before: &Batch| before.stage == Stage::Backlog && before.numbers.1 + 1 == batch.numbers.0;
        if let Some((_, before)) = self.batches.range_mut(..first).next_back()
            && follows(before)
        {
            before.last = batch.last;
            before.numbers.1 = batch.numbers.1;
            before.events += batch.events;
            self.batches.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor() -> Cursor {
        Cursor::of(InstanceId::new(clock::now(), random::bytes()))
    }

    #[test]
    fn the_cursor_is_just_below_the_lowest_unfinished_batch() {
        let cursor = cursor();
        let idle = cursor.published_through();
        let (first, second) = (cursor.cut(2), cursor.cut(1));
        assert!(idle < first[0] && first[0] < first[1] && first[1] < second[0]);
        assert!(cursor.published_through() < first[0]);
        cursor.finish(second[0]);
        assert!(cursor.published_through() < first[0], "a later batch does not overtake");
        cursor.finish(first[0]);
        assert!(cursor.published_through() >= second[0]);
        assert!(cursor.is_published());
        let through = cursor.published_through();
        assert!(through < cursor.cut(1)[0], "what follows the time stays below what comes");
    }

    #[test]
    fn while_something_waits_for_kafka_all_that_is_newer_waits_behind_it() {
        let cursor = cursor();
        let (older, late, newer) = (cursor.cut(1), cursor.cut(2), cursor.cut(1));
        assert_eq!(cursor.committed(late[0]), Way::Direct);
        cursor.overdue(late[0]);
        assert_eq!(cursor.committed(newer[0]), Way::Relayed);
        assert_eq!(cursor.committed(older[0]), Way::Direct, "what is older need not wait");
        assert_eq!(cursor.next(), Next::Wait, "in order: the older one first");
        cursor.finish(older[0]);
        cursor.leave_to_relay(late[0]);
        assert_eq!(cursor.outbox().events, 3);
        assert_eq!(cursor.next(), Next::Publish { first: late[0], last: late[1] });
        cursor.relayed(late[0], 1);
        assert_eq!(cursor.published_through(), late[0], "half of a batch counts");
        assert_eq!(cursor.outbox().events, 2);
        assert_eq!(cursor.next(), Next::Publish { first: late[0].successor(), last: late[1] });
        cursor.relayed(late[1], 1);
        cursor.relayed(newer[0], 1);
        assert_eq!(cursor.next(), Next::Nothing);
        assert_eq!(cursor.committed(cursor.cut(1)[0]), Way::Direct, "the backlog is gone");
    }

    #[tokio::test]
    async fn a_backlog_that_is_about_to_be_gone_is_waited_for() {
        let cursor = cursor();
        let (late, second, newer) = (cursor.cut(1), cursor.cut(1), cursor.cut(1));
        cursor.leave_to_relay(late[0]);
        assert_eq!(cursor.committed(second[0]), Way::Relayed, "nothing says that it moves");
        cursor.relayed(late[0], 1);
        assert_eq!(cursor.committed(newer[0]), Way::Soon);
        assert_eq!(cursor.next(), Next::Publish { first: late[0].successor(), last: second[0] });
        tokio::join!(cursor.until_clear(newer[0]), async { cursor.relayed(second[0], 1) });
        assert_eq!(cursor.outbox().events, 0);
        cursor.overdue(newer[0]);
        assert_eq!(cursor.committed(cursor.cut(1)[0]), Way::Relayed, "Kafka is slow again");
    }

    #[test]
    fn nothing_passes_a_batch_that_may_be_committed() {
        let cursor = cursor();
        let (lost, newer) = (cursor.cut(2), cursor.cut(1));
        cursor.doubt(lost[0], 3);
        assert_eq!(cursor.committed(newer[0]), Way::Relayed);
        assert_eq!(cursor.next(), Next::Settle { first: lost[0], last: lost[1], lane: 3 });
        assert!(cursor.published_through() < lost[0]);
        cursor.finish(lost[0]);
        assert_eq!(cursor.next(), Next::Publish { first: newer[0], last: newer[0] });
    }

    #[test]
    fn a_long_backlog_is_one_entry_and_holds_nothing_that_was_published() {
        let cursor = cursor();
        let batches: Vec<_> = (0..6).map(|_| cursor.cut(2)).collect();
        cursor.finish(batches[2][0]);
        for batch in [0, 1, 3, 5, 4] {
            cursor.leave_to_relay(batches[batch][0]);
        }
        assert_eq!(cursor.next(), Next::Publish { first: batches[0][0], last: batches[1][1] });
        cursor.relayed(batches[1][1], 4);
        assert!(matches!(cursor.next(), Next::Publish { first, .. } if first == batches[3][0]));
        assert_eq!(cursor.outbox().events, 6);
        cursor.relayed(batches[5][1], 6);
        assert!(cursor.published_through() >= batches[5][1]);
        assert!(cursor.is_published());
    }

    #[test]
    fn what_is_relayed_no_longer_counts_however_much_has_joined_meanwhile() {
        let cursor = cursor();
        let batches: Vec<_> = (0..8).map(|_| cursor.cut(500)).collect();
        for batch in &batches[..6] {
            cursor.leave_to_relay(batch[0]);
        }
        assert_eq!(cursor.outbox().events, 3_000);
        cursor.relayed(batches[3][499], 2_000);
        cursor.leave_to_relay(batches[6][0]);
        cursor.relayed(batches[5][499], 1_000);
        assert_eq!(cursor.outbox().events, 500);
        assert_eq!(cursor.committed(batches[7][0]), Way::Soon);
    }
}
