//! Endpoints: made with their first destination, changed, deleted with all of them.

mod row;

use chrono::{DateTime, Utc};
use ravenpost_core::audit::Action;
use ravenpost_core::endpoint::{EndpointStatus, Verification};
use ravenpost_core::ids::{DestinationId, EndpointId, SecretId, Slot};
use ravenpost_core::limit::{CustomAnswer, MediaType, RateLimit};
use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;
use url::Url;

use super::{Deleted, Destination, DestinationChange, Listed, NewDestination, Page, Tenant, ToSeal, Unsaid};
use crate::Result;
use crate::audit::{Entry, Of, snapshot};
use row::EndpointRow;

/// An inbound address. Its secret is not part of it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// What its owner calls it.
    pub name: String,
    /// What stands in its URL.
    pub token: String,
    /// How its producers are verified.
    pub verification: Verification,
    /// The body limit in bytes where it differs from the default.
    pub max_body_bytes: Option<u32>,
    /// How much is accepted, where it differs from the default.
    pub rate_limit: Option<RateLimit>,
    /// The content types that are accepted; `None` for any.
    pub content_types: Option<Vec<MediaType>>,
    /// What its producers are answered instead of the ordinary 202.
    pub answer: Option<CustomAnswer>,
    /// Delivered, or held.
    pub status: EndpointStatus,
    /// The URL of its first destination, if it still has one.
    pub target_url: Option<Url>,
    /// Of which version it is.
    pub version: EndpointVersion,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// The version of an endpoint with its [`Endpoint::target_url`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointVersion {
    /// Rises with each change of the endpoint itself.
    pub own: i64,
    /// That of its first destination; 0 when it has none.
    pub first_destination: i64,
}

/// An endpoint to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewEndpoint<'a> {
    /// Its id.
    pub id: EndpointId,
    /// What its owner calls it.
    pub name: &'a str,
    /// What stands in its URL.
    pub token: &'a str,
    /// How its producers are verified.
    pub verification: &'a Verification,
    /// What they sign with; `None` for [`Verification::None`].
    pub secret: Option<ToSeal<'a>>,
    /// The body limit in bytes where it differs from the default.
    pub max_body_bytes: Option<u32>,
    /// How much is accepted, where it differs from the default.
    pub rate_limit: Option<RateLimit>,
    /// The content types that are accepted; `None` for any.
    pub content_types: Option<&'a [MediaType]>,
    /// What its producers are answered instead of the ordinary 202.
    pub answer: Option<&'a CustomAnswer>,
    /// Where its events go.
    pub destination: NewDestination<'a>,
}

/// What to change; what is `None` stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct EndpointChange<'a> {
    /// Only if it is of this version.
    pub if_version: Option<EndpointVersion>,
    /// The name.
    pub name: Option<&'a str>,
    /// Deliver, or hold.
    pub status: Option<EndpointStatus>,
    /// The URL of the first destination.
    pub target_url: Option<&'a Url>,
    /// How producers are verified.
    pub verification: Option<VerificationChange<'a>>,
    /// The body limit in bytes; `Some(None)` goes back to the default.
    pub max_body_bytes: Option<Option<u32>>,
    /// How much is accepted; `Some(None)` goes back to the default.
    pub rate_limit: Option<Option<RateLimit>>,
    /// The content types that are accepted; `Some(None)` for any.
    pub content_types: Option<Option<&'a [MediaType]>>,
    /// What producers are answered; `Some(None)` goes back to the ordinary 202.
    pub answer: Option<Option<&'a CustomAnswer>>,
}

/// What became of a change.
#[derive(Debug)]
pub enum EndpointChanged {
    /// The endpoint as it is now.
    Changed(Box<Endpoint>),
    /// There is none, or it is verified otherwise than was thought.
    Missing,
    /// It is of another version than the change is for.
    Stale,
    /// The URL would lead to another origin, and credentials of the first destination would go along.
    Unsaid(Unsaid),
}

/// Another way to verify producers, another secret, or both.
#[derive(Debug, Clone, Copy)]
pub struct VerificationChange<'a> {
    /// What the change was decided upon; nothing changes when it is no longer so.
    pub from: &'a Verification,
    /// What it is to be.
    pub to: &'a Verification,
    /// Another secret, in place of all that are stored.
    pub secret: Option<ToSeal<'a>>,
    /// The id of that other secret.
    pub secret_id: SecretId,
    /// Without another secret: whether the stored ones are forgotten, since the new verification has no use for them.
    pub forget_secrets: bool,
}

/// The destination that an endpoint's `target_url` stands for.
struct FirstDestination {
    id: DestinationId,
    url: String,
}

