//! How destinations fare as the notifier has read it, and the alerts that open and resolve by it: one transaction, so that
//! what is read again after a crash is known to have been decided.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ravenpost_core::alert::{ConditionName, Evidence, RuleKey, Severity};
use ravenpost_core::ids::{AlertId, ChannelId, DestinationId, EndpointId, OrganizationId};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::System;
use crate::Result;
use crate::decode::Row;
use crate::lease::bounded;

/// How a destination fares after the messages up to an offset: what no window reaches.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// Whose destination it is.
    pub organization_id: OrganizationId,
    /// Its endpoint.
    pub endpoint_id: EndpointId,
    /// Which one.
    pub destination_id: DestinationId,
    /// Of which partition that was read.
    pub partition: i32,
    /// Up to and including this offset: what was observed before is not observed again.
    pub offset: i64,
    /// Failures since the last success.
    pub failures_in_a_row: u32,
    /// It has just recovered from an outage.
    pub recovered: bool,
    /// When the first of the failures ended.
    pub failing_since: Option<DateTime<Utc>>,
    /// When it last accepted.
    pub last_success_at: Option<DateTime<Utc>>,
    /// When it was last attempted.
    pub last_attempt_at: Option<DateTime<Utc>>,
    /// Why the last failure failed.
    pub last_error: Option<String>,
}

/// What an alert is of: one open at most for each rule and subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subject {
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// Its endpoint; without one it is the organization.
    pub endpoint_id: Option<EndpointId>,
    /// Its destination; without one it is the endpoint.
    pub destination_id: Option<DestinationId>,
}

impl Subject {
    fn id(&self) -> Uuid {
        let endpoint = self.endpoint_id.map(Uuid::from);
        self.destination_id.map(Uuid::from).or(endpoint).unwrap_or(self.organization_id.0)
    }
}

/// An alert that opens.
#[derive(Debug, Clone, PartialEq)]
pub struct Firing {
    /// Its id.
    pub alert_id: AlertId,
    /// What the rule is called.
    pub rule_name: String,
    /// What it asks.
    pub condition: ConditionName,
    /// How bad it is.
    pub severity: Severity,
    /// What shows it.
    pub evidence: Evidence,
    /// When people may be told.
    pub tell_at: DateTime<Utc>,
    /// Who is told; all channels when it is absent.
    pub channels: Option<Vec<ChannelId>>,
    /// How long ago the same trouble must have been resolved at least.
    pub cool_down: Duration,
}

/// A turn of an alert.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Of what.
    pub subject: Subject,
    /// By which rule.
    pub rule: RuleKey,
    /// It opens; `None`: it resolves.
    pub fires: Option<Box<Firing>>,
}

const MOST_DUE: i64 = 200;

impl System {
    /// How the destinations of a partition fared when they were last observed.
    pub async fn observed(&self, partition: i32) -> Result<Vec<Observed>> {
        let rows = bounded!(
            self,
            sqlx::query!(
                "select destination_id, organization_id, endpoint_id, failures_in_a_row, observed_offset, failing_since,
                     last_success_at, last_attempt_at, last_error
                 from destination_health h where observed_partition = $1 and not exists (select from destinations d
                     where d.organization_id = h.organization_id and d.id = h.destination_id
                         and d.deleted_at is not null)",
                partition
            ),
            fetch_all
        );
        let decoded = rows.into_iter().map(|found| {
            let row = Row { table: "destination_health", id: found.destination_id };
            let failures = u32::try_from(found.failures_in_a_row).map_err(|_| "negative");
            Ok(Observed {
                organization_id: found.organization_id.into(),
                endpoint_id: found.endpoint_id.into(),
                destination_id: found.destination_id.into(),
                partition,
                offset: found.observed_offset,
                failures_in_a_row: row.value("failures_in_a_row", failures)?,
                recovered: false,
                failing_since: found.failing_since,
                last_success_at: found.last_success_at,
                last_attempt_at: found.last_attempt_at,
                last_error: found.last_error,
            })
        });
        decoded.collect()
    }

    /// The open alerts of the destinations of a partition, each with its rule; what no rule can be read from is left out.
    pub async fn open_alerts(&self, partition: i32) -> Result<Vec<(DestinationId, RuleKey)>> {
        let rows = bounded!(
            self,
            sqlx::query!(
                r#"select a.destination_id as "destination_id!", a.kind from destination_health h
                   join alerts a on a.destination_id = h.destination_id and a.resolved_at is null
                   where h.observed_partition = $1"#,
                partition
            ),
            fetch_all
        );
        let known =
            rows.into_iter().filter_map(|row| Some((row.destination_id.into(), RuleKey::parse(&row.kind)?)));
        Ok(known.collect())
    }

