//! Rejected requests that verify now become events, each once (PROTOCOLS I10).
//!
//! The events belong to an ingress instance that is born dead: it has no lanes, so nobody commits through it, and has
//! published up to just below them, so whichever ingress adopts it publishes them. Each transaction makes an instance of its own: one
//! that is shared could be adopted and taken off the books while another transaction adds to it.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ravenpost_core::event::PayloadLocation;
use ravenpost_core::ids::{EndpointId, EventId, InstanceId, RejectedRequestId, Slot};
use sqlx::{Executor, PgConnection};
use uuid::Uuid;

use super::super::Tenant;
use crate::Result;
use crate::system::Deduplication;

/// A rejected request that verifies now, and the event it becomes. Its payload is stored.
#[derive(Debug, Clone)]
pub struct Acceptance {
    /// The request.
    pub request: RejectedRequestId,
    /// The id of the event.
    pub event: EventId,
    /// To which endpoint it came.
    pub endpoint_id: EndpointId,
    /// Which slot owns the event.
    pub slot: Slot,
    /// Where the payload is.
    pub payload: PayloadLocation,
    /// SHA-256 of the payload.
    pub body_sha256: Vec<u8>,
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
    /// An event with the same key and another body is another event.
    pub same_body: bool,
}

/// As which event a request was accepted, now or by an earlier call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The request.
    pub request: RejectedRequestId,
    /// The event.
    pub event: EventId,
}

impl Tenant {
    /// Accepts requests, each once: what was accepted before keeps its event. A request that is gone is absent from the
    /// answer, which is in the order of the requests. An event is received now, not when the request was: it is for the destinations that exist now, and its
    /// id has to be of the same time.
    ///
    /// Payloads of [`Acceptance::event`]s that are not in the answer belong to nothing and may be deleted.
    pub async fn accept_rejected(
        &self,
        acceptances: &[Acceptance],
        instance: InstanceId,
        now: DateTime<Utc>,
    ) -> Result<Vec<Accepted>> {
        let mut transaction = self.begin().await?;
        let mut accepted = Vec::with_capacity(acceptances.len());
        let mut fresh = Vec::with_capacity(acceptances.len());
        for (request, event) in self.lock_rejected(&mut transaction, acceptances).await? {
            match (event, acceptances.iter().find(|acceptance| acceptance.request == request)) {
                (Some(event), _) => accepted.push(Accepted { request, event }),
                (None, Some(acceptance)) => fresh.push(acceptance),
                (None, None) => {}
            }
        }
        if fresh.is_empty() {
            return Ok(accepted);
        }
        let events = self.claim(&mut transaction, &fresh).await?;
        self.mark_accepted(&mut transaction, &events, now).await?;
        let is_new = |new: &&Acceptance| events.iter().any(|accepted| accepted.event == new.event);
        fresh.retain(is_new);
        self.insert_events(&mut transaction, &fresh, instance, now).await?;
        transaction.commit().await?;
        accepted.extend(events);
        accepted.sort_by_key(|accepted| accepted.request);
        Ok(accepted)
    }

    /// As which event each is accepted: its own, or the one that it repeats, since a producer that is refused tries
    /// again (PROTOCOLS I7). Keys are taken in the order in which ingress takes them.
    async fn claim(
        &self,
        connection: &mut PgConnection,
        acceptances: &[&Acceptance],
    ) -> Result<Vec<Accepted>> {
        connection.execute("set local role ravenpost_system").await?;
        let mut in_order = acceptances.to_vec();
        in_order
            .sort_by_key(|new| (new.endpoint_id.0, new.deduplication.map(|deduplication| deduplication.key)));
        let mut accepted = Vec::with_capacity(in_order.len());
        for new in in_order {
            let event = self.claim_one(connection, new).await?.unwrap_or(new.event);
            accepted.push(Accepted { request: new.request, event });
        }
        connection.execute("set local role ravenpost_tenant").await?;
        Ok(accepted)
    }

    /// The event that already has the key of this one.
    async fn claim_one(&self, connection: &mut PgConnection, new: &Acceptance) -> Result<Option<EventId>> {
        let Some(deduplication) = new.deduplication else { return Ok(None) };
        let claimed = sqlx::query!(
            "insert into ingest_dedup as d (endpoint_id, key, event_id, body_sha256, expires_at)
             values ($1, $2, $3, $4, $5)
             on conflict (endpoint_id, key) do update
                 set event_id = excluded.event_id, body_sha256 = excluded.body_sha256, expires_at = excluded.expires_at
                 where d.expires_at < now()",
            new.endpoint_id.0,
            deduplication.key.as_slice(),
            new.event.0,
            new.body_sha256,
            deduplication.expires_at
        )
        .execute(&mut *connection)
        .await?;
        if claimed.rows_affected() == 1 {
            return Ok(None);
        }
        let winner = sqlx::query!(
            "select event_id, body_sha256 from ingest_dedup where endpoint_id = $1 and key = $2",
            new.endpoint_id.0,
            deduplication.key.as_slice()
        )
        .fetch_optional(connection)
        .await?;
        let repeats = winner.filter(|winner| !new.same_body || winner.body_sha256 == new.body_sha256);
        Ok(repeats.map(|winner| EventId(winner.event_id)))
    }

