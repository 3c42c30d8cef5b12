//! A batch of accepted events becomes rows: one statement, all or nothing, under the lane's row (PROTOCOLS I3).

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ravenpost_core::event::PayloadLocation;
use ravenpost_core::ids::{EndpointId, EventId, InstanceId, OrganizationId, Slot};
use uuid::Uuid;

use super::System;
use crate::Result;
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
}

/// What came of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// Every event is committed.
    Committed,
    /// None is: the lane's row is gone, a peer has adopted this instance.
    Adopted,
}

/// The columns of a batch, as `unnest` takes them.
#[derive(Default)]
struct Columns {
    id: Vec<Uuid>,
    organization_id: Vec<Uuid>,
    endpoint_id: Vec<Uuid>,
    slot: Vec<i32>,
    received_at: Vec<DateTime<Utc>>,
    s3_key: Vec<String>,
    s3_offset: Vec<i64>,
    s3_length: Vec<i64>,
    body_sha256: Vec<Vec<u8>>,
    headers: Vec<Vec<u8>>,
    event_type: Vec<Option<String>>,
    content_type: Vec<Option<String>>,
    traceparent: Vec<Option<String>>,
}

impl Columns {
    fn of(events: &[NewEvent]) -> Self {
        let mut columns = Self::default();
        for event in events {
            columns.id.push(event.id.0);
            columns.organization_id.push(event.organization_id.0);
            columns.endpoint_id.push(event.endpoint_id.0);
            columns.slot.push(event.slot.0.into());
            columns.received_at.push(event.received_at);
            columns.s3_key.push(event.payload.s3_key.clone());
            columns.s3_offset.push(event.payload.s3_offset);
            columns.s3_length.push(event.payload.s3_length);
            columns.body_sha256.push(event.body_sha256.to_vec());
            columns.headers.push(event.headers.to_vec());
            columns.event_type.push(event.event_type.clone());
            columns.content_type.push(event.content_type.clone());
            columns.traceparent.push(event.traceparent.clone());
        }
        columns
    }
}

impl System {
    /// Commits a batch through a lane of an instance.
    pub async fn accept(&self, instance: InstanceId, lane: i32, events: &[NewEvent]) -> Result<Accepted> {
        let columns = Columns::of(events);
        let inserted = bounded!(
            self,
            sqlx::query_scalar!(
                r#"with lane as (
                select instance_id from ingress_lanes where instance_id = $1 and lane = $2 for share
            ), batch as (
                select b.*, lane.instance_id from lane, unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::int[],
                    $7::timestamptz[], $8::text[], $9::bigint[], $10::bigint[], $11::bytea[], $12::bytea[],
                    $13::text[], $14::text[], $15::text[])
                    as b (id, organization_id, endpoint_id, slot, received_at, s3_key, s3_offset, s3_length,
                          body_sha256, headers, event_type, content_type, traceparent)
            ), headers as (
                insert into event_headers (event_id, organization_id, headers)
                select id, organization_id, headers from batch
            ), inserted as (
                insert into events (id, organization_id, endpoint_id, instance_id, slot, received_at, updated_at,
                    s3_key, s3_offset, s3_length, body_sha256, event_type, content_type, traceparent)
                select id, organization_id, endpoint_id, instance_id, slot, received_at, received_at,
                    s3_key, s3_offset, s3_length, body_sha256, event_type, content_type, traceparent
                from batch
                returning 1
            )
            select count(*) as "count!" from inserted"#,
                instance.0,
                lane,
                &columns.id,
                &columns.organization_id,
                &columns.endpoint_id,
                &columns.slot,
                &columns.received_at,
                &columns.s3_key,
                &columns.s3_offset,
                &columns.s3_length,
                &columns.body_sha256,
                &columns.headers,
                &columns.event_type as &[Option<String>],
                &columns.content_type as &[Option<String>],
                &columns.traceparent as &[Option<String>],
            ),
            fetch_one
        );
        Ok(if inserted == 0 && !events.is_empty() { Accepted::Adopted } else { Accepted::Committed })
    }
}