    /// Takes how destinations fare, each at most once, and the turns that follow, in their order. Answers which of the turns came
    /// about: an alert that is open already, was resolved within its cool-down, or was resolved by a person while this
    /// trouble lasts does not open. What was observed before changes nothing, and nor do turns of such destinations.
    pub async fn observe(&self, observed: &[Observed], turns: &[Turn]) -> Result<Vec<bool>> {
        let mut transaction = self.pool.begin().await?;
        let taken = take(&mut transaction, observed).await?;
        let counts = |turn: &&Turn| {
            turn.subject.destination_id.is_none_or(|destination| taken.contains(&destination.0))
        };
        let counted: Vec<&Turn> = turns.iter().filter(counts).collect();
        let mut came = turn_all(&mut transaction, &counted).await?.into_iter();
        transaction.commit().await?;
        Ok(turns.iter().map(|turn| counts(&turn) && came.next().unwrap_or_default()).collect())
    }

    /// Takes turns that follow from no outcome, as [`System::observe`] does.
    pub async fn turn(&self, turns: &[Turn]) -> Result<Vec<bool>> {
        let mut transaction = self.pool.begin().await?;
        let came = turn_all(&mut transaction, &turns.iter().collect::<Vec<_>>()).await?;
        transaction.commit().await?;
        Ok(came)
    }

    /// Forgets offsets beyond the end of a partition: its topic was made anew.
    pub async fn forget_observed_beyond(&self, partition: i32, end: i64) -> Result<()> {
        bounded!(
            self,
            sqlx::query!(
                "update destination_health set observed_offset = -1 where observed_partition = $1 and observed_offset >= $2",
                partition,
                end
            ),
            execute
        );
        Ok(())
    }

