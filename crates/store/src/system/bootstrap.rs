//! The first organization and its key, made by the operator.

use ravenpost_core::access::{ApiKey, Scope};
use ravenpost_core::ids::{ApiKeyId, OrganizationId};

use super::System;
use crate::Result;
use crate::lease::bounded;

/// What to make.
#[derive(Debug)]
pub struct Bootstrapped<'a> {
    /// The organization's id.
    pub organization_id: OrganizationId,
    /// Its name.
    pub name: &'a str,
    /// The key's row.
    pub api_key_id: ApiKeyId,
    /// The key; only its hash is stored.
    pub api_key: &'a ApiKey,
}

impl System {
    /// Makes an organization with one API key that carries every scope.
    pub async fn bootstrap(&self, new: &Bootstrapped<'_>) -> Result<()> {
        let scopes: Vec<String> = Scope::ALL.iter().map(|scope| scope.as_str().to_owned()).collect();
        bounded!(
            self,
            sqlx::query!(
                r#"with organization as (insert into organizations (id, name) values ($1, $2) returning id),
             key as (insert into api_keys (organization_id, id, name, prefix, hash, scopes)
                 select id, $3, 'bootstrap', $4, $5, $6 from organization returning id)
             select append_audit($1, now(), 'operator', null, null, 'organization.created', $1, null, json_build_object(
                 'name', $2::text, 'api_key_id', id, 'scopes', $6::text[])) as "sequence!" from key"#,
                new.organization_id.0,
                new.name,
                new.api_key_id.0,
                new.api_key.prefix(),
                &new.api_key.hash()[..],
                &scopes
            ),
            fetch_one
        );
        Ok(())
    }
}
