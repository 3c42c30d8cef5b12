//! What the organization wants to be told of.

use chrono::{DateTime, Utc};
use ravenpost_core::alert::{Invalid, Rule, RuleKey, Scope};
use ravenpost_core::audit::Action;
use ravenpost_core::ids::{AlertRuleId, ChannelId, DestinationId, EndpointId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Deleted, Tenant};
use crate::Result;
use crate::alert_rule::{RuleRow, decode};
use crate::audit::{Entry, Of, snapshot};

/// Most rules of an organization: all of them are judged with each outcome.
pub const MAX_ALERT_RULES: i64 = 100;

/// A rule with when it was made.
#[derive(Debug, Clone)]
pub struct StoredRule {
    /// Its id.
    pub id: AlertRuleId,
    /// What it says.
    pub rule: Rule,
    /// Of which version it is.
    pub version: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// Why a rule is not kept.
#[derive(Debug)]
pub enum RuleRefused {
    /// It is out of bounds.
    Invalid(Invalid),
    /// There is no channel of this id.
    NoChannel(ChannelId),
    /// There is no endpoint of this id.
    NoEndpoint(EndpointId),
    /// There is no destination of this id.
    NoDestination(DestinationId),
    /// There are [`MAX_ALERT_RULES`] already.
    TooMany,
}

/// What became of a change.
#[derive(Debug)]
pub enum RuleChanged {
    /// It is changed: as it is now.
    Changed(Box<StoredRule>),
    /// There is none.
    Missing,
    /// It is of another version than the change is for.
    Stale,
    /// It can't be so.
    Refused(RuleRefused),
}

impl Tenant {
    /// All rules, oldest first.
    pub async fn alert_rules(&self) -> Result<Vec<StoredRule>> {
        let mut transaction = self.begin().await?;
        let rows = sqlx::query_as!(
            RuleRow,
            "select organization_id, id, name, condition, scope, severity, cool_down_seconds, muted_until,
                 quiet_from, quiet_to, channel_ids, enabled, version, created_at, updated_at
             from alert_rules where organization_id = $1 order by id",
            self.organization.0
        )
        .fetch_all(&mut *transaction)
        .await?;
        rows.into_iter().map(stored).collect()
    }

    /// One rule.
    pub async fn alert_rule(&self, id: AlertRuleId) -> Result<Option<StoredRule>> {
        let mut transaction = self.begin().await?;
        self.read_rule(&mut transaction, id).await
    }

    async fn read_rule(&self, connection: &mut PgConnection, id: AlertRuleId) -> Result<Option<StoredRule>> {
        let row = sqlx::query_as!(
            RuleRow,
            "select organization_id, id, name, condition, scope, severity, cool_down_seconds, muted_until,
                 quiet_from, quiet_to, channel_ids, enabled, version, created_at, updated_at
             from alert_rules where organization_id = $1 and id = $2",
            self.organization.0,
            id.0
        )
        .fetch_optional(connection)
        .await?;
        row.map(stored).transpose()
    }

    /// Makes a rule. What it replaces has its open alerts resolved; pagers alone are told.
    pub async fn create_alert_rule(
        &self,
        id: AlertRuleId,
        rule: &Rule,
        now: DateTime<Utc>,
    ) -> Result<std::result::Result<StoredRule, RuleRefused>> {
        let mut transaction = self.begin_change().await?;
        self.one_at_a_time(&mut transaction, "alert_rules").await?;
        let count = sqlx::query_scalar!(
            r#"select count(*) as "count!" from alert_rules where organization_id = $1"#,
            self.organization.0
        )
        .fetch_one(&mut *transaction)
        .await?;
        if count >= MAX_ALERT_RULES {
            return Ok(Err(RuleRefused::TooMany));
        }
        if let Some(refused) = self.refused(&mut transaction, rule).await? {
            return Ok(Err(refused));
        }
        let made = self.write_rule(&mut transaction, id, rule, now).await?;
        let after = snapshot(&mut transaction, self.organization, Of::AlertRule(id.0)).await?;
        transaction.commit(&Entry::of(Action::AlertRuleCreated, id).after(after), now).await?;
        Ok(Ok(made))
    }

    /// Changes a rule, if it is of a version: `change` makes the new one of the present one, which nobody else changes
    /// meanwhile. What it replaces, switches off or asks no more has its open alerts resolved; pagers alone are told.
    pub async fn change_alert_rule(
        &self,
        id: AlertRuleId,
        if_version: Option<i64>,
        change: impl FnOnce(Rule) -> std::result::Result<Rule, Invalid> + Send,
        now: DateTime<Utc>,
    ) -> Result<RuleChanged> {
        let mut transaction = self.begin_change().await?;
        let before = snapshot(&mut transaction, self.organization, Of::AlertRule(id.0)).await?;
        let Some(present) = self.read_rule(&mut transaction, id).await? else {
            return Ok(RuleChanged::Missing);
        };
        if if_version.is_some_and(|version| version != present.version) {
            return Ok(RuleChanged::Stale);
        }
        let (scope, condition) = (present.rule.scope, present.rule.condition.name());
        let rule = match change(present.rule) {
            Ok(rule) => rule,
            Err(invalid) => return Ok(RuleChanged::Refused(RuleRefused::Invalid(invalid))),
        };
        if let Some(refused) = self.refused(&mut transaction, &rule).await? {
            return Ok(RuleChanged::Refused(refused));
        }
        let changed = self.write_rule(&mut transaction, id, &rule, now).await?;
        if (scope, condition) != (rule.scope, rule.condition.name()) {
            // Nobody would judge what it does not ask any more.
            self.end_alerts(&mut transaction, &id.to_string()).await?;
        }
        let after = snapshot(&mut transaction, self.organization, Of::AlertRule(id.0)).await?;
        let entry = Entry::of(Action::AlertRuleChanged, id).before(before).after(after);
        transaction.commit(&entry, now).await?;
        Ok(RuleChanged::Changed(Box::new(changed)))
    }

