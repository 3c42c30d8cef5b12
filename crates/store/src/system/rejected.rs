//! Rejected requests: kept in batches by ingress, and removed by whoever keeps the schema.
//!
//! A row is written before its object and removed after it, so that no object is ever without a row that leads to it.
//! What a crash leaves of either is a row whose object is missing, and that the next removal takes along.

use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_core::ids::{EndpointId, OrganizationId, RejectedRequestId};
use ravenpost_core::rejected::Head;
use ravenpost_core::secret::Keyring;
use uuid::Uuid;

use super::System;
use crate::Result;
use crate::lease::bounded;

/// How old a row is before it is removed: until then its object may still be on its way (the recorder of ingress gives
/// a batch half of this time).
const SETTLED: TimeDelta = TimeDelta::minutes(1);

/// A request that failed verification; its body is not stored yet.
#[derive(Debug, Clone)]
pub struct NewRejected {
    /// Its id.
    pub id: RejectedRequestId,
    /// Whose endpoint it came to.
    pub organization_id: OrganizationId,
    /// Which one.
    pub endpoint_id: EndpointId,
    /// When it came.
    pub received_at: DateTime<Utc>,
    /// Why it was rejected, in one word.
    pub reason: &'static str,
    /// Why, in a sentence without secrets.
    pub detail: String,
    /// Its method.
    pub method: String,
    /// Who sent it, as far as ingress sees.
    pub peer: Option<IpAddr>,
    /// Query and headers; stored sealed.
    pub head: Head,
    /// Fresh random bytes to seal the head with.
    pub nonce: [u8; 12],
    /// The body's length in bytes.
    pub body_length: i64,
    /// SHA-256 of the body.
    pub body_sha256: [u8; 32],
}

/// How much is to be added to the counts of an endpoint. Negative when what was kept turns out not to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RejectedCount {
    /// Whose endpoint.
    pub organization_id: OrganizationId,
    /// Which one.
    pub endpoint_id: EndpointId,
    /// When; it counts for the hour and the minute around it.
    pub at: DateTime<Utc>,
    /// Rejected and kept.
    pub kept: i64,
    /// Rejected and not kept.
    pub not_kept: i64,
}

/// What is kept of each endpoint's rejected requests at most.
#[derive(Debug, Clone, Copy)]
pub struct RejectedCaps {
    /// How many.
    pub count: i64,
    /// How many bytes of bodies and heads.
    pub bytes: i64,
    /// How long.
    pub age: TimeDelta,
}

/// The columns of a batch, as `unnest` takes them.
#[derive(Default)]
struct Columns {
    organization_id: Vec<Uuid>,
    id: Vec<Uuid>,
    endpoint_id: Vec<Uuid>,
    received_at: Vec<DateTime<Utc>>,
    body_length: Vec<i64>,
    body_sha256: Vec<Vec<u8>>,
    reason: Vec<String>,
    detail: Vec<String>,
    method: Vec<String>,
    peer: Vec<Option<String>>,
    head: Vec<Vec<u8>>,
}

impl Columns {
    fn of(requests: &[NewRejected], keyring: &Keyring) -> Self {
        let mut columns = Self::default();
        for request in requests {
            columns.organization_id.push(request.organization_id.0);
            columns.id.push(request.id.0);
            columns.endpoint_id.push(request.endpoint_id.0);
            columns.received_at.push(request.received_at);
            columns.body_length.push(request.body_length);
            columns.body_sha256.push(request.body_sha256.to_vec());
            columns.reason.push(request.reason.to_owned());
            // Postgres has no NUL in texts.
            columns.detail.push(request.detail.replace('\0', "\u{fffd}"));
            columns.method.push(request.method.clone());
            columns.peer.push(request.peer.map(|peer| peer.to_string()));
            columns.head.push(keyring.seal(&request.head.to_secret(), request.id.0, request.nonce));
        }
        columns
    }
}

/// The columns of counts.
#[derive(Default)]
struct CountColumns {
    organization_id: Vec<Uuid>,
    endpoint_id: Vec<Uuid>,
    at: Vec<DateTime<Utc>>,
    kept: Vec<i64>,
    not_kept: Vec<i64>,
}

impl CountColumns {
    fn of(counts: &[RejectedCount]) -> Self {
        let mut columns = Self::default();
        for count in counts {
            columns.organization_id.push(count.organization_id.0);
            columns.endpoint_id.push(count.endpoint_id.0);
            columns.at.push(count.at);
            columns.kept.push(count.kept);
            columns.not_kept.push(count.not_kept);
        }
        columns
    }
}

