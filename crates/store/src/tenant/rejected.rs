//! Rejected requests: looked at, deleted, and accepted as events once they verify (PROTOCOLS I10).

mod accept;

use std::collections::HashMap;
use std::net::IpAddr;

use chrono::{DateTime, Utc};
use ravenpost_core::audit::Action;
use ravenpost_core::event::PayloadLocation;
use ravenpost_core::ids::{EndpointId, EventId, RejectedRequestId};
use ravenpost_core::rejected::Head;
use sqlx::PgConnection;
use uuid::Uuid;

pub use accept::{Acceptance, Accepted};

use super::{Listed, Page, Tenant};
use crate::Result;
use crate::audit::Entry;
use crate::decode::Row;

const TABLE: &str = "rejected_requests";

/// A request that failed verification.
#[derive(Debug, Clone)]
pub struct RejectedRequest {
    /// Its id.
    pub id: RejectedRequestId,
    /// To which endpoint it came.
    pub endpoint_id: EndpointId,
    /// When.
    pub received_at: DateTime<Utc>,
    /// Why it was rejected, in one word.
    pub reason: String,
    /// Why, in a sentence.
    pub detail: String,
    /// Its method.
    pub method: String,
    /// Who sent it, as far as ingress saw.
    pub peer: Option<IpAddr>,
    /// SHA-256 of the body.
    pub body_sha256: Vec<u8>,
    /// Where the body is.
    pub body: PayloadLocation,
    /// As which event it was accepted since.
    pub event_id: Option<EventId>,
    /// When that was.
    pub accepted_at: Option<DateTime<Utc>>,
}

/// A rejected request with what verifying it again needs.
#[derive(Debug, Clone)]
pub struct RejectedHead {
    /// The request.
    pub request: RejectedRequest,
    /// Its query and headers, credentials included.
    pub head: Head,
    /// What stands in the URL of its endpoint.
    pub token: String,
}

/// Which rejected requests to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct RejectedFilter<'a> {
    /// Of one endpoint.
    pub endpoint: Option<EndpointId>,
    /// For that reason.
    pub reason: Option<&'a str>,
}

/// How many requests of an endpoint were rejected in an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountOfHour {
    /// The beginning of the hour.
    pub hour: DateTime<Utc>,
    /// Kept, if not removed since.
    pub kept: i64,
    /// Not kept.
    pub not_kept: i64,
}

/// A row as it is stored, without its head.
struct RejectedRow {
    id: Uuid,
    endpoint_id: Uuid,
    received_at: DateTime<Utc>,
    reason: String,
    detail: String,
    method: String,
    peer: Option<String>,
    body_sha256: Vec<u8>,
    body_length: i64,
    event_id: Option<Uuid>,
    accepted_at: Option<DateTime<Utc>>,
}

impl RejectedRow {
    fn decode(self) -> Result<RejectedRequest> {
        let row = Row { table: TABLE, id: self.id };
        let id = RejectedRequestId(self.id);
        Ok(RejectedRequest {
            id,
            endpoint_id: self.endpoint_id.into(),
            received_at: self.received_at,
            reason: self.reason,
            detail: self.detail,
            method: self.method,
            peer: self.peer.map(|peer| row.value("peer", peer.parse())).transpose()?,
            body_sha256: self.body_sha256,
            body: PayloadLocation::of_rejected(id, self.body_length),
            event_id: self.event_id.map(EventId),
            accepted_at: self.accepted_at,
        })
    }
}

/// The query for [`RejectedRow`]s of the organization $1, by what else has to hold and their order.
macro_rules! select_rejected {
    ($rest:literal, $($argument:expr),+) => {
        sqlx::query_as!(
            RejectedRow,
            "select id, endpoint_id, received_at, reason, detail, method, peer, body_sha256, body_length, event_id,
                 accepted_at
             from rejected_requests where organization_id = $1 and deleted_at is null and " + $rest,
            $($argument),+
        )
    };
}