    /// Deletes a rule, if it is of a version, and resolves its open alerts.
    pub async fn delete_alert_rule(
        &self,
        id: AlertRuleId,
        if_version: Option<i64>,
        now: DateTime<Utc>,
    ) -> Result<Deleted> {
        let mut transaction = self.begin_change().await?;
        let before = snapshot(&mut transaction, self.organization, Of::AlertRule(id.0)).await?;
        if before.is_none() {
            return Ok(Deleted::Missing);
        }
        let deleted = sqlx::query!(
            "delete from alert_rules where organization_id = $1 and id = $2 and version = coalesce($3, version)",
            self.organization.0,
            id.0,
            if_version
        )
        .execute(&mut *transaction)
        .await?;
        if deleted.rows_affected() == 0 {
            return Ok(Deleted::Stale);
        }
        self.end_alerts(&mut transaction, &id.to_string()).await?;
        transaction.commit(&Entry::of(Action::AlertRuleDeleted, id).before(before), now).await?;
        Ok(Deleted::Deleted)
    }

    /// What a rule names and is not there.
    async fn refused(&self, connection: &mut PgConnection, rule: &Rule) -> Result<Option<RuleRefused>> {
        let (endpoint, destination) = match rule.scope {
            Scope::Organization {} => (None, None),
            Scope::Endpoint { id } => (Some(id), None),
            Scope::Destination { id } => (None, Some(id)),
        };
        let channels: Vec<Uuid> = rule.channels.iter().flatten().map(|id| id.0).collect();
        let found = sqlx::query!(
            r#"select
                 (select wanted from unnest($2::uuid[]) as wanted where not exists (
                     select from channels where organization_id = $1 and id = wanted) limit 1) as channel,
                 $3::uuid is null or exists (select from endpoints
                     where organization_id = $1 and id = $3 and deleted_at is null) as "endpoint!",
                 $4::uuid is null or exists (select from destinations
                     where organization_id = $1 and id = $4 and deleted_at is null) as "destination!""#,
            self.organization.0,
            &channels,
            endpoint.map(|id| id.0),
            destination.map(|id| id.0)
        )
        .fetch_one(connection)
        .await?;
        let channel = found.channel.map(|id| RuleRefused::NoChannel(id.into()));
        let endpoint = endpoint.filter(|_| !found.endpoint).map(RuleRefused::NoEndpoint);
        let destination = destination.filter(|_| !found.destination).map(RuleRefused::NoDestination);
        Ok(channel.or(endpoint).or(destination))
    }

    async fn write_rule(
        &self,
        connection: &mut PgConnection,
        id: AlertRuleId,
        rule: &Rule,
        now: DateTime<Utc>,
    ) -> Result<StoredRule> {
        let quiet = |minute: fn(&ravenpost_core::alert::rule::QuietHours) -> u16| {
            rule.quiet_hours.as_ref().and_then(|hours| i16::try_from(minute(hours)).ok())
        };
        let channels = rule.channels.as_ref().map(|ids| ids.iter().map(|id| id.0).collect::<Vec<Uuid>>());
        let seconds = |time: std::time::Duration| i32::try_from(time.as_secs()).unwrap_or(i32::MAX);
        let row = sqlx::query_as!(
            RuleRow,
            "insert into alert_rules (organization_id, id, name, condition, window_seconds, scope, severity,
                 cool_down_seconds, muted_until, quiet_from, quiet_to, channel_ids, enabled, created_at, updated_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14)
             on conflict (organization_id, id) do update set name = $3, condition = $4, window_seconds = $5, scope = $6,
                 severity = $7, cool_down_seconds = $8, muted_until = $9, quiet_from = $10, quiet_to = $11,
                 channel_ids = $12, enabled = $13, updated_at = $14, version = alert_rules.version + 1
             returning organization_id, id, name, condition, scope, severity, cool_down_seconds, muted_until,
                 quiet_from, quiet_to, channel_ids, enabled, version, created_at, updated_at",
            self.organization.0,
            id.0,
            rule.name,
            serde_json::to_value(&rule.condition).unwrap_or_default(),
            seconds(rule.condition.window()),
            serde_json::to_value(rule.scope).unwrap_or_default(),
            rule.severity.as_str(),
            seconds(rule.cool_down),
            rule.muted_until,
            quiet(|hours| hours.from),
            quiet(|hours| hours.to),
            channels.as_deref(),
            rule.enabled,
            now
        )
        .fetch_one(&mut *connection)
        .await?;
        if !rule.enabled {
            self.end_alerts(connection, &id.to_string()).await?;
        }
        if rule.scope == (Scope::Organization {}) {
            let replaced = RuleKey::Default(rule.condition.name()).to_string();
            self.end_alerts(connection, &replaced).await?;
        }
        stored(row)
    }

    async fn end_alerts(&self, connection: &mut PgConnection, rule: &str) -> Result<()> {
        let ended = sqlx::query_scalar!(
            "update alerts set resolved_at = now(), resolved_by = 'rule', tell_at = 'infinity'
             where organization_id = $1 and kind = $2 and resolved_at is null returning id",
            self.organization.0,
            rule
        )
        .fetch_all(&mut *connection)
        .await?;
        if ended.is_empty() { Ok(()) } else { crate::system::tell_ended(connection, &ended).await }
    }
}

fn stored(row: RuleRow) -> Result<StoredRule> {
    let (id, version, created_at, updated_at) = (row.id.into(), row.version, row.created_at, row.updated_at);
    Ok(StoredRule { id, rule: decode(row)?, version, created_at, updated_at })
}
