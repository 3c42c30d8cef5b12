//! What the worker has to record, in one statement: attempts, decisions and the events they move (PROTOCOLS W2, W5, W8).
//!
//! An event's `pending`, `delivered`, `dead` and `filtered` are *sets* of destinations, moved by set operations on the row's own
//! newest version. Recording something twice, late, or by a worker that has lost its partition therefore moves
//! nothing twice; docs/decisions says why sets and not counters.

use chrono::{DateTime, Utc};
use ravenpost_core::delivery::{DeliveryKey, Outcome, PhaseTimes};
use ravenpost_core::ids::{DeliveryId, DestinationId, EndpointId, EventId, OrganizationId};
use ravenpost_core::pacing::Health;
use serde::Serialize;
use uuid::Uuid;

use super::System;
use crate::Result;
use crate::lease::bounded;

/// An event that has met its destinations: they become its pending set, unless they have before.
#[derive(Debug, Clone)]
pub struct Routed {
    /// The event.
    pub event_id: EventId,
    /// Everybody it is for; empty drops it.
    pub destinations: Vec<DestinationId>,
}

/// An attempt and what follows from it.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The attempt's id.
    pub id: DeliveryId,
    /// What makes it one of its kind.
    pub key: DeliveryKey,
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// Through which endpoint the event came.
    pub endpoint_id: EndpointId,
    /// The `version` of the schedule row that this attempt completes; 0 when it had none.
    pub version: i32,
    /// In one word.
    pub outcome: Outcome,
    /// HTTP status, if there was a response.
    pub response_code: Option<u16>,
    /// The start of the response body.
    pub response_body_snippet: Option<String>,
    /// Why it failed.
    pub error_message: Option<String>,
    /// When it is due again; `None` for a success or a dead letter.
    pub next_retry_at: Option<DateTime<Utc>>,
    /// When it started.
    pub attempted_at: DateTime<Utc>,
    /// How long it took.
    pub duration_ms: u32,
    /// Why the destination's filter could not decide, and so let the event through.
    pub filter_error: Option<String>,
    /// Where the time went.
    pub phases: PhaseTimes,
    /// What was connected to, as `address:port`.
    pub connected_address: Option<String>,
}

impl Attempt {
    /// Failed, and never to be tried again by itself.
    pub fn is_dead(&self) -> bool {
        !self.outcome.is_success() && self.next_retry_at.is_none()
    }
}

/// Why something waits in the schedule without having failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParkReason {
    /// Its destination has no room just now, or takes long to answer.
    Parked,
    /// Its endpoint or destination is paused.
    Held,
}

impl ParkReason {
    /// As it is stored and counted.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::Held => "held",
        }
    }
}

/// A pair that is left to the schedule: by a new row unless it has one, or by the row that it was taken from.
#[derive(Debug, Clone)]
pub struct Park {
    /// The event.
    pub event_id: EventId,
    /// For which destination.
    pub destination_id: DestinationId,
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// Through which endpoint the event came.
    pub endpoint_id: EndpointId,
    /// The run that waits.
    pub run: i32,
    /// The attempt that waits.
    pub attempt_number: i32,
    /// The version of the row that is put off again; 0 makes a new one.
    pub version: i32,
    /// When it is due.
    pub due_at: DateTime<Utc>,
    /// Why it waits.
    pub reason: ParkReason,
}

/// A pair that will not be sent since the destination's filter does not want it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filtered {
    /// The event.
    pub event_id: EventId,
    /// Who does not want it.
    pub destination_id: DestinationId,
    /// The run for which the filter was asked.
    pub run: i32,
    /// The `version` of the schedule row that this completes; 0 when it had none.
    pub version: i32,
}

/// Everything that one statement records.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Events met for the first time.
    pub routed: Vec<Routed>,
    /// Attempts made.
    pub attempts: Vec<Attempt>,
    /// Pairs put off.
    pub parks: Vec<Park>,
    /// Pairs that will never be sent since their destination was deleted.
    pub cancelled: Vec<(EventId, DestinationId)>,
    /// Pairs that are not wanted.
    pub filtered: Vec<Filtered>,
    /// How destinations fare now, at most one each.
    pub states: Vec<DestinationState>,
}

/// How a destination fares.
#[derive(Debug, Clone, Serialize)]
pub struct DestinationState {
    /// Which one.
    pub destination_id: DestinationId,
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// How it fares. When it is disabled the destination becomes so, unless a person changed its status meanwhile.
    #[serde(flatten)]
    pub health: Health,
    /// As of when.
    pub updated_at: DateTime<Utc>,
}

impl Record {
    /// Nothing to record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How a destination fares now, in place of what was to be recorded of it.
    pub fn set_state(&mut self, state: DestinationState) {
        match self.states.iter_mut().find(|known| known.destination_id == state.destination_id) {
            Some(known) => *known = state,
            None => self.states.push(state),
        }
    }

