//! The secrets that an endpoint's producers sign with: several at once, so that they can rotate.
//!
//! The newest one is the endpoint's `secret_key`, the older ones stand in `endpoint_secrets`. All are sealed for the
//! endpoint. A change touches the endpoint's row, so whoever watches endpoints hears of it.

use chrono::{DateTime, Utc};
use ravenpost_core::audit::Action;
use ravenpost_core::endpoint::Verification;
use ravenpost_core::ids::{EndpointId, SecretId};
use serde_json::json;
use sqlx::PgConnection;

use super::{Tenant, ToSeal};
use crate::Result;
use crate::audit::Entry;
use crate::decode::Row;

/// Most secrets that an endpoint has at once.
pub const MAX_SECRETS: usize = 10;

/// A secret that is still valid, without itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboundSecret {
    /// Its id.
    pub id: SecretId,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// When it stops to count; `None` means never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A secret to be added.
#[derive(Debug, Clone, Copy)]
pub struct NewSecret<'a> {
    /// Its id.
    pub id: SecretId,
    /// Itself.
    pub secret: ToSeal<'a>,
    /// The verification that it was made for; nothing is added when that is no longer so.
    pub verification: &'a Verification,
    /// When the older ones stop to count, those that don't sooner; `None` leaves them.
    pub others_expire_at: Option<DateTime<Utc>>,
}

/// What became of adding a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretAdded {
    /// It counts from now on.
    Added,
    /// There is no such endpoint, or its verification was changed meanwhile.
    Changed,
    /// It has [`MAX_SECRETS`] already.
    TooMany,
}

/// What became of removing a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretRemoved {
    /// It no longer counts.
    Removed,
    /// There is no such endpoint or secret.
    Missing,
    /// It is the only one, and the verification needs one.
    Last,
}

impl Tenant {
    /// The secrets of an endpoint that are valid at `now`, newest first; none when there is no such endpoint.
    pub async fn secrets(&self, endpoint: EndpointId, now: DateTime<Utc>) -> Result<Vec<InboundSecret>> {
        let mut transaction = self.begin().await?;
        self.select_secrets(&mut transaction, endpoint, now).await
    }

    async fn select_secrets(
        &self,
        connection: &mut PgConnection,
        endpoint: EndpointId,
        now: DateTime<Utc>,
    ) -> Result<Vec<InboundSecret>> {
        let secrets = sqlx::query_as!(
            InboundSecret,
            "select coalesce(secret_key_id, id) as \"id!\", coalesce(secret_key_set_at, created_at) as \"created_at!\",
                 null::timestamptz as expires_at
             from endpoints where organization_id = $1 and id = $2 and deleted_at is null and secret_key is not null
             union all
             select s.id, s.created_at, s.expires_at
             from endpoint_secrets s join endpoints e on e.organization_id = s.organization_id and e.id = s.endpoint_id
             where s.organization_id = $1 and s.endpoint_id = $2 and e.deleted_at is null
                 and (s.expires_at is null or s.expires_at > $3)
             order by 2 desc, 1 desc",
            self.organization.0,
            endpoint.0,
            now
        )
        .fetch_all(connection)
        .await?;
        Ok(secrets)
    }

    /// Adds a secret; the ones that are there stay valid, until they expire.
    pub async fn add_secret(
        &self,
        endpoint: EndpointId,
        new: &NewSecret<'_>,
        now: DateTime<Utc>,
    ) -> Result<SecretAdded> {
        let sealed = self.seal(new.secret, endpoint.0)?;
        let mut transaction = self.begin_change().await?;
        let verification = self.lock_verification(&mut transaction, endpoint).await?;
        if verification.as_ref() != Some(new.verification) {
            return Ok(SecretAdded::Changed);
        }
        self.sweep_secrets(&mut transaction, endpoint, now).await?;
        if self.select_secrets(&mut transaction, endpoint, now).await?.len() >= MAX_SECRETS {
            return Ok(SecretAdded::TooMany);
        }
        self.retire_secrets(&mut transaction, endpoint, new.others_expire_at).await?;
        sqlx::query!(
            "update endpoints set secret_key = $3, secret_key_id = $4, secret_key_set_at = $5, updated_at = $5
             where organization_id = $1 and id = $2",
            self.organization.0,
            endpoint.0,
            sealed,
            new.id.0,
            now
        )
        .execute(&mut *transaction)
        .await?;
        let added = json!({ "secret_id": new.id, "others_expire_at": new.others_expire_at });
        let entry = Entry::of(Action::EndpointSecretAdded, endpoint).after(added);
        transaction.commit(&entry, now).await?;
        Ok(SecretAdded::Added)
    }

