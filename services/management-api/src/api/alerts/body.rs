//! Alerts and notifications as the API shows them.

use chrono::{DateTime, Utc};
use ravenpost_core::alert::{ConditionName, Evidence, Severity};
use ravenpost_core::ids::{AlertId, ChannelId, DestinationId, EndpointId, NotificationId};
use ravenpost_store::tenant::{Alert, AlertState, Told};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How it stands with an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AlertState)]
pub(in crate::api) enum AlertStateBody {
    /// Nobody has seen to it.
    Firing,
    /// Somebody has.
    Acknowledged,
    /// It is over.
    Resolved,
}

impl From<AlertState> for AlertStateBody {
    fn from(state: AlertState) -> Self {
        match state {
            AlertState::Firing => Self::Firing,
            AlertState::Acknowledged => Self::Acknowledged,
            AlertState::Resolved => Self::Resolved,
        }
    }
}

impl From<AlertStateBody> for AlertState {
    fn from(state: AlertStateBody) -> Self {
        match state {
            AlertStateBody::Firing => Self::Firing,
            AlertStateBody::Acknowledged => Self::Acknowledged,
            AlertStateBody::Resolved => Self::Resolved,
        }
    }
}

/// Something that is going wrong, or went.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Alert)]
pub(in crate::api) struct AlertBody {
    /// Its id.
    id: AlertId,
    /// What kind of trouble: the condition of its rule.
    kind: ConditionName,
    /// How it stands.
    state: AlertStateBody,
    /// How bad it is.
    severity: Severity,
    /// Which rule: the id of one of yours, or the condition of a default.
    rule: String,
    /// What the rule is called.
    rule_name: String,
    /// Which endpoint; null for the organization as a whole.
    #[schema(required = true)]
    endpoint_id: Option<EndpointId>,
    /// Which destination; null for the endpoint as a whole.
    #[schema(required = true)]
    destination_id: Option<DestinationId>,
    /// What showed it.
    evidence: Evidence,
    /// How many attempts had failed in a row.
    failures: u32,
    /// What the last of them said.
    #[schema(required = true)]
    last_error: Option<String>,
    /// When it was opened.
    opened_at: DateTime<Utc>,
    /// When people were told.
    #[schema(required = true)]
    notified_at: Option<DateTime<Utc>>,
    /// When somebody saw to it.
    #[schema(required = true)]
    acknowledged_at: Option<DateTime<Utc>>,
    /// Who that was: `api_key:` or `user:` and an id.
    #[schema(required = true)]
    acknowledged_by: Option<String>,
    /// Until when nobody is told.
    #[schema(required = true)]
    muted_until: Option<DateTime<Utc>>,
    /// When it was over.
    #[schema(required = true)]
    resolved_at: Option<DateTime<Utc>>,
    /// Who said so: `api_key:` or `user:` and an id, `rule` when its rule was taken back, `deletion` when what it was of is
    /// gone; null when it was found to be over.
    #[schema(required = true)]
    resolved_by: Option<String>,
}

impl From<Alert> for AlertBody {
    fn from(alert: Alert) -> Self {
        let state = alert.state().into();
        Self {
            id: alert.id,
            kind: alert.condition,
            state,
            severity: alert.severity,
            rule: alert.rule,
            rule_name: alert.rule_name,
            endpoint_id: alert.endpoint_id,
            destination_id: alert.destination_id,
            evidence: alert.evidence,
            failures: alert.failures,
            last_error: alert.last_error,
            opened_at: alert.opened_at,
            notified_at: alert.notified_at,
            acknowledged_at: alert.acknowledged_at,
            acknowledged_by: alert.acknowledged_by,
            muted_until: alert.muted_until,
            resolved_at: alert.resolved_at,
            resolved_by: alert.resolved_by,
        }
    }
}

/// An alert, with what channels were told of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AlertWithNotifications)]
pub(in crate::api) struct AlertWithNotificationsBody {
    /// The alert.
    #[serde(flatten)]
    pub(super) alert: AlertBody,
    /// Oldest first, the last hundred.
    pub(super) notifications: Vec<NotificationBody>,
}

/// What a channel was told, or is to be.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Notification)]
pub(in crate::api) struct NotificationBody {
    /// Its id.
    id: NotificationId,
    /// Which channel.
    channel_id: ChannelId,
    /// Of what: `fired`, `acknowledged`, `resolved`, `test` or `channel_disabled`.
    #[schema(example = "fired")]
    kind: &'static str,
    /// `pending`, `sent` or `failed`.
    #[schema(example = "sent")]
    state: String,
    /// How often it was tried.
    attempts: u32,
    /// When it came about.
    created_at: DateTime<Utc>,
    /// When it is tried next; null when it is not.
    #[schema(required = true)]
    next_at: Option<DateTime<Utc>>,
    /// When it was sent.
    #[schema(required = true)]
    sent_at: Option<DateTime<Utc>>,
    /// Why it was not taken.
    #[schema(required = true)]
    last_error: Option<String>,
}

impl From<Told> for NotificationBody {
    fn from(told: Told) -> Self {
        Self {
            id: told.id,
            channel_id: told.channel_id,
            kind: told.kind.as_str(),
            next_at: (told.state == "pending").then_some(told.next_at),
            state: told.state,
            attempts: told.attempts,
            created_at: told.created_at,
            sent_at: told.sent_at,
            last_error: told.last_error,
        }
    }
}
