//! Rules of alerts: what the organization wants to be told of.

use std::time::Duration;

use axum::Json as Answer;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use ravenpost_chassis::problem::{Json, Kind, Path, Problem};
use ravenpost_chassis::{clock, random};
use ravenpost_core::alert::rule::{COOL_DOWN, DEFAULT_FAILURES, QuietHours, defaults};
use ravenpost_core::alert::{Condition, Invalid, Rule, RuleKey, Scope, Severity};
use ravenpost_core::duration;
use ravenpost_core::ids::{AlertRuleId, ChannelId};
use ravenpost_store::tenant::{Deleted, MAX_ALERT_RULES, RuleChanged, RuleRefused, StoredRule};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::body::{Patch, TRIES, contended, given, nullable};
use super::{BASE, Failure, checks};
use crate::auth::{AlertsRead, AlertsWrite, Caller};
use crate::conventions::preconditions::{Preconditions, answer, failed};

/// What is a rule's own, and no part of its condition.
const OF_RULE: [&str; 4] = ["cool_down", "quiet_hours", "channels", "scope"];

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
    #[schema(min_length = 1, max_length = 200, example = "Orders fail")]
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

/// What to change; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AlertRuleChange)]
pub(super) struct RuleChangeBody {
    /// What people call it.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = String, min_length = 1, max_length = 200, example = "Orders fail")]
    name: Option<String>,
    /// When it is trouble.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Condition)]
    condition: Option<Condition>,
    /// Of what; null for the whole organization.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Scope>)]
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    scope: Option<Option<Scope>>,
    /// How bad it is; null goes back to `warning`.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Severity>)]
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    severity: Option<Option<Severity>>,
    /// How long the same trouble is not opened again after it was resolved, `0s` to `24h`; null goes back to `5m`.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, example = "5m")]
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    cool_down: Option<Option<String>>,
    /// Nobody is told before then; null for at once.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<DateTime<Utc>>)]
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    muted_until: Option<Option<DateTime<Utc>>>,
    /// Nobody is told in these hours of each day; null for none.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<QuietHours>)]
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    quiet_hours: Option<Option<QuietHours>>,
    /// Who is told; null for all channels.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Vec<ChannelId>>)]
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    channels: Option<Option<Vec<ChannelId>>>,
    /// Whether it counts; null goes back to `true`.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<bool>)]
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    enabled: Option<Option<bool>>,
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
#[utoipa::path(get, path = "/alert-rules", tag = "alerts", operation_id = "list_alert_rules", responses((status = 200, body = RulesBody)))]
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
///
/// It counts within a few seconds.
#[utoipa::path(post, path = "/alert-rules", tag = "alerts", operation_id = "create_alert_rule",
    request_body = NewRuleBody, responses((status = 201, body = RuleBody,
        headers(("Location" = String, description = "Its path."))), (status = 409)))]
pub(super) async fn create(
    caller: Caller<AlertsWrite>,
    Json(body): Json<NewRuleBody>,
) -> Result<impl IntoResponse, Failure> {
    let now = clock::now();
    let id = AlertRuleId::new(now, random::bytes());
    let rule = body.check(id)?;
    let made = caller.tenant.create_alert_rule(id, &rule, now).await?.map_err(refused)?;
    let location = format!("{BASE}/alert-rules/{id}");
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Answer(RuleBody::from(made))))
}

/// Get a rule of alerts.
#[utoipa::path(get, path = "/alert-rules/{rule_id}", tag = "alerts", operation_id = "get_alert_rule",
    params(RulePath), responses((status = 200, body = RuleBody), (status = 304)))]
pub(super) async fn get(
    caller: Caller<AlertsRead>,
    Path(path): Path<RulePath>,
    preconditions: Preconditions,
) -> Result<Response, Failure> {
    let rule = caller.tenant.alert_rule(path.rule_id).await?.ok_or_else(missing)?;
    Ok(preconditions.answer(rule.version, &RuleBody::from(rule)))
}

/// Change a rule of alerts.
///
/// It counts within a few seconds. What is switched off or replaced by it, or asked no more, has its open alerts resolved;
/// pagers alone are told of that.
#[utoipa::path(patch, path = "/alert-rules/{rule_id}", tag = "alerts", operation_id = "change_alert_rule",
    params(RulePath), request_body = RuleChangeBody,
    responses((status = 200, body = RuleBody), (status = 409), (status = 412)))]