    /// Leaves out what receivers and networks have said: for when Postgres does not take it.
    pub fn forget_texts(&mut self) {
        const LEFT_OUT: &str = "(what was said could not be stored)";
        for attempt in &mut self.attempts {
            attempt.response_body_snippet = None;
            attempt.connected_address = None;
            attempt.filter_error = attempt.filter_error.take().map(|_| LEFT_OUT.to_owned());
            attempt.error_message = attempt.error_message.take().map(|_| LEFT_OUT.to_owned());
        }
    }

    /// Takes out what concerns events below `bound`.
    #[must_use]
    pub fn split_off_below(&mut self, bound: EventId) -> Self {
        Self {
            routed: self.routed.extract_if(.., |routed| routed.event_id < bound).collect(),
            attempts: self.attempts.extract_if(.., |attempt| attempt.key.event_id < bound).collect(),
            parks: self.parks.extract_if(.., |park| park.event_id < bound).collect(),
            cancelled: self.cancelled.extract_if(.., |(event, _)| *event < bound).collect(),
            filtered: self.filtered.extract_if(.., |filtered| filtered.event_id < bound).collect(),
            states: Vec::new(),
        }
    }

    /// Takes out what is beyond so many of a kind: all new events stay, since nothing may be said of them before they are
    /// there, and so does how destinations fare.
    #[must_use]
    pub fn split_off(&mut self, most: usize) -> Self {
        fn beyond<T>(all: &mut Vec<T>, most: usize) -> Vec<T> {
            all.split_off(most.min(all.len()))
        }
        Self {
            routed: Vec::new(),
            attempts: beyond(&mut self.attempts, most),
            parks: beyond(&mut self.parks, most),
            cancelled: beyond(&mut self.cancelled, most),
            filtered: beyond(&mut self.filtered, most),
            states: Vec::new(),
        }
    }

    /// Adds what another one has to say.
    pub fn append(&mut self, mut other: Self) {
        self.routed.append(&mut other.routed);
        self.attempts.append(&mut other.attempts);
        self.parks.append(&mut other.parks);
        self.cancelled.append(&mut other.cancelled);
        self.filtered.append(&mut other.filtered);
        self.states.append(&mut other.states);
    }

    /// How many things it has to say, for whoever bounds a statement.
    pub fn len(&self) -> usize {
        self.attempts.len()
            + self.parks.len()
            + self.cancelled.len()
            + self.filtered.len()
            + self.routed.len()
            + self.states.len()
    }

    /// Every event concerned.
    fn events(&self) -> impl Iterator<Item = Uuid> {
        let routed = self.routed.iter().map(|routed| routed.event_id.0);
        let attempts = self.attempts.iter().map(|attempt| attempt.key.event_id.0);
        let cancelled = self.cancelled.iter().map(|(event, _)| event.0);
        let filtered = self.filtered.iter().map(|filtered| filtered.event_id.0);
        let parks = self.parks.iter().map(|park| park.event_id.0);
        routed.chain(attempts).chain(cancelled).chain(filtered).chain(parks)
    }
}

/// What the owner of a partition has to record.
#[derive(Debug, Clone, Copy)]
pub struct OfPartition<'a> {
    /// Which partition.
    pub partition: i32,
    /// The epoch under which its owner took it.
    pub epoch: i64,
    /// What is to be recorded.
    pub record: &'a Record,
}

/// A column of everything of a kind in several records.
struct Rows<'a, T>(Vec<(i32, &'a T)>);

impl<'a, T> Rows<'a, T> {
    fn of(records: &[OfPartition<'a>], pick: impl Fn(&'a Record) -> &'a [T]) -> Self {
        let rows = records.iter().flat_map(|of| pick(of.record).iter().map(|row| (of.partition, row)));
        Self(rows.collect())
    }

    fn column<C>(&self, pick: impl Fn(&'a T) -> C) -> Vec<C> {
        self.0.iter().map(|(_, row)| pick(row)).collect()
    }

    fn partitions(&self) -> Vec<i32> {
        self.0.iter().map(|(partition, _)| *partition).collect()
    }
}

impl System {
    /// As [`System::record_all`], of one partition. Answers whether its epoch is the current one.
    pub async fn record(&self, partition: i32, epoch: i64, record: &Record) -> Result<bool> {
        let current = self.record_all(&[OfPartition { partition, epoch, record }]).await?;
        Ok(current.contains(&partition))
    }

