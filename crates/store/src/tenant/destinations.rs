//! Destinations of an endpoint.

mod former;
mod origin;
mod row;

use std::time::Duration;

use chrono::{DateTime, Utc};
use ravenpost_core::audit::Action;
use ravenpost_core::destination::authentication::Authentication;
use ravenpost_core::destination::headers::{CustomHeaders, HeaderChange, InvalidHeader};
use ravenpost_core::destination::tls::TlsSettings;
use ravenpost_core::destination::{DestinationStatus, Signing};
use ravenpost_core::filter::Filter;
use ravenpost_core::ids::{DestinationId, EndpointId, Slot};
use ravenpost_core::pacing::{DisabledReason, Health, Limits};
use ravenpost_core::retry::RetryPolicy;
use ravenpost_core::secret::Secret;
use sqlx::PgConnection;
use url::Url;

use super::{Deleted, Listed, Page, Tenant, ToSeal};
use crate::Result;
use crate::audit::{Entry, Of, snapshot};
use crate::system::{DisableAfter, FilterError};

use row::{DestinationRow, destination_rows};

pub use former::{MAX_FORMER_SECRETS, NewSigningSecret, SecretRotated};
pub use origin::Unsaid;

/// One target URL. Its signing secret is not part of it.
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
    /// What it wants; `None` for everything.
    pub filter: Option<Filter>,
    /// The last event for which the filter failed.
    pub filter_error: Option<FilterError>,
    /// How long it has to begin to; `None`: as the operator has set it.
    pub first_byte_timeout: Option<Duration>,
    /// What goes with each request.
    pub headers: CustomHeaders,
    /// How we prove who we are.
    pub authentication: Option<Authentication>,
    /// What it wants of TLS.
    pub tls: Option<TlsSettings>,
    /// How deliveries are signed.
    pub signing: Signing,
    /// When the last of its former secrets stops to count; in the past or `None` when there is none.
    pub former_secrets_expire_at: Option<DateTime<Utc>>,
    /// Sent to, or held.
    pub status: DestinationStatus,
    /// Its dead letters are replayed by themselves when it has recovered.
    pub replay_on_recovery: bool,
    /// How fast it is sent to.
    pub limits: Limits,
    /// After how long of failures only it is disabled.
    pub disable_after: DisableAfter,
    /// Why and when it was disabled; `None` unless its status says so.
    pub disabled: Option<(DisabledReason, DateTime<Utc>)>,
    /// How it fares.
    pub health: Health,
    /// Pairs that wait for it: counted up to [`MOST_WAITING_COUNTED`] and one more.
    pub waiting: u32,
    /// Rises with each change of what a person may set.
    pub version: i64,
    /// When it was made; events accepted earlier are not for it.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// Of what waits for a destination so many are counted: whether it is a thousand or a million takes long to tell.
pub const MOST_WAITING_COUNTED: u32 = 1_000;

/// Most destinations of an endpoint, deleted ones apart: each event may go to all of them.
pub const MAX_DESTINATIONS: i64 = 100;

/// Why a destination is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DestinationRefused {
    /// There is no such endpoint.
    NoEndpoint,
    /// It has [`MAX_DESTINATIONS`] already.
    TooMany,
}

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
    /// How deliveries are signed. With a key: the organization must have one
    /// ([`Tenant::ensure_signing_key`](super::Tenant::ensure_signing_key)).
    pub signing: Signing,
    /// [`CustomHeaders::to_secret`], if there are any.
    pub headers: Option<ToSeal<'a>>,
    /// [`Authentication::to_secret`], if there is one.
    pub authentication: Option<ToSeal<'a>>,
    /// [`TlsSettings::to_secret`], if there are any.
    pub tls: Option<ToSeal<'a>>,
    /// When to try again.
    pub retry_policy: &'a RetryPolicy,
    /// How long it has to answer.
    pub timeout: Duration,
    /// Whether its dead letters are replayed by themselves when it has recovered.
    pub replay_on_recovery: bool,
    /// What it wants; `None` for everything.
    pub filter: Option<&'a Filter>,
    /// How fast it is sent to.
    pub limits: Limits,
    /// After how long of failures only it is disabled.
    pub disable_after: DisableAfter,
    /// How long it has to begin to; `None`: as the operator has set it.
    pub first_byte_timeout: Option<Duration>,
}

