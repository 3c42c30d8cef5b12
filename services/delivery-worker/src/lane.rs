//! One destination's lane: how much is under way to it and how much waits in memory. Both are bounded, so that a
//! destination that is slow or flooded takes nothing from others.
//!
//! What finds no room waits in the schedule, and then everything that comes later waits there, too, until the schedule
//! has caught up: so events keep their order. Catching up has a step of its own, since rows are still being written
//! while the last ones are read: what arrives then waits in memory behind them.
//!
//! A destination that is so slow that something has waited in memory for too long is *crowded*, and so is one that is met
//! with a backlog: until it has caught up no more waits in memory than passes in a second. More would only be read from the
//! schedule, with its payloads, to wait, and take memory from others.

mod passed;
mod place;

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_core::ids::{EventId, OrganizationId};

use crate::gate::{Gate, Permit};
use passed::Passed;
use place::Place;
pub use place::Row;

/// Whether something waits in the schedule whose time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backlog {
    /// Nothing: what arrives enters.
    None,
    /// What arrives goes there, too.
    Behind,
    /// What was there has entered, but for what has come meanwhile: it is looked at once more.
    CatchingUp,
}

/// A destination's lane.
#[derive(Debug)]
pub struct Lane {
    /// Whether and when it may be sent to.
    pub gate: Gate,
    /// Whose it is.
    pub organization_id: OrganizationId,
    most_queued: usize,
    running: usize,
    queue: VecDeque<EventId>,
    /// What has arrived while the schedule was being looked at for the last time.
    later: VecDeque<EventId>,
    backlog: Backlog,
    /// Pairs on their way into the schedule, due at once.
    unrecorded: usize,
    /// How far its rows have been read.
    place: Place,
    /// Something is due for which there was no room.
    starved: bool,
    /// Something has waited in memory for too long since it has caught up last, or it has not caught up yet.
    crowded: bool,
    /// Requests that came back lately.
    passed: Passed,
    /// Deliveries of it that the owner knows, wherever they are.
    known: usize,
    /// When it is looked at again.
    wake_at: Option<DateTime<Utc>>,
    used_at: DateTime<Utc>,
}

impl Lane {
    /// Empty; `behind` when something is due in the schedule.
    pub fn new(
        gate: Gate,
        organization_id: OrganizationId,
        most_queued: usize,
        behind: bool,
        now: DateTime<Utc>,
    ) -> Self {
        let backlog = if behind { Backlog::Behind } else { Backlog::None };
        Self {
            gate,
            organization_id,
            most_queued,
            running: 0,
            queue: VecDeque::new(),
            later: VecDeque::new(),
            backlog,
            unrecorded: 0,
            place: Place::default(),
            starved: false,
            crowded: behind,
            passed: Passed::default(),
            known: 0,
            wake_at: None,
            used_at: now,
        }
    }

    /// A new event takes its place, behind everything that waits. `false`: it has to wait in the schedule.
    pub fn arrive(&mut self, event: EventId, now: DateTime<Utc>) -> bool {
        self.used_at = now;
        match self.backlog {
            Backlog::None => self.enter(event, now),
            Backlog::CatchingUp if !self.is_shut(now) && self.later.len() < self.most_waiting(now) => {
                self.later.push_back(event);
                true
            }
            Backlog::CatchingUp | Backlog::Behind => false,
        }
    }

    /// What was due in the schedule takes its place. `false`: no room.
    pub fn enter(&mut self, event: EventId, now: DateTime<Utc>) -> bool {
        self.used_at = now;
        let has_room = self.room(now) > 0;
        if has_room {
            self.queue.push_back(event);
        }
        has_room
    }

    /// The oldest that waits, if it may start now: then it is under way.
    pub fn start_next(&mut self, now: DateTime<Utc>) -> Option<EventId> {
        if self.queue.is_empty() || self.gate.ask(self.running, now) != Permit::Now {
            return None;
        }
        self.gate.pass(now);
        self.running += 1;
        self.queue.pop_front()
    }

    /// When to look again whether the oldest may start, unless that is known already or another one has to end first.
    pub fn wake(&mut self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let Permit::At(at) = self.gate.ask(self.running, now) else { return None };
        if self.queue.is_empty() || self.wake_at.is_some_and(|known| now < known && known <= at) {
            return None;
        }
        self.wake_at = Some(at);
        self.wake_at
    }

    /// A request came back.
    pub fn leave(&mut self, now: DateTime<Utc>) {
        self.used_at = now;
        self.passed.count(now);
        self.running = self.running.saturating_sub(1);
    }

    /// Takes out everything that waits, in its order: it is to wait in the schedule, and what comes later, too.
    pub fn fall_behind(&mut self) -> Vec<EventId> {
        self.backlog = Backlog::Behind;
        self.queue.drain(..).chain(self.later.drain(..)).collect()
    }

    /// Something has waited in memory for too long. `true` when this is news.
    pub fn crowd(&mut self) -> bool {
        !std::mem::replace(&mut self.crowded, true)
    }

    /// There is no room for all: what comes later is to wait in the schedule, as is what is taken out, which has
    /// arrived later than what waits there. What waits to start is older.
    pub fn overflow(&mut self) -> Vec<EventId> {
        self.backlog = Backlog::Behind;
        self.later.drain(..).collect()
    }

