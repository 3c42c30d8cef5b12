//! Rules of alerts: what the organization wants to be told of.

use std::time::Duration;

use axum::Json as Answer;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use ravenpost_chassis::problem::{Json, Kind, Path, Problem};
use ravenpost_chassis::{clock, random};
use ravenpost_core::alert::rule::{COOL_DOWN, DEFAULT_FAILURES, QuietHours, defaults};
use ravenpost_core::alert::{Condition, Rule, RuleKey, Scope, Severity};
use ravenpost_core::duration;
use ravenpost_core::ids::{AlertRuleId, ChannelId};
use ravenpost_store::tenant::StoredRule;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{BASE, Failure, checks};
use crate::auth::{AlertsRead, AlertsWrite, Caller};

/// The path of one rule.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct RulePath {
    /// The rule's id.
    rule_id: AlertRuleId,
}

/// A rule as it is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewAlertRule)]
pub(super) struct NewRuleBody {
    /// What people call it.
    #[schema(example = "Orders fail")]
    name: String,
    /// When it is trouble.
    condition: Condition,
    /// Of what; the whole organization unless it is given. A rule of the whole organization replaces the default of its
    /// condition.
    scope: Option<Scope>,
    /// How bad it is; `warning` unless it is given.
    severity: Option<Severity>,
    /// How long the same trouble is not opened again after it was resolved, `0s` to `24h`; `5m` unless it is given.
    #[schema(example = "5m")]
    cool_down: Option<String>,
    /// Nobody is told before then. Alerts that are open then are told.
    muted_until: Option<DateTime<Utc>>,
    /// Nobody is told in these hours of each day. Alerts that are open afterwards are told.
    quiet_hours: Option<QuietHours>,
    /// Who is told; all channels unless it is given.
    channels: Option<Vec<ChannelId>>,
    /// Whether it counts; `true` unless it is given. A rule of the whole organization that does not switches off the default of
    /// its condition.
    enabled: Option<bool>,
}

/// What the organization wants to be told of.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AlertRule)]
pub(super) struct RuleBody {
    /// Its id; null of a default.
    #[schema(required = true)]
    id: Option<AlertRuleId>,
    /// What people call it.
    name: String,
    /// When it is trouble.
    condition: Condition,
    /// Of what.
    scope: Scope,
    /// How bad it is.
    severity: Severity,
    /// How long the same trouble is not opened again.
    #[schema(example = "5m")]
    cool_down: String,
    /// Nobody is told before then.
    #[schema(required = true)]
    muted_until: Option<DateTime<Utc>>,
    /// Nobody is told in these hours.
    #[schema(required = true)]
    quiet_hours: Option<QuietHours>,
    /// Who is told; null for all.
    #[schema(required = true)]
    channels: Option<Vec<ChannelId>>,
    /// Whether it counts. A default does not when a rule replaces it.
    enabled: bool,
    /// When it was made; null of a default.
    #[schema(required = true)]
    created_at: Option<DateTime<Utc>>,
    /// When it was last changed; null of a default.
    #[schema(required = true)]
    updated_at: Option<DateTime<Utc>>,
}

/// All rules.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AlertRules)]
pub(super) struct RulesBody {
    /// Those of the organization, oldest first.
    data: Vec<RuleBody>,
    /// Those of everybody who sets nothing. The operator may have set another number of failures in a row.
    defaults: Vec<RuleBody>,
}

impl RuleBody {
    fn new(rule: Rule) -> Self {
        Self {
            id: match rule.key {
                RuleKey::Own(id) => Some(id),
                RuleKey::Default(_) => None,
            },
            name: rule.name,
            condition: rule.condition,
            scope: rule.scope,
            severity: rule.severity,
            cool_down: duration::format(rule.cool_down),
            muted_until: rule.muted_until,
            quiet_hours: rule.quiet_hours,
            channels: rule.channels,
            enabled: rule.enabled,
            created_at: None,
            updated_at: None,
        }
    }
}

impl From<StoredRule> for RuleBody {
    fn from(stored: StoredRule) -> Self {
        Self {
            created_at: Some(stored.created_at),
            updated_at: Some(stored.updated_at),
            ..Self::new(stored.rule)
        }
    }
}

/// List rules of alerts, and the defaults.
#[utoipa::path(get, path = "/alert-rules", tag = "alerts", operation_id = "list_alert_rules",
    security(("api_key" = ["alerts:read"])), responses((status = 200, body = RulesBody)))]
pub(super) async fn list(caller: Caller<AlertsRead>) -> Result<Answer<RulesBody>, Failure> {
    let own = caller.tenant.alert_rules().await?;
    let replaced = |default: &Rule| {
        own.iter().any(|stored| {
            stored.rule.condition.name() == default.condition.name()
                && stored.rule.scope == (Scope::Organization {})
        })
    };
    let defaults = defaults(DEFAULT_FAILURES).into_iter();
    let defaults =
        defaults.map(|default| RuleBody::new(Rule { enabled: !replaced(&default), ..default })).collect();
    Ok(Answer(RulesBody { defaults, data: own.into_iter().map(RuleBody::from).collect() }))
}

