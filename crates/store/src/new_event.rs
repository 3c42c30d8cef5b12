//! A new event and the statement that makes rows of it, through whichever door. Those whose producer repeats itself stay
//! out of it (PROTOCOLS I7).

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ravenpost_core::deduplication::DeduplicationKey;
use ravenpost_core::event::{Content, PayloadLocation};
use ravenpost_core::ids::{EndpointId, EventId, OrganizationId, Slot};
use ravenpost_core::trace::Traceparent;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Result;
use crate::decode::Row;
use crate::system::Endpoint;

/// An event that has no id yet and whose payload is not stored.
#[derive(Debug, Clone)]
pub struct Draft {
    organization_id: OrganizationId,
    /// Through which endpoint it came.
    pub endpoint_id: EndpointId,
    slot: Slot,
    received_at: DateTime<Utc>,
    /// What its request says of it.
    pub content: Content,
    traceparent: Traceparent,
    expires_at: DateTime<Utc>,
}

/// An event whose payload is stored.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Its id.
    pub id: EventId,
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// Through which endpoint it came.
    pub endpoint_id: EndpointId,
    /// Which slot owns it.
    pub slot: Slot,
    /// When it was received.
    pub received_at: DateTime<Utc>,
    /// Where its payload is.
    pub payload: PayloadLocation,
    /// SHA-256 of the payload.
    pub body_sha256: [u8; 32],
    /// The producer's headers, encoded ([`ravenpost_core::headers`]).
    pub headers: Bytes,
    /// What its producer calls it.
    pub event_type: Option<String>,
    /// The payload's content type.
    pub content_type: Option<String>,
    /// The trace it belongs to.
    pub traceparent: Option<String>,
    /// What its producer's retries have in common with it. Different for each event of a batch.
    pub deduplication: Option<Deduplication>,
}

/// What is kept to recognise a producer's retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deduplication {
    /// What it has in common with it, within its endpoint.
    pub key: DeduplicationKey,
    /// Until when retries are recognised.
    pub expires_at: DateTime<Utc>,
}

/// A key within its endpoint, as [`DeduplicationKey::hash`].
pub type KeyOfEndpoint = (EndpointId, [u8; 16]);

/// The event that a retry repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Winner {
    /// Its id.
    pub event_id: EventId,
    /// SHA-256 of its payload.
    pub body_sha256: [u8; 32],
}

impl Draft {
    /// What an endpoint received. Its producer's retries are recognised for `window` from then on.
    pub fn new(
        endpoint: &Endpoint,
        content: Content,
        received_at: DateTime<Utc>,
        traceparent: Traceparent,
        window: Duration,
    ) -> Self {
        Self {
            organization_id: endpoint.organization_id,
            endpoint_id: endpoint.id,
            slot: endpoint.slot,
            received_at,
            content,
            traceparent,
            expires_at: received_at + window,
        }
    }

    /// What its producer's retries repeat; one that can't be used is none.
    pub fn key(&self) -> Option<DeduplicationKey> {
        self.content.deduplication.unwrap_or_default()
    }

    /// With its id, and its payload where it is stored now.
    pub fn stored(self, id: EventId, payload: PayloadLocation) -> NewEvent {
        let key = self.key();
        NewEvent {
            id,
            organization_id: self.organization_id,
            endpoint_id: self.endpoint_id,
            slot: self.slot,
            received_at: self.received_at,
            payload,
            body_sha256: self.content.body_sha256,
            headers: self.content.headers.into(),
            event_type: self.content.event_type,
            content_type: self.content.content_type,
            traceparent: Some(self.traceparent.to_string()),
            deduplication: key.map(|key| Deduplication { key, expires_at: self.expires_at }),
        }
    }
}

impl NewEvent {
    /// Its key within its endpoint, if its retries have one.
    pub(crate) fn key(&self) -> Option<KeyOfEndpoint> {
        self.deduplication.map(|deduplication| (self.endpoint_id, deduplication.key.hash))
    }
}

/// The columns of a batch, as `unnest` takes them.
#[derive(Default)]
pub(crate) struct Columns<'a> {
    pub(crate) id: Vec<Uuid>,
    pub(crate) organization_id: Vec<Uuid>,
    pub(crate) endpoint_id: Vec<Uuid>,
    pub(crate) slot: Vec<i32>,
    pub(crate) received_at: Vec<DateTime<Utc>>,
    pub(crate) s3_key: Vec<&'a str>,
    pub(crate) s3_offset: Vec<i64>,
    pub(crate) s3_length: Vec<i64>,
    pub(crate) body_sha256: Vec<&'a [u8]>,
    pub(crate) headers: Vec<&'a [u8]>,
    pub(crate) event_type: Vec<Option<&'a str>>,
    pub(crate) content_type: Vec<Option<&'a str>>,
    pub(crate) traceparent: Vec<Option<&'a str>>,
    pub(crate) key: Vec<Option<&'a [u8]>>,
    pub(crate) expires_at: Vec<Option<DateTime<Utc>>>,
}

