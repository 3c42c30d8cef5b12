//! What waits for its time, and whose turn it is (PROTOCOLS W7).

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ravenpost_core::delivery::Outcome;
use ravenpost_core::event::PayloadLocation;
use ravenpost_core::ids::{DestinationId, EndpointId, EventId, OrganizationId, Slot};

use super::System;
use crate::Result;
use crate::decode::Row;
use crate::lease::bounded;

/// A destination for which something waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Which one.
    pub destination_id: DestinationId,
    /// Which slot owns it.
    pub slot: Slot,
    /// When the first of its rows is due.
    pub due_at: DateTime<Utc>,
    /// When a person resumed it.
    pub resumed_at: Option<DateTime<Utc>>,
    /// It was deleted: what waits is to be cancelled. Whose it is.
    pub deleted: Option<OrganizationId>,
}

/// Whose due rows are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// Of which destination.
    pub destination_id: DestinationId,
    /// At most so many.
    pub most: i64,
    /// Only those that come after this one, by due time and event.
    pub after: Option<(DateTime<Utc>, EventId)>,
}

impl Ask {
    /// From the start.
    pub fn oldest(destination_id: DestinationId, most: i64) -> Self {
        Self { destination_id, most, after: None }
    }
}

/// A row whose time has come, with all that its attempt needs but the payload's bytes.
#[derive(Debug, Clone)]
pub struct Due {
    /// The event.
    pub event_id: EventId,
    /// For which destination.
    pub destination_id: DestinationId,
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// Through which endpoint the event came.
    pub endpoint_id: EndpointId,
    /// Which run.
    pub run: i32,
    /// Which attempt of it.
    pub attempt_number: i32,
    /// What came of the attempt before it in the same run.
    pub previous: Option<Outcome>,
    /// The row's version, which completion has to name.
    pub version: i32,
    /// When it was due.
    pub due_at: DateTime<Utc>,
    /// The destination's filter is not asked.
    pub unfiltered: bool,
    /// When the event was received.
    pub received_at: DateTime<Utc>,
    /// Where its payload is.
    pub payload: PayloadLocation,
    /// SHA-256 of the payload as it was received.
    pub body_sha256: [u8; 32],
    /// The producer's headers, encoded.
    pub headers: Bytes,
    /// What its producer calls it.
    pub event_type: Option<String>,
    /// The payload's content type.
    pub content_type: Option<String>,
    /// The trace it belongs to.
    pub traceparent: Option<String>,
}

/// What is no digest is none of anything: the payload is told as altered, and the rows beside it are read all the same.
pub(super) fn sha256(stored: &[u8]) -> [u8; 32] {
    stored.try_into().unwrap_or_default()
}