/// What to change; what is `None` stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct DestinationChange<'a> {
    /// Only if it is of this version.
    pub if_version: Option<i64>,
    /// The name.
    pub name: Option<&'a str>,
    /// Where to POST.
    pub url: Option<&'a Url>,
    /// When to try again.
    pub retry_policy: Option<&'a RetryPolicy>,
    /// How long it has to answer.
    pub timeout: Option<Duration>,
    /// What it wants, from now on; `Some(None)` for everything.
    pub filter: Option<Option<&'a Filter>>,
    /// How long it has to begin to; `Some(None)`: as the operator has set it.
    pub first_byte_timeout: Option<Option<Duration>>,
    /// How deliveries are signed, as for [`NewDestination`].
    pub signing: Option<Signing>,
    /// Headers to set and to remove, and fresh random bytes to seal the result with.
    pub headers: Option<(&'a HeaderChange, [u8; 12])>,
    /// How we prove who we are; `Some(None)`: not at all.
    pub authentication: Option<Option<ToSeal<'a>>>,
    /// What it wants of TLS; `Some(None)`: nothing.
    pub tls: Option<Option<ToSeal<'a>>>,
    /// Sent to, or held. Active starts anew: how it has fared so far is void.
    pub status: Option<DestinationStatus>,
    /// Whether its dead letters are replayed by themselves when it has recovered.
    pub replay_on_recovery: Option<bool>,
    /// How fast it is sent to.
    pub limits: Option<Limits>,
    /// After how long of failures only it is disabled.
    pub disable_after: Option<DisableAfter>,
}

/// What became of a change.
#[derive(Debug)]
pub enum DestinationChanged {
    /// The destination as it is now.
    Changed(Box<Destination>),
    /// There is none.
    Missing,
    /// It is of another version than the change is for.
    Stale,
    /// With the headers that it has it would have too many.
    Headers(InvalidHeader),
    /// Its URL would lead to another origin, and credentials that were given for the one before would go along.
    Unsaid(Unsaid),
}

impl Tenant {
    /// Makes a destination and answers it.
    pub async fn create_destination(
        &self,
        endpoint: EndpointId,
        new: &NewDestination<'_>,
        now: DateTime<Utc>,
    ) -> Result<std::result::Result<Destination, DestinationRefused>> {
        let mut transaction = self.begin_change().await?;
        // Held until the commit, so that the endpoint's deletion can't pass by and miss the new destination, and what is
        // counted stays so.
        let found = sqlx::query!(
            "select id from endpoints where organization_id = $1 and id = $2 and deleted_at is null for update",
            self.organization.0,
            endpoint.0
        )
        .fetch_optional(&mut *transaction)
        .await?;
        if found.is_none() {
            return Ok(Err(DestinationRefused::NoEndpoint));
        }
        let count = sqlx::query_scalar!(
            r#"select count(*) as "count!" from destinations
             where organization_id = $1 and endpoint_id = $2 and deleted_at is null"#,
            self.organization.0,
            endpoint.0
        )
        .fetch_one(&mut *transaction)
        .await?;
        if count >= MAX_DESTINATIONS {
            return Ok(Err(DestinationRefused::TooMany));
        }
        let destination = self.insert_destination(&mut transaction, endpoint, new, now).await?;
        let made = snapshot(&mut transaction, self.organization, Of::Destination(new.id.0)).await?;
        transaction.commit(&Entry::of(Action::DestinationCreated, new.id).after(made), now).await?;
        Ok(Ok(destination))
    }

