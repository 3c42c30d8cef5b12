//! The key pairs that an organization's deliveries are signed with, as far as anybody may see them.

use chrono::{DateTime, Utc};
use ravenpost_core::audit::Action;
use ravenpost_core::ids::SigningKeyId;
use ravenpost_core::signature::signing_key::{SigningKey, VerifyingKey};
use serde_json::json;
use sqlx::PgConnection;

use super::{Tenant, ToSeal};
use crate::Result;
use crate::audit::Entry;
use crate::decode::Row;

/// Most keys of an organization at once: each may be one more signature in every delivery.
pub const MAX_SIGNING_KEYS: usize = 5;

/// A key's public half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedKey {
    /// Its id.
    pub id: SigningKeyId,
    /// Itself.
    pub key: VerifyingKey,
    /// When it was made, and published.
    pub created_at: DateTime<Utc>,
    /// When it begins to sign.
    pub signs_from: DateTime<Utc>,
    /// When it no longer signs and is no longer published; `None` until another one takes its place.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A key pair to be kept.
#[derive(Debug, Clone, Copy)]
pub struct NewSigningKey<'a> {
    /// Its id.
    pub id: SigningKeyId,
    /// Itself.
    pub key: &'a SigningKey,
    /// Fresh random bytes to seal it with.
    pub nonce: [u8; 12],
}

/// When one key takes the place of another.
#[derive(Debug, Clone, Copy)]
pub struct KeyRotation {
    /// When the new one begins to sign.
    pub signs_from: DateTime<Utc>,
    /// When the ones before it end, those that don't sooner.
    pub others_expire_at: DateTime<Utc>,
}

/// What became of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRotated {
    /// The new key.
    Rotated(PublishedKey),
    /// One was rotated to already that does not sign yet, and signs no later than the new one would.
    Pending(PublishedKey),
    /// There are [`MAX_SIGNING_KEYS`].
    TooMany,
}

impl Tenant {
    /// The keys that are published at `now`, newest first.
    pub async fn signing_keys(&self, now: DateTime<Utc>) -> Result<Vec<PublishedKey>> {
        let mut transaction = self.begin().await?;
        self.select_keys(&mut transaction, now).await
    }

    async fn select_keys(
        &self,
        connection: &mut PgConnection,
        now: DateTime<Utc>,
    ) -> Result<Vec<PublishedKey>> {
        let rows = sqlx::query_as!(
            KeyRow,
            "select id, public_key, created_at, signs_from, expires_at from signing_keys
             where organization_id = $1 and (expires_at is null or expires_at > $2)
             order by signs_from desc, id desc",
            self.organization.0,
            now
        )
        .fetch_all(connection)
        .await?;
        rows.into_iter().map(KeyRow::decode).collect()
    }

    /// Keeps `new` as the organization's first key, which signs at once; does nothing when there is one.
    pub async fn ensure_signing_key(&self, new: &NewSigningKey<'_>, now: DateTime<Utc>) -> Result<()> {
        let mut transaction = self.begin_change().await?;
        if self.insert_key(&mut transaction, new, now, now).await? {
            transaction.commit_part(&told(new, now, None), now).await?;
        }
        Ok(())
    }

    /// Publishes `new`, which signs from a time on; the keys that are there sign as well until they end. One that would
    /// begin to sign only later is replaced: what was stolen can be withdrawn at any time.
    pub async fn rotate_signing_key(
        &self,
        new: &NewSigningKey<'_>,
        rotation: KeyRotation,
        now: DateTime<Utc>,
    ) -> Result<KeyRotated> {
        let mut transaction = self.begin_change().await?;
        // One rotation at a time: the second one has to see the key of the first.
        self.one_at_a_time(&mut transaction, "signing_keys").await?;
        let newest = sqlx::query_as!(
            KeyRow,
            "select id, public_key, created_at, signs_from, expires_at from signing_keys
             where organization_id = $1 and expires_at is null",
            self.organization.0
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let newest = newest.map(KeyRow::decode).transpose()?;
        let pending = newest.filter(|newest| newest.signs_from > now);
        if let Some(pending) = pending {
            if rotation.signs_from >= pending.signs_from {
                return Ok(KeyRotated::Pending(pending));
            }
            self.delete_key(&mut transaction, pending.id).await?;
        }
        self.retire_keys(&mut transaction, rotation.others_expire_at, now).await?;
        // The first one has nobody to wait for.
        let signs_from = if newest.is_some() { rotation.signs_from } else { now };
        self.insert_key(&mut transaction, new, signs_from, now).await?;
        let keys = self.select_keys(&mut transaction, now).await?;
        match keys.iter().find(|key| key.expires_at.is_none()) {
            Some(key) if keys.len() <= MAX_SIGNING_KEYS => {
                let replaced = pending.map(|pending| pending.id);
                transaction.commit(&told(new, signs_from, replaced), now).await?;
                Ok(KeyRotated::Rotated(*key))
            }
            _ => Ok(KeyRotated::TooMany),
        }
    }

    async fn delete_key(&self, connection: &mut PgConnection, id: SigningKeyId) -> Result<()> {
        sqlx::query!(
            "delete from signing_keys where organization_id = $1 and id = $2",
            self.organization.0,
            id.0
        )
        .execute(connection)
        .await?;
        Ok(())
    }

    async fn retire_keys(
        &self,
        connection: &mut PgConnection,
        expire_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<()> {
        sqlx::query!(
            "update signing_keys set expires_at = least(expires_at, $2) where organization_id = $1",
            self.organization.0,
            expire_at
        )
        .execute(&mut *connection)
        .await?;
        sqlx::query!(
            "delete from signing_keys where organization_id = $1 and expires_at <= $2",
            self.organization.0,
            now
        )
        .execute(connection)
        .await?;
        Ok(())
    }

    /// `false`: there is one already that has no end.
    async fn insert_key(
        &self,
        connection: &mut PgConnection,
        new: &NewSigningKey<'_>,
        signs_from: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let (private, public) = (new.key.to_secret(), new.key.verifying_key());
        let sealed = self.seal(ToSeal { secret: &private, nonce: new.nonce }, new.id.0)?;
        let inserted = sqlx::query!(
            "insert into signing_keys (organization_id, id, public_key, private_key, created_at, signs_from)
             values ($1, $2, $3, $4, $5, $6)
             on conflict (organization_id) where expires_at is null do nothing",
            self.organization.0,
            new.id.0,
            public.0.as_slice(),
            sealed,
            now,
            signs_from
        )
        .execute(connection)
        .await?;
        Ok(inserted.rows_affected() == 1)
    }
}

fn told(new: &NewSigningKey<'_>, signs_from: DateTime<Utc>, replaced: Option<SigningKeyId>) -> Entry {
    let mut made = json!({ "signs_from": signs_from });
    if let Some(replaced) = replaced {
        made["replaces"] = json!(replaced);
    }
    Entry::of(Action::SigningKeyCreated, new.id).after(made)
}

struct KeyRow {
    id: uuid::Uuid,
    public_key: Vec<u8>,
    created_at: DateTime<Utc>,
    signs_from: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
}

impl KeyRow {
    fn decode(self) -> Result<PublishedKey> {
        let row = Row { table: "signing_keys", id: self.id };
        let bytes: std::result::Result<[u8; 32], _> = self.public_key.try_into();
        Ok(PublishedKey {
            id: self.id.into(),
            key: VerifyingKey(row.value("public_key", bytes.map_err(|_| "not 32 bytes"))?),
            created_at: self.created_at,
            signs_from: self.signs_from,
            expires_at: self.expires_at,
        })
    }
}