impl System {
    /// Every destination for which something waits and that is neither paused nor disabled nor, by its state, closed
    /// for the moment, with its earliest due time; deleted ones, too. Costs one index probe a destination, however
    /// much waits (a loose index scan).
    pub async fn waiting(&self) -> Result<Vec<Waiting>> {
        let rows = bounded!(
            self,
            sqlx::query!(
                r#"with recursive first as (
                (select destination_id, due_at from scheduled_deliveries order by destination_id, due_at limit 1)
                union all
                select next.* from first, lateral (
                    select s.destination_id, s.due_at from scheduled_deliveries s
                    where s.destination_id > first.destination_id order by s.destination_id, s.due_at limit 1
                ) as next
            )
            select first.destination_id as "destination_id!", first.due_at as "due_at!", d.slot as "slot!", d.resumed_at,
                d.organization_id as "organization_id!", d.deleted_at is not null as "deleted!"
            from first
            join destinations d on d.id = first.destination_id
            join endpoints e on e.id = d.endpoint_id
            left join destination_state s on s.destination_id = d.id and s.follows is not distinct from d.resumed_at
            where d.deleted_at is not null or (d.status = 'active' and e.status = 'active'
                and coalesce(greatest(s.slow_until, s.probe_at) <= now(), true))"#
            ),
            fetch_all
        );
        rows.into_iter()
            .map(|row| {
                let decode = Row { table: "destinations", id: row.destination_id };
                Ok(Waiting {
                    destination_id: row.destination_id.into(),
                    slot: Slot(decode.value("slot", u16::try_from(row.slot))?),
                    due_at: row.due_at,
                    resumed_at: row.resumed_at,
                    deleted: row.deleted.then(|| row.organization_id.into()),
                })
            })
            .collect()
    }

    /// The oldest due rows of each of those asked for; none of what is paused or disabled.
    ///
    /// Each row's event is looked up by its id, which `limit 1` makes the planner do: it takes a tenth of all rows for what
    /// an unknown limit lets through, and would rather read a whole day of headers.
    pub async fn due(&self, asked: &[Ask], now: DateTime<Utc>) -> Result<Vec<Due>> {
        let ids: Vec<_> = asked.iter().map(|ask| ask.destination_id.0).collect();
        let limits: Vec<_> = asked.iter().map(|ask| ask.most).collect();
        let times: Vec<_> = asked.iter().map(|ask| ask.after.map(|(due_at, _)| due_at)).collect();
        let events: Vec<_> = asked.iter().map(|ask| ask.after.map(|(_, event)| event.0)).collect();
        let rows = bounded!(
            self,
            sqlx::query!(
                r#"select s.event_id, s.destination_id, s.organization_id, s.endpoint_id, s.run, s.attempt_number,
                s.version, s.due_at, s.unfiltered, e.received_at, e.s3_key, e.s3_offset, e.s3_length, e.body_sha256, e.event_type, e.content_type,
                e.traceparent, h.headers,
                (select a.outcome from deliveries a where a.event_id = s.event_id and a.destination_id = s.destination_id
                    and a.run = s.run and a.attempt_number = s.attempt_number - 1) as previous
            from unnest($1::uuid[], $2::bigint[], $4::timestamptz[], $5::uuid[]) as asked (id, most, due_at, event_id)
            join destinations d on d.id = asked.id
            join endpoints p on p.id = d.endpoint_id
            cross join lateral (
                select * from scheduled_deliveries s
                where s.destination_id = d.id and s.due_at <= $3
                    and (s.due_at, s.event_id) > (coalesce(asked.due_at, '-infinity'),
                        coalesce(asked.event_id, '00000000-0000-0000-0000-000000000000'))
                order by s.due_at, s.event_id limit asked.most
            ) as s
            cross join lateral (select * from events e where e.id = s.event_id limit 1) as e
            cross join lateral (select * from event_headers h where h.event_id = s.event_id limit 1) as h
            where d.deleted_at is not null or (d.status = 'active' and p.status = 'active')
            order by s.destination_id, s.due_at, s.event_id"#,
                &ids,
                &limits,
                now,
                &times as &[Option<DateTime<Utc>>],
                &events as &[Option<uuid::Uuid>]
            ),
            fetch_all
        );
        Ok(rows
            .into_iter()
            .map(|row| Due {
                // A word of a later release is no reason to hold an event back.
                previous: row.previous.as_deref().and_then(Outcome::parse),
                event_id: row.event_id.into(),
                destination_id: row.destination_id.into(),
                organization_id: row.organization_id.into(),
                endpoint_id: row.endpoint_id.into(),
                run: row.run,
                attempt_number: row.attempt_number,
                version: row.version,
                due_at: row.due_at,
                unfiltered: row.unfiltered,
                received_at: row.received_at,
                payload: PayloadLocation {
                    s3_key: row.s3_key,
                    s3_offset: row.s3_offset,
                    s3_length: row.s3_length,
                },
                body_sha256: sha256(&row.body_sha256),
                headers: row.headers.into(),
                event_type: row.event_type,
                content_type: row.content_type,
                traceparent: row.traceparent,
            })
            .collect())
    }
}
