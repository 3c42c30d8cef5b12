//! Destinations of an endpoint.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ravenpost_core::destination::DestinationStatus;
use ravenpost_core::ids::{DestinationId, EndpointId, Slot};
use ravenpost_core::pacing::{DisabledReason, Health, Limits};
use ravenpost_core::retry::RetryPolicy;
use sqlx::PgConnection;
use url::Url;

use super::{Listed, Page, Tenant, ToSeal, unsigned};
use crate::Result;
use crate::decode::Row;
use crate::system::DisableAfter;

/// One target URL. Its secret is not part of it.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Its id.
    pub id: DestinationId,
    /// Whose events it gets.
    pub endpoint_id: EndpointId,
    /// What its owner calls it.
    pub name: String,
    /// Where to POST.
    pub url: Url,
    /// When to try again.
    pub retry_policy: RetryPolicy,
    /// How long it has to answer.
    pub timeout: Duration,
    /// Sent to, or held.
    pub status: DestinationStatus,
    /// How fast it is sent to.
    pub limits: Limits,
    /// After how long of failures only it is disabled.
    pub disable_after: DisableAfter,
    /// Why and when it was disabled; `None` unless its status says so.
    pub disabled: Option<(DisabledReason, DateTime<Utc>)>,
    /// How it fares.
    pub health: Health,
    /// Pairs that wait for it: counted up to [`MOST_COUNTED`] and one more.
    pub waiting: u32,
    /// When it was made; events accepted earlier are not for it.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// Of what waits for a destination so many are counted: whether it is a thousand or a million takes long to tell.
pub const MOST_COUNTED: u32 = 1_000;

/// A destination to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewDestination<'a> {
    /// Its id.
    pub id: DestinationId,
    /// What its owner calls it.
    pub name: &'a str,
    /// Where to POST.
    pub url: &'a Url,
    /// What we sign with.
    pub signing_secret: ToSeal<'a>,
    /// When to try again.
    pub retry_policy: &'a RetryPolicy,
    /// How long it has to answer.
    pub timeout: Duration,
    /// How fast it is sent to.
    pub limits: Limits,
    /// After how long of failures only it is disabled.
    pub disable_after: DisableAfter,
}

/// What to change; what is `None` stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct DestinationChange<'a> {
    /// The name.
    pub name: Option<&'a str>,
    /// Where to POST.
    pub url: Option<&'a Url>,
    /// When to try again.
    pub retry_policy: Option<&'a RetryPolicy>,
    /// How long it has to answer.
    pub timeout: Option<Duration>,
    /// Sent to, or held. Active starts anew: how it has fared so far is void.
    pub status: Option<DestinationStatus>,
    /// How fast it is sent to.
    pub limits: Option<Limits>,
    /// After how long of failures only it is disabled.
    pub disable_after: Option<DisableAfter>,
}

