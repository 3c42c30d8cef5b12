//! API keys, as far as anybody may see them.

use chrono::{DateTime, Utc};
use ravenpost_core::access::{ApiKey as Key, Scope};
use ravenpost_core::audit::Action;
use ravenpost_core::ids::{ApiKeyId, UserId};
use serde_json::json;
use uuid::Uuid;

use super::members::{Person, person};
use super::{Listed, Page, Tenant};
use crate::Result;
use crate::audit::Entry;
use crate::decode::Row;

/// Most keys of an organization that work.
pub const MAX_API_KEYS: i64 = 100;

/// A key to be kept.
#[derive(Debug)]
pub struct NewApiKey<'a> {
    /// Its id.
    pub id: ApiKeyId,
    /// What it is called.
    pub name: &'a str,
    /// Itself; only its prefix and its hash are stored.
    pub key: &'a Key,
    /// What it may do.
    pub scopes: &'a [Scope],
    /// From when on it is refused.
    pub expires_at: Option<DateTime<Utc>>,
    /// Who makes it; `None` for a program.
    pub created_by: Option<UserId>,
}

/// A key, without what proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// What it is called.
    pub name: String,
    /// What it begins with, after `rvp_`.
    pub prefix: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Who made it; `None` for a program or the operator.
    pub created_by: Option<Person>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// From when on it is refused.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was used last, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
}

impl Tenant {
    /// Keeps a key; `None` when there are [`MAX_API_KEYS`] that work.
    pub async fn create_api_key(&self, new: &NewApiKey<'_>, now: DateTime<Utc>) -> Result<Option<ApiKey>> {
        let scopes: Vec<String> = new.scopes.iter().map(|scope| scope.as_str().to_owned()).collect();
        let mut transaction = self.begin_change().await?;
        self.one_at_a_time(&mut transaction, "api_keys").await?;
        let row = sqlx::query_as!(
            KeyRow,
            r#"with made as (
                 insert into api_keys (organization_id, id, name, prefix, hash, scopes, expires_at, created_by, created_at)
                 select $1, $2, $3, $4, $5, $6, $7, $8, $9
                 where (select count(*) from api_keys where organization_id = $1 and revoked_at is null
                     and (expires_at is null or expires_at > $9)) < $10
                 returning *)
             select k.id, k.name, k.prefix, k.scopes, u.id as "creator?", u.email as creator_email,
                 u.name as creator_name, k.created_at, k.expires_at, k.last_used_at
             from made k left join users u on u.id = k.created_by"#,
            self.organization.0,
            new.id.0,
            new.name,
            new.key.prefix(),
            &new.key.hash()[..],
            &scopes,
            new.expires_at,
            new.created_by.map(|user| user.0),
            now,
            MAX_API_KEYS
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let told = json!({ "name": new.name, "prefix": new.key.prefix(), "scopes": scopes, "expires_at": new.expires_at });
        transaction.commit(&Entry::of(Action::ApiKeyCreated, new.id).after(told), now).await?;
        row.decode().map(Some)
    }

    /// The keys that are not revoked, newest first; also those that have expired.
    pub async fn api_keys(&self, page: Page) -> Result<Listed<ApiKey>> {
        let mut transaction = self.begin().await?;
        let rows = sqlx::query_as!(
            KeyRow,
            r#"select k.id, k.name, k.prefix, k.scopes, u.id as "creator?", u.email as creator_email,
                 u.name as creator_name, k.created_at, k.expires_at, k.last_used_at
             from api_keys k left join users u on u.id = k.created_by
             where k.organization_id = $1 and k.id < $2 and k.revoked_at is null order by k.id desc limit $3"#,
            self.organization.0,
            page.below(),
            page.to_read()
        )
        .fetch_all(&mut *transaction)
        .await?;
        let keys = rows.into_iter().map(KeyRow::decode).collect::<Result<_>>()?;
        Ok(page.cut(keys, |key: &ApiKey| key.id.0))
    }

    /// Refuses a key from now on; `false` when there is none, or none any more.
    pub async fn revoke_api_key(&self, id: ApiKeyId, now: DateTime<Utc>) -> Result<bool> {
        let mut transaction = self.begin_change().await?;
        let revoked = sqlx::query_scalar!(
            r#"update api_keys set revoked_at = $3 where organization_id = $1 and id = $2 and revoked_at is null
             returning jsonb_build_object('name', name, 'prefix', prefix, 'scopes', scopes, 'expires_at', expires_at)
                 as "before!""#,
            self.organization.0,
            id.0,
            now
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(before) = revoked else { return Ok(false) };
        transaction.commit(&Entry::of(Action::ApiKeyRevoked, id).before(before), now).await?;
        Ok(true)
    }
}

struct KeyRow {
    id: Uuid,
    name: String,
    prefix: String,
    scopes: Vec<String>,
    creator: Option<Uuid>,
    creator_email: Option<String>,
    creator_name: Option<String>,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
}

impl KeyRow {
    fn decode(self) -> Result<ApiKey> {
        let row = Row { table: "api_keys", id: self.id };
        let mut scopes = Vec::with_capacity(self.scopes.len());
        for scope in &self.scopes {
            scopes.push(row.word("scopes", scope, Scope::parse)?);
        }
        Ok(ApiKey {
            id: self.id.into(),
            name: self.name,
            prefix: self.prefix,
            scopes,
            created_by: person(self.creator, self.creator_email, self.creator_name),
            created_at: self.created_at,
            expires_at: self.expires_at,
            last_used_at: self.last_used_at,
        })
    }
}
