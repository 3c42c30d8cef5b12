//! Whether the books balance: where each pair of event and destination stands, by its own rows (PROTOCOLS D6).
//!
//! In comes what the store has of one event: its sets, and the traces of each pair in the tables beside it. Out goes one
//! state for each pair, or what is wrong with it. Nothing is concluded from what is left over: a pair that no table
//! vouches for is a fault.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::delivery::WaitingReason;
use crate::event::EventStatus;
use crate::ids::{DestinationId, EventId, OrganizationId};

/// In which set of its event a destination stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listed {
    /// It waits.
    Pending,
    /// It was delivered.
    Delivered,
    /// It was given up.
    Dead,
    /// Its filter did not want it.
    Filtered,
}

/// What stands in the tables beside `events` of one pair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces {
    /// Its row in the schedule: why, and which run.
    pub scheduled: Option<(WaitingReason, i32)>,
    /// The run that its dead letter ended.
    pub dead_letter: Option<i32>,
    /// The first run that was tried.
    pub first_run: Option<i32>,
    /// The last run that was delivered.
    pub delivered_run: Option<i32>,
    /// Somebody has deleted the destination.
    pub deleted: bool,
}

/// What the store has of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which one.
    pub id: EventId,
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// What it says of itself.
    pub status: EventStatus,
    /// It has met its destinations.
    pub routed: bool,
    /// Its producer's headers are there.
    pub has_headers: bool,
    /// It may still be on its way through Kafka: it is young, or the workers have not come so far.
    pub may_travel: bool,
    /// Its destinations, as its sets have them.
    pub listed: Vec<(DestinationId, Listed)>,
    /// What else is known of pairs, also of those that no set lists.
    pub traces: BTreeMap<DestinationId, Traces>,
}

/// Where something accepted stands. Each pair is in exactly one; an event without pairs counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A destination has accepted it.
    Delivered,
    /// It failed and is tried again.
    Retry,
    /// There was no room, or it took long.
    Parked,
    /// Somebody has paused its destination.
    Held,
    /// Somebody has replayed it.
    Replay,
    /// A worker has it, or is about to.
    InTheAir,
    /// Its event is on its way to the workers and has not met its destinations.
    NotRouted,
    /// It was given up.
    Dead,
    /// No destination wanted the event.
    Dropped,
    /// Its destination's filter did not want it.
    Filtered,
    /// It was tried, and then its destination was deleted, or the replay was cancelled for which alone it was tried.
    Cancelled,
}

impl State {
    /// Every state, in the order in which they are told.
    pub const ALL: [Self; 11] = [
        Self::Delivered,
        Self::Retry,
        Self::Parked,
        Self::Held,
        Self::Replay,
        Self::InTheAir,
        Self::NotRouted,
        Self::Dead,
        Self::Dropped,
        Self::Filtered,
        Self::Cancelled,
    ];

    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retry => "retry",
            Self::Parked => "parked",
            Self::Held => "held",
            Self::Replay => "replay",
            Self::InTheAir => "in the air",
            Self::NotRouted => "not routed",
            Self::Dead => "dead",
            Self::Dropped => "dropped",
            Self::Filtered => "filtered",
            Self::Cancelled => "cancelled",
        }
    }

    /// Something will still happen to it.
    pub fn waits(self) -> bool {
        matches!(
            self,
            Self::Retry | Self::Parked | Self::Held | Self::Replay | Self::InTheAir | Self::NotRouted
        )
    }
}

impl From<WaitingReason> for State {
    fn from(reason: WaitingReason) -> Self {
        match reason {
            WaitingReason::Retry => Self::Retry,
            WaitingReason::Parked => Self::Parked,
            WaitingReason::Held => Self::Held,
            WaitingReason::Replay => Self::Replay,
        }
    }
}

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// It should wait and waits nowhere.
    Lost,
    /// Rows speak of an event that is not there.
    EventMissing,
    /// The producer's headers of an event are not there.
    HeadersMissing,
    /// An event's status is not what its sets say.
    StatusWrong,
    /// A destination stands in two sets of an event, or twice in one.
    ListedTwice,
    /// Listed as delivered, and no attempt has succeeded.
    DeliveryMissing,
    /// Listed as given up, and there is no dead letter.
    DeadLetterMissing,
    /// An attempt has succeeded, and yet it waits or was given up.
    DeliveredAndNot,
    /// A row in the schedule for what does not wait.
    ScheduledAndNot,
    /// A dead letter of what was not given up.
    DeadAndNot,
    /// Attempts for a destination that the event does not list, though nobody has deleted it.
    AttemptUnlisted,
    /// The object with the payload is not there.
    PayloadMissing,
    /// The object with the payload ends too early.
    PayloadShort,
    /// The payload is not what was accepted: its SHA-256 is another.
    PayloadAltered,
}