impl Tenant {
    /// The rejected requests that match, newest first.
    pub async fn rejected_requests(
        &self,
        filter: &RejectedFilter<'_>,
        page: Page,
    ) -> Result<Listed<RejectedRequest>> {
        let mut transaction = self.begin().await?;
        // Two statements rather than one with an optional endpoint: each has its own index.
        let rows = match filter.endpoint {
            None => {
                select_rejected!(
                    "id < $2 and ($3::text is null or reason = $3) order by id desc limit $4",
                    self.organization.0,
                    page.below(),
                    filter.reason,
                    page.to_read()
                )
                .fetch_all(&mut *transaction)
                .await?
            }
            Some(endpoint) => {
                select_rejected!(
                    "endpoint_id = $5 and id < $2 and ($3::text is null or reason = $3)
                     order by id desc limit $4",
                    self.organization.0,
                    page.below(),
                    filter.reason,
                    page.to_read(),
                    endpoint.0
                )
                .fetch_all(&mut *transaction)
                .await?
            }
        };
        let requests = rows.into_iter().map(RejectedRow::decode).collect::<Result<_>>()?;
        Ok(page.cut(requests, |request: &RejectedRequest| request.id.0))
    }

    /// The rejected request of that id, with its head.
    pub async fn rejected_request(&self, id: RejectedRequestId) -> Result<Option<RejectedHead>> {
        let mut transaction = self.begin_reading().await?;
        let found =
            select_rejected!("id = $2", self.organization.0, id.0).fetch_all(&mut *transaction).await?;
        Ok(self.with_heads(&mut transaction, found).await?.pop())
    }

    /// Of one endpoint, at most `limit` requests that are not accepted yet, the oldest first, after a cursor.
    pub async fn unaccepted_requests(
        &self,
        endpoint: EndpointId,
        after: Option<Uuid>,
        limit: u16,
    ) -> Result<Vec<RejectedHead>> {
        let mut transaction = self.begin_reading().await?;
        let found = select_rejected!(
            "endpoint_id = $2 and id > $3 and event_id is null order by id limit $4",
            self.organization.0,
            endpoint.0,
            after.unwrap_or(Uuid::nil()),
            i64::from(limit)
        )
        .fetch_all(&mut *transaction)
        .await?;
        self.with_heads(&mut transaction, found).await
    }

    /// Adds what lists go without: heads, which are long, and the tokens of endpoints.
    async fn with_heads(
        &self,
        connection: &mut PgConnection,
        rows: Vec<RejectedRow>,
    ) -> Result<Vec<RejectedHead>> {
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        let heads = sqlx::query!(
            "select r.id, r.head, e.token from rejected_requests r
             join endpoints e on e.organization_id = r.organization_id and e.id = r.endpoint_id
             where r.organization_id = $1 and r.id = any ($2)",
            self.organization.0,
            &ids
        )
        .fetch_all(connection)
        .await?;
        let mut heads: HashMap<_, _> = heads.into_iter().map(|it| (it.id, (it.head, it.token))).collect();
        let found = rows.into_iter().filter_map(|row| heads.remove(&row.id).map(|beside| (row, beside)));
        found
            .map(|(row, (sealed, token))| {
                let head = self.open_head(row.id, &sealed)?;
                Ok(RejectedHead { request: row.decode()?, head, token })
            })
            .collect()
    }

    fn open_head(&self, id: Uuid, sealed: &[u8]) -> Result<Head> {
        let row = Row { table: TABLE, id };
        let secret = self.sealing.open(row, "head", sealed, id)?;
        Ok(row.value("head", Head::from_secret(&secret))?)
    }

    /// Deletes a rejected request: nobody sees it from now on, and within minutes it is gone. `false` when there is none.
    pub async fn delete_rejected_request(&self, id: RejectedRequestId, now: DateTime<Utc>) -> Result<bool> {
        let mut transaction = self.begin_change().await?;
        let deleted = sqlx::query!(
            "update rejected_requests set deleted_at = $3
             where organization_id = $1 and id = $2 and deleted_at is null",
            self.organization.0,
            id.0,
            now
        )
        .execute(&mut *transaction)
        .await?;
        if deleted.rows_affected() == 0 {
            return Ok(false);
        }
        transaction.commit(&Entry::of(Action::RejectedRequestDeleted, id), now).await?;
        Ok(true)
    }

    /// How many requests of an endpoint were rejected in each hour that had any, newest first.
    pub async fn rejected_counts(&self, endpoint: EndpointId) -> Result<Vec<CountOfHour>> {
        let mut transaction = self.begin().await?;
        let counts = sqlx::query_as!(
            CountOfHour,
            "select hour, kept, not_kept from rejected_counts
             where organization_id = $1 and endpoint_id = $2 order by hour desc",
            self.organization.0,
            endpoint.0
        )
        .fetch_all(&mut *transaction)
        .await?;
        Ok(counts)
    }
}