    /// How producers are verified, locked until the transaction ends.
    async fn lock_verification(
        &self,
        connection: &mut PgConnection,
        endpoint: EndpointId,
    ) -> Result<Option<Verification>> {
        let found = sqlx::query_scalar!(
            "select verification from endpoints
             where organization_id = $1 and id = $2 and deleted_at is null for update",
            self.organization.0,
            endpoint.0
        )
        .fetch_optional(connection)
        .await?;
        let row = Row { table: "endpoints", id: endpoint.0 };
        Ok(found.map(|verification| row.json("verification", verification)).transpose()?)
    }

    /// Forgets what has expired.
    async fn sweep_secrets(
        &self,
        connection: &mut PgConnection,
        endpoint: EndpointId,
        now: DateTime<Utc>,
    ) -> Result<()> {
        sqlx::query!(
            "delete from endpoint_secrets where organization_id = $1 and endpoint_id = $2 and expires_at <= $3",
            self.organization.0,
            endpoint.0,
            now
        )
        .execute(connection)
        .await?;
        Ok(())
    }

    /// The newest one joins the older ones, and all of them expire by then.
    async fn retire_secrets(
        &self,
        connection: &mut PgConnection,
        endpoint: EndpointId,
        expire_at: Option<DateTime<Utc>>,
    ) -> Result<()> {
        sqlx::query!(
            "insert into endpoint_secrets (organization_id, id, endpoint_id, secret, created_at)
             select organization_id, coalesce(secret_key_id, id), id, secret_key, coalesce(secret_key_set_at, created_at)
             from endpoints where organization_id = $1 and id = $2 and secret_key is not null",
            self.organization.0,
            endpoint.0
        )
        .execute(&mut *connection)
        .await?;
        sqlx::query!(
            "update endpoint_secrets set expires_at = least(expires_at, $3)
             where organization_id = $1 and endpoint_id = $2 and $3::timestamptz is not null",
            self.organization.0,
            endpoint.0,
            expire_at
        )
        .execute(connection)
        .await?;
        Ok(())
    }

    /// Removes a secret, unless no other one would stay for good while the verification needs one: an endpoint that loses
    /// its last secret believes nobody, or whoever brings it another one by a handshake.
    pub async fn remove_secret(
        &self,
        endpoint: EndpointId,
        secret: SecretId,
        now: DateTime<Utc>,
    ) -> Result<SecretRemoved> {
        let mut transaction = self.begin_change().await?;
        let Some(verification) = self.lock_verification(&mut transaction, endpoint).await? else {
            return Ok(SecretRemoved::Missing);
        };
        let secrets = self.select_secrets(&mut transaction, endpoint, now).await?;
        if !secrets.iter().any(|known| known.id == secret) {
            return Ok(SecretRemoved::Missing);
        }
        let stays = |known: &InboundSecret| known.id != secret && known.expires_at.is_none();
        if verification.needs_secret() && !secrets.iter().any(stays) {
            return Ok(SecretRemoved::Last);
        }
        sqlx::query!(
            "delete from endpoint_secrets where organization_id = $1 and endpoint_id = $2 and id = $3",
            self.organization.0,
            endpoint.0,
            secret.0
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "update endpoints set updated_at = $4,
                 secret_key = case when coalesce(secret_key_id, id) = $3 then null else secret_key end
             where organization_id = $1 and id = $2",
            self.organization.0,
            endpoint.0,
            secret.0,
            now
        )
        .execute(&mut *transaction)
        .await?;
        let removed = json!({ "secret_id": secret });
        transaction.commit(&Entry::of(Action::EndpointSecretRemoved, endpoint).before(removed), now).await?;
        Ok(SecretRemoved::Removed)
    }

    /// Forgets the older secrets of an endpoint, as part of a change that replaces them all.
    pub(super) async fn forget_secrets(
        &self,
        connection: &mut PgConnection,
        endpoint: EndpointId,
    ) -> Result<()> {
        sqlx::query!(
            "delete from endpoint_secrets where organization_id = $1 and endpoint_id = $2",
            self.organization.0,
            endpoint.0
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}