impl Fault {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::EventMissing => "event_missing",
            Self::HeadersMissing => "headers_missing",
            Self::StatusWrong => "status_wrong",
            Self::ListedTwice => "listed_twice",
            Self::DeliveryMissing => "delivery_missing",
            Self::DeadLetterMissing => "dead_letter_missing",
            Self::DeliveredAndNot => "delivered_and_not",
            Self::ScheduledAndNot => "scheduled_and_not",
            Self::DeadAndNot => "dead_and_not",
            Self::AttemptUnlisted => "attempt_unlisted",
            Self::PayloadMissing => "payload_missing",
            Self::PayloadShort => "payload_short",
            Self::PayloadAltered => "payload_altered",
        }
    }

    /// What is wrong, and what can be done about it: only what is lost is put right by us.
    pub fn explain(self) -> &'static str {
        match self {
            Self::Lost => "it should wait and waits nowhere; --repair schedules it, as the sweeper does",
            Self::EventMissing => {
                "rows speak of an event that is not there; not repaired: where its payload is and whose it was went with its row, restore it from a backup"
            }
            Self::HeadersMissing => {
                "its producer's headers are not there; not repaired: they are stored nowhere else for long"
            }
            Self::StatusWrong => {
                "its status is not what its destinations say; not repaired: which of the two was altered can't be told. The next attempt or a replay sets the status anew"
            }
            Self::ListedTwice => {
                "a destination stands in two of its sets, or twice in one; not repaired: which of them is true can't be told"
            }
            Self::DeliveryMissing => {
                "listed as delivered, and no attempt has succeeded; not repaired: to send it again may be a duplicate. Replay it if its receiver does not have it"
            }
            Self::DeadLetterMissing => {
                "listed as given up, and there is no dead letter; not repaired: why it was given up is not known. A replay works as ever"
            }
            Self::DeliveredAndNot => {
                "an attempt has succeeded, and yet it waits or was given up; not repaired: to settle it might take back a replay that somebody wants"
            }
            Self::ScheduledAndNot => {
                "a row in the schedule for what does not wait; not repaired: it will be sent when it is due, and its receiver tells a duplicate by its id"
            }
            Self::DeadAndNot => {
                "a dead letter of what was not given up; not repaired: it may be the only trace of a delivery that was"
            }
            Self::AttemptUnlisted => {
                "attempts for a destination that the event does not list; not repaired: how it ended can't be told. Replay it if its receiver does not have it"
            }
            Self::PayloadMissing => {
                "the object with its payload is not there; not repaired: nothing else has it, restore the object from a backup"
            }
            Self::PayloadShort => {
                "the object with its payload ends too early; not repaired: nothing else has it, restore the object from a backup"
            }
            Self::PayloadAltered => {
                "its payload is not what was accepted: its SHA-256 is another; not repaired: nothing else has it, restore the object from a backup"
            }
        }
    }
}

/// Something that is wrong, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub fault: Fault,
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// With which event.
    pub event_id: EventId,
    /// For which destination, if it is not the whole event.
    pub destination_id: Option<DestinationId>,
}

/// What the books say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Events.
    pub events: u64,
    /// What was accepted: pairs, and events without pairs.
    pub accepted: u64,
    /// How much of it is in which state.
    pub states: BTreeMap<State, u64>,
}

impl Account {
    /// How much is in this state.
    pub fn of(&self, state: State) -> u64 {
        self.states.get(&state).copied().unwrap_or(0)
    }

    /// How much will still be worked on.
    pub fn waiting(&self) -> u64 {
        State::ALL.into_iter().filter(|state| state.waits()).map(|state| self.of(state)).sum()
    }

    /// What was accepted and is in no state: each is a finding.
    pub fn unaccounted(&self) -> u64 {
        self.accepted.saturating_sub(self.states.values().sum())
    }

    /// An event of which only other rows speak: it was accepted, and that is all that is known.
    pub fn miss(&mut self) {
        self.enter(None);
    }

    /// With another one's.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.accepted += other.accepted;
        for (state, count) in &other.states {
            *self.states.entry(*state).or_default() += count;
        }
    }

    fn enter(&mut self, state: Option<State>) {
        self.accepted += 1;
        if let Some(state) = state {
            *self.states.entry(state).or_default() += 1;
        }
    }
}

/// Enters one event into the books and tells what is wrong with it.
pub fn assess(entry: &Entry, account: &mut Account) -> Vec<Finding> {
    let mut book = Book { entry, account, findings: Vec::new() };
    book.account.events += 1;
    if !entry.has_headers {
        book.find(Fault::HeadersMissing, None);
    }
    if !status_agrees(entry) {
        book.find(Fault::StatusWrong, None);
    }
    if entry.routed || !entry.listed.is_empty() {
        book.pairs();
    } else {
        book.unrouted();
    }
    book.unlisted();
    book.findings
}

/// As the record of the worker sets it. Before it has met its destinations an event is pending.
fn status_agrees(entry: &Entry) -> bool {
    let has = |wanted| entry.listed.iter().any(|(_, listed)| *listed == wanted);
    let status = if !entry.routed || has(Listed::Pending) {
        EventStatus::Pending
    } else if has(Listed::Dead) {
        EventStatus::Failed
    } else if has(Listed::Delivered) {
        EventStatus::Success
    } else {
        EventStatus::Dropped
    };
    entry.status == status
}

