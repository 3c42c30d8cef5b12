//! The key pairs that an organization's deliveries are signed with.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use ravenpost_core::ids::{OrganizationId, SigningKeyId};
use ravenpost_core::signature::signing_key::SigningKey;
use uuid::Uuid;

use super::System;
use crate::Result;
use crate::decode::{Damaged, Row};
use crate::lease::bounded;

/// A key pair and when it signs.
#[derive(Debug)]
pub struct OrganizationKey {
    /// Its id.
    pub id: SigningKeyId,
    /// Itself.
    pub key: SigningKey,
    /// It is published earlier.
    pub signs_from: DateTime<Utc>,
    /// When it no longer signs; `None` means never so far.
    pub expires_at: Option<DateTime<Utc>>,
}

/// The keys of an organization, or what is damaged among them: that concerns only who is signed for with keys.
pub(super) type Keys = std::result::Result<Arc<[OrganizationKey]>, Arc<Damaged>>;

impl OrganizationKey {
    /// Whether it signs at `now`.
    pub fn signs_at(&self, now: DateTime<Utc>) -> bool {
        self.signs_from <= now && self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

impl System {
    /// The keys of an organization that have not expired, the one that signs first first.
    pub(super) async fn organization_keys(&self, organization: OrganizationId) -> Result<Keys> {
        let query = sqlx::query_as!(
            StoredKey,
            "select id, private_key, signs_from, expires_at from signing_keys
             where organization_id = $1 and (expires_at is null or expires_at > now()) order by signs_from, id",
            organization.0
        );
        let rows = bounded!(self, query, fetch_all);
        Ok(rows.iter().map(|stored| self.organization_key(stored).map_err(Arc::new)).collect())
    }

    fn organization_key(&self, stored: &StoredKey) -> std::result::Result<OrganizationKey, Damaged> {
        let row = Row { table: "signing_keys", id: stored.id };
        let secret = self.open(row, "private_key", &stored.private_key, stored.id)?;
        Ok(OrganizationKey {
            id: stored.id.into(),
            key: row.value("private_key", SigningKey::from_secret(&secret))?,
            signs_from: stored.signs_from,
            expires_at: stored.expires_at,
        })
    }
}

struct StoredKey {
    id: Uuid,
    private_key: Vec<u8>,
    signs_from: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
}
