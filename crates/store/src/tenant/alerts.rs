//! Alerts: what is going wrong, or went; firing, acknowledged, resolved.

use chrono::{DateTime, Utc};
use ravenpost_core::alert::{ConditionName, Evidence, Severity};
use ravenpost_core::audit::Action;
use ravenpost_core::ids::{AlertId, ChannelId, DestinationId, EndpointId, NotificationId};

use super::transaction::Changing;
use super::{Listed, Page, Tenant, unsigned};
use crate::Result;
use crate::audit::{Entry, Of, snapshot};
use crate::decode::Row;
use crate::system::NotificationKind;

/// How it stands with an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertState {
    /// Nobody has seen to it.
    Firing,
    /// Somebody has.
    Acknowledged,
    /// It is over.
    Resolved,
}

impl AlertState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Firing, Self::Acknowledged, Self::Resolved];

    /// As it is told and asked for.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
        }
    }
}

/// Something that is going wrong, or went.
#[derive(Debug, Clone)]
pub struct Alert {
    /// Its id.
    pub id: AlertId,
    /// Which endpoint, unless it is the organization as a whole.
    pub endpoint_id: Option<EndpointId>,
    /// Which destination, unless it is the endpoint as a whole.
    pub destination_id: Option<DestinationId>,
    /// The key of its rule: the condition of a default, or the id of a rule.
    pub rule: String,
    /// What the rule is called.
    pub rule_name: String,
    /// What it asks.
    pub condition: ConditionName,
    /// How bad it is.
    pub severity: Severity,
    /// What showed it.
    pub evidence: Evidence,
    /// How many attempts had failed in a row when it was opened.
    pub failures: u32,
    /// What the last of them said.
    pub last_error: Option<String>,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// When people were told.
    pub notified_at: Option<DateTime<Utc>>,
    /// When somebody saw to it, and who.
    pub acknowledged_at: Option<DateTime<Utc>>,
    /// Who that was.
    pub acknowledged_by: Option<String>,
    /// Nobody is told before then.
    pub muted_until: Option<DateTime<Utc>>,
    /// When it was over.
    pub resolved_at: Option<DateTime<Utc>>,
    /// Who said so, if it was not found.
    pub resolved_by: Option<String>,
}

impl Alert {
    /// How it stands.
    pub fn state(&self) -> AlertState {
        match (self.resolved_at, self.acknowledged_at) {
            (Some(_), _) => AlertState::Resolved,
            (None, Some(_)) => AlertState::Acknowledged,
            (None, None) => AlertState::Firing,
        }
    }
}

/// Which alerts to list; all where nothing is said.
#[derive(Debug, Clone, Copy, Default)]
pub struct AlertFilter {
    /// Those that are not resolved.
    pub open: bool,
    /// In this state.
    pub state: Option<AlertState>,
    /// This bad.
    pub severity: Option<Severity>,
    /// Of this endpoint and its destinations.
    pub endpoint_id: Option<EndpointId>,
    /// Of this destination.
    pub destination_id: Option<DestinationId>,
}

/// What a channel was told, or is to be.
#[derive(Debug, Clone)]
pub struct Told {
    /// Its id.
    pub id: NotificationId,
    /// Which channel.
    pub channel_id: ChannelId,
    /// Of what.
    pub kind: NotificationKind,
    /// `pending`, `sent` or `failed`.
    pub state: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it came about.
    pub created_at: DateTime<Utc>,
    /// When it is tried next, while it is pending.
    pub next_at: DateTime<Utc>,
    /// When it was sent.
    pub sent_at: Option<DateTime<Utc>>,
    /// Why it was not taken.
    pub last_error: Option<String>,
}

struct AlertRow {
    id: uuid::Uuid,
    endpoint_id: Option<uuid::Uuid>,
    destination_id: Option<uuid::Uuid>,
    kind: String,
    condition: String,
    rule_name: String,
    severity: String,
    evidence: serde_json::Value,
    failures: i32,
    last_error: Option<String>,
    opened_at: DateTime<Utc>,
    notified_at: Option<DateTime<Utc>>,
    acknowledged_at: Option<DateTime<Utc>>,
    acknowledged_by: Option<String>,
    muted_until: Option<DateTime<Utc>>,
    resolved_at: Option<DateTime<Utc>>,
    resolved_by: Option<String>,
}

