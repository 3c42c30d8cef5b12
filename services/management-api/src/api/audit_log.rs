//! The audit log: who changed what.

use axum::Json as Answer;
use chrono::{DateTime, Utc};
use ravenpost_chassis::problem::{Problem, Query};
use ravenpost_core::access::{decode_cursor, encode_cursor};
use ravenpost_core::audit::Action;
use ravenpost_store::tenant::{AuditFilter, AuditPage, AuditRow};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::Failure;
use super::page::{List, limit, some};
use crate::auth::{AuditRead, Caller};

/// Which changes to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// Made by this API key or user.
    #[param(value_type = Option<String>, format = Uuid)]
    actor_id: Option<Uuid>,
    /// Of this kind.
    #[param(inline)]
    action: Option<Action>,
    /// Made to this resource.
    #[param(value_type = Option<String>, format = Uuid)]
    resource_id: Option<Uuid>,
    /// At or after (RFC 3339).
    from: Option<DateTime<Utc>>,
    /// Before (RFC 3339).
    until: Option<DateTime<Utc>>,
    /// Most entries of the page.
    #[param(minimum = 1, maximum = 250, default = 50)]
    limit: Option<u16>,
    /// The `next` of the page before; absent for the first one.
    next: Option<String>,
}

/// Which kind of author.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AuditActorType)]
pub(super) enum ActorType {
    /// A program, by its API key.
    ApiKey,
    /// A person who has logged in.
    User,
    /// The operator, by a command.
    Operator,
    /// Ravenpost itself.
    System,
}

/// Who made a change.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditActor)]
pub(super) struct ActorBody {
    /// Which kind.
    #[serde(rename = "type")]
    kind: ActorType,
    /// Which API key or user; null for the others.
    #[schema(required = true, value_type = Option<String>, format = Uuid)]
    id: Option<Uuid>,
}

/// A change that was made.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub(super) struct EntryBody {
    /// Its place in the log, from 1 on without a gap.
    sequence: i64,
    /// When.
    at: DateTime<Utc>,
    /// By whom.
    actor: ActorBody,
    /// From which address; null where none is known.
    #[schema(required = true, example = "203.0.113.7")]
    address: Option<String>,
    /// What was done.
    action: Action,
    /// To what; null where it was several things at once.
    #[schema(required = true, value_type = Option<String>, format = Uuid)]
    resource_id: Option<Uuid>,
    /// What it was, by the names under which it is stored. Of what is secret there is only a fingerprint of its sealed
    /// form, which shows that it was changed. Null where there was nothing.
    #[schema(required = true, value_type = Option<Object>)]
    before: Option<Value>,
    /// What it is.
    #[schema(required = true, value_type = Option<Object>)]
    after: Option<Value>,
    /// SHA-256 over the hash of the entry before and this entry, in hexadecimal.
    hash: String,
}

impl From<AuditRow> for EntryBody {
    fn from(row: AuditRow) -> Self {
        let kind = match row.actor_type.as_str() {
            "api_key" => ActorType::ApiKey,
            "user" => ActorType::User,
            "operator" => ActorType::Operator,
            _ => ActorType::System,
        };
        Self {
            sequence: row.sequence,
            at: row.at,
            actor: ActorBody { kind, id: row.actor_id },
            address: row.address,
            action: row.action,
            resource_id: row.resource_id,
            before: row.before,
            after: row.after,
            hash: hex::encode(row.hash),
        }
    }
}

impl AuditQuery {
    fn page(&self) -> Result<AuditPage, Problem> {
        let cursor = |text: &str| {
            let place = decode_cursor(text).and_then(|id| i64::try_from(id.as_u128()).ok());
            place.ok_or_else(|| Problem::invalid_parameter("next", "not a cursor of ours"))
        };
        Ok(AuditPage { below: self.next.as_deref().map(cursor).transpose()?, limit: limit(self.limit)? })
    }
}

/// List changes.
///
/// Who changed what in the organization, newest first: by the API, by the operator's commands, and by Ravenpost itself. Each
/// entry is chained to the one before by its hash.
#[utoipa::path(get, path = "/audit-log", tag = "audit log", operation_id = "list_audit_log", params(AuditQuery),
    security(("api_key" = ["audit:read"])), responses((status = 200, body = List<EntryBody>)))]
pub(super) async fn list(
    caller: Caller<AuditRead>,
    Query(query): Query<AuditQuery>,
) -> Result<Answer<List<EntryBody>>, Failure> {
    let page = query.page()?;
    let filter = AuditFilter {
        actor_id: query.actor_id,
        action: query.action,
        resource_id: query.resource_id,
        from: query.from,
        until: query.until,
    };
    let (rows, next) = caller.tenant.audit_log(&filter, page).await?;
    let next = next.and_then(|place| u128::try_from(place).ok());
    let next = next.map(|place| encode_cursor(Uuid::from_u128(place)));
    Ok(Answer(some(rows.into_iter().map(EntryBody::from), next)))
}