impl System {
    /// Keeps rejected requests and counts them, in one statement however many they are. `counts` names each endpoint
    /// once.
    pub async fn keep_rejected(&self, requests: &[NewRejected], counts: &[RejectedCount]) -> Result<()> {
        let rows = Columns::of(requests, self.sealing.keyring()?);
        let counts = CountColumns::of(counts);
        bounded!(
            self,
            sqlx::query!(
                "with kept as (
                insert into rejected_requests (organization_id, id, endpoint_id, received_at, body_length,
                    body_sha256, reason, detail, method, peer, head)
                select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::bigint[],
                    $6::bytea[], $7::text[], $8::text[], $9::text[], $10::text[], $11::bytea[])
            )
            insert into rejected_counts as c (organization_id, endpoint_id, hour, kept, not_kept, by_minute)
            select organization_id, endpoint_id, date_trunc('hour', at, 'UTC'), kept, not_kept,
                array_fill(0::bigint, array[60 - left_of_hour]) || (kept + not_kept)
                    || array_fill(0::bigint, array[left_of_hour - 1])
            from unnest($12::uuid[], $13::uuid[], $14::timestamptz[], $15::bigint[], $16::bigint[])
                as n (organization_id, endpoint_id, at, kept, not_kept),
                lateral (select 60 - extract(minute from at)::integer as left_of_hour) as m
            -- In one order, so that two processes never wait for each other.
            order by 1, 2, 3
            on conflict (organization_id, endpoint_id, hour) do update
                set kept = c.kept + excluded.kept, not_kept = c.not_kept + excluded.not_kept,
                    by_minute = (select array_agg(coalesce(had, 0) + got order by place)
                        from unnest(c.by_minute, excluded.by_minute) with ordinality as t (had, got, place))",
                &rows.organization_id,
                &rows.id,
                &rows.endpoint_id,
                &rows.received_at,
                &rows.body_length,
                &rows.body_sha256,
                &rows.reason,
                &rows.detail,
                &rows.method,
                &rows.peer as &[Option<String>],
                &rows.head,
                &counts.organization_id,
                &counts.endpoint_id,
                &counts.at,
                &counts.kept,
                &counts.not_kept,
            ),
            execute
        );
        Ok(())
    }

    /// Hides requests whose bodies could not be stored. They are removed like others: an object may have come into
    /// being although nobody told us.
    pub async fn disown_rejected(&self, requests: &[RejectedRequestId], now: DateTime<Utc>) -> Result<()> {
        let ids: Vec<_> = requests.iter().map(|id| id.0).collect();
        bounded!(
            self,
            sqlx::query!("update rejected_requests set deleted_at = $2 where id = any ($1)", &ids, now),
            execute
        );
        Ok(())
    }

    /// At most `limit` requests that are to be removed: too old, deleted by a person, or beyond the caps of an endpoint
    /// of which some were kept since `active_since`; the oldest first. `now` is the database's time, about.
    pub async fn removable_rejected(
        &self,
        caps: &RejectedCaps,
        active_since: DateTime<Utc>,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<RejectedRequestId>> {
        let ids = bounded!(
            self,
            sqlx::query_scalar!(
                r#"select id as "id!" from (
                (select id from rejected_requests where id < uuid_v7_floor($1) order by id limit $6)
                union
                (select id from rejected_requests where deleted_at is not null and created_at < $2
                 order by id limit $6)
                union
                (select beyond.id
                 from (select distinct endpoint_id from rejected_counts where hour >= $3 and kept > 0) as active,
                     lateral (select id, created_at,
                             row_number() over newest as position,
                             sum(body_length + octet_length(head)) over newest as bytes
                         from rejected_requests r
                         where r.endpoint_id = active.endpoint_id and r.deleted_at is null
                         window newest as (order by id desc)) as beyond
                 where (beyond.position > $4 or beyond.bytes > $5::bigint) and beyond.created_at < $2
                 order by beyond.id limit $6)
            ) as removable order by id limit $6"#,
                now - caps.age,
                now - SETTLED,
                active_since,
                caps.count,
                caps.bytes,
                limit
            ),
            fetch_all
        );
        Ok(ids.into_iter().map(RejectedRequestId).collect())
    }

    /// Removes the rows of requests whose objects are deleted.
    pub async fn remove_rejected(&self, requests: &[RejectedRequestId]) -> Result<()> {
        let ids: Vec<_> = requests.iter().map(|id| id.0).collect();
        bounded!(self, sqlx::query!("delete from rejected_requests where id = any ($1)", &ids), execute);
        Ok(())
    }

    /// Removes counts of hours before a moment.
    pub async fn remove_rejected_counts(&self, before: DateTime<Utc>) -> Result<()> {
        bounded!(self, sqlx::query!("delete from rejected_counts where hour < $1", before), execute);
        Ok(())
    }
}