    /// Writes the notifications of open alerts that nobody has been told of and may be told now: those that were muted, whose
    /// organization had no channel, or that a release before has opened. Answers how many alerts that were.
    pub async fn tell_due_alerts(&self) -> Result<usize> {
        let mut transaction = self.pool.begin().await?;
        let due = sqlx::query!(
            "select a.organization_id, a.id from alerts a
             where a.notified_at is null and a.resolved_at is null and a.tell_at <= now()
                 and exists (select from channels c
                     where c.organization_id = a.organization_id and c.state = 'enabled')
             order by a.tell_at limit $1 for update of a skip locked",
            MOST_DUE
        )
        .fetch_all(&mut *transaction)
        .await?;
        if due.is_empty() {
            return Ok(0);
        }
        let (organizations, alerts): (Vec<Uuid>, Vec<Uuid>) =
            due.iter().map(|alert| (alert.organization_id, alert.id)).unzip();
        tell(&mut transaction, &organizations, &alerts).await?;
        // Everybody was told by the release before.
        sqlx::query!(
            "update alerts a set tell_at = 'infinity' from unnest($1::uuid[], $2::uuid[]) as due (organization_id, id)
             where a.organization_id = due.organization_id and a.id = due.id and a.tell_at <= now()",
            &organizations,
            &alerts
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(due.len())
    }

    /// Resolves the open alerts of what was deleted; pagers alone are told. Answers how many.
    pub async fn resolve_alerts_of_deleted(&self) -> Result<usize> {
        let mut transaction = self.pool.begin().await?;
        let ended = sqlx::query_scalar!(
            "update alerts a set resolved_at = now(), resolved_by = 'deletion', tell_at = 'infinity'
             where a.resolved_at is null and (
                 exists (select from destinations d where d.organization_id = a.organization_id
                     and d.id = a.destination_id and d.deleted_at is not null)
                 or exists (select from endpoints e where e.organization_id = a.organization_id
                     and e.id = a.endpoint_id and e.deleted_at is not null))
             returning id"
        )
        .fetch_all(&mut *transaction)
        .await?;
        if !ended.is_empty() {
            tell_ended(&mut transaction, &ended).await?;
        }
        transaction.commit().await?;
        Ok(ended.len())
    }
}

async fn take(connection: &mut PgConnection, observed: &[Observed]) -> Result<HashSet<Uuid>> {
    if observed.is_empty() {
        return Ok(HashSet::new());
    }
    let rows: Vec<Value> = observed.iter().map(health).collect();
    let taken = sqlx::query_scalar!(
        "insert into destination_health as h
             (destination_id, organization_id, endpoint_id, failures_in_a_row, observed_partition, observed_offset,
              recovered_at, failing_since, last_success_at, last_attempt_at, last_error)
         select destination_id, organization_id, endpoint_id, failures_in_a_row, partition, position,
             case when recovered then now() end, failing_since, last_success_at, last_attempt_at, last_error
         from jsonb_to_recordset($1) as t (destination_id uuid, organization_id uuid, endpoint_id uuid,
             failures_in_a_row integer, partition integer, position bigint, recovered boolean,
             failing_since timestamptz, last_success_at timestamptz, last_attempt_at timestamptz, last_error text)
         order by destination_id
         on conflict (destination_id) do update
         set failures_in_a_row = excluded.failures_in_a_row,
             recovered_at = coalesce(excluded.recovered_at, h.recovered_at),
             failing_since = excluded.failing_since,
             last_success_at = coalesce(excluded.last_success_at, h.last_success_at),
             last_attempt_at = excluded.last_attempt_at, last_error = excluded.last_error,
             observed_partition = excluded.observed_partition, observed_offset = excluded.observed_offset,
             updated_at = now()
         where h.observed_partition <> excluded.observed_partition or h.observed_offset < excluded.observed_offset
         returning destination_id",
        Value::from(rows)
    )
    .fetch_all(&mut *connection)
    .await?;
    Ok(taken.into_iter().collect())
}

fn health(observed: &Observed) -> Value {
    json!({
        "destination_id": observed.destination_id,
        "organization_id": observed.organization_id,
        "endpoint_id": observed.endpoint_id,
        "failures_in_a_row": i32::try_from(observed.failures_in_a_row).unwrap_or(i32::MAX),
        "partition": observed.partition,
        "position": observed.offset,
        "recovered": observed.recovered,
        "failing_since": observed.failing_since,
        "last_success_at": observed.last_success_at,
        "last_attempt_at": observed.last_attempt_at,
        "last_error": observed.last_error,
    })
}

/// As few statements as the order allows: alerts that open one after the other are one, and those that resolve.
async fn turn_all(connection: &mut PgConnection, turns: &[&Turn]) -> Result<Vec<bool>> {
    let mut came = Vec::with_capacity(turns.len());
    for run in turns.chunk_by(|one, next| one.fires.is_some() == next.fires.is_some()) {
        let done = match run[0].fires {
            Some(_) => open(connection, run).await?,
            None => resolve(connection, run).await?,
        };
        came.extend(done);
    }
    Ok(came)
}

async fn open(connection: &mut PgConnection, turns: &[&Turn]) -> Result<Vec<bool>> {
    let rows: Vec<Value> =
        turns.iter().filter_map(|turn| Some(firing(turn, turn.fires.as_deref()?))).collect();
    let opened = sqlx::query!(
        "insert into alerts (organization_id, id, endpoint_id, destination_id, kind, condition, rule_name, severity,
             failures, last_error, evidence, tell_at, channel_ids)
         select organization_id, id, endpoint_id, destination_id, kind, condition, rule_name, severity,
             failures, last_error, evidence, tell_at, channel_ids
         from jsonb_to_recordset($1) as t (organization_id uuid, id uuid, endpoint_id uuid, destination_id uuid,
             subject uuid, kind text, condition text, rule_name text, severity text, failures integer, last_error text,
             evidence jsonb, tell_at timestamptz, channel_ids uuid[], cool_down double precision, since timestamptz)
         where not exists (select from alerts a
             where coalesce(a.destination_id, a.endpoint_id, a.organization_id) = t.subject and a.kind = t.kind
                 and a.resolved_at is not null and (a.resolved_at > now() - make_interval(secs => t.cool_down)
                     or (a.resolved_by not in ('rule', 'deletion') and a.resolved_at > t.since)))
             -- What is deleted is nobody's trouble any more, and what is held is attempted no more.
             and (t.destination_id is null or exists (select from destinations d
                 where d.organization_id = t.organization_id and d.id = t.destination_id and d.deleted_at is null
                     and (t.condition <> 'destination_down' or d.status = 'active')))
         on conflict do nothing
         returning organization_id, id",
        Value::from(rows)
    )
    .fetch_all(&mut *connection)
    .await?;
    let (organizations, alerts): (Vec<Uuid>, Vec<Uuid>) =
        opened.iter().map(|alert| (alert.organization_id, alert.id)).unzip();
    if !alerts.is_empty() {
        tell(connection, &organizations, &alerts).await?;
    }
    let came = |turn: &&Turn| turn.fires.as_ref().is_some_and(|firing| alerts.contains(&firing.alert_id.0));
    Ok(turns.iter().map(came).collect())
}