    pub(super) async fn insert_destination(
        &self,
        connection: &mut PgConnection,
        endpoint: EndpointId,
        new: &NewDestination<'_>,
        now: DateTime<Utc>,
    ) -> Result<Destination> {
        destination_rows!(
            "insert into destinations (organization_id, id, endpoint_id, name, url, signing_secret, retry_policy,
                 timeout_ms, slot, created_at, updated_at, headers, authentication, tls, signing,
                 first_byte_timeout_ms, replay_on_recovery, filter, limits, disable_after_ms)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
             returning",
            "",
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
            self.seal_if(new.headers, new.id.0)?,
            self.seal_if(new.authentication, new.id.0)?,
            self.seal_if(new.tls, new.id.0)?,
            new.signing.as_str(),
            new.first_byte_timeout.map(as_milliseconds),
            new.replay_on_recovery,
            new.filter.map(filter_as_json),
            as_stored(new.limits),
            new.disable_after.stored()
        )
        .fetch_one(connection)
        .await?
        .decode(self)
    }

    /// The destination of that endpoint, unless there is none or it was deleted.
    pub async fn destination(&self, endpoint: EndpointId, id: DestinationId) -> Result<Option<Destination>> {
        let mut transaction = self.begin().await?;
        destination_rows!(
            "select",
            "from destinations where organization_id = $1 and endpoint_id = $2 and id = $3 and deleted_at is null",
            self.organization.0,
            endpoint.0,
            id.0
        )
        .fetch_optional(&mut *transaction)
        .await?
        .map(|row| row.decode(self))
        .transpose()
    }

    /// The destinations of an endpoint that are not deleted, newest first.
    pub async fn destinations(&self, endpoint: EndpointId, page: Page) -> Result<Listed<Destination>> {
        let mut transaction = self.begin().await?;
        let rows = destination_rows!(
            "select",
            "from destinations where organization_id = $1 and endpoint_id = $2 and id < $3 and deleted_at is null
             order by id desc limit $4",
            self.organization.0,
            endpoint.0,
            page.below(),
            page.to_read()
        )
        .fetch_all(&mut *transaction)
        .await?;
        let destinations = rows.into_iter().map(|row| row.decode(self)).collect::<Result<_>>()?;
        Ok(page.cut(destinations, |destination: &Destination| destination.id.0))
    }

    /// Changes a destination and answers what it is now.
    pub async fn change_destination(
        &self,
        endpoint: EndpointId,
        id: DestinationId,
        change: &DestinationChange<'_>,
        now: DateTime<Utc>,
    ) -> Result<DestinationChanged> {
        let mut transaction = self.begin_change().await?;
        let before = snapshot(&mut transaction, self.organization, Of::Destination(id.0)).await?;
        let mut headers = None;
        if change.url.is_some() || change.headers.is_some() {
            let Some(locked) = self.lock_destination(&mut transaction, endpoint, id).await? else {
                return Ok(DestinationChanged::Missing);
            };
            if let Some(unsaid) = locked.unsaid(change) {
                return Ok(DestinationChanged::Unsaid(unsaid));
            }
            headers = match change.headers.map(|(changed, nonce)| (locked.headers.changed(changed), nonce)) {
                None => None,
                Some((Ok(headers), nonce)) => Some((headers, nonce)),
                Some((Err(invalid), _)) => return Ok(DestinationChanged::Headers(invalid)),
            };
        }
        let changed = self.update_destination(&mut transaction, endpoint, id, change, headers, now).await?;
        let Some(destination) = changed else {
            let stale =
                change.if_version.is_some() && self.has_destination(&mut transaction, endpoint, id).await?;
            return Ok(if stale { DestinationChanged::Stale } else { DestinationChanged::Missing });
        };
        let after = snapshot(&mut transaction, self.organization, Of::Destination(id.0)).await?;
        let entry = Entry::of(Action::DestinationChanged, id).before(before).after(after);
        transaction.commit(&entry, now).await?;
        Ok(DestinationChanged::Changed(Box::new(destination)))
    }

    async fn update_destination(
        &self,
        connection: &mut PgConnection,
        endpoint: EndpointId,
        id: DestinationId,
        change: &DestinationChange<'_>,
        headers: Option<(CustomHeaders, [u8; 12])>,
        now: DateTime<Utc>,
    ) -> Result<Option<Destination>> {
        let new_headers = headers.is_some();
        let headers = headers.filter(|(headers, _)| !headers.is_empty());
        let headers: Option<(Secret, _)> = headers.map(|(headers, nonce)| (headers.to_secret(), nonce));
        let headers = headers.as_ref().map(|(secret, nonce)| ToSeal { secret, nonce: *nonce });
        destination_rows!(
            "update destinations set name = coalesce($4, name), url = coalesce($5, url),
                 retry_policy = coalesce($6, retry_policy), timeout_ms = coalesce($7, timeout_ms),
                 status = coalesce($8, status), updated_at = $9, signing = coalesce($10, signing),
                 headers = case when $11 then $12 else headers end,
                 authentication = case when $13 then $14 else authentication end,
                 tls = case when $15 then $16 else tls end,
                 first_byte_timeout_ms = case when $17 then $18 else first_byte_timeout_ms end,
                 replay_on_recovery = coalesce($19, replay_on_recovery),
                 filter = case when $20 then $21 else filter end,
                 filter_error = case when $20 then null else filter_error end,
                 disabled_reason = case when $8::text is null then disabled_reason end,
                 disabled_at = case when $8::text is null then disabled_at end,
                 resumed_at = case when $8 = 'active' then $9 else resumed_at end,
                 limits = case when $22 then $23 else limits end,
                 disable_after_ms = case when $24 then $25 else disable_after_ms end
             where organization_id = $1 and endpoint_id = $2 and id = $3 and deleted_at is null
                 and version = coalesce($26, version)
             returning",
            "",
            self.organization.0,
            endpoint.0,
            id.0,
            change.name,
            change.url.map(Url::as_str),
            change.retry_policy.map(as_json),
            change.timeout.map(as_milliseconds),
            change.status.map(DestinationStatus::as_str),
            now,
            change.signing.map(Signing::as_str),
            new_headers,
            self.seal_if(headers, id.0)?,
            change.authentication.is_some(),
            self.seal_if(change.authentication.flatten(), id.0)?,
            change.tls.is_some(),
            self.seal_if(change.tls.flatten(), id.0)?,
            change.first_byte_timeout.is_some(),
            change.first_byte_timeout.flatten().map(as_milliseconds),
            change.replay_on_recovery,
            change.filter.is_some(),
            change.filter.flatten().map(filter_as_json),
            change.limits.is_some(),
            change.limits.and_then(as_stored),
            change.disable_after.is_some(),
            change.disable_after.and_then(DisableAfter::stored),
            change.if_version
        )
        .fetch_optional(connection)
        .await?
        .map(|row| row.decode(self))
        .transpose()
    }

    /// Deletes a destination, if it is of a version, and cancels what waits for it, in steps.
    pub async fn delete_destination(
        &self,
        endpoint: EndpointId,
        id: DestinationId,
        if_version: Option<i64>,
        now: DateTime<Utc>,
    ) -> Result<Deleted> {
        let mut transaction = self.begin_change().await?;
        let before = snapshot(&mut transaction, self.organization, Of::Destination(id.0)).await?;
        let deleted = sqlx::query!(
            "update destinations set deleted_at = $4, updated_at = $4
             where organization_id = $1 and endpoint_id = $2 and id = $3 and deleted_at is null
                 and version = coalesce($5, version)",
            self.organization.0,
            endpoint.0,
            id.0,
            now,
            if_version
        )
        .execute(&mut *transaction)
        .await?;
        if deleted.rows_affected() == 0 {
            let stale = if_version.is_some() && self.has_destination(&mut transaction, endpoint, id).await?;
            return Ok(if stale { Deleted::Stale } else { Deleted::Missing });
        }
        transaction.commit(&Entry::of(Action::DestinationDeleted, id).before(before), now).await?;
        self.cancel_waiting(id, now).await?;
        Ok(Deleted::Deleted)
    }

    async fn has_destination(
        &self,
        connection: &mut PgConnection,
        endpoint: EndpointId,
        id: DestinationId,
    ) -> Result<bool> {
        let found = sqlx::query!(
            "select id from destinations
             where organization_id = $1 and endpoint_id = $2 and id = $3 and deleted_at is null",
            self.organization.0,
            endpoint.0,
            id.0
        )
        .fetch_optional(connection)
        .await?;
        Ok(found.is_some())
    }
}

fn as_json(policy: &RetryPolicy) -> serde_json::Value {
    serde_json::to_value(policy).expect("a policy holds only strings and a number")
}

fn filter_as_json(filter: &Filter) -> serde_json::Value {
    serde_json::to_value(filter).expect("a filter holds only strings")
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
