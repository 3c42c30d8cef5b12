//! What no outcome tells: deliveries that wait, endpoints that receive nothing, requests that fail verification. Asked by one
//! elected process, with a bound on each question.

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_core::alert::judge::{Received, USUALLY, Waits};
use ravenpost_core::alert::{ConditionName, RuleKey};
use sqlx::{Executor, PgConnection};
use uuid::Uuid;

use super::{Subject, System};
use crate::Result;

/// The key of the advisory lock by which the process is elected.
const ABSENCE: i64 = 0x7261_7665_6eff;
/// Most destinations or endpoints of one answer: the worst come first.
const MOST: i64 = 5_000;
/// Most deliveries that are counted of one destination, unless a rule asks for more.
const MOST_COUNTED: i32 = 10_000;

/// One thing that is known of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// What waits for a destination.
    Waits(Waits),
    /// What an endpoint has received.
    Received(Received),
    /// Requests to an endpoint that failed verification, by the minutes of this hour and the one before that had any.
    Rejected(Vec<(DateTime<Utc>, u32)>),
}

impl Fact {
    /// Which condition asks for it.
    pub fn condition(&self) -> ConditionName {
        match self {
            Self::Waits(_) => ConditionName::Backlog,
            Self::Received(_) => ConditionName::EndpointSilent,
            Self::Rejected(_) => ConditionName::SignatureFailures,
        }
    }
}

/// What is known, and the alerts that are open by it.
#[derive(Debug, Clone, Default)]
pub struct Absence {
    /// By subject.
    pub facts: Vec<(Subject, Fact)>,
    /// Open alerts of these conditions.
    pub open: Vec<(Subject, RuleKey, ConditionName)>,
    /// Of these there are more facts than were read: a subject without one may have it nevertheless.
    pub cut: Vec<ConditionName>,
}

impl Absence {
    fn take(&mut self, condition: ConditionName, facts: Vec<(Subject, Fact)>) {
        if i64::try_from(facts.len()).is_ok_and(|count| count >= MOST) {
            self.cut.push(condition);
        }
        self.facts.extend(facts);
    }
}

fn subject(organization: Uuid, endpoint: Option<Uuid>, destination: Option<Uuid>) -> Subject {
    Subject {
        organization_id: organization.into(),
        endpoint_id: endpoint.map(Into::into),
        destination_id: destination.map(Into::into),
    }
}

fn bounded(count: i64) -> u32 {
    u32::try_from(count.max(0)).unwrap_or(u32::MAX)
}

impl System {
    /// Everything of this kind; `None` while another process is at it.
    pub async fn absence(&self) -> Result<Option<Absence>> {
        let mut transaction = self.pool.begin().await?;
        let elected = sqlx::query_scalar!("select pg_try_advisory_xact_lock($1) as \"elected!\"", ABSENCE)
            .fetch_one(&mut *transaction)
            .await?;
        if !elected {
            return Ok(None);
        }
        // By destination and by endpoint: however many rows there are of others, the planner must not read them all.
        transaction.execute("set local enable_seqscan = off").await?;
        let mut absence = Absence::default();
        waits(&mut transaction, &mut absence).await?;
        received(&mut transaction, &mut absence).await?;
        rejected(&mut transaction, &mut absence).await?;
        let open = sqlx::query!(
            "select organization_id, endpoint_id, destination_id, kind, condition from alerts
             where resolved_at is null and condition in ('backlog', 'endpoint_silent', 'signature_failures')"
        )
        .fetch_all(&mut *transaction)
        .await?;
        absence.open.extend(open.into_iter().filter_map(|row| {
            let subject = subject(row.organization_id, row.endpoint_id, row.destination_id);
            Some((subject, RuleKey::parse(&row.kind)?, ConditionName::parse(&row.condition)?))
        }));
        // Nothing was written.
        transaction.rollback().await?;
        Ok(Some(absence))
    }
}

