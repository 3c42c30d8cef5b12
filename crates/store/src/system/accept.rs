//! A batch of accepted events becomes rows: one statement, all or nothing, under the lane's row (PROTOCOLS I3). Those
//! whose producer repeats itself stay out of it (I7).

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ravenpost_core::event::PayloadLocation;
use ravenpost_core::ids::{EndpointId, EventId, InstanceId, OrganizationId, Slot};
use uuid::Uuid;

use super::System;
use crate::Result;
use crate::decode::Row;
use crate::lease::bounded;

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
    /// What its producer's retries have in common with it.
    pub deduplication: Option<Deduplication>,
}

/// What is kept to recognise a producer's retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deduplication {
    /// The hash of [`ravenpost_core::deduplication::DeduplicationKey`]. Different for each event of a batch that has the
    /// same endpoint.
    pub key: [u8; 16],
    /// Until when retries are recognised.
    pub expires_at: DateTime<Utc>,
}

/// The event that a retry repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Winner {
    /// Its id.
    pub event_id: EventId,
    /// SHA-256 of its payload.
    pub body_sha256: [u8; 32],
}

/// What came of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// These are committed; the others repeat events that were committed before ([`System::winners`]).
    Committed(HashSet<EventId>),
    /// None is: the lane's row is gone, a peer has adopted this instance.
    Adopted,
}

/// The columns of a batch, as `unnest` takes them.
#[derive(Default)]
struct Columns<'a> {
    id: Vec<Uuid>,
    organization_id: Vec<Uuid>,
    endpoint_id: Vec<Uuid>,
    slot: Vec<i32>,
    received_at: Vec<DateTime<Utc>>,
    s3_key: Vec<&'a str>,
    s3_offset: Vec<i64>,
    s3_length: Vec<i64>,
    body_sha256: Vec<&'a [u8]>,
    headers: Vec<&'a [u8]>,
    event_type: Vec<Option<&'a str>>,
    content_type: Vec<Option<&'a str>>,
    traceparent: Vec<Option<&'a str>>,
    key: Vec<Option<&'a [u8]>>,
    expires_at: Vec<Option<DateTime<Utc>>>,
}

impl<'a> Columns<'a> {
    fn of(events: &'a [NewEvent]) -> Self {
        let mut columns = Self::default();
        for event in events {
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
            columns.key.push(event.deduplication.as_ref().map(|deduplication| deduplication.key.as_slice()));
            columns.expires_at.push(event.deduplication.map(|deduplication| deduplication.expires_at));
        }
        columns
    }
}

impl System {
    /// Commits a batch through a lane of an instance. Keys are taken in their order, so that two batches with the same
    /// ones never wait for each other; one that another batch is just taking is waited for.
    pub async fn accept(&self, instance: InstanceId, lane: i32, events: &[NewEvent]) -> Result<Accepted> {
        let columns = Columns::of(events);
        let row = bounded!(
            self,
            sqlx::query!(
                r#"with lane as (
                select instance_id from ingress_lanes where instance_id = $1 and lane = $2 for share
            ), batch as (
                select b.*, lane.instance_id from lane, unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::int[],
                    $7::timestamptz[], $8::text[], $9::bigint[], $10::bigint[], $11::bytea[], $12::bytea[],
                    $13::text[], $14::text[], $15::text[], $16::bytea[], $17::timestamptz[])
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
            select exists (select from lane) as "ours!", array(select id from inserted) as "ids!""#,
                instance.0,
                lane,
                &columns.id,
                &columns.organization_id,
                &columns.endpoint_id,
                &columns.slot,
                &columns.received_at,
                &columns.s3_key as &[&str],
                &columns.s3_offset,
                &columns.s3_length,
                &columns.body_sha256 as &[&[u8]],
                &columns.headers as &[&[u8]],
                &columns.event_type as &[Option<&str>],
                &columns.content_type as &[Option<&str>],
                &columns.traceparent as &[Option<&str>],
                &columns.key as &[Option<&[u8]>],
                &columns.expires_at as &[Option<DateTime<Utc>>],
            ),
            fetch_one
        );
        let ids = row.ids.into_iter().map(EventId).collect();
        Ok(if row.ours { Accepted::Committed(ids) } else { Accepted::Adopted })
    }

    /// The events that hold these keys now. A statement of its own, since a winner may be invisible to the snapshot of
    /// the one that lost; who is not found was no winner after all.
    pub async fn winners(
        &self,
        keys: &[(EndpointId, [u8; 16])],
    ) -> Result<HashMap<(EndpointId, [u8; 16]), Winner>> {
        let (endpoints, hashes): (Vec<_>, Vec<_>) =
            keys.iter().map(|(endpoint, key)| (endpoint.0, key.to_vec())).unzip();
        let rows = bounded!(
            self,
            sqlx::query!(
                "select d.endpoint_id, d.key, d.event_id, d.body_sha256 from ingest_dedup d
                 join unnest($1::uuid[], $2::bytea[]) as k (endpoint_id, key) using (endpoint_id, key)",
                &endpoints,
                &hashes
            ),
            fetch_all
        );
        rows.into_iter()
            .map(|found| {
                let row = Row { table: "ingest_dedup", id: found.event_id };
                let key = row.value("key", <[u8; 16]>::try_from(found.key.as_slice()))?;
                let body_sha256 = row.value("body_sha256", found.body_sha256.as_slice().try_into())?;
                Ok(((found.endpoint_id.into(), key), Winner { event_id: found.event_id.into(), body_sha256 }))
            })
            .collect()
    }

    /// Forgets up to `most` keys that have expired, and says how many those were.
    pub async fn sweep_deduplication(&self, most: i64) -> Result<u64> {
        let done = bounded!(
            self,
            sqlx::query!(
                "delete from ingest_dedup where (endpoint_id, key) in (
                     select endpoint_id, key from ingest_dedup where expires_at < now()
                     order by expires_at limit $1 for update skip locked)",
                most
            ),
            execute
        );
        Ok(done.rows_affected())
    }
}
