//! Whether the audit log is whole: each organization's chain, walked from its first row to its head.

use chrono::{DateTime, Utc};
use ravenpost_core::audit::{Broken, Chain, Content, Head};
use ravenpost_core::ids::OrganizationId;
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::System;
use crate::Result;
use crate::decode::Row;
use crate::lease::bounded;

/// How many rows are read at once.
const PAGE: i64 = 1_000;

/// What became of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// How far the chain is whole.
    pub reached: Head,
    /// Where it is broken first.
    pub broken: Option<Broken>,
}

struct StoredRow {
    sequence: i64,
    at: DateTime<Utc>,
    actor_type: String,
    actor_id: Option<Uuid>,
    address: Option<String>,
    action: String,
    resource_id: Option<Uuid>,
    before: Option<String>,
    after: Option<String>,
    hash: Vec<u8>,
}

impl StoredRow {
    fn content(&self, organization: OrganizationId) -> Content<'_> {
        Content {
            organization,
            sequence: self.sequence,
            at: self.at,
            actor_type: &self.actor_type,
            actor_id: self.actor_id,
            address: self.address.as_deref(),
            action: &self.action,
            resource_id: self.resource_id,
            before: self.before.as_deref(),
            after: self.after.as_deref(),
        }
    }
}

impl System {
    /// The organizations that have rows, a head, or could have them: also those that are gone but for their rows.
    pub async fn audited(&self) -> Result<Vec<OrganizationId>> {
        let organizations = bounded!(
            self,
            sqlx::query_scalar!(
                r#"select id as "id!" from organizations union select organization_id from audit_heads
                 union select organization_id from audit_log order by 1"#
            ),
            fetch_all
        );
        Ok(organizations.into_iter().map(OrganizationId).collect())
    }

    /// Walks an organization's chain as of one moment, whatever is added meanwhile.
    pub async fn verify_audit(&self, organization: OrganizationId) -> Result<Verified> {
        let mut transaction =
            self.pool.begin_with("begin isolation level repeatable read, read only").await?;
        let head = head(&mut transaction, organization).await?;
        let mut chain = Chain::default();
        loop {
            let rows = page(&mut transaction, organization, chain.reached().sequence).await?;
            let last = i64::try_from(rows.len()).is_ok_and(|rows| rows < PAGE);
            for row in &rows {
                if let Err(broken) = chain.take(&row.content(organization), &row.hash) {
                    return Ok(Verified { reached: chain.reached(), broken: Some(broken) });
                }
            }
            if last {
                return Ok(Verified { reached: chain.reached(), broken: chain.end(head).err() });
            }
        }
    }
}

async fn head(
    transaction: &mut Transaction<'static, Postgres>,
    organization: OrganizationId,
) -> Result<Option<Head>> {
    let found =
        sqlx::query!("select sequence, hash from audit_heads where organization_id = $1", organization.0)
            .fetch_optional(&mut **transaction)
            .await?;
    let Some(found) = found else { return Ok(None) };
    let row = Row { table: "audit_heads", id: organization.0 };
    let hash = row.value("hash", found.hash.try_into().map_err(|_| "not 32 bytes"))?;
    Ok(Some(Head { sequence: found.sequence, hash }))
}

/// The rows after that place: those that a chain can't have, of place 0 and below, come first and break it.
async fn page(
    transaction: &mut Transaction<'static, Postgres>,
    organization: OrganizationId,
    reached: i64,
) -> Result<Vec<StoredRow>> {
    let after = if reached == 0 { i64::MIN } else { reached };
    let rows = sqlx::query_as!(
        StoredRow,
        "select sequence, at, actor_type, actor_id, address, action, resource_id, before::text as before,
             after::text as after, hash
         from audit_log where organization_id = $1 and sequence > $2 order by sequence limit $3",
        organization.0,
        after,
        PAGE
    )
    .fetch_all(&mut **transaction)
    .await?;
    Ok(rows)
}
