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
        self.routed.is_empty()
            && self.attempts.is_empty()
            && self.parks.is_empty()
            && self.cancelled.is_empty()
            && self.filtered.is_empty()
            && self.states.is_empty()
    }

    /// How a destination fares now, in place of what was to be recorded of it.
    pub fn set_state(&mut self, state: DestinationState) {
        match self.states.iter_mut().find(|known| known.destination_id == state.destination_id) {
            Some(known) => *known = state,
            None => self.states.push(state),
        }
    }

    /// The smallest and largest event concerned, so that Postgres prunes partitions (D3).
    fn bounds(&self) -> Option<(Uuid, Uuid)> {
        let routed = self.routed.iter().map(|routed| routed.event_id.0);
        let attempts = self.attempts.iter().map(|attempt| attempt.key.event_id.0);
        let cancelled = self.cancelled.iter().map(|(event, _)| event.0);
        let filtered = self.filtered.iter().map(|filtered| filtered.event_id.0);
        let mut ids = routed.chain(attempts).chain(cancelled).chain(filtered);
        let first = ids.next()?;
        Some(ids.fold((first, first), |(low, high), id| (low.min(id), high.max(id))))
    }
}

impl System {
    /// Records under a partition's epoch. Routes, attempts and successes count in any case; retries, dead letters and
    /// parked pairs and how
    /// destinations fare only while the epoch is the current one. Answers whether it is.
    pub async fn record(&self, partition: i32, epoch: i64, record: &Record) -> Result<bool> {
        let (low, high) = record.bounds().unwrap_or_default();
        let attempts = &record.attempts;
        let column = |pick: fn(&Attempt) -> Uuid| attempts.iter().map(pick).collect::<Vec<_>>();
        let number = |pick: fn(&Attempt) -> i32| attempts.iter().map(pick).collect::<Vec<_>>();
        let phase = |pick: fn(&PhaseTimes) -> Option<u64>| {
            attempts.iter().map(|attempt| pick(&attempt.phases).map(microseconds)).collect::<Vec<_>>()
        };
        let routed = || {
            record
                .routed
                .iter()
                .flat_map(|routed| routed.destinations.iter().map(move |id| (routed.event_id.0, id.0)))
        };
        let (routed_events, routed_destinations): (Vec<Uuid>, Vec<Uuid>) = routed().unzip();
        let met: Vec<Uuid> = record.routed.iter().map(|routed| routed.event_id.0).collect();
        let parks = &record.parks;
        let (cancelled_events, cancelled_destinations): (Vec<Uuid>, Vec<Uuid>) =
            record.cancelled.iter().map(|(event, destination)| (event.0, destination.0)).unzip();
        let states = serde_json::to_value(&record.states).expect("words, numbers and times");

        let filtered = &record.filtered;
        let current = bounded!(
            self,
            sqlx::query_file_scalar!(
                "src/system/record.sql",
                partition,
                epoch,
                low,
                high,
                &column(|attempt| attempt.id.0),
                &column(|attempt| attempt.organization_id.0),
                &column(|attempt| attempt.endpoint_id.0),
                &column(|attempt| attempt.key.event_id.0),
                &column(|attempt| attempt.key.destination_id.0),
                &number(|attempt| attempt.key.run),
                &number(|attempt| attempt.key.attempt_number),
                &number(|attempt| attempt.version),
                &attempts.iter().map(|attempt| attempt.outcome.as_str().to_owned()).collect::<Vec<_>>(),
                &attempts.iter().map(|attempt| attempt.response_code.map(i32::from)).collect::<Vec<_>>()
                    as &[Option<i32>],
                &attempts.iter().map(|attempt| attempt.response_body_snippet.clone()).collect::<Vec<_>>()
                    as &[Option<String>],
                &attempts.iter().map(|attempt| attempt.error_message.clone()).collect::<Vec<_>>()
                    as &[Option<String>],
                &attempts.iter().map(|attempt| attempt.next_retry_at).collect::<Vec<_>>()
                    as &[Option<DateTime<Utc>>],
                &attempts.iter().map(|attempt| attempt.attempted_at).collect::<Vec<_>>(),
                &attempts
                    .iter()
                    .map(|attempt| i32::try_from(attempt.duration_ms).unwrap_or(i32::MAX))
                    .collect::<Vec<_>>(),
                &met,
                &routed_events,
                &routed_destinations,
                &parks.iter().map(|park| park.event_id.0).collect::<Vec<_>>(),
                &parks.iter().map(|park| park.destination_id.0).collect::<Vec<_>>(),
                &parks.iter().map(|park| park.organization_id.0).collect::<Vec<_>>(),
                &parks.iter().map(|park| park.endpoint_id.0).collect::<Vec<_>>(),
                &parks.iter().map(|park| park.run).collect::<Vec<_>>(),
                &parks.iter().map(|park| park.attempt_number).collect::<Vec<_>>(),
                &parks.iter().map(|park| park.version).collect::<Vec<_>>(),
                &parks.iter().map(|park| park.due_at).collect::<Vec<_>>(),
                &parks.iter().map(|park| park.reason.as_str().to_owned()).collect::<Vec<_>>(),
                &cancelled_events,
                &cancelled_destinations,
                &filtered.iter().map(|filtered| filtered.event_id.0).collect::<Vec<_>>(),
                &filtered.iter().map(|filtered| filtered.destination_id.0).collect::<Vec<_>>(),
                &filtered.iter().map(|filtered| filtered.run).collect::<Vec<_>>(),
                &filtered.iter().map(|filtered| filtered.version).collect::<Vec<_>>(),
                &attempts.iter().map(|attempt| attempt.filter_error.clone()).collect::<Vec<_>>()
                    as &[Option<String>],
                states,
                &attempts.iter().map(|attempt| attempt.phases.queue_us.map(saturated)).collect::<Vec<_>>()
                    as &[Option<i64>],
                &phase(|phases| phases.dns_us) as &[Option<i32>],
                &phase(|phases| phases.connect_us) as &[Option<i32>],
                &phase(|phases| phases.tls_us) as &[Option<i32>],
                &phase(|phases| phases.first_byte_us) as &[Option<i32>],
                &attempts.iter().map(|attempt| attempt.connected_address.clone()).collect::<Vec<_>>()
                    as &[Option<String>],
            ),
            fetch_one
        );
        Ok(current)
    }
}

/// A phase is bounded by the destination's time to answer; a longer one saturates rather than wraps.
fn microseconds(time: u64) -> i32 {
    i32::try_from(time).unwrap_or(i32::MAX)
}

fn saturated(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}