    /// Everything that was due has entered; `clean` when nothing else can have come since. `true`: look once more.
    pub fn catch_up(&mut self, clean: bool) -> bool {
        match self.backlog {
            Backlog::None => false,
            Backlog::CatchingUp if clean => {
                self.backlog = Backlog::None;
                self.crowded = false;
                self.queue.append(&mut self.later);
                false
            }
            Backlog::Behind | Backlog::CatchingUp => {
                self.backlog = Backlog::CatchingUp;
                true
            }
        }
    }

    /// A pair is on its way into the schedule, due at once.
    pub fn wait_for_record(&mut self) {
        self.unrecorded += 1;
    }

    /// It is there.
    pub fn recorded(&mut self) {
        self.unrecorded = self.unrecorded.saturating_sub(1);
    }

    /// Whether a look into the schedule shows everything that is to enter before what arrives from now on.
    pub fn is_clean(&self) -> bool {
        self.backlog == Backlog::CatchingUp && self.unrecorded == 0
    }

    /// Whether a look into the schedule is of use now: at least half of it is empty, so that a look brings many.
    pub fn wants_rows(&self, now: DateTime<Utc>) -> bool {
        let room = self.room(now);
        room > 0
            && room * 2 >= self.capacity(now)
            && (self.backlog != Backlog::CatchingUp || self.unrecorded == 0)
    }

    /// Something is due, and a look is of no use now. When the gate opens, if that is what it waits for; otherwise
    /// [`Lane::is_fed`] tells when to look.
    pub fn starve(&mut self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.starved = true;
        match self.gate.ask(0, now) {
            Permit::At(opens_at) if self.is_shut(now) => Some(opens_at),
            _ => None,
        }
    }

    /// There is room again for what is due; answers so once.
    pub fn is_fed(&mut self, now: DateTime<Utc>) -> bool {
        let fed = self.starved && self.wants_rows(now);
        self.starved &= !fed;
        fed
    }

    /// Its rows are about to be read, about `most`: after which one, and how many. At most one more than there is room
    /// for, which tells that there are more; and from the start those that are known already are read past.
    pub fn begin_reading(&mut self, most: usize, now: DateTime<Utc>) -> (Option<Row>, usize) {
        self.starved = false;
        let after = self.place.begin(now);
        let passed = if after.is_some() { 0 } else { self.known };
        (after, most.min(self.room(now) + 1) + passed)
    }

    /// They were read, up to `last`. `false`: some have come meanwhile that were due.
    pub fn end_reading(&mut self, last: Option<Row>) -> bool {
        self.place.end(last)
    }

    /// Something is due then: it may stand before what was read last.
    pub fn expect(&mut self, due_at: DateTime<Utc>) {
        self.place.expect(due_at);
    }

    /// As [`Lane::expect`], told by somebody who does not know what is known here: mostly it is that. What is new comes
    /// after what was read, but for clocks that differ.
    pub fn expect_unless_known(&mut self, due_at: DateTime<Utc>, now: DateTime<Utc>) {
        if self.known == 0 || self.place.is_old(now) {
            self.expect(due_at);
        }
    }

    /// Rows that were read are left where they are: they are read again.
    pub fn read_again(&mut self) {
        self.place.forget();
    }

    /// The owner knows one more delivery of it.
    pub fn know(&mut self) {
        self.known += 1;
    }

    /// The owner has forgotten one.
    pub fn forget(&mut self) {
        self.known = self.known.saturating_sub(1);
    }

    /// How many more may enter.
    pub fn room(&self, now: DateTime<Utc>) -> usize {
        let at_once = self.gate.most_at_once(now);
        if at_once == 0 {
            return 0;
        }
        let waiting = self.most_waiting(now);
        let free = (at_once + waiting).saturating_sub(self.len());
        // What waits for the rate alone is bounded, too, though nothing is under way.
        if waiting < self.most_queued {
            free.min(waiting.max(1).saturating_sub(self.queue.len()))
        } else {
            free
        }
    }

    fn capacity(&self, now: DateTime<Utc>) -> usize {
        let waiting = self.most_waiting(now);
        let rated = waiting < self.most_queued;
        if rated { waiting.max(1) } else { self.gate.most_at_once(now) + waiting }
    }

    fn most_waiting(&self, now: DateTime<Utc>) -> usize {
        let most = self.gate.most_waiting(self.most_queued, now);
        if self.crowded {
            // As many as are under way at least, so that none of these places is ever empty.
            most.min(self.passed.in_a_second(now).max(self.gate.most_at_once(now)))
        } else {
            most
        }
    }

    /// Nothing may start, and not because of the rate or of what is under way: nothing waits in memory then.
    pub fn is_shut(&self, now: DateTime<Utc>) -> bool {
        self.gate.most_at_once(now) == 0
    }

    /// How many are in it, under way or waiting.
    pub fn len(&self) -> usize {
        self.running + self.queue.len()
    }

    /// Nothing is under way and nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it can be forgotten: nothing is in it, and nobody has used it for so long. Its state is stored.
    pub fn is_idle(&self, long: TimeDelta, now: DateTime<Utc>) -> bool {
        self.is_empty()
            && self.known == 0
            && self.later.is_empty()
            && self.backlog == Backlog::None
            && self.unrecorded == 0
            && now > self.used_at + long
    }
}

#[cfg(test)]
mod tests;
