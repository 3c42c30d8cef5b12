//! From an API key's prefix to what proves it, before it is known whose it is.

use chrono::{DateTime, Utc};
use ravenpost_core::access::Scope;
use ravenpost_core::ids::{ApiKeyId, OrganizationId};
use uuid::Uuid;

use super::System;
use crate::Result;
use crate::decode::Row;
use crate::lease::bounded;

/// A stored API key.
#[derive(Debug, Clone)]
pub struct ApiKeyRecord {
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// Its row.
    pub id: ApiKeyId,
    /// SHA-256 of the whole key.
    pub hash: Vec<u8>,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// From when on it is refused.
    pub expires_at: Option<DateTime<Utc>>,
    /// Since when it is refused for good.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// When a key was used last; a whole minute.
#[derive(Debug, Clone, Copy)]
pub struct ApiKeyUse {
    /// Which key.
    pub id: ApiKeyId,
    /// When.
    pub at: DateTime<Utc>,
}

impl System {
    /// The key with that prefix, also when it is revoked.
    pub async fn api_key(&self, prefix: &str) -> Result<Option<ApiKeyRecord>> {
        let found = bounded!(
            self,
            sqlx::query!(
                "select organization_id, id, hash, scopes, expires_at, revoked_at from api_keys where prefix = $1",
                prefix
            ),
            fetch_optional
        );
        let Some(found) = found else { return Ok(None) };
        let row = Row { table: "api_keys", id: found.id };
        let mut scopes = Vec::with_capacity(found.scopes.len());
        for scope in &found.scopes {
            scopes.push(row.word("scopes", scope, Scope::parse)?);
        }
        Ok(Some(ApiKeyRecord {
            organization_id: found.organization_id.into(),
            id: found.id.into(),
            hash: found.hash,
            scopes,
            expires_at: found.expires_at,
            revoked_at: found.revoked_at,
        }))
    }

    /// Notes when keys were used last. By whole minutes, each is written once a minute, however many processes note it.
    pub async fn note_api_key_uses(&self, uses: &[ApiKeyUse]) -> Result<()> {
        let ids: Vec<Uuid> = uses.iter().map(|used| used.id.0).collect();
        let moments: Vec<DateTime<Utc>> = uses.iter().map(|used| used.at).collect();
        bounded!(
            self,
            sqlx::query!(
                "update api_keys k set last_used_at = used.at
                 from unnest($1::uuid[], $2::timestamptz[]) used (id, at)
                 where k.id = used.id and (k.last_used_at is null or k.last_used_at < used.at)",
                &ids,
                &moments
            ),
            execute
        );
        Ok(())
    }
}