fn firing(turn: &Turn, firing: &Firing) -> Value {
    let evidence = &firing.evidence;
    json!({
        "organization_id": turn.subject.organization_id,
        "id": firing.alert_id,
        "endpoint_id": turn.subject.endpoint_id,
        "destination_id": turn.subject.destination_id,
        "subject": turn.subject.id(),
        "kind": turn.rule.to_string(),
        "condition": firing.condition,
        "rule_name": firing.rule_name,
        "severity": firing.severity,
        "failures": i32::try_from(evidence.failures_in_a_row.unwrap_or_default()).unwrap_or(i32::MAX),
        "last_error": evidence.last_error,
        "evidence": evidence,
        "tell_at": firing.tell_at,
        "channel_ids": firing.channels,
        "cool_down": firing.cool_down.as_secs_f64(),
        "since": evidence.since,
    })
}

/// Writes what channels are to be told of alerts that have opened. A rule that names no channel that works is told to all. An alert
/// that nobody can be told of, or may be told of yet, stays due.
async fn tell(connection: &mut PgConnection, organizations: &[Uuid], alerts: &[Uuid]) -> Result<()> {
    sqlx::query!(
        "with told as (
             insert into notifications (organization_id, channel_id, alert_id, kind)
             select a.organization_id, c.id, a.id, 'fired'
             from unnest($1::uuid[], $2::uuid[]) as due (organization_id, id)
             join alerts a on a.organization_id = due.organization_id and a.id = due.id
             join channels c on c.organization_id = a.organization_id and c.state = 'enabled'
                 and not (c.type = 'email' and c.address = any (a.told))
                 and (a.channel_ids is null or c.id = any (a.channel_ids)
                     or not exists (select from channels named where named.organization_id = a.organization_id
                         and named.id = any (a.channel_ids) and named.state = 'enabled'))
             where a.tell_at <= now() and a.resolved_at is null
             on conflict do nothing
             returning organization_id, alert_id)
         update alerts a set tell_at = 'infinity' from told
         where a.organization_id = told.organization_id and a.id = told.alert_id",
        organizations,
        alerts
    )
    .execute(&mut *connection)
    .await?;
    Ok(())
}

async fn resolve(connection: &mut PgConnection, turns: &[&Turn]) -> Result<Vec<bool>> {
    let (subjects, rules): (Vec<Uuid>, Vec<String>) =
        turns.iter().map(|turn| (turn.subject.id(), turn.rule.to_string())).unzip();
    let resolved = sqlx::query!(
        r#"update alerts a set resolved_at = now(), tell_at = 'infinity'
           from unnest($1::uuid[], $2::text[]) as gone (subject, kind)
           where coalesce(a.destination_id, a.endpoint_id, a.organization_id) = gone.subject and a.kind = gone.kind
               and a.resolved_at is null
           returning a.id, gone.subject as "subject!", gone.kind as "kind!""#,
        &subjects,
        &rules
    )
    .fetch_all(&mut *connection)
    .await?;
    let alerts: Vec<Uuid> = resolved.iter().map(|alert| alert.id).collect();
    if !alerts.is_empty() {
        tell_resolved(connection, &alerts).await?;
    }
    let came = subjects
        .iter()
        .zip(&rules)
        .map(|(subject, rule)| resolved.iter().any(|alert| alert.subject == *subject && alert.kind == *rule));
    Ok(came.collect())
}

/// Whoever was told, or is being told, that it is wrong is told that it is well again. Who was not to be told yet, since it
/// was muted, is told nothing.
pub(crate) async fn tell_resolved(connection: &mut PgConnection, alerts: &[Uuid]) -> Result<()> {
    sqlx::query!(
        "delete from notifications where alert_id = any($1) and kind = 'fired' and state = 'pending' and attempts = 0
             and next_at > now()",
        alerts
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "insert into notifications (organization_id, channel_id, alert_id, kind)
         select n.organization_id, n.channel_id, n.alert_id, 'resolved' from notifications n
         join channels c on c.organization_id = n.organization_id and c.id = n.channel_id and c.state = 'enabled'
         where n.alert_id = any($1) and n.kind = 'fired' and n.state <> 'failed'
         on conflict do nothing",
        alerts
    )
    .execute(&mut *connection)
    .await?;
    Ok(())
}

/// An alert ended without being well: nobody is told but pagers, which would go on calling somebody.
pub(crate) async fn tell_ended(connection: &mut PgConnection, alerts: &[Uuid]) -> Result<()> {
    sqlx::query!(
        "insert into notifications (organization_id, channel_id, alert_id, kind)
         select n.organization_id, n.channel_id, n.alert_id, 'resolved' from notifications n
         join channels c on c.organization_id = n.organization_id and c.id = n.channel_id and c.state = 'enabled'
             and c.type in ('pagerduty', 'opsgenie')
         where n.alert_id = any($1) and n.kind = 'fired' and n.state <> 'failed'
         on conflict do nothing",
        alerts
    )
    .execute(connection)
    .await?;
    Ok(())
}
