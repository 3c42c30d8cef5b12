//! The audit log, as its organization reads it.

use chrono::{DateTime, Utc};
use ravenpost_core::audit::Action;
use serde_json::Value;
use uuid::Uuid;

use super::Tenant;
use crate::Result;
use crate::decode::Row;

/// A change that was made.
#[derive(Debug, Clone)]
pub struct AuditRow {
    /// Its place in the organization's log, from 1 on without a gap.
    pub sequence: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// Which kind of author: `api_key`, `user`, `operator` or `system`.
    pub actor_type: String,
    /// Which API key or user.
    pub actor_id: Option<Uuid>,
    /// From which address.
    pub address: Option<String>,
    /// What was done.
    pub action: Action,
    /// To what.
    pub resource_id: Option<Uuid>,
    /// What it was.
    pub before: Option<Value>,
    /// What it is.
    pub after: Option<Value>,
    /// What chains it to the row before.
    pub hash: Vec<u8>,
}

/// Which rows; what is `None` does not matter.
#[derive(Debug, Clone, Copy, Default)]
pub struct AuditFilter {
    /// By this API key or user.
    pub actor_id: Option<Uuid>,
    /// Of this kind.
    pub action: Option<Action>,
    /// Of this resource.
    pub resource_id: Option<Uuid>,
    /// At this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Before this time.
    pub until: Option<DateTime<Utc>>,
}

/// Which part of the log.
#[derive(Debug, Clone, Copy)]
pub struct AuditPage {
    /// Rows below this place; `None` begins at the newest.
    pub below: Option<i64>,
    /// Most rows.
    pub limit: u16,
}

struct StoredRow {
    sequence: i64,
    at: DateTime<Utc>,
    actor_type: String,
    actor_id: Option<Uuid>,
    address: Option<String>,
    action: String,
    resource_id: Option<Uuid>,
    before: Option<Value>,
    after: Option<Value>,
    hash: Vec<u8>,
}

/// The condition says which index is read; what else the filter wants is asked of each row.
macro_rules! select_log {
    ($condition:literal, $organization:expr, $filter:expr, $page:expr) => {
        sqlx::query_as!(
            StoredRow,
            "select sequence, at, actor_type, actor_id, address, action, resource_id, before, after, hash
             from audit_log where organization_id = $1 and sequence < $2 and "
                + $condition
                + " and ($4::uuid is null or actor_id = $4) and ($5::text is null or action = $5)
                 and ($6::uuid is null or resource_id = $6) and ($7::timestamptz is null or at >= $7)
                 and ($8::timestamptz is null or at < $8)
             order by sequence desc limit $3",
            $organization,
            $page.below.unwrap_or(i64::MAX),
            i64::from($page.limit) + 1,
            $filter.actor_id,
            $filter.action.map(Action::as_str),
            $filter.resource_id,
            $filter.from,
            $filter.until
        )
    };
}

impl Tenant {
    /// The log, newest first, and below which row the next page begins.
    pub async fn audit_log(
        &self,
        filter: &AuditFilter,
        page: AuditPage,
    ) -> Result<(Vec<AuditRow>, Option<i64>)> {
        let mut transaction = self.begin().await?;
        let organization = self.organization.0;
        let rows = match filter {
            AuditFilter { resource_id: Some(_), .. } => {
                select_log!("resource_id = $6", organization, filter, page)
                    .fetch_all(&mut *transaction)
                    .await?
            }
            AuditFilter { actor_id: Some(_), .. } => {
                select_log!("actor_id = $4", organization, filter, page).fetch_all(&mut *transaction).await?
            }
            AuditFilter { action: Some(_), .. } => {
                select_log!("action = $5", organization, filter, page).fetch_all(&mut *transaction).await?
            }
            AuditFilter { .. } => {
                select_log!("true", organization, filter, page).fetch_all(&mut *transaction).await?
            }
        };
        let more = rows.len() > usize::from(page.limit);
        let rows: Vec<_> = rows
            .into_iter()
            .take(page.limit.into())
            .map(|stored| self.decode_audit(stored))
            .collect::<Result<_>>()?;
        let next = rows.last().map(|row| row.sequence).filter(|_| more);
        Ok((rows, next))
    }

    fn decode_audit(&self, stored: StoredRow) -> Result<AuditRow> {
        let row = Row { table: "audit_log", id: self.organization.0 };
        Ok(AuditRow {
            sequence: stored.sequence,
            at: stored.at,
            actor_type: stored.actor_type,
            actor_id: stored.actor_id,
            address: stored.address,
            action: row.word("action", &stored.action, Action::parse)?,
            resource_id: stored.resource_id,
            before: stored.before,
            after: stored.after,
            hash: stored.hash,
        })
    }
}
