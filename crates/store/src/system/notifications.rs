//! What channels are to be told: claimed by whoever sends it, one channel at a time, and settled when that is done.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ravenpost_core::alert::{ChannelConfig, ChannelType, ConditionName, Evidence, Severity};
use ravenpost_core::ids::{AlertId, ChannelId, DestinationId, EndpointId, NotificationId, OrganizationId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::System;
use crate::Result;
use crate::decode::Row;
use crate::lease::bounded;

/// Most notifications of one claim.
const MOST: i64 = 1_000;

/// What a notification tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NotificationKind {
    /// An alert has opened.
    Fired,
    /// Somebody has seen to it.
    Acknowledged,
    /// It is over.
    Resolved,
    /// Somebody tries the channel.
    Test,
    /// Another channel is broken.
    ChannelDisabled,
}

impl NotificationKind {
    const ALL: [Self; 5] =
        [Self::Fired, Self::Acknowledged, Self::Resolved, Self::Test, Self::ChannelDisabled];

    /// As it is stored and told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fired => "fired",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
            Self::Test => "test",
            Self::ChannelDisabled => "channel_disabled",
        }
    }

    /// The inverse of [`NotificationKind::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// How messages to a channel are spaced.
#[derive(Debug, Clone, Copy)]
pub struct Gathering {
    /// A message is sent when nothing new has come for so long,
    pub quiet: Duration,
    /// and after so long whatever comes.
    pub longest: Duration,
    /// The next one is not sent earlier than this.
    pub pace: Duration,
    /// How long the sender has for all of it.
    pub claim: Duration,
}

/// What one channel is to be told now.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Whose channel it is.
    pub organization_id: OrganizationId,
    /// The organization's name.
    pub organization_name: String,
    /// Which channel.
    pub channel_id: ChannelId,
    /// Where it leads; why that does not read, if so.
    pub channel: Result<ChannelConfig, String>,
    /// What it is to be told, oldest first.
    pub notifications: Vec<Notification>,
}

/// One thing to be told.
#[derive(Debug, Clone)]
pub struct Notification {
    /// Its id.
    pub id: NotificationId,
    /// What it tells of.
    pub kind: NotificationKind,
    /// How often it has been tried, this time counted.
    pub attempts: u32,
    /// When it came about.
    pub created_at: DateTime<Utc>,
    /// The incident under which the channel was told that the alert had opened.
    pub incident: Option<Uuid>,
    /// The alert, of those that have one.
    pub alert: Option<ToldAlert>,
    /// Which channel is broken, and why.
    pub broken_channel: Option<String>,
}

/// An alert as people are told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToldAlert {
    /// Its id.
    pub id: AlertId,
    /// The key of its rule.
    pub rule: String,
    /// What the rule is called.
    pub rule_name: String,
    /// What it asks.
    pub condition: ConditionName,
    /// How bad it is.
    pub severity: Severity,
    /// What showed it.
    pub evidence: Evidence,
    /// When it opened.
    pub opened_at: DateTime<Utc>,
    /// When it was over.
    pub resolved_at: Option<DateTime<Utc>>,
    /// Which endpoint, and its name.
    pub endpoint: Option<(EndpointId, String)>,
    /// Which destination, and its URL without query.
    pub destination: Option<(DestinationId, String)>,
}

/// Why a message was not taken.
#[derive(Debug, Clone)]
pub struct Failed<'a> {
    /// For people.
    pub error: &'a str,
    /// It won't mend by itself.
    pub permanent: bool,
    /// When to try again.
    pub again_in: Duration,
    /// What is older is not tried again, and its channel is disabled.
    pub stale: Duration,
    /// With so many permanent failures in a row the channel is disabled.
    pub most: i32,
}