/// Create a rule of alerts.
#[utoipa::path(post, path = "/alert-rules", tag = "alerts", operation_id = "create_alert_rule",
    request_body = NewRuleBody, security(("api_key" = ["alerts:write"])),
    responses((status = 201, body = RuleBody, headers(("Location" = String, description = "Its path."))),
        (status = 409)))]
pub(super) async fn create(
    caller: Caller<AlertsWrite>,
    Json(body): Json<NewRuleBody>,
) -> Result<impl IntoResponse, Failure> {
    let id = AlertRuleId::new(clock::now(), random::bytes());
    let rule = put(&caller, id, body).await?;
    let location = format!("{BASE}/alert-rules/{id}");
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Answer(rule)))
}

/// Get a rule of alerts.
#[utoipa::path(get, path = "/alert-rules/{rule_id}", tag = "alerts", operation_id = "get_alert_rule",
    params(RulePath), security(("api_key" = ["alerts:read"])), responses((status = 200, body = RuleBody)))]
pub(super) async fn get(
    caller: Caller<AlertsRead>,
    Path(path): Path<RulePath>,
) -> Result<Answer<RuleBody>, Failure> {
    let rule = caller.tenant.alert_rule(path.rule_id).await?;
    Ok(Answer(rule.ok_or_else(|| Problem::not_found("alert rule"))?.into()))
}

/// Replace a rule of alerts.
///
/// What is left out is as if it were new. It counts within a few seconds.
#[utoipa::path(put, path = "/alert-rules/{rule_id}", tag = "alerts", operation_id = "replace_alert_rule",
    params(RulePath), request_body = NewRuleBody, security(("api_key" = ["alerts:write"])),
    responses((status = 200, body = RuleBody)))]
pub(super) async fn replace(
    caller: Caller<AlertsWrite>,
    Path(path): Path<RulePath>,
    Json(body): Json<NewRuleBody>,
) -> Result<Answer<RuleBody>, Failure> {
    if caller.tenant.alert_rule(path.rule_id).await?.is_none() {
        return Err(Problem::not_found("alert rule").into());
    }
    Ok(Answer(put(&caller, path.rule_id, body).await?))
}

/// Delete a rule of alerts.
///
/// Its open alerts are resolved; nobody is told of that.
#[utoipa::path(delete, path = "/alert-rules/{rule_id}", tag = "alerts", operation_id = "delete_alert_rule",
    params(RulePath), security(("api_key" = ["alerts:write"])), responses((status = 204)))]
pub(super) async fn delete(
    caller: Caller<AlertsWrite>,
    Path(path): Path<RulePath>,
) -> Result<StatusCode, Failure> {
    let deleted = caller.tenant.delete_alert_rule(path.rule_id).await?;
    if deleted { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::not_found("alert rule").into()) }
}

async fn put(caller: &Caller<AlertsWrite>, id: AlertRuleId, body: NewRuleBody) -> Result<RuleBody, Failure> {
    let rule = checked(id, body)?;
    for channel in rule.channels.iter().flatten() {
        if caller.tenant.channel(*channel).await?.is_none() {
            let message = format!("there is no channel {channel}");
            return Err(Problem::invalid_field("channels", message).into());
        }
    }
    if let Scope::Endpoint { id } = rule.scope
        && caller.tenant.endpoint(id).await?.is_none()
    {
        return Err(Problem::invalid_field("scope.id", format!("there is no endpoint {id}")).into());
    }
    if !caller.tenant.put_alert_rule(id, &rule).await? {
        return Err(Problem::new(Kind::Conflict, "there are as many rules as there may be").into());
    }
    let stored = caller.tenant.alert_rule(id).await?;
    Ok(stored.ok_or_else(|| Problem::not_found("alert rule"))?.into())
}

fn checked(id: AlertRuleId, body: NewRuleBody) -> Result<Rule, Problem> {
    checks::name("name", &body.name)?;
    let cool_down = body.cool_down.as_deref().map_or(Ok::<Duration, _>(COOL_DOWN), duration::parse);
    let rule = Rule {
        key: RuleKey::Own(id),
        name: body.name,
        condition: body.condition,
        scope: body.scope.unwrap_or(Scope::Organization {}),
        severity: body.severity.unwrap_or(Severity::Warning),
        cool_down: cool_down.map_err(|error| Problem::invalid_field("cool_down", error.to_string()))?,
        muted_until: body.muted_until,
        quiet_hours: body.quiet_hours,
        channels: body.channels,
        enabled: body.enabled.unwrap_or(true),
    };
    let of_rule = ["cool_down", "quiet_hours", "channels", "scope"];
    rule.check().map_err(|invalid| {
        let within = if of_rule.contains(&invalid.field) { "" } else { "condition." };
        Problem::invalid_field(format!("{within}{}", invalid.field), invalid.message)
    })?;
    Ok(rule)
}
