//! What a row says, for the audit log: by column, and of what is sealed only a fingerprint of the sealed bytes, which
//! shows that it was changed and nothing else.

use ravenpost_core::ids::OrganizationId;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Result;

/// A row of which table.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Of {
    Endpoint(Uuid),
    Destination(Uuid),
    Channel(Uuid),
    AlertRule(Uuid),
    Alert(Uuid),
}

/// The row as it is now, locked until the transaction ends, so that what was before a change is what was changed.
pub(crate) async fn snapshot(
    connection: &mut PgConnection,
    organization: OrganizationId,
    of: Of,
) -> Result<Option<Value>> {
    match of {
        Of::Endpoint(id) => endpoint(connection, organization, id).await,
        Of::Destination(id) => destination(connection, organization, id).await,
        Of::Channel(id) => channel(connection, organization, id).await,
        Of::AlertRule(id) => alert_rule(connection, organization, id).await,
        Of::Alert(id) => alert(connection, organization, id).await,
    }
}

async fn endpoint(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: Uuid,
) -> Result<Option<Value>> {
    let found = sqlx::query_scalar!(
        r#"select jsonb_build_object('name', name, 'status', status, 'verification', verification,
             'max_body_bytes', max_body_bytes, 'rate_limit', rate_limit, 'content_types', content_types,
             'answer', answer, 'user_id', user_id, 'deleted_at', deleted_at,
             'token', 'sha256:' || left(encode(sha256(convert_to(token, 'UTF8')), 'hex'), 12),
             'secret_key', 'sealed:' || left(encode(sha256(secret_key), 'hex'), 12), 'secret_key_id', secret_key_id)
             as "row!"
         from endpoints where organization_id = $1 and id = $2 for update"#,
        organization.0,
        id
    )
    .fetch_optional(connection)
    .await?;
    Ok(found)
}

async fn destination(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: Uuid,
) -> Result<Option<Value>> {
    let found = sqlx::query_scalar!(
        r#"select jsonb_build_object('endpoint_id', endpoint_id, 'name', name, 'url', url, 'status', status,
             'retry_policy', retry_policy, 'timeout_ms', timeout_ms, 'first_byte_timeout_ms', first_byte_timeout_ms,
             'signing', signing, 'replay_on_recovery', replay_on_recovery, 'filter', filter, 'limits', limits,
             'disable_after_ms', disable_after_ms, 'disabled_reason', disabled_reason, 'disabled_at', disabled_at,
             'deleted_at', deleted_at,
             'signing_secret', 'sealed:' || left(encode(sha256(signing_secret), 'hex'), 12),
             'headers', 'sealed:' || left(encode(sha256(headers), 'hex'), 12),
             'authentication', 'sealed:' || left(encode(sha256(authentication), 'hex'), 12),
             'tls', 'sealed:' || left(encode(sha256(tls), 'hex'), 12)) as "row!"
         from destinations where organization_id = $1 and id = $2 for update"#,
        organization.0,
        id
    )
    .fetch_optional(connection)
    .await?;
    Ok(found)
}

async fn channel(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: Uuid,
) -> Result<Option<Value>> {
    let found = sqlx::query_scalar!(
        r#"select jsonb_build_object('type', type, 'address', address, 'name', name, 'state', state,
             'disabled_reason', disabled_reason, 'config', 'sealed:' || left(encode(sha256(config), 'hex'), 12)) as "row!"
         from channels where organization_id = $1 and id = $2 for update"#,
        organization.0,
        id
    )
    .fetch_optional(connection)
    .await?;
    Ok(found)
}

async fn alert_rule(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: Uuid,
) -> Result<Option<Value>> {
    let found = sqlx::query_scalar!(
        r#"select jsonb_build_object('name', name, 'condition', condition, 'scope', scope, 'severity', severity,
             'cool_down_seconds', cool_down_seconds, 'muted_until', muted_until, 'quiet_from', quiet_from,
             'quiet_to', quiet_to, 'channel_ids', channel_ids, 'enabled', enabled) as "row!"
         from alert_rules where organization_id = $1 and id = $2 for update"#,
        organization.0,
        id
    )
    .fetch_optional(connection)
    .await?;
    Ok(found)
}

async fn alert(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: Uuid,
) -> Result<Option<Value>> {
    let found = sqlx::query_scalar!(
        r#"select jsonb_build_object('rule_name', rule_name, 'severity', severity, 'opened_at', opened_at,
             'acknowledged_at', acknowledged_at, 'muted_until', muted_until, 'resolved_at', resolved_at) as "row!"
         from alerts where organization_id = $1 and id = $2 for update"#,
        organization.0,
        id
    )
    .fetch_optional(connection)
    .await?;
    Ok(found)
}