impl System {
    /// Takes what one channel is to be told now; `None` when there is nothing for any. Whoever dies with a claim leaves it to
    /// another after `claim`.
    pub async fn claim_notifications(&self, gathering: Gathering) -> Result<Option<Claim>> {
        let claimed = bounded!(
            self,
            sqlx::query!(
                "with ripe as (
                     select n.channel_id from notifications n
                     where n.state = 'pending' and n.next_at <= now() and coalesce(n.claimed_until, '-infinity') < now()
                         and not exists (select from notifications f where f.alert_id = n.alert_id
                             and f.channel_id = n.channel_id and f.kind = 'fired' and f.state = 'pending'
                             and f.id <> n.id and (f.next_at > now() or f.claimed_until >= now()))
                     group by n.channel_id
                     having max(n.created_at) <= now() - make_interval(secs => $1)
                         or min(n.created_at) <= now() - make_interval(secs => $2)
                         or bool_or(n.attempts > 0) or bool_or(n.kind = 'test')),
                 chosen as (
                     select c.organization_id, c.id from channels c join ripe on ripe.channel_id = c.id
                     where c.next_send_at <= now() and c.state = 'enabled'
                     order by c.next_send_at limit 1 for update of c skip locked),
                 paced as (
                     update channels c set next_send_at = now() + make_interval(secs => $3) from chosen
                     where c.organization_id = chosen.organization_id and c.id = chosen.id),
                 mine as (
                     select n.organization_id, n.id from notifications n join chosen on chosen.id = n.channel_id
                     where n.state = 'pending' and n.next_at <= now()
                         and coalesce(n.claimed_until, '-infinity') < now()
                         -- Nobody hears that it is over before they heard that it is.
                         and not exists (select from notifications f where f.alert_id = n.alert_id
                             and f.channel_id = n.channel_id and f.kind = 'fired' and f.state = 'pending'
                             and f.id <> n.id and (f.next_at > now() or f.claimed_until >= now()))
                     order by n.created_at limit $4 for update of n skip locked)
                 update notifications n
                 set claimed_until = now() + make_interval(secs => $5), attempts = n.attempts + 1
                 from mine where n.organization_id = mine.organization_id and n.id = mine.id
                 returning n.organization_id, n.id, n.channel_id",
                gathering.quiet.as_secs_f64(),
                gathering.longest.as_secs_f64(),
                gathering.pace.as_secs_f64(),
                MOST,
                gathering.claim.as_secs_f64()
            ),
            fetch_all
        );
        let Some(first) = claimed.first() else { return Ok(None) };
        let ids: Vec<Uuid> = claimed.iter().map(|row| row.id).collect();
        self.claim(first.organization_id, first.channel_id, &ids).await
    }

    async fn claim(&self, organization: Uuid, channel: Uuid, ids: &[Uuid]) -> Result<Option<Claim>> {
        let found = bounded!(
            self,
            sqlx::query!(
                "select c.type as kind, c.address, c.config, o.name as organization_name from channels c
                 join organizations o on o.id = c.organization_id where c.organization_id = $1 and c.id = $2",
                organization,
                channel
            ),
            fetch_optional
        );
        // Deleted meanwhile, and its notifications with it.
        let Some(found) = found else { return Ok(None) };
        let row = Row { table: "channels", id: channel };
        let kind = row.word("type", &found.kind, ChannelType::parse)?;
        let config = match (kind, found.config) {
            (ChannelType::Email, _) => Ok(ChannelConfig::Email { address: found.address }),
            (_, None) => Err("the channel has no configuration".to_owned()),
            (_, Some(sealed)) => self
                .open(row, "config", &sealed, channel)
                .map_err(|damaged| damaged.to_string())
                .and_then(|secret| ChannelConfig::from_sealed(kind, &secret).map_err(str::to_owned)),
        };
        Ok(Some(Claim {
            organization_id: organization.into(),
            organization_name: found.organization_name,
            channel_id: channel.into(),
            channel: config,
            notifications: self.notifications(organization, ids).await?,
        }))
    }

    async fn notifications(&self, organization: Uuid, ids: &[Uuid]) -> Result<Vec<Notification>> {
        let rows = bounded!(
            self,
            sqlx::query!(
                r#"select n.id, n.kind, n.attempts, n.created_at, a.id as "alert_id?", a.kind as "rule?",
                     a.rule_name as "rule_name?", a.condition as "condition?", a.severity as "severity?",
                     a.evidence as "evidence?", a.opened_at as "opened_at?", a.resolved_at as "resolved_at?",
                     a.endpoint_id as "endpoint_id?", e.name as "endpoint_name?", a.destination_id as "destination_id?",
                     d.url as "destination_url?", b.type as "broken_type?", b.address as "broken_address?",
                     b.disabled_reason as "broken_reason?",
                     (select f.incident from notifications f where f.alert_id = n.alert_id
                         and f.channel_id = n.channel_id and f.kind = 'fired') as incident
                 from notifications n
                 left join alerts a on a.organization_id = n.organization_id and a.id = n.alert_id
                 left join endpoints e on e.organization_id = n.organization_id and e.id = a.endpoint_id
                 left join destinations d on d.organization_id = n.organization_id and d.id = a.destination_id
                 left join channels b on b.organization_id = n.organization_id and b.id = n.broken_channel_id
                 where n.organization_id = $1 and n.id = any($2) order by n.created_at, n.id"#,
                organization,
                ids
            ),
            fetch_all
        );
        let decoded = rows.into_iter().map(|found| {
            let row = Row { table: "notifications", id: found.id };
            let alert = match (found.alert_id, found.opened_at) {
                (Some(id), Some(opened_at)) => Some(ToldAlert {
                    id: id.into(),
                    rule: found.rule.unwrap_or_default(),
                    rule_name: found.rule_name.unwrap_or_default(),
                    condition: row.word(
                        "condition",
                        &found.condition.unwrap_or_default(),
                        ConditionName::parse,
                    )?,
                    severity: row.word("severity", &found.severity.unwrap_or_default(), Severity::parse)?,
                    evidence: row.json("evidence", found.evidence.unwrap_or_default())?,
                    opened_at,
                    resolved_at: found.resolved_at,
                    endpoint: found.endpoint_id.map(Into::into).zip(found.endpoint_name),
                    destination: found
                        .destination_id
                        .map(Into::into)
                        .zip(found.destination_url.as_deref().map(plain)),
                }),
                _ => None,
            };
            let broken_channel = found.broken_type.zip(found.broken_address).map(|(kind, address)| {
                format!("{kind} {address}: {}", found.broken_reason.unwrap_or_default())
            });
            Ok(Notification {
                id: found.id.into(),
                kind: row.word("kind", &found.kind, NotificationKind::parse)?,
                attempts: u32::try_from(found.attempts).unwrap_or(1),
                created_at: found.created_at,
                incident: found.incident,
                alert,
                broken_channel,
            })
        });
        decoded.collect()
    }

    /// How many alerts of an incident are still open.
    pub async fn open_in_incident(&self, channel: ChannelId, incident: Uuid) -> Result<i64> {
        Ok(bounded!(
            self,
            sqlx::query_scalar!(
                r#"select count(*) as "count!" from notifications n
                   join alerts a on a.organization_id = n.organization_id and a.id = n.alert_id
                   where n.channel_id = $1 and n.incident = $2 and n.kind = 'fired' and a.resolved_at is null"#,
                channel.0,
                incident
            ),
            fetch_one
        ))
    }

    /// Notes that a channel has taken what it was told, and under which incident.
    pub async fn notifications_sent(
        &self,
        claim: &Claim,
        ids: &[NotificationId],
        incident: Option<Uuid>,
    ) -> Result<()> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        bounded!(
            self,
            sqlx::query!(
                "with sent as (
                     update notifications set state = 'sent', sent_at = now(), claimed_until = null, last_error = null,
                         incident = coalesce($4, incident)
                     where organization_id = $1 and id = any($2) returning alert_id),
                 told as (
                     update alerts a set notified_at = now() from sent
                     where a.organization_id = $1 and a.id = sent.alert_id and a.notified_at is null)
                 update channels set failures = 0, last_sent_at = now() where organization_id = $1 and id = $3",
                claim.organization_id.0,
                &ids,
                claim.channel_id.0,
                incident
            ),
            execute
        );
        Ok(())
    }

    /// Notes that a channel has not taken what it was told. `true`: it has failed so often that it is disabled now; the other
    /// channels of the organization are told, and what it was not told is due again where nobody else was told either.
    pub async fn notifications_failed(
        &self,
        claim: &Claim,
        ids: &[NotificationId],
        failed: &Failed<'_>,
    ) -> Result<bool> {
        let (organization, channel) = (claim.organization_id.0, claim.channel_id.0);
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let mut transaction = self.pool.begin().await?;
        let states = sqlx::query_scalar!(
            "update notifications set claimed_until = null, last_error = $3, next_at = now() + make_interval(secs => $4),
                 state = case when created_at < now() - make_interval(secs => $5) then 'failed' else state end
             where organization_id = $1 and id = any($2) returning state",
            organization,
            &ids,
            failed.error,
            failed.again_in.as_secs_f64(),
            failed.stale.as_secs_f64()
        )
        .fetch_all(&mut *transaction)
        .await?;
        let given_up = states.iter().any(|state| state == "failed");
        let mut disabled = false;
        if failed.permanent || given_up {
            let state = sqlx::query_scalar!(
                "update channels set failures = failures + 1,
                     state = case when failures + 1 >= $4 or $5 then 'disabled' else state end,
                     disabled_reason = case when failures + 1 >= $4 or $5 then $3 else disabled_reason end
                 where organization_id = $1 and id = $2 and state = 'enabled' returning state",
                organization,
                channel,
                failed.error,
                failed.most,
                given_up
            )
            .fetch_optional(&mut *transaction)
            .await?;
            disabled = state.as_deref() == Some("disabled");
        }
        if disabled {
            give_up(&mut transaction, organization, channel).await?;
        }
        transaction.commit().await?;
        Ok(disabled)
    }
}