fn decode(found: AlertRow) -> Result<Alert> {
    let row = Row { table: "alerts", id: found.id };
    Ok(Alert {
        id: found.id.into(),
        endpoint_id: found.endpoint_id.map(Into::into),
        destination_id: found.destination_id.map(Into::into),
        rule: found.kind,
        rule_name: found.rule_name,
        condition: row.word("condition", &found.condition, ConditionName::parse)?,
        severity: row.word("severity", &found.severity, Severity::parse)?,
        evidence: row.json("evidence", found.evidence)?,
        failures: unsigned(row, "failures", found.failures)?,
        last_error: found.last_error,
        opened_at: found.opened_at,
        notified_at: found.notified_at,
        acknowledged_at: found.acknowledged_at,
        acknowledged_by: found.acknowledged_by,
        muted_until: found.muted_until,
        resolved_at: found.resolved_at,
        resolved_by: found.resolved_by,
    })
}

impl Tenant {
    /// The alerts, newest first.
    pub async fn alerts(&self, filter: AlertFilter, page: Page) -> Result<Listed<Alert>> {
        let mut transaction = self.begin().await?;
        let rows = sqlx::query_as!(
            AlertRow,
            "select id, endpoint_id, destination_id, kind, condition, rule_name, severity, evidence, failures, last_error,
                 opened_at, notified_at, acknowledged_at, acknowledged_by, muted_until, resolved_at, resolved_by
             from alerts where organization_id = $1 and id < $2 and (not $4 or resolved_at is null)
                 and ($5::text is null or $5 = case when resolved_at is not null then 'resolved'
                     when acknowledged_at is not null then 'acknowledged' else 'firing' end)
                 and ($6::text is null or severity = $6)
                 and ($7::uuid is null or endpoint_id = $7) and ($8::uuid is null or destination_id = $8)
             order by id desc limit $3",
            self.organization.0,
            page.below(),
            page.to_read(),
            filter.open,
            filter.state.map(AlertState::as_str),
            filter.severity.map(Severity::as_str),
            filter.endpoint_id.map(|id| id.0),
            filter.destination_id.map(|id| id.0)
        )
        .fetch_all(&mut *transaction)
        .await?;
        let alerts = rows.into_iter().map(decode).collect::<Result<_>>()?;
        Ok(page.cut(alerts, |alert: &Alert| alert.id.0))
    }

    /// One alert.
    pub async fn alert(&self, id: AlertId) -> Result<Option<Alert>> {
        let mut transaction = self.begin().await?;
        let row = sqlx::query_as!(
            AlertRow,
            "select id, endpoint_id, destination_id, kind, condition, rule_name, severity, evidence, failures, last_error,
                 opened_at, notified_at, acknowledged_at, acknowledged_by, muted_until, resolved_at, resolved_by
             from alerts where organization_id = $1 and id = $2",
            self.organization.0,
            id.0
        )
        .fetch_optional(&mut *transaction)
        .await?;
        row.map(decode).transpose()
    }

    /// What channels were told of an alert, oldest first.
    pub async fn alert_notifications(&self, id: AlertId) -> Result<Vec<Told>> {
        self.told(Some(id), None).await
    }

    /// What a channel was told last, newest first.
    pub async fn channel_notifications(&self, id: ChannelId) -> Result<Vec<Told>> {
        let mut told = self.told(None, Some(id)).await?;
        told.reverse();
        Ok(told)
    }