pub(super) async fn change(
    caller: Caller<AlertsWrite>,
    Path(path): Path<RulePath>,
    preconditions: Preconditions,
    asked: Patch<RuleChangeBody>,
) -> Result<Response, Failure> {
    let demanded = preconditions.version()?;
    for _ in 0..TRIES {
        let present = caller.tenant.alert_rule(path.rule_id).await?.ok_or_else(missing)?;
        let version = present.version;
        if demanded.is_some_and(|demanded| demanded != version) {
            return Err(failed("alert rule").into());
        }
        let (body, merged) = asked.of(&RuleBody::from(present))?;
        let (if_version, cool_down) = (demanded.or(merged.then_some(version)), body.check()?);
        let change = |present: Rule| {
            let rule = body.apply(present, cool_down);
            rule.check().map(|()| rule)
        };
        return match caller.tenant.change_alert_rule(path.rule_id, if_version, change, clock::now()).await? {
            RuleChanged::Changed(rule) => Ok(answer(rule.version, &RuleBody::from(*rule))),
            RuleChanged::Missing => Err(missing().into()),
            RuleChanged::Stale if demanded.is_none() => continue,
            RuleChanged::Stale => Err(failed("alert rule").into()),
            RuleChanged::Refused(why) => Err(refused(why).into()),
        };
    }
    Err(contended("alert rule").into())
}

/// Delete a rule of alerts.
///
/// Its open alerts are resolved; pagers alone are told of that.
#[utoipa::path(delete, path = "/alert-rules/{rule_id}", tag = "alerts", operation_id = "delete_alert_rule",
    params(RulePath), responses((status = 204), (status = 412)))]
pub(super) async fn delete(
    caller: Caller<AlertsWrite>,
    Path(path): Path<RulePath>,
    preconditions: Preconditions,
) -> Result<StatusCode, Failure> {
    match caller.tenant.delete_alert_rule(path.rule_id, preconditions.version()?, clock::now()).await? {
        Deleted::Deleted => Ok(StatusCode::NO_CONTENT),
        Deleted::Missing => Err(missing().into()),
        Deleted::Stale => Err(failed("alert rule").into()),
    }
}

impl NewRuleBody {
    fn check(self, id: AlertRuleId) -> Result<Rule, Problem> {
        checks::all! {
            _name = checks::name("name", &self.name);
            cool_down = self.cool_down.as_deref().map(cool_down).transpose();
        }
        let rule = Rule {
            key: RuleKey::Own(id),
            name: self.name,
            condition: self.condition,
            scope: self.scope.unwrap_or(Scope::Organization {}),
            severity: self.severity.unwrap_or(Severity::Warning),
            cool_down: cool_down.unwrap_or(COOL_DOWN),
            muted_until: self.muted_until,
            quiet_hours: self.quiet_hours,
            channels: self.channels,
            enabled: self.enabled.unwrap_or(true),
        };
        rule.check().map_err(invalid)?;
        Ok(rule)
    }
}

impl RuleChangeBody {
    /// The new cool-down, when what stands alone is acceptable.
    fn check(&self) -> Result<Option<Duration>, Problem> {
        let given = self.cool_down.as_ref().map(|text| text.as_deref().map_or(Ok(COOL_DOWN), cool_down));
        checks::all! {
            _name = self.name.as_deref().map(|name| checks::name("name", name)).transpose();
            cool_down = given.transpose();
        }
        Ok(cool_down)
    }

    fn apply(self, present: Rule, cool_down: Option<Duration>) -> Rule {
        Rule {
            key: present.key,
            name: self.name.unwrap_or(present.name),
            condition: self.condition.unwrap_or(present.condition),
            scope: self.scope.map_or(present.scope, |scope| scope.unwrap_or(Scope::Organization {})),
            severity: self
                .severity
                .map_or(present.severity, |severity| severity.unwrap_or(Severity::Warning)),
            cool_down: cool_down.unwrap_or(present.cool_down),
            muted_until: self.muted_until.unwrap_or(present.muted_until),
            quiet_hours: self.quiet_hours.unwrap_or(present.quiet_hours),
            channels: self.channels.unwrap_or(present.channels),
            enabled: self.enabled.map_or(present.enabled, |enabled| enabled.unwrap_or(true)),
        }
    }
}

fn cool_down(text: &str) -> Result<Duration, Problem> {
    duration::parse(text).map_err(|error| Problem::invalid_field("cool_down", error.to_string()))
}

fn invalid(invalid: Invalid) -> Problem {
    let within = if OF_RULE.contains(&invalid.field) { "" } else { "condition." };
    Problem::invalid_field(format!("{within}{}", invalid.field), invalid.message)
}

fn refused(why: RuleRefused) -> Problem {
    match why {
        RuleRefused::Invalid(why) => invalid(why),
        RuleRefused::NoChannel(id) => Problem::invalid_field("channels", format!("there is no channel {id}")),
        RuleRefused::NoEndpoint(id) => {
            Problem::invalid_field("scope.id", format!("there is no endpoint {id}"))
        }
        RuleRefused::NoDestination(id) => {
            Problem::invalid_field("scope.id", format!("there is no destination {id}"))
        }
        RuleRefused::TooMany => {
            let detail =
                format!("there are {MAX_ALERT_RULES} rules, which is the most: delete one that nobody needs");
            Problem::new(Kind::Conflict, detail)
        }
    }
}

fn missing() -> Problem {
    Problem::not_found("alert rule")
}