/// A channel is told nothing any more: what it was not told fails, and alerts that it alone was to be told of are due again.
pub(crate) async fn leave_untold(
    connection: &mut PgConnection,
    organization: Uuid,
    channel: Uuid,
) -> Result<()> {
    sqlx::query!(
        "with lost as (
             update notifications set state = 'failed', claimed_until = null
             where organization_id = $1 and channel_id = $2 and (state = 'pending' or state = 'failed' and kind = 'fired')
             returning alert_id, kind)
         update alerts a set tell_at = now() from lost
         where a.organization_id = $1 and a.id = lost.alert_id and lost.kind = 'fired'
             and a.notified_at is null and a.resolved_at is null
             and not exists (select from notifications n where n.alert_id = a.id and n.kind = 'fired'
                 and n.channel_id <> $2 and n.state <> 'failed')",
        organization,
        channel
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn give_up(connection: &mut PgConnection, organization: Uuid, channel: Uuid) -> Result<()> {
    leave_untold(connection, organization, channel).await?;
    sqlx::query!(
        "insert into notifications (organization_id, channel_id, kind, broken_channel_id)
         select organization_id, id, 'channel_disabled', $2 from channels
         where organization_id = $1 and id <> $2 and state = 'enabled'",
        organization,
        channel
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A query often carries a credential, and messages are read by many.
fn plain(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}