    /// Records under the epochs of partitions, at most one record of each. Routes, attempts and successes count in any
    /// case; retries, dead letters, parked pairs and how destinations fare only while the partition's epoch is the
    /// current one. Answers of which it is.
    pub async fn record_all(&self, records: &[OfPartition<'_>]) -> Result<Vec<i32>> {
        let partitions: Vec<i32> = records.iter().map(|of| of.partition).collect();
        let epochs: Vec<i64> = records.iter().map(|of| of.epoch).collect();
        // So that Postgres prunes partitions (D3). A bound above, too, would have it take what lies between for little.
        let low = records.iter().flat_map(|of| of.record.events()).min().unwrap_or_default();
        let attempts = Rows::of(records, |record| &record.attempts);
        let phase = |pick: fn(&PhaseTimes) -> Option<u64>| {
            attempts.column(|attempt| pick(&attempt.phases).map(microseconds))
        };
        let routed = Rows::of(records, |record| &record.routed);
        let pairs = routed.0.iter();
        let (routed_events, routed_destinations): (Vec<Uuid>, Vec<Uuid>) =
            pairs.flat_map(|(_, it)| it.destinations.iter().map(|id| (it.event_id.0, id.0))).unzip();
        let parks = Rows::of(records, |record| &record.parks);
        let cancelled = Rows::of(records, |record| &record.cancelled);
        let filtered = Rows::of(records, |record| &record.filtered);
        let current = bounded!(
            self.recording,
            self,
            sqlx::query_file_scalar!(
                "src/system/record.sql",
                &partitions,
                &epochs,
                low,
                &filtered.partitions(),
                &attempts.column(|attempt| attempt.id.0),
                &attempts.column(|attempt| attempt.organization_id.0),
                &attempts.column(|attempt| attempt.endpoint_id.0),
                &attempts.column(|attempt| attempt.key.event_id.0),
                &attempts.column(|attempt| attempt.key.destination_id.0),
                &attempts.column(|attempt| attempt.key.run),
                &attempts.column(|attempt| attempt.key.attempt_number),
                &attempts.column(|attempt| attempt.version),
                &attempts.column(|attempt| attempt.outcome.as_str()) as &[&str],
                &attempts.column(|attempt| attempt.response_code.map(i32::from)) as &[Option<i32>],
                &attempts.column(|attempt| attempt.response_body_snippet.as_deref()) as &[Option<&str>],
                &attempts.column(|attempt| attempt.error_message.as_deref()) as &[Option<&str>],
                &attempts.column(|attempt| attempt.next_retry_at) as &[Option<DateTime<Utc>>],
                &attempts.column(|attempt| attempt.attempted_at),
                &attempts.column(|attempt| i32::try_from(attempt.duration_ms).unwrap_or(i32::MAX)),
                &routed.column(|routed| routed.event_id.0),
                &routed_events,
                &routed_destinations,
                &parks.column(|park| park.event_id.0),
                &parks.column(|park| park.destination_id.0),
                &parks.column(|park| park.organization_id.0),
                &parks.column(|park| park.endpoint_id.0),
                &parks.column(|park| park.run),
                &parks.column(|park| park.attempt_number),
                &parks.column(|park| park.version),
                &parks.column(|park| park.due_at),
                &parks.column(|park| park.reason.as_str()) as &[&str],
                &cancelled.column(|(event, _)| event.0),
                &cancelled.column(|(_, destination)| destination.0),
                &filtered.column(|filtered| filtered.event_id.0),
                &filtered.column(|filtered| filtered.destination_id.0),
                &filtered.column(|filtered| filtered.run),
                &filtered.column(|filtered| filtered.version),
                &attempts.column(|attempt| attempt.filter_error.as_deref()) as &[Option<&str>],
                states(records),
                &attempts.column(|attempt| attempt.phases.queue_us.map(saturated)) as &[Option<i64>],
                &phase(|phases| phases.dns_us) as &[Option<i32>],
                &phase(|phases| phases.connect_us) as &[Option<i32>],
                &phase(|phases| phases.tls_us) as &[Option<i32>],
                &phase(|phases| phases.first_byte_us) as &[Option<i32>],
                &attempts.column(|attempt| attempt.connected_address.as_deref()) as &[Option<&str>],
                &attempts.partitions(),
                &parks.partitions(),
                &cancelled.partitions(),
            ),
            fetch_all
        );
        Ok(current)
    }
}

/// How destinations fare, each with its partition.
fn states(records: &[OfPartition<'_>]) -> serde_json::Value {
    #[derive(Serialize)]
    struct Of<'a> {
        partition: i32,
        #[serde(flatten)]
        state: &'a DestinationState,
    }
    let states = Rows::of(records, |record| &record.states);
    let states: Vec<_> =
        states.0.iter().map(|(partition, state)| Of { partition: *partition, state }).collect();
    serde_json::to_value(states).expect("words, numbers and times")
}

/// A phase is bounded by the destination's time to answer; a longer one saturates rather than wraps.
fn microseconds(time: u64) -> i32 {
    i32::try_from(time).unwrap_or(i32::MAX)
}

fn saturated(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}