/// What has been due for a minute and waits, of destinations that are not held on purpose, among the oldest of each: what was
/// held before it was resumed is read and not counted.
///
/// Why a row waits is asked of those that were read. As a condition on them it would be a guess of the planner's, and where it
/// takes nearly everything for held it expects one row and reads another index from end to end.
async fn waits(connection: &mut PgConnection, absence: &mut Absence) -> Result<()> {
    let rows = sqlx::query!(
        r#"select d.organization_id, d.endpoint_id, d.id as destination_id, w.waiting as "waiting!", w.oldest
           from destinations d
           join endpoints e on e.organization_id = d.organization_id and e.id = d.endpoint_id
           cross join lateral (select count(*) as waiting, min(due.due_at) as oldest from (
               select s.due_at, s.reason from scheduled_deliveries s
               where s.destination_id = d.id and s.due_at <= now() - interval '1 minute'
               order by s.due_at, s.event_id limit (select greatest($2, max((r.condition ->> 'waiting')::integer)) + 1
                   from alert_rules r where r.organization_id = d.organization_id and r.enabled
                       and r.condition ->> 'type' = 'backlog')) as due where due.reason <> 'held') as w
           where d.deleted_at is null and d.status = 'active' and e.status = 'active' and w.waiting > 0
           order by w.oldest limit $1"#,
        MOST,
        MOST_COUNTED
    )
    .fetch_all(connection)
    .await?;
    let facts = rows.into_iter().map(|row| {
        let subject = subject(row.organization_id, Some(row.endpoint_id), Some(row.destination_id));
        (subject, Fact::Waits(Waits { waiting: bounded(row.waiting), oldest_due_at: row.oldest }))
    });
    absence.take(ConditionName::Backlog, facts.collect());
    Ok(())
}

/// What endpoints that have gone silent had received in the day before, of the last eight days, and those that an alert takes
/// for silent. One that is paused accepts events as well.
async fn received(connection: &mut PgConnection, absence: &mut Absence) -> Result<()> {
    let rows = sqlx::query!(
        r#"select e.organization_id, e.id as endpoint_id, count(*) as "busy!", max(t.starts_at) as "last!",
               now() as "now!"
           from delivery_stats t
           join endpoints e on e.organization_id = t.organization_id and e.id = t.endpoint_id
           where t.grain = 'hour' and t.destination_id = '00000000-0000-0000-0000-000000000000'
               and t.endpoint_id <> '00000000-0000-0000-0000-000000000000' and t.accepted > 0
               and t.starts_at > now() - interval '8 days' and e.deleted_at is null
               and t.starts_at > (select max(l.starts_at) - interval '24 hours' from delivery_stats l
                   where l.organization_id = t.organization_id and l.endpoint_id = t.endpoint_id
                       and l.destination_id = t.destination_id and l.grain = 'hour' and l.accepted > 0)
           group by e.organization_id, e.id
           having max(t.starts_at) < now() - interval '1 hour' and count(*) >= $2
               or exists (select from alerts a where a.organization_id = e.organization_id and a.endpoint_id = e.id
                   and a.condition = 'endpoint_silent' and a.resolved_at is null)
           order by max(t.starts_at) desc limit $1"#,
        MOST,
        i64::from(USUALLY)
    )
    .fetch_all(connection)
    .await?;
    let facts = rows.into_iter().map(|row| {
        let last_at = Some(end_of_hour(row.last, row.now));
        let fact = Fact::Received(Received { busy_hours: bounded(row.busy), last_at });
        (subject(row.organization_id, Some(row.endpoint_id), None), fact)
    });
    absence.take(ConditionName::EndpointSilent, facts.collect());
    Ok(())
}

/// Something was received in the hour that begins so; silence is counted from its end.
fn end_of_hour(start: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
    (start + TimeDelta::hours(1)).min(now)
}

async fn rejected(connection: &mut PgConnection, absence: &mut Absence) -> Result<()> {
    let rows = sqlx::query!(
        r#"select organization_id, endpoint_id, array_agg(hour + (place - 1) * interval '1 minute') as "minutes!",
               array_agg(rejected) as "rejected!"
           from rejected_counts, unnest(by_minute) with ordinality as t (rejected, place)
           where hour >= date_trunc('hour', now() - interval '1 hour', 'UTC') and rejected > 0
           group by organization_id, endpoint_id order by sum(rejected) desc limit $1"#,
        MOST
    )
    .fetch_all(connection)
    .await?;
    let facts = rows.into_iter().map(|row| {
        let counts = row.rejected.into_iter().map(bounded);
        let rejected = row.minutes.into_iter().zip(counts).collect();
        (subject(row.organization_id, Some(row.endpoint_id), None), Fact::Rejected(rejected))
    });
    absence.take(ConditionName::SignatureFailures, facts.collect());
    Ok(())
}
