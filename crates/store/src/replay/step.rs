//! One step of a job for one destination: claimed, done and moved on in one transaction.

use chrono::{DateTime, Utc};
use ravenpost_core::ids::{DestinationId, OrganizationId, ReplayJobId};
use ravenpost_core::replay::ReplayFilter;
use sqlx::{AssertSqlSafe, Executor, PgConnection};
use uuid::Uuid;

use super::candidates::Sought;
use super::{MOST_WAITING, withdraw};
use crate::Result;
use crate::decode::Row;

/// Most events that one step looks at.
const PAGE: i64 = 1_000;
/// When a job with enough unsent, or that waits for its last ones, looks again, in seconds.
const AGAIN: f64 = 1.0;

/// A destination of a job, locked.
#[derive(Debug, Clone)]
pub(crate) struct Track {
    pub(crate) organization: Uuid,
    pub(crate) job: Uuid,
    pub(crate) destination: Uuid,
    pub(crate) endpoint: Uuid,
    phase: String,
    reached: Uuid,
    filter: serde_json::Value,
    through: Uuid,
    died_before: Option<DateTime<Utc>>,
    runs_below: Option<i32>,
    rate: Option<i32>,
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayStep {
    /// Whose job.
    pub organization_id: OrganizationId,
    /// Which one.
    pub job_id: ReplayJobId,
    /// For which destination.
    pub destination_id: DestinationId,
    /// Deliveries that it scheduled.
    pub scheduled: u64,
    /// Those that it found and left alone, since they were scheduled or delivered meanwhile.
    pub skipped: u64,
    /// Deliveries of a cancelled job that it took back.
    pub withdrawn: u64,
    /// Nothing more is to be done for the destination.
    pub ended: bool,
}

/// What a page of a job comes to.
struct Progress {
    reached: Uuid,
    scheduled: Vec<Uuid>,
    skipped: usize,
    /// All events were looked at.
    through: bool,
}

impl Track {
    /// Locks the destination whose turn it is; `None` when nobody's is. What another process works on is passed over.
    pub(crate) async fn claim(connection: &mut PgConnection) -> Result<Option<Self>> {
        let track = sqlx::query_as!(
            Self,
            r#"select t.organization_id as organization, t.job_id as job, t.destination_id as destination,
                 t.endpoint_id as endpoint, t.phase, t.reached, j.filter, j.through, j.died_before, j.runs_below, j.rate
             from replay_job_destinations t
             join replay_jobs j on j.organization_id = t.organization_id and j.id = t.job_id
             where t.phase <> 'ended' and t.next_step_at <= now()
             order by t.next_step_at limit 1 for update of t skip locked"#
        )
        .fetch_optional(connection)
        .await?;
        Ok(track)
    }

    /// From here on the transaction sees only what the job's organization may see.
    pub(crate) async fn enter(&self, connection: &mut PgConnection) -> Result<()> {
        // Safe to put together: a UUID prints as hexadecimal digits and hyphens.
        let statement = format!(
            "set local role ravenpost_tenant; set local ravenpost.organization_id = '{}'",
            self.organization
        );
        connection.execute(AssertSqlSafe(statement)).await?;
        Ok(())
    }

    /// Does what the phase asks for.
    pub(crate) async fn step(&self, connection: &mut PgConnection, now: DateTime<Utc>) -> Result<ReplayStep> {
        match self.phase.as_str() {
            "scheduling" => self.schedule_page(connection, now).await,
            "draining" => self.drain(connection).await,
            "withdrawing" => self.withdraw(connection, now).await,
            phase => {
                let row = Row { table: "replay_job_destinations", id: self.job };
                Err(row.damaged("phase", &format_args!("`{phase}` is not a known value")).into())
            }
        }
    }

    async fn schedule_page(&self, connection: &mut PgConnection, now: DateTime<Utc>) -> Result<ReplayStep> {
        if !self.lock_destination(&mut *connection).await? {
            return self.end(connection, Some("the destination was deleted")).await;
        }
        self.begin_job(&mut *connection, now).await?;
        let room = MOST_WAITING - self.waiting(&mut *connection, MOST_WAITING).await?;
        if room <= 0 {
            return self.look_again(connection).await;
        }
        let row = Row { table: "replay_jobs", id: self.job };
        let filter: ReplayFilter = row.json("filter", self.filter.clone())?;
        let budget = PAGE.min(room).min(self.rate.map_or(PAGE, i64::from));
        let budget = usize::try_from(budget).unwrap_or(usize::MAX);
        let progress = self.replay_page(&mut *connection, &self.sought(&filter), budget, now).await?;
        self.move_on(connection, &progress).await
    }