impl<'a> Columns<'a> {
    pub(crate) fn of(events: impl IntoIterator<Item = &'a NewEvent>) -> Self {
        let mut columns = Self::default();
        for event in events {
            let deduplication = event.deduplication.as_ref();
            columns.id.push(event.id.0);
            columns.organization_id.push(event.organization_id.0);
            columns.endpoint_id.push(event.endpoint_id.0);
            columns.slot.push(event.slot.0.into());
            columns.received_at.push(event.received_at);
            columns.s3_key.push(&event.payload.s3_key);
            columns.s3_offset.push(event.payload.s3_offset);
            columns.s3_length.push(event.payload.s3_length);
            columns.body_sha256.push(&event.body_sha256);
            columns.headers.push(&event.headers);
            columns.event_type.push(event.event_type.as_deref());
            columns.content_type.push(event.content_type.as_deref());
            columns.traceparent.push(event.traceparent.as_deref());
            columns.key.push(deduplication.map(|deduplication| deduplication.key.hash.as_slice()));
            columns.expires_at.push(deduplication.map(|deduplication| deduplication.expires_at));
        }
        columns
    }
}

/// The query that inserts the events of [`Columns`]; its row has `ours`, whether the gate lets anything in, and the `ids`
/// that are in. The others repeat events that were committed before ([`Lost`]). A gate is the SQL of a common table
/// with the column `instance_id`: of one row, or of none when that instance may not insert. Its own arguments are $16 and
/// on.
///
/// Keys are taken in their order, so that two batches with the same ones never wait for each other; one that another
/// batch is just taking is waited for.
macro_rules! insert_events {
    ($gate:literal, $columns:ident, $($argument:expr),+) => {
        sqlx::query!(
            "with gate as (" + $gate + r#"), batch as (
                select b.*, gate.instance_id from gate, unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int[],
                    $5::timestamptz[], $6::text[], $7::bigint[], $8::bigint[], $9::bytea[], $10::bytea[],
                    $11::text[], $12::text[], $13::text[], $14::bytea[], $15::timestamptz[])
                    as b (id, organization_id, endpoint_id, slot, received_at, s3_key, s3_offset, s3_length,
                          body_sha256, headers, event_type, content_type, traceparent, key, expires_at)
            ), claimed as (
                insert into ingest_dedup as d (endpoint_id, key, event_id, body_sha256, expires_at)
                select endpoint_id, key, id, body_sha256, expires_at from batch where key is not null
                order by endpoint_id, key
                on conflict (endpoint_id, key) do update
                    set event_id = excluded.event_id, body_sha256 = excluded.body_sha256,
                        expires_at = excluded.expires_at
                    where d.expires_at < now()
                returning event_id
            ), fresh as (
                select * from batch where key is null or id in (select event_id from claimed)
            ), headers as (
                insert into event_headers (event_id, organization_id, headers)
                select id, organization_id, headers from fresh
            ), inserted as (
                insert into events (id, organization_id, endpoint_id, instance_id, slot, received_at, updated_at,
                    s3_key, s3_offset, s3_length, body_sha256, event_type, content_type, traceparent)
                select id, organization_id, endpoint_id, instance_id, slot, received_at, received_at,
                    s3_key, s3_offset, s3_length, body_sha256, event_type, content_type, traceparent
                from fresh
                returning id
            )
            select exists (select from gate) as "ours!", array(select id from inserted) as "ids!""#,
            &$columns.id,
            &$columns.organization_id,
            &$columns.endpoint_id,
            &$columns.slot,
            &$columns.received_at,
            &$columns.s3_key as &[&str],
            &$columns.s3_offset,
            &$columns.s3_length,
            &$columns.body_sha256 as &[&[u8]],
            &$columns.headers as &[&[u8]],
            &$columns.event_type as &[Option<&str>],
            &$columns.content_type as &[Option<&str>],
            &$columns.traceparent as &[Option<&str>],
            &$columns.key as &[Option<&[u8]>],
            &$columns.expires_at as &[Option<DateTime<Utc>>],
            $($argument),+
        )
    };
}

pub(crate) use insert_events;

/// Keys whose events are looked for. A statement of its own, since a winner may be invisible to the snapshot of the one
/// that lost.
pub(crate) struct Lost<'a>(pub(crate) &'a [KeyOfEndpoint]);

impl Lost<'_> {
    pub(crate) async fn fetch(self, connection: &mut PgConnection) -> sqlx::Result<Vec<WinnerRow>> {
        let (endpoints, hashes): (Vec<_>, Vec<_>) =
            self.0.iter().map(|(endpoint, key)| (endpoint.0, key.to_vec())).unzip();
        sqlx::query_as!(
            WinnerRow,
            "select d.endpoint_id, d.key, d.event_id, d.body_sha256 from ingest_dedup d
             join unnest($1::uuid[], $2::bytea[]) as k (endpoint_id, key) using (endpoint_id, key)",
            &endpoints,
            &hashes
        )
        .fetch_all(connection)
        .await
    }
}

/// The events that hold keys now; who is not found was no winner after all.
pub(crate) fn winners(rows: Vec<WinnerRow>) -> Result<HashMap<KeyOfEndpoint, Winner>> {
    rows.into_iter().map(WinnerRow::decode).collect()
}

/// A row as it is stored.
pub(crate) struct WinnerRow {
    endpoint_id: Uuid,
    key: Vec<u8>,
    event_id: Uuid,
    body_sha256: Vec<u8>,
}

impl WinnerRow {
    fn decode(self) -> Result<(KeyOfEndpoint, Winner)> {
        let row = Row { table: "ingest_dedup", id: self.event_id };
        let key = row.value("key", <[u8; 16]>::try_from(self.key.as_slice()))?;
        let body_sha256 = row.value("body_sha256", self.body_sha256.as_slice().try_into())?;
        Ok(((self.endpoint_id.into(), key), Winner { event_id: self.event_id.into(), body_sha256 }))
    }
}
