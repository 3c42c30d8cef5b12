//! Adding to the audit log, within the transaction of the change that it tells of.

mod snapshot;

use chrono::{DateTime, Utc};
use ravenpost_core::audit::{Action, Author};
use ravenpost_core::ids::OrganizationId;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Result;
pub(crate) use snapshot::{Of, snapshot};

/// What the log is to say of a change.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    action: Action,
    resource: Option<Uuid>,
    before: Option<Value>,
    after: Option<Value>,
}

impl Entry {
    /// That it was done, to nothing in particular.
    pub(crate) fn new(action: Action) -> Self {
        Self { action, resource: None, before: None, after: None }
    }

    /// That it was done to the resource of that id.
    pub(crate) fn of(action: Action, resource: impl Into<Uuid>) -> Self {
        Self { resource: Some(resource.into()), ..Self::new(action) }
    }

    /// What it was, without secrets.
    pub(crate) fn before(self, before: impl Into<Option<Value>>) -> Self {
        Self { before: before.into(), ..self }
    }

    /// What it is, without secrets.
    pub(crate) fn after(self, after: impl Into<Option<Value>>) -> Self {
        Self { after: after.into(), ..self }
    }
}

/// Adds a row. From here to the commit nobody else adds one to the organization's log, so this comes last.
pub(crate) async fn append(
    connection: &mut PgConnection,
    organization: OrganizationId,
    author: &Author,
    entry: &Entry,
    now: DateTime<Utc>,
) -> Result<()> {
    let (actor_type, actor_id) = author.who.parts();
    sqlx::query!(
        r#"select append_audit($1, $2, $3, $4, $5, $6, $7, $8::text::json, $9::text::json) as "sequence!""#,
        organization.0,
        now,
        actor_type,
        actor_id,
        author.address.map(|address| address.to_string()),
        entry.action.as_str(),
        entry.resource,
        entry.before.as_ref().map(Value::to_string),
        entry.after.as_ref().map(Value::to_string)
    )
    .fetch_one(connection)
    .await?;
    Ok(())
}