    fn sought<'a>(&self, filter: &'a ReplayFilter) -> Sought<'a> {
        Sought {
            organization: self.organization,
            endpoint: self.endpoint,
            destination: self.destination,
            filter,
            through: self.through,
            died_before: self.died_before,
            runs_below: self.runs_below,
        }
    }

    async fn replay_page(
        &self,
        connection: &mut PgConnection,
        sought: &Sought<'_>,
        budget: usize,
        now: DateTime<Utc>,
    ) -> Result<Progress> {
        let page = sought.page(&mut *connection, self.reached, PAGE).await?;
        let found = page.iter().filter(|candidate| candidate.matched).map(|candidate| candidate.id);
        let mut matched: Vec<Uuid> = found.collect();
        let last = page.last().map_or(self.reached, |candidate| candidate.id);
        let full = i64::try_from(page.len()) == Ok(PAGE);
        // What is beyond the budget is looked at again by the next step.
        let cut = matched.len() > budget;
        matched.truncate(budget);
        let reached = matched.last().copied().filter(|_| cut).unwrap_or(last);
        let locked = sought.lock(&mut *connection, &matched).await?;
        let scheduled = self.schedule(&mut *connection, &locked, now).await?;
        self.reopen(&mut *connection, &scheduled, now).await?;
        self.exhume(connection, &scheduled).await?;
        let skipped = matched.len() - scheduled.len();
        Ok(Progress { reached, scheduled, skipped, through: !full && !cut })
    }

    /// Locked until the commit, so that the destination's deletion comes before, or after, and then cancels.
    async fn lock_destination(&self, connection: &mut PgConnection) -> Result<bool> {
        let found = sqlx::query_scalar!(
            "select id from destinations where organization_id = $1 and id = $2 and deleted_at is null for share",
            self.organization,
            self.destination
        )
        .fetch_optional(connection)
        .await?;
        Ok(found.is_some())
    }

    async fn begin_job(&self, connection: &mut PgConnection, now: DateTime<Utc>) -> Result<()> {
        sqlx::query!(
            "update replay_jobs set state = 'running', started_at = $3, updated_at = $3
             where organization_id = $1 and id = $2 and state = 'queued'",
            self.organization,
            self.job,
            now
        )
        .execute(connection)
        .await?;
        Ok(())
    }

    /// What the job has scheduled for the destination and was not sent for the first time; counted up to `most`.
    async fn waiting(&self, connection: &mut PgConnection, most: i64) -> Result<i64> {
        let waiting = sqlx::query_scalar!(
            r#"select count(*) as "count!" from (select 1 from scheduled_deliveries
                 where replay_job_id = $1 and destination_id = $2 and attempt_number = 1 limit $3) w"#,
            self.job,
            self.destination,
            most
        )
        .fetch_one(connection)
        .await?;
        Ok(waiting)
    }

    /// Rows in the schedule, each a new run. Answers those that had none.
    async fn schedule(
        &self,
        connection: &mut PgConnection,
        events: &[Uuid],
        now: DateTime<Utc>,
    ) -> Result<Vec<Uuid>> {
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(Vec::new()) };
        let mut scheduled = sqlx::query_scalar!(
            "insert into scheduled_deliveries (event_id, destination_id, organization_id, endpoint_id, due_at, created_at,
                 run, attempt_number, reason, replay_job_id, died_of, died_at, was_filtered)
             select t.id, $2, $1, $3, $7, $7, 1 + greatest(l.run, 0, (select max(v.run) from deliveries v
                     where v.event_id = t.id and v.event_id between $5 and $6 and v.destination_id = $2
                         and v.organization_id = $1)),
                 1, 'replay', $8, l.reason, l.created_at, coalesce((select $2 = any (e.filtered) from events e
                     where e.organization_id = $1 and e.id = t.id and e.id between $5 and $6 limit 1), false)
             from unnest($4::uuid[]) t (id)
             left join dead_letters l on l.organization_id = $1 and l.event_id = t.id and l.destination_id = $2
             order by t.id
             on conflict (event_id, destination_id) do nothing
             returning event_id",
            self.organization,
            self.destination,
            self.endpoint,
            events,
            first,
            last,
            now,
            self.job
        )
        .fetch_all(connection)
        .await?;
        scheduled.sort_unstable();
        Ok(scheduled)
    }

    /// The events wait for the destination again, unless it has them.
    async fn reopen(&self, connection: &mut PgConnection, events: &[Uuid], now: DateTime<Utc>) -> Result<()> {
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(()) };
        sqlx::query!(
            "update events e set (pending, dead, filtered, status, updated_at) = (
                 select n.pending, array_remove(e.dead, $2), array_remove(e.filtered, $2),
                     case when cardinality(n.pending) > 0 then 'PENDING' else e.status end, $6::timestamptz
                 from (select case when $2 = any (e.delivered) then e.pending else e.pending || $2 end as pending) n)
             where e.organization_id = $1 and e.id = any ($3) and e.id between $4 and $5",
            self.organization,
            self.destination,
            events,
            first,
            last,
            now
        )
        .execute(connection)
        .await?;
        Ok(())
    }

    async fn exhume(&self, connection: &mut PgConnection, events: &[Uuid]) -> Result<()> {
        sqlx::query!(
            "delete from dead_letters where organization_id = $1 and destination_id = $2 and event_id = any ($3)",
            self.organization,
            self.destination,
            events
        )
        .execute(connection)
        .await?;
        Ok(())
    }

    /// The next step is due when the rate allows: what was scheduled late is caught up with, up to a second.
    async fn move_on(&self, connection: &mut PgConnection, progress: &Progress) -> Result<ReplayStep> {
        let scheduled = u32::try_from(progress.scheduled.len()).unwrap_or(u32::MAX);
        let wait = self.rate.map(|rate| f64::from(scheduled) / f64::from(rate.max(1)));
        sqlx::query!(
            "update replay_job_destinations set reached = $4, scheduled = scheduled + $5, skipped = skipped + $6,
                 phase = case when $7 then 'draining' else phase end, error = null,
                 next_step_at = case when $8::float8 is null then now()
                     else greatest(next_step_at, now() - interval '1 second') + make_interval(secs => $8) end
             where organization_id = $1 and job_id = $2 and destination_id = $3",
            self.organization,
            self.job,
            self.destination,
            progress.reached,
            i64::from(scheduled),
            i64::try_from(progress.skipped).unwrap_or(i64::MAX),
            progress.through,
            wait
        )
        .execute(connection)
        .await?;
        let skipped = u64::try_from(progress.skipped).unwrap_or(u64::MAX);
        Ok(ReplayStep { scheduled: scheduled.into(), skipped, ..self.nothing() })
    }

    async fn drain(&self, connection: &mut PgConnection) -> Result<ReplayStep> {
        if self.waiting(&mut *connection, 1).await? > 0 {
            return self.look_again(connection).await;
        }
        self.end(connection, None).await
    }

    async fn withdraw(&self, connection: &mut PgConnection, now: DateTime<Utc>) -> Result<ReplayStep> {
        let withdrawn = withdraw::step(&mut *connection, self, now).await?;
        if withdrawn == 0 {
            return self.end(connection, None).await;
        }
        sqlx::query!(
            "update replay_job_destinations set withdrawn = withdrawn + $4, next_step_at = now()
             where organization_id = $1 and job_id = $2 and destination_id = $3",
            self.organization,
            self.job,
            self.destination,
            i64::try_from(withdrawn).unwrap_or(i64::MAX)
        )
        .execute(connection)
        .await?;
        Ok(ReplayStep { withdrawn, ..self.nothing() })
    }

    async fn look_again(&self, connection: &mut PgConnection) -> Result<ReplayStep> {
        sqlx::query!(
            "update replay_job_destinations set next_step_at = now() + make_interval(secs => $4)
             where organization_id = $1 and job_id = $2 and destination_id = $3",
            self.organization,
            self.job,
            self.destination,
            AGAIN
        )
        .execute(connection)
        .await?;
        Ok(self.nothing())
    }

    async fn end(&self, connection: &mut PgConnection, error: Option<&str>) -> Result<ReplayStep> {
        sqlx::query!(
            "update replay_job_destinations set phase = 'ended', error = $4
             where organization_id = $1 and job_id = $2 and destination_id = $3",
            self.organization,
            self.job,
            self.destination,
            error
        )
        .execute(connection)
        .await?;
        Ok(ReplayStep { ended: true, ..self.nothing() })
    }

    /// A step that changed nothing.
    pub(crate) fn nothing(&self) -> ReplayStep {
        ReplayStep {
            organization_id: self.organization.into(),
            job_id: self.job.into(),
            destination_id: self.destination.into(),
            scheduled: 0,
            skipped: 0,
            withdrawn: 0,
            ended: false,
        }
    }
}