/// A row as it is stored.
struct DestinationRow {
    id: uuid::Uuid,
    endpoint_id: uuid::Uuid,
    name: String,
    url: String,
    retry_policy: serde_json::Value,
    timeout_ms: i32,
    status: String,
    limits: Option<serde_json::Value>,
    disable_after_ms: Option<i64>,
    disabled_reason: Option<String>,
    disabled_at: Option<DateTime<Utc>>,
    state: Option<serde_json::Value>,
    waiting: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl DestinationRow {
    fn decode(self) -> Result<Destination> {
        let row = Row { table: "destinations", id: self.id };
        let state = Row { table: "destination_state", id: self.id };
        let status = row.word("status", &self.status, DestinationStatus::parse)?;
        Ok(Destination {
            id: self.id.into(),
            endpoint_id: self.endpoint_id.into(),
            name: self.name,
            url: row.value("url", Url::parse(&self.url))?,
            retry_policy: row.json("retry_policy", self.retry_policy)?,
            timeout: Duration::from_millis(unsigned(row, "timeout_ms", self.timeout_ms)?),
            status,
            limits: self.limits.map_or(Ok(Limits::default()), |limits| row.json("limits", limits))?,
            disable_after: DisableAfter::decode(row, self.disable_after_ms)?,
            disabled: match (status, self.disabled_reason, self.disabled_at) {
                (DestinationStatus::Disabled, Some(reason), Some(at)) => {
                    Some((row.word("disabled_reason", &reason, DisabledReason::parse)?, at))
                }
                _ => None,
            },
            health: self.state.map_or(Ok(Health::default()), |health| state.json("*", health))?,
            waiting: row.value("waiting", u32::try_from(self.waiting))?,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

impl Tenant {
    /// Makes a destination and answers it; `None` when there is no such endpoint.
    pub async fn create_destination(
        &self,
        endpoint: EndpointId,
        new: &NewDestination<'_>,
        now: DateTime<Utc>,
    ) -> Result<Option<Destination>> {
        let mut transaction = self.begin().await?;
        // Held until the commit, so that the endpoint's deletion can't pass by and miss the new destination.
        let found = sqlx::query!(
            "select id from endpoints where organization_id = $1 and id = $2 and deleted_at is null for update",
            self.organization.0,
            endpoint.0
        )
        .fetch_optional(&mut *transaction)
        .await?;
        if found.is_none() {
            return Ok(None);
        }
        let destination = self.insert_destination(&mut transaction, endpoint, new, now).await?;
        transaction.commit().await?;
        Ok(Some(destination))
    }

    pub(super) async fn insert_destination(
        &self,
        connection: &mut PgConnection,
        endpoint: EndpointId,
        new: &NewDestination<'_>,
        now: DateTime<Utc>,
    ) -> Result<Destination> {
        sqlx::query_as!(
            DestinationRow,
            "insert into destinations (organization_id, id, endpoint_id, name, url, signing_secret, retry_policy,
                 timeout_ms, slot, created_at, updated_at, limits, disable_after_ms)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11, $12)
             returning id, endpoint_id, name, url, retry_policy, timeout_ms, status, limits, disable_after_ms,
                 disabled_reason, disabled_at, null::jsonb as state, 0::bigint as \"waiting!\", created_at, updated_at",
            self.organization.0,
            new.id.0,
            endpoint.0,
            new.name,
            new.url.as_str(),
            self.seal(new.signing_secret, new.id.0)?,
            as_json(new.retry_policy),
            as_milliseconds(new.timeout),
            i32::from(Slot::of(endpoint).0),
            now,
            as_stored(new.limits),
            new.disable_after.stored()
        )
        .fetch_one(connection)
        .await?
        .decode()
    }

    /// The destination of that endpoint, unless there is none or it was deleted.
    pub async fn destination(&self, endpoint: EndpointId, id: DestinationId) -> Result<Option<Destination>> {
        let mut transaction = self.begin().await?;
        sqlx::query_as!(
            DestinationRow,
            "select id, endpoint_id, name, url, retry_policy, timeout_ms, status, limits, disable_after_ms,
                 disabled_reason, disabled_at, created_at, updated_at,
                 (select to_jsonb(s) from destination_state s where s.destination_id = destinations.id
                     and s.follows is not distinct from destinations.resumed_at) as state,
                 (select count(*) from (select from scheduled_deliveries w where w.destination_id = destinations.id
                     limit 1001) as counted) as \"waiting!\"
             from destinations where organization_id = $1 and endpoint_id = $2 and id = $3 and deleted_at is null",
            self.organization.0,
            endpoint.0,
            id.0
        )
        .fetch_optional(&mut *transaction)
        .await?
        .map(DestinationRow::decode)
        .transpose()
    }

    /// The destinations of an endpoint that are not deleted, newest first.
    pub async fn destinations(&self, endpoint: EndpointId, page: Page) -> Result<Listed<Destination>> {
        let mut transaction = self.begin().await?;
        let rows = sqlx::query_as!(
            DestinationRow,
            "select id, endpoint_id, name, url, retry_policy, timeout_ms, status, limits, disable_after_ms,
                 disabled_reason, disabled_at, created_at, updated_at,
                 (select to_jsonb(s) from destination_state s where s.destination_id = destinations.id
                     and s.follows is not distinct from destinations.resumed_at) as state,
                 (select count(*) from (select from scheduled_deliveries w where w.destination_id = destinations.id
                     limit 1001) as counted) as \"waiting!\"
             from destinations where organization_id = $1 and endpoint_id = $2 and id < $3 and deleted_at is null
             order by id desc limit $4",
            self.organization.0,
            endpoint.0,
            page.below(),
            page.to_read()
        )
        .fetch_all(&mut *transaction)
        .await?;
        let destinations = rows.into_iter().map(DestinationRow::decode).collect::<Result<_>>()?;
        Ok(page.cut(destinations, |destination: &Destination| destination.id.0))
    }

    /// Changes a destination and answers what it is now; `None` when there is none.
    pub async fn change_destination(
        &self,
        endpoint: EndpointId,
        id: DestinationId,
        change: &DestinationChange<'_>,
        now: DateTime<Utc>,
    ) -> Result<Option<Destination>> {
        let mut transaction = self.begin().await?;
        let changed = sqlx::query_as!(
            DestinationRow,
            "update destinations set name = coalesce($4, name), url = coalesce($5, url),
                 retry_policy = coalesce($6, retry_policy), timeout_ms = coalesce($7, timeout_ms),
                 status = coalesce($8, status), updated_at = $9,
                 disabled_reason = case when $8::text is null then disabled_reason end,
                 disabled_at = case when $8::text is null then disabled_at end,
                 resumed_at = case when $8 = 'active' then $9 else resumed_at end,
                 limits = case when $10 then $11 else limits end,
                 disable_after_ms = case when $12 then $13 else disable_after_ms end
             where organization_id = $1 and endpoint_id = $2 and id = $3 and deleted_at is null
             returning id, endpoint_id, name, url, retry_policy, timeout_ms, status, limits, disable_after_ms,
                 disabled_reason, disabled_at, created_at, updated_at,
                 (select to_jsonb(s) from destination_state s where s.destination_id = destinations.id
                     and s.follows is not distinct from destinations.resumed_at) as state,
                 (select count(*) from (select from scheduled_deliveries w where w.destination_id = destinations.id
                     limit 1001) as counted) as \"waiting!\"",
            self.organization.0,
            endpoint.0,
            id.0,
            change.name,
            change.url.map(Url::as_str),
            change.retry_policy.map(as_json),
            change.timeout.map(as_milliseconds),
            change.status.map(DestinationStatus::as_str),
            now,
            change.limits.is_some(),
            change.limits.and_then(as_stored),
            change.disable_after.is_some(),
            change.disable_after.and_then(DisableAfter::stored)
        )
        .fetch_optional(&mut *transaction)
        .await?
        .map(DestinationRow::decode)
        .transpose()?;
        transaction.commit().await?;
        Ok(changed)
    }

    /// Deletes a destination and cancels what waits for it, in steps. `false` when there is none.
    pub async fn delete_destination(
        &self,
        endpoint: EndpointId,
        id: DestinationId,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let mut transaction = self.begin().await?;
        let deleted = sqlx::query!(
            "update destinations set deleted_at = $4, updated_at = $4
             where organization_id = $1 and endpoint_id = $2 and id = $3 and deleted_at is null",
            self.organization.0,
            endpoint.0,
            id.0,
            now
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        if deleted.rows_affected() == 0 {
            return Ok(false);
        }
        self.cancel_waiting(id, now).await?;
        Ok(true)
    }
}

fn as_json(policy: &RetryPolicy) -> serde_json::Value {
    serde_json::to_value(policy).expect("a policy holds only strings and a number")
}

/// Limits that say nothing are none.
fn as_stored(limits: Limits) -> Option<serde_json::Value> {
    let value = || serde_json::to_value(limits).expect("limits hold only numbers");
    (limits != Limits::default()).then(value)
}

/// Timeouts are checked to be far below; a larger one saturates rather than wraps.
fn as_milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
