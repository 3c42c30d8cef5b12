//! What the organization wants to be told of.

use chrono::{DateTime, Utc};
use ravenpost_core::alert::{Rule, RuleKey, Scope};
use ravenpost_core::ids::AlertRuleId;
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::Tenant;
use crate::Result;
use crate::alert_rule::{RuleRow, decode};

/// Most rules of an organization: all of them are judged with each outcome.
const MOST_RULES: i64 = 100;

/// A rule with when it was made.
#[derive(Debug, Clone)]
pub struct StoredRule {
    /// Its id.
    pub id: AlertRuleId,
    /// What it says.
    pub rule: Rule,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

impl Tenant {
    /// All rules, oldest first.
    pub async fn alert_rules(&self) -> Result<Vec<StoredRule>> {
        let mut transaction = self.begin().await?;
        let rows = sqlx::query_as!(
            RuleRow,
            "select organization_id, id, name, condition, scope, severity, cool_down_seconds, muted_until,
                 quiet_from, quiet_to, channel_ids, enabled, created_at, updated_at
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
        let row = sqlx::query_as!(
            RuleRow,
            "select organization_id, id, name, condition, scope, severity, cool_down_seconds, muted_until,
                 quiet_from, quiet_to, channel_ids, enabled, created_at, updated_at
             from alert_rules where organization_id = $1 and id = $2",
            self.organization.0,
            id.0
        )
        .fetch_optional(&mut *transaction)
        .await?;
        row.map(stored).transpose()
    }

    /// Makes a rule, or changes the one of this id. `false`: there are a hundred already. What it replaces or switches off has
    /// its open alerts resolved; nobody is told.
    pub async fn put_alert_rule(&self, id: AlertRuleId, rule: &Rule) -> Result<bool> {
        let mut transaction = self.begin().await?;
        let others = sqlx::query_scalar!(
            r#"select count(*) as "count!" from alert_rules where organization_id = $1 and id <> $2"#,
            self.organization.0,
            id.0
        )
        .fetch_one(&mut *transaction)
        .await?;
        if others >= MOST_RULES {
            return Ok(false);
        }
        self.write_rule(&mut transaction, id, rule).await?;
        if !rule.enabled {
            self.end_alerts(&mut transaction, &id.to_string()).await?;
        }
        if rule.scope == (Scope::Organization {}) {
            let replaced = RuleKey::Default(rule.condition.name()).to_string();
            self.end_alerts(&mut transaction, &replaced).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    async fn write_rule(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        id: AlertRuleId,
        rule: &Rule,
    ) -> Result<()> {
        let quiet = |minute: fn(&ravenpost_core::alert::rule::QuietHours) -> u16| {
            rule.quiet_hours.as_ref().and_then(|hours| i16::try_from(minute(hours)).ok())
        };
        let channels = rule.channels.as_ref().map(|ids| ids.iter().map(|id| id.0).collect::<Vec<Uuid>>());
        let seconds = |time: std::time::Duration| i32::try_from(time.as_secs()).unwrap_or(i32::MAX);
        sqlx::query!(
            "insert into alert_rules (organization_id, id, name, condition, window_seconds, scope, severity,
                 cool_down_seconds, muted_until, quiet_from, quiet_to, channel_ids, enabled)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
             on conflict (organization_id, id) do update set name = $3, condition = $4, window_seconds = $5, scope = $6,
                 severity = $7, cool_down_seconds = $8, muted_until = $9, quiet_from = $10, quiet_to = $11,
                 channel_ids = $12, enabled = $13, updated_at = now()",
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
            rule.enabled
        )
        .execute(&mut **transaction)
        .await?;
        Ok(())
    }

    /// Deletes a rule and resolves its open alerts; `false` when there is none.
    pub async fn delete_alert_rule(&self, id: AlertRuleId) -> Result<bool> {
        let mut transaction = self.begin().await?;
        let deleted = sqlx::query!(
            "delete from alert_rules where organization_id = $1 and id = $2",
            self.organization.0,
            id.0
        )
        .execute(&mut *transaction)
        .await?;
        self.end_alerts(&mut transaction, &id.to_string()).await?;
        transaction.commit().await?;
        Ok(deleted.rows_affected() == 1)
    }

    async fn end_alerts(&self, transaction: &mut Transaction<'_, Postgres>, rule: &str) -> Result<()> {
        sqlx::query!(
            "update alerts set resolved_at = now(), resolved_by = 'rule', tell_at = 'infinity'
             where organization_id = $1 and kind = $2 and resolved_at is null",
            self.organization.0,
            rule
        )
        .execute(&mut **transaction)
        .await?;
        Ok(())
    }
}

fn stored(row: RuleRow) -> Result<StoredRule> {
    let (id, created_at, updated_at) = (row.id.into(), row.created_at, row.updated_at);
    Ok(StoredRule { id, rule: decode(row)?, created_at, updated_at })
}
