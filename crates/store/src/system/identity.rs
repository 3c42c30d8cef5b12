//! From an API key's prefix to what proves it, before it is known whose it is.

use chrono::{DateTime, Utc};
use ravenpost_core::access::Scope;
use ravenpost_core::ids::{ApiKeyId, OrganizationId};

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
}

impl System {
    /// The key with that prefix.
    pub async fn api_key(&self, prefix: &str) -> Result<Option<ApiKeyRecord>> {
        let found = bounded!(
            self,
            sqlx::query!(
                "select organization_id, id, hash, scopes, expires_at from api_keys where prefix = $1",
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
        }))
    }
}