struct Book<'a> {
    entry: &'a Entry,
    account: &'a mut Account,
    findings: Vec<Finding>,
}

impl Book<'_> {
    fn find(&mut self, fault: Fault, destination_id: Option<DestinationId>) {
        let Entry { id: event_id, organization_id, .. } = *self.entry;
        self.findings.push(Finding { fault, organization_id, event_id, destination_id });
    }

    fn enter(&mut self, destination: Option<DestinationId>, state: Result<State, Fault>) {
        self.account.enter(state.ok());
        if let Err(fault) = state {
            self.find(fault, destination);
        }
    }

    fn unrouted(&mut self) {
        let waits = if self.entry.may_travel { Ok(State::NotRouted) } else { Err(Fault::Lost) };
        self.enter(None, waits);
    }

    fn pairs(&mut self) {
        let entry = self.entry;
        if entry.listed.is_empty() && entry.traces.is_empty() {
            self.account.enter(Some(State::Dropped));
        }
        let mut seen = BTreeSet::new();
        let repeated: BTreeSet<DestinationId> =
            entry.listed.iter().filter(|(id, _)| !seen.insert(*id)).map(|(id, _)| *id).collect();
        let none = Traces::default();
        for (destination, listed) in &entry.listed {
            if !repeated.contains(destination) {
                let traces = entry.traces.get(destination).unwrap_or(&none);
                self.enter(Some(*destination), stands(*listed, traces, entry.may_travel));
            }
        }
        for destination in repeated {
            self.enter(Some(destination), Err(Fault::ListedTwice));
        }
    }

    /// What no set lists and tables speak of all the same.
    fn unlisted(&mut self) {
        let entry = self.entry;
        let listed: BTreeSet<DestinationId> = entry.listed.iter().map(|(id, _)| *id).collect();
        for (destination, traces) in entry.traces.iter().filter(|(id, _)| !listed.contains(id)) {
            if traces.scheduled.is_some() {
                self.enter(Some(*destination), Err(Fault::ScheduledAndNot));
            } else if traces.dead_letter.is_some() {
                self.enter(Some(*destination), Err(Fault::DeadAndNot));
            } else if traces.deleted || was_replayed_in_vain(traces) {
                self.enter(Some(*destination), Ok(State::Cancelled));
            } else {
                self.enter(Some(*destination), Err(Fault::AttemptUnlisted));
            }
        }
    }
}

/// Where a pair stands, if its rows vouch for what its event says of it.
fn stands(listed: Listed, traces: &Traces, may_travel: bool) -> Result<State, Fault> {
    match listed {
        Listed::Pending => waits(traces, may_travel),
        Listed::Delivered => was_delivered(traces),
        Listed::Filtered => was_filtered(traces),
        Listed::Dead if traces.delivered_run.is_some() => Err(Fault::DeliveredAndNot),
        Listed::Dead if traces.scheduled.is_some() => Err(Fault::ScheduledAndNot),
        Listed::Dead if traces.dead_letter.is_none() => Err(Fault::DeadLetterMissing),
        Listed::Dead => Ok(State::Dead),
    }
}

/// An event that was never meant for a destination was replayed to it by a job that was cancelled while a worker had it:
/// the pair is in no set again, and what the worker records of it afterwards stays. A first delivery has run 0.
fn was_replayed_in_vain(traces: &Traces) -> bool {
    traces.first_run.is_some_and(|run| run > 0) && traces.delivered_run.is_none()
}

fn was_filtered(traces: &Traces) -> Result<State, Fault> {
    if traces.delivered_run.is_some() {
        Err(Fault::DeliveredAndNot)
    } else if traces.scheduled.is_some() {
        Err(Fault::ScheduledAndNot)
    } else if traces.dead_letter.is_some() {
        Err(Fault::DeadAndNot)
    } else {
        Ok(State::Filtered)
    }
}

fn waits(traces: &Traces, may_travel: bool) -> Result<State, Fault> {
    if traces.delivered_run.is_some() {
        return Err(Fault::DeliveredAndNot);
    }
    if traces.dead_letter.is_some() {
        return Err(Fault::DeadAndNot);
    }
    match traces.scheduled {
        Some((reason, _)) => Ok(reason.into()),
        None if may_travel => Ok(State::InTheAir),
        None => Err(Fault::Lost),
    }
}

/// Once delivered it stays so, whatever becomes of a replay: only later runs may wait, or end as dead letters.
fn was_delivered(traces: &Traces) -> Result<State, Fault> {
    let Some(delivered) = traces.delivered_run else { return Err(Fault::DeliveryMissing) };
    if traces.scheduled.is_some_and(|(_, run)| run <= delivered) {
        return Err(Fault::ScheduledAndNot);
    }
    if traces.dead_letter.is_some_and(|run| run <= delivered) {
        return Err(Fault::DeadAndNot);
    }
    Ok(State::Delivered)
}

#[cfg(test)]
mod tests;