    async fn told(&self, alert: Option<AlertId>, channel: Option<ChannelId>) -> Result<Vec<Told>> {
        const MOST: i64 = 100;
        let mut transaction = self.begin().await?;
        let rows = sqlx::query!(
            "select id, channel_id, kind, state, attempts, created_at, next_at, sent_at, last_error from (
                 select * from notifications where organization_id = $1
                     and ($2::uuid is null or alert_id = $2) and ($3::uuid is null or channel_id = $3)
                 order by id desc limit $4) as lately order by id",
            self.organization.0,
            alert.map(|id| id.0),
            channel.map(|id| id.0),
            MOST
        )
        .fetch_all(&mut *transaction)
        .await?;
        let decoded = rows.into_iter().map(|found| {
            let row = Row { table: "notifications", id: found.id };
            Ok(Told {
                id: found.id.into(),
                channel_id: found.channel_id.into(),
                kind: row.word("kind", &found.kind, NotificationKind::parse)?,
                state: found.state,
                attempts: unsigned(row, "attempts", found.attempts)?,
                created_at: found.created_at,
                next_at: found.next_at,
                sent_at: found.sent_at,
                last_error: found.last_error,
            })
        });
        decoded.collect()
    }

    /// Somebody sees to an open alert; pagers are told. `false`: it is not open, or somebody does already.
    pub async fn acknowledge_alert(&self, id: AlertId, now: DateTime<Utc>) -> Result<bool> {
        let mut transaction = self.begin_change().await?;
        let before = snapshot(&mut transaction, self.organization, Of::Alert(id.0)).await?;
        let done = sqlx::query!(
            "update alerts set acknowledged_at = $4, acknowledged_by = $3
             where organization_id = $1 and id = $2 and resolved_at is null and acknowledged_at is null",
            self.organization.0,
            id.0,
            self.who(),
            now
        )
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query!(
            "insert into notifications (organization_id, channel_id, alert_id, kind)
             select n.organization_id, n.channel_id, n.alert_id, 'acknowledged' from notifications n
             join channels c on c.organization_id = n.organization_id and c.id = n.channel_id
                 and c.state = 'enabled' and c.type in ('pagerduty', 'opsgenie', 'webhook')
             where n.organization_id = $1 and n.alert_id = $2 and n.kind = 'fired' and n.state <> 'failed'
             on conflict do nothing",
            self.organization.0,
            id.0
        )
        .execute(&mut *transaction)
        .await?;
        self.commit_alert(transaction, Action::AlertAcknowledged, id, before, now).await?;
        Ok(true)
    }

    /// Somebody says that an open alert is over. It opens again when the same trouble begins anew. `false`: it is not open.
    pub async fn resolve_alert(&self, id: AlertId, now: DateTime<Utc>) -> Result<bool> {
        let mut transaction = self.begin_change().await?;
        let before = snapshot(&mut transaction, self.organization, Of::Alert(id.0)).await?;
        let done = sqlx::query!(
            "update alerts set resolved_at = $4, resolved_by = $3, tell_at = 'infinity'
             where organization_id = $1 and id = $2 and resolved_at is null",
            self.organization.0,
            id.0,
            self.who(),
            now
        )
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        crate::system::tell_resolved(&mut transaction, &[id.0]).await?;
        self.commit_alert(transaction, Action::AlertResolved, id, before, now).await?;
        Ok(true)
    }

    /// Nobody is told of an open alert before `until`; with `None` it is no longer muted. What is on its way already is not
    /// called back. `false`: it is not open.
    pub async fn mute_alert(
        &self,
        id: AlertId,
        until: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let mut transaction = self.begin_change().await?;
        let before = snapshot(&mut transaction, self.organization, Of::Alert(id.0)).await?;
        let done = sqlx::query!(
            "update alerts set muted_until = $3,
                 tell_at = case when tell_at < 'infinity' then coalesce($3, $4::timestamptz) else tell_at end
             where organization_id = $1 and id = $2 and resolved_at is null",
            self.organization.0,
            id.0,
            until,
            now
        )
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query!(
            "update notifications set next_at = coalesce($3, $4::timestamptz)
             where organization_id = $1 and alert_id = $2 and state = 'pending'
                 and coalesce(claimed_until, '-infinity') < now()",
            self.organization.0,
            id.0,
            until,
            now
        )
        .execute(&mut *transaction)
        .await?;
        self.commit_alert(transaction, Action::AlertMuted, id, before, now).await?;
        Ok(true)
    }

    /// Who makes the change, as it is kept with the alert: a kind and, of a caller, the id.
    fn who(&self) -> String {
        match self.author.who.parts() {
            (kind, Some(id)) => format!("{kind}:{id}"),
            (kind, None) => kind.to_owned(),
        }
    }

    async fn commit_alert(
        &self,
        mut transaction: Changing,
        action: Action,
        id: AlertId,
        before: Option<serde_json::Value>,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let after = snapshot(&mut transaction, self.organization, Of::Alert(id.0)).await?;
        transaction.commit(&Entry::of(action, id).before(before).after(after), now).await
    }
}