impl Tenant {
    /// Makes an endpoint and its first destination, and answers both.
    pub async fn create_endpoint(
        &self,
        new: &NewEndpoint<'_>,
        now: DateTime<Utc>,
    ) -> Result<(Endpoint, Destination)> {
        let mut transaction = self.begin_change().await?;
        let mut endpoint = self.insert_endpoint(&mut transaction, new, now).await?;
        let destination = self.insert_destination(&mut transaction, new.id, &new.destination, now).await?;
        let mut made = snapshot(&mut transaction, self.organization, Of::Endpoint(new.id.0)).await?;
        let first = snapshot(&mut transaction, self.organization, Of::Destination(destination.id.0)).await?;
        if let Some(made) = &mut made {
            made["destination"] = json!({ "id": destination.id, "row": first });
        }
        let entry = Entry::of(Action::EndpointCreated, new.id).after(made);
        transaction.commit(&entry, now).await?;
        endpoint.target_url = Some(destination.url.clone());
        endpoint.version.first_destination = destination.version;
        Ok((endpoint, destination))
    }

    async fn insert_endpoint(
        &self,
        connection: &mut PgConnection,
        new: &NewEndpoint<'_>,
        now: DateTime<Utc>,
    ) -> Result<Endpoint> {
        let secret = new.secret.map(|secret| self.seal(secret, new.id.0)).transpose()?;
        sqlx::query_as!(
            EndpointRow,
            "insert into endpoints (organization_id, id, name, token, verification, secret_key, max_body_bytes, slot,
                 created_at, updated_at, rate_limit, content_types, answer)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11, $12)
             returning id, name, token, verification, max_body_bytes, rate_limit, content_types, answer, status,
                 created_at, updated_at, null::text as target_url, version, null::bigint as first_version",
            self.organization.0,
            new.id.0,
            new.name,
            new.token,
            as_json(new.verification),
            secret,
            new.max_body_bytes.map(as_integer),
            i32::from(Slot::of(new.id).0),
            now,
            new.rate_limit.as_ref().map(as_json),
            new.content_types.map(as_json),
            new.answer.map(as_json)
        )
        .fetch_one(connection)
        .await?
        .decode()
    }

    /// The endpoint, unless there is none or it was deleted.
    pub async fn endpoint(&self, id: EndpointId) -> Result<Option<Endpoint>> {
        let mut transaction = self.begin().await?;
        self.select_endpoint(&mut transaction, id).await
    }

    async fn select_endpoint(
        &self,
        connection: &mut PgConnection,
        id: EndpointId,
    ) -> Result<Option<Endpoint>> {
        sqlx::query_as!(
            EndpointRow,
            "select e.id, e.name, e.token, e.verification, e.max_body_bytes, e.rate_limit, e.content_types, e.answer,
                 e.status, e.created_at, e.updated_at, e.version, d.url as \"target_url?\",
                 d.version as \"first_version?\"
             from endpoints e left join lateral (select url, version from destinations d
                 where d.organization_id = e.organization_id and d.endpoint_id = e.id and d.deleted_at is null
                 order by d.id limit 1) d on true
             where e.organization_id = $1 and e.id = $2 and e.deleted_at is null",
            self.organization.0,
            id.0
        )
        .fetch_optional(connection)
        .await?
        .map(EndpointRow::decode)
        .transpose()
    }

    /// The endpoints that are not deleted, newest first.
    pub async fn endpoints(&self, page: Page) -> Result<Listed<Endpoint>> {
        let mut transaction = self.begin().await?;
        let rows = sqlx::query_as!(
            EndpointRow,
            "select e.id, e.name, e.token, e.verification, e.max_body_bytes, e.rate_limit, e.content_types, e.answer,
                 e.status, e.created_at, e.updated_at, e.version, d.url as \"target_url?\",
                 d.version as \"first_version?\"
             from endpoints e left join lateral (select url, version from destinations d
                 where d.organization_id = e.organization_id and d.endpoint_id = e.id and d.deleted_at is null
                 order by d.id limit 1) d on true
             where e.organization_id = $1 and e.id < $2 and e.deleted_at is null
             order by e.id desc limit $3",
            self.organization.0,
            page.below(),
            page.to_read()
        )
        .fetch_all(&mut *transaction)
        .await?;
        let endpoints = rows.into_iter().map(EndpointRow::decode).collect::<Result<_>>()?;
        Ok(page.cut(endpoints, |endpoint: &Endpoint| endpoint.id.0))
    }

    /// Changes an endpoint and answers what it is now. `None` when there is none, or when its verification is no
    /// longer what the change was decided upon.
    pub async fn change_endpoint(
        &self,
        id: EndpointId,
        change: &EndpointChange<'_>,
        now: DateTime<Utc>,
    ) -> Result<EndpointChanged> {
        let mut transaction = self.begin_change().await?;
        let mut before = snapshot(&mut transaction, self.organization, Of::Endpoint(id.0)).await?;
        // Its version is part of the endpoint's, and compared: nobody else may change it from here on.
        let of_first = change.target_url.is_some() || change.if_version.is_some();
        let first = if of_first { self.lock_first_destination(&mut transaction, id).await? } else { None };
        if !self.update_endpoint(&mut transaction, id, change, now).await? {
            let present = self.select_endpoint(&mut transaction, id).await?;
            let stale = present.zip(change.if_version).is_some_and(|(it, expected)| it.version != expected);
            return Ok(if stale { EndpointChanged::Stale } else { EndpointChanged::Missing });
        }
        let redirected = change.target_url.zip(first);
        if let Some((url, first)) = &redirected
            && let Some(unsaid) = self.update_first_url(&mut transaction, id, first.id, url, now).await?
        {
            return Ok(EndpointChanged::Unsaid(unsaid));
        }
        let changed = self.select_endpoint(&mut transaction, id).await?;
        let mut after = snapshot(&mut transaction, self.organization, Of::Endpoint(id.0)).await?;
        if let (Some((url, first)), Some(before), Some(after)) = (redirected, &mut before, &mut after) {
            before["first_destination"] = json!({ "id": first.id, "url": first.url });
            after["first_destination"] = json!({ "id": first.id, "url": url });
        }
        let entry = Entry::of(Action::EndpointChanged, id).before(before).after(after);
        transaction.commit(&entry, now).await?;
        Ok(changed.map_or(EndpointChanged::Missing, |endpoint| EndpointChanged::Changed(Box::new(endpoint))))
    }

    async fn update_endpoint(
        &self,
        connection: &mut PgConnection,
        id: EndpointId,
        change: &EndpointChange<'_>,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let secret = change.verification.and_then(|change| change.secret);
        let secret = secret.map(|secret| self.seal(secret, id.0)).transpose()?;
        let replaced = secret.is_some();
        let forget = change.verification.is_some_and(|change| change.forget_secrets) && !replaced;
        let updated = sqlx::query!(
            "update endpoints set
                 name = coalesce($3, name),
                 status = coalesce($4, status),
                 verification = coalesce($6, verification),
                 secret_key = case when $8 then null else coalesce($7, secret_key) end,
                 secret_key_id = case when $7::bytea is null then secret_key_id else $18 end,
                 secret_key_set_at = case when $7::bytea is null then secret_key_set_at else $11 end,
                 max_body_bytes = case when $9 then $10 else max_body_bytes end,
                 rate_limit = case when $12 then $13 else rate_limit end,
                 content_types = case when $14 then $15 else content_types end,
                 answer = case when $16 then $17 else answer end,
                 updated_at = $11
             where organization_id = $1 and id = $2 and deleted_at is null and verification = coalesce($5, verification)
                 and ($19::bigint is null or version = $19 and $20 = coalesce((select d.version from destinations d
                     where d.organization_id = $1 and d.endpoint_id = $2 and d.deleted_at is null
                     order by d.id limit 1), 0))",
            self.organization.0,
            id.0,
            change.name,
            change.status.map(EndpointStatus::as_str),
            change.verification.map(|change| as_json(change.from)),
            change.verification.map(|change| as_json(change.to)),
            secret,
            forget,
            change.max_body_bytes.is_some(),
            change.max_body_bytes.flatten().map(as_integer),
            now,
            change.rate_limit.is_some(),
            change.rate_limit.flatten().as_ref().map(as_json),
            change.content_types.is_some(),
            change.content_types.flatten().map(as_json),
            change.answer.is_some(),
            change.answer.flatten().map(as_json),
            change.verification.map(|change| change.secret_id.0),
            change.if_version.map(|version| version.own),
            change.if_version.map(|version| version.first_destination)
        )
        .execute(&mut *connection)
        .await?;
        if updated.rows_affected() == 1 && (forget || replaced) {
            self.forget_secrets(connection, id).await?;
        }
        Ok(updated.rows_affected() == 1)
    }

    async fn lock_first_destination(
        &self,
        connection: &mut PgConnection,
        endpoint: EndpointId,
    ) -> Result<Option<FirstDestination>> {
        let first = sqlx::query!(
            "select id, url from destinations where organization_id = $1 and endpoint_id = $2 and deleted_at is null
             order by id limit 1 for update",
            self.organization.0,
            endpoint.0
        )
        .fetch_optional(connection)
        .await?;
        Ok(first.map(|first| FirstDestination { id: first.id.into(), url: first.url }))
    }

    /// `Some`: it would take these credentials along to another origin.
    async fn update_first_url(
        &self,
        connection: &mut PgConnection,
        endpoint: EndpointId,
        first: DestinationId,
        url: &Url,
        now: DateTime<Utc>,
    ) -> Result<Option<Unsaid>> {
        let Some(locked) = self.lock_destination(&mut *connection, endpoint, first).await? else {
            return Ok(None);
        };
        let change = DestinationChange { url: Some(url), ..DestinationChange::default() };
        if let Some(unsaid) = locked.unsaid(&change) {
            return Ok(Some(unsaid));
        }
        sqlx::query!(
            "update destinations set url = $3, updated_at = $4 where organization_id = $1 and id = $2",
            self.organization.0,
            first.0,
            url.as_str(),
            now
        )
        .execute(connection)
        .await?;
        Ok(None)
    }

    /// Notes in the audit log that a test event is sent to an endpoint, with this id of its producer's. Before it is, so
    /// that none is sent twice for one `Idempotency-Key`.
    pub async fn note_test_event(
        &self,
        endpoint: EndpointId,
        producer_event_id: &str,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let told = json!({ "producer_event_id": producer_event_id });
        let entry = Entry::of(Action::EventTested, endpoint).after(told);
        self.begin_change().await?.commit(&entry, now).await
    }

    /// Puts another token in the place of the present one, whose URL is unknown from then on. Answers the endpoint as it is
    /// now; `None` when there is none.
    pub async fn rotate_token(
        &self,
        id: EndpointId,
        token: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Endpoint>> {
        let mut transaction = self.begin_change().await?;
        let before = snapshot(&mut transaction, self.organization, Of::Endpoint(id.0)).await?;
        sqlx::query!(
            "update endpoints set token = $3, updated_at = $4
             where organization_id = $1 and id = $2 and deleted_at is null",
            self.organization.0,
            id.0,
            token,
            now
        )
        .execute(&mut *transaction)
        .await?;
        let endpoint = self.select_endpoint(&mut transaction, id).await?;
        if endpoint.is_some() {
            let after = snapshot(&mut transaction, self.organization, Of::Endpoint(id.0)).await?;
            let entry = Entry::of(Action::EndpointTokenRotated, id).before(before).after(after);
            transaction.commit(&entry, now).await?;
        }
        Ok(endpoint)
    }

    /// Deletes an endpoint, if it is of a version, and its destinations, and cancels what waits for them.
    ///
    /// The deletion is one transaction; the cancelling follows in steps, and what a crash leaves of it the worker
    /// finishes, because nothing is sent to a deleted destination.
    pub async fn delete_endpoint(
        &self,
        id: EndpointId,
        if_version: Option<EndpointVersion>,
        now: DateTime<Utc>,
    ) -> Result<Deleted> {
        let mut transaction = self.begin_change().await?;
        let before = snapshot(&mut transaction, self.organization, Of::Endpoint(id.0)).await?;
        let deleted = sqlx::query!(
            "update endpoints set deleted_at = $3, updated_at = $3
             where organization_id = $1 and id = $2 and deleted_at is null
                 and ($4::bigint is null or version = $4 and $5 = coalesce((select d.version from destinations d
                     where d.organization_id = $1 and d.endpoint_id = $2 and d.deleted_at is null
                     order by d.id limit 1), 0))",
            self.organization.0,
            id.0,
            now,
            if_version.map(|version| version.own),
            if_version.map(|version| version.first_destination)
        )
        .execute(&mut *transaction)
        .await?;
        if deleted.rows_affected() == 0 {
            let there = self.select_endpoint(&mut transaction, id).await?.is_some();
            return Ok(if there { Deleted::Stale } else { Deleted::Missing });
        }
        let destinations = sqlx::query_scalar!(
            "update destinations set deleted_at = $3, updated_at = $3
             where organization_id = $1 and endpoint_id = $2 and deleted_at is null returning id",
            self.organization.0,
            id.0,
            now
        )
        .fetch_all(&mut *transaction)
        .await?;
        let entry = Entry::of(Action::EndpointDeleted, id).before(before);
        transaction.commit(&entry.after(json!({ "destinations": destinations })), now).await?;
        for destination in destinations {
            self.cancel_waiting(DestinationId(destination), now).await?;
        }
        Ok(Deleted::Deleted)
    }
}

fn as_json(value: &(impl Serialize + ?Sized)) -> serde_json::Value {
    serde_json::to_value(value).expect("what endpoints hold has only strings for keys")
}

/// Limits are checked to be far below; a larger one saturates rather than wraps.
fn as_integer(bytes: u32) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}