    /// The requests that are there, with the events that they became; nobody else accepts them until we are done.
    async fn lock_rejected(
        &self,
        connection: &mut PgConnection,
        acceptances: &[Acceptance],
    ) -> Result<Vec<(RejectedRequestId, Option<EventId>)>> {
        let ids: Vec<_> = acceptances.iter().map(|acceptance| acceptance.request.0).collect();
        let rows = sqlx::query!(
            "select id, event_id from rejected_requests
             where organization_id = $1 and id = any ($2) and deleted_at is null order by id for update",
            self.organization.0,
            &ids
        )
        .fetch_all(connection)
        .await?;
        Ok(rows.into_iter().map(|row| (row.id.into(), row.event_id.map(EventId))).collect())
    }

    async fn mark_accepted(
        &self,
        connection: &mut PgConnection,
        accepted: &[Accepted],
        now: DateTime<Utc>,
    ) -> Result<()> {
        let requests: Vec<_> = accepted.iter().map(|accepted| accepted.request.0).collect();
        let events: Vec<_> = accepted.iter().map(|accepted| accepted.event.0).collect();
        sqlx::query!(
            "update rejected_requests r set event_id = a.event_id, accepted_at = $4
             from unnest($2::uuid[], $3::uuid[]) as a (id, event_id)
             where r.organization_id = $1 and r.id = a.id",
            self.organization.0,
            &requests,
            &events,
            now
        )
        .execute(connection)
        .await?;
        Ok(())
    }

    /// From here on as the system, since no tenant may write what says where a payload is: it could name another's.
    /// Whose the events are is not up to the caller.
    async fn insert_events(
        &self,
        connection: &mut PgConnection,
        acceptances: &[&Acceptance],
        instance: InstanceId,
        now: DateTime<Utc>,
    ) -> Result<()> {
        if acceptances.is_empty() {
            return Ok(());
        }
        let columns = Columns::of(acceptances);
        connection.execute("set local role ravenpost_system").await?;
        sqlx::query!(
            "with instance as (
                insert into ingress_instances (id, published_through) values ($1, $15) returning id
            ), batch as (
                select b.*, instance.id as instance_id
                from instance, unnest($4::uuid[], $5::uuid[], $6::int[], $7::text[], $8::bigint[], $9::bigint[],
                    $10::bytea[], $11::bytea[], $12::text[], $13::text[], $14::text[])
                    as b (id, endpoint_id, slot, s3_key, s3_offset, s3_length, body_sha256, headers, event_type,
                          content_type, traceparent)
            ), headers as (
                insert into event_headers (event_id, organization_id, headers) select id, $2, headers from batch
            )
            insert into events (id, organization_id, endpoint_id, instance_id, slot, received_at, updated_at, s3_key,
                s3_offset, s3_length, body_sha256, event_type, content_type, traceparent)
            select id, $2, endpoint_id, instance_id, slot, $3, $3, s3_key, s3_offset, s3_length, body_sha256,
                event_type, content_type, traceparent
            from batch",
            instance.0,
            self.organization.0,
            now,
            &columns.id,
            &columns.endpoint_id,
            &columns.slot,
            &columns.s3_key,
            &columns.s3_offset,
            &columns.s3_length,
            &columns.body_sha256,
            &columns.headers,
            &columns.event_type as &[Option<String>],
            &columns.content_type as &[Option<String>],
            &columns.traceparent as &[Option<String>],
            columns.id.iter().min().map(|first| EventId(*first).predecessor().0),
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// The columns of the events, as `unnest` takes them.
#[derive(Default)]
struct Columns {
    id: Vec<Uuid>,
    endpoint_id: Vec<Uuid>,
    slot: Vec<i32>,
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
    fn of(acceptances: &[&Acceptance]) -> Self {
        let mut columns = Self::default();
        for new in acceptances {
            columns.id.push(new.event.0);
            columns.endpoint_id.push(new.endpoint_id.0);
            columns.slot.push(new.slot.0.into());
            columns.s3_key.push(new.payload.s3_key.clone());
            columns.s3_offset.push(new.payload.s3_offset);
            columns.s3_length.push(new.payload.s3_length);
            columns.body_sha256.push(new.body_sha256.clone());
            columns.headers.push(new.headers.to_vec());
            columns.event_type.push(new.event_type.clone());
            columns.content_type.push(new.content_type.clone());
            columns.traceparent.push(new.traceparent.clone());
        }
        columns
    }
}
