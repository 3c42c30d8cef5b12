//! Bulk replays of an organization: made, looked at and steered. The work is the system's (`System::replay_step`).

use chrono::{DateTime, Utc};
use ravenpost_core::audit::Action;
use ravenpost_core::ids::{DestinationId, ReplayJobId};
use ravenpost_core::replay::{ReplayFilter, ReplayKind, ReplayState, Steer};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::yielding::{TRIES, has_yielded};
use super::{Listed, Page, Tenant, unsigned};
use crate::audit::Entry;
use crate::decode::Row;
use crate::replay::create::{Job, MOST_DESTINATIONS, Target, targets};
use crate::{Error, Result};

pub use crate::replay::candidates::Matched;

/// Most jobs of an organization that are neither done nor cancelled.
pub const MOST_JOBS: i64 = 50;
/// Deliveries that wait are counted up to this.
pub const MOST_COUNTED: i64 = 10_000;

/// A bulk replay to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewReplayJob<'a> {
    /// Its id.
    pub id: ReplayJobId,
    /// Who asks for it.
    pub kind: ReplayKind,
    /// What to replay; checked before.
    pub filter: &'a ReplayFilter,
    /// Most deliveries that are scheduled in a second for each destination, at least one.
    pub rate: Option<u32>,
}

/// A bulk replay and its progress.
#[derive(Debug, Clone)]
pub struct ReplayJob {
    /// Its id.
    pub id: ReplayJobId,
    /// Who asked for it.
    pub kind: ReplayKind,
    /// Where it stands.
    pub state: ReplayState,
    /// What it replays.
    pub filter: ReplayFilter,
    /// Most deliveries that are scheduled in a second for each destination.
    pub rate: Option<u32>,
    /// What its filter found when it was made.
    pub matched: Matched,
    /// Deliveries scheduled so far.
    pub scheduled: u64,
    /// Found and left alone, since they waited or had changed meanwhile.
    pub skipped: u64,
    /// Scheduled, and taken back since the job was cancelled.
    pub withdrawn: u64,
    /// Scheduled, and not sent yet; counted up to [`MOST_COUNTED`].
    pub waiting: u64,
    /// Sent without success, and waiting for a retry; counted up to [`MOST_COUNTED`].
    pub retrying: u64,
    /// How many destinations it replays to.
    pub destinations: u64,
    /// How many of them it is through with.
    pub ended: u64,
    /// What went wrong, with one of the destinations.
    pub error: Option<String>,
    /// With which ones something went wrong.
    pub erring: Vec<DestinationId>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it was done, failed or was cancelled.
    pub finished_at: Option<DateTime<Utc>>,
}

/// Why no job is made.
#[derive(Debug, thiserror::Error)]
pub enum ReplayJobError {
    /// The filter's destination is not there, or not of the filter's endpoint.
    #[error("there is no such destination")]
    NoDestination,
    /// The filter's endpoint is not there, or has none.
    #[error("there is no such endpoint, or it has no destination")]
    NoEndpoint,
    /// The organization has no destination.
    #[error("there is no destination to replay to")]
    NoDestinations,
    /// More than one job can hold.
    #[error("there are more than {MOST_DESTINATIONS} destinations: name an endpoint or a destination")]
    TooManyDestinations,
    /// See [`MOST_JOBS`].
    #[error("there are {MOST_JOBS} replays that are not finished yet")]
    TooManyJobs,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

/// What became of the wish to steer a job.
#[derive(Debug, Clone)]
pub enum Steered {
    /// It is so now.
    Changed(Box<ReplayJob>),
    /// There is no such job.
    NoJob,
    /// It makes no sense in this state.
    Refused(ReplayState),
}

/// A row as it is stored, with what its destinations come to.
struct JobRow {
    id: Uuid,
    kind: String,
    state: String,
    filter: serde_json::Value,
    rate: Option<i32>,
    matched: i64,
    matched_exactly: bool,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    scheduled: i64,
    skipped: i64,
    withdrawn: i64,
    waiting: i64,
    retrying: i64,
    destinations: i64,
    ended: i64,
    error: Option<String>,
    erring: Vec<Uuid>,
}

impl JobRow {
    fn decode(self) -> Result<ReplayJob> {
        let row = Row { table: "replay_jobs", id: self.id };
        let count = |column, value: i64| row.value(column, u64::try_from(value));
        Ok(ReplayJob {
            id: self.id.into(),
            kind: row.word("kind", &self.kind, ReplayKind::parse)?,
            state: row.word("state", &self.state, ReplayState::parse)?,
            filter: row.json("filter", self.filter)?,
            rate: self.rate.map(|rate| unsigned(row, "rate", rate)).transpose()?,
            matched: Matched { count: count("matched", self.matched)?, exact: self.matched_exactly },
            scheduled: count("scheduled", self.scheduled)?,
            skipped: count("skipped", self.skipped)?,
            withdrawn: count("withdrawn", self.withdrawn)?,
            waiting: count("waiting", self.waiting)?,
            retrying: count("retrying", self.retrying)?,
            destinations: count("destinations", self.destinations)?,
            ended: count("ended", self.ended)?,
            error: self.error,
            erring: self.erring.into_iter().map(DestinationId).collect(),
            created_at: self.created_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
        })
    }
}

impl Tenant {
    /// How many pairs a job of that filter would replay now.
    pub async fn count_replay(&self, filter: &ReplayFilter) -> std::result::Result<Matched, ReplayJobError> {
        let new = NewReplayJob { id: Uuid::nil().into(), kind: ReplayKind::Replay, filter, rate: None };
        let mut transaction = self.begin_reading().await?;
        let targets = self.replay_targets(&mut transaction, filter).await?;
        Ok(self.as_job(&new).count(&mut transaction, &targets).await?)
    }

    /// Makes a job of the events that were accepted by now, for the destinations that there are now.
    pub async fn create_replay_job(
        &self,
        new: &NewReplayJob<'_>,
        now: DateTime<Utc>,
    ) -> std::result::Result<ReplayJob, ReplayJobError> {
        let matched = self.count_replay(new.filter).await?;
        let mut transaction = self.begin_change().await?;
        let targets = self.replay_targets(&mut transaction, new.filter).await?;
        if self.unfinished_jobs(&mut transaction).await? >= MOST_JOBS {
            return Err(ReplayJobError::TooManyJobs);
        }
        self.as_job(new).insert(&mut transaction, &targets, matched, now).await?;
        let made = self.select_job(&mut transaction, new.id).await?;
        transaction.commit(&self.as_job(new).told(matched), now).await?;
        Ok(made
            .ok_or_else(|| Row { table: "replay_jobs", id: new.id.0 }.damaged("id", &"not there"))
            .map_err(Error::from)?)
    }

    fn as_job<'a>(&self, new: &NewReplayJob<'a>) -> Job<'a> {
        Job {
            organization: self.organization.0,
            id: new.id,
            kind: new.kind,
            filter: new.filter,
            rate: new.rate,
            died_before: None,
            runs_below: None,
        }
    }

    async fn replay_targets(
        &self,
        connection: &mut PgConnection,
        filter: &ReplayFilter,
    ) -> std::result::Result<Vec<Target>, ReplayJobError> {
        let targets = targets(connection, self.organization.0, filter).await?;
        if targets.len() > MOST_DESTINATIONS {
            return Err(ReplayJobError::TooManyDestinations);
        }
        match (targets.is_empty(), filter.destination_id, filter.endpoint_id) {
            (false, _, _) => Ok(targets),
            (true, Some(_), _) => Err(ReplayJobError::NoDestination),
            (true, None, Some(_)) => Err(ReplayJobError::NoEndpoint),
            (true, None, None) => Err(ReplayJobError::NoDestinations),
        }
    }

    async fn unfinished_jobs(&self, connection: &mut PgConnection) -> Result<i64> {
        let unfinished = sqlx::query_scalar!(
            r#"select count(*) as "count!" from replay_jobs
             where organization_id = $1 and state in ('queued', 'running', 'paused')"#,
            self.organization.0
        )
        .fetch_one(connection)
        .await?;
        Ok(unfinished)
    }

    /// The organization's bulk replays, newest first.
    pub async fn replay_jobs(&self, page: Page) -> Result<Listed<ReplayJob>> {
        let mut transaction = self.begin().await?;
        let rows = self.select_jobs(&mut transaction, page.below(), None, page.to_read()).await?;
        let jobs = rows.into_iter().map(JobRow::decode).collect::<Result<_>>()?;
        Ok(page.cut(jobs, |job: &ReplayJob| job.id.0))
    }

    /// The bulk replay of that id.
    pub async fn replay_job(&self, id: ReplayJobId) -> Result<Option<ReplayJob>> {
        let mut transaction = self.begin().await?;
        self.select_job(&mut transaction, id).await
    }

    async fn select_job(&self, connection: &mut PgConnection, id: ReplayJobId) -> Result<Option<ReplayJob>> {
        let rows = self.select_jobs(connection, Uuid::max(), Some(id.0), 1).await?;
        rows.into_iter().next().map(JobRow::decode).transpose()
    }

    async fn select_jobs(
        &self,
        connection: &mut PgConnection,
        below: Uuid,
        only: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<JobRow>> {
        let rows = sqlx::query_as!(
            JobRow,
            r#"select j.id, j.kind, j.state, j.filter, j.rate, j.matched, j.matched_exactly, j.created_at, j.started_at,
                 j.finished_at, p.scheduled as "scheduled!", p.skipped as "skipped!", p.withdrawn as "withdrawn!",
                 w.waiting as "waiting!", r.retrying as "retrying!", p.destinations as "destinations!",
                 p.ended as "ended!", p.error, p.erring as "erring!"
             from (select * from replay_jobs where organization_id = $1 and id < $2 and ($3::uuid is null or id = $3)
                   order by id desc limit $4) j
             cross join lateral (select coalesce(sum(t.scheduled), 0)::bigint as scheduled,
                     coalesce(sum(t.skipped), 0)::bigint as skipped, coalesce(sum(t.withdrawn), 0)::bigint as withdrawn,
                     count(*) as destinations, count(*) filter (where t.phase = 'ended') as ended,
                     min(t.error) as error,
                     coalesce(array_agg(t.destination_id) filter (where t.error is not null), '{}') as erring
                 from replay_job_destinations t where t.organization_id = $1 and t.job_id = j.id) p
             cross join lateral (select count(*) as waiting from (select 1 from scheduled_deliveries s
                 where s.organization_id = $1 and s.replay_job_id = j.id and s.attempt_number = 1 limit $5) s) w
             cross join lateral (select count(*) as retrying from (select 1 from scheduled_deliveries s
                 where s.organization_id = $1 and s.replay_job_id = j.id and s.attempt_number > 1 limit $5) s) r
             order by j.id desc"#,
            self.organization.0,
            below,
            only,
            limit,
            MOST_COUNTED
        )
        .fetch_all(connection)
        .await?;
        Ok(rows)
    }

    /// Pauses, resumes or cancels a job. A step in progress is waited for; when this returns, none is.
    pub async fn steer_replay_job(
        &self,
        id: ReplayJobId,
        steer: Steer,
        now: DateTime<Utc>,
    ) -> Result<Steered> {
        for _ in 1..TRIES {
            match self.try_steer(id, steer, now).await {
                Err(error) if has_yielded(&error) => {}
                done => return done,
            }
        }
        self.try_steer(id, steer, now).await
    }

    async fn try_steer(&self, id: ReplayJobId, steer: Steer, now: DateTime<Utc>) -> Result<Steered> {
        let mut transaction = self.begin_yielding().await?;
        // First the destinations, as a step does: whoever has them all keeps steps away.
        self.steer_destinations(&mut transaction, id, steer).await?;
        let Some(current) = self.lock_job(&mut transaction, id).await? else { return Ok(Steered::NoJob) };
        let Some(next) = steer.leads_from(current) else { return Ok(Steered::Refused(current)) };
        sqlx::query!(
            "update replay_jobs set state = $3, updated_at = $4,
                 finished_at = case when $5 then $4::timestamptz end
             where organization_id = $1 and id = $2",
            self.organization.0,
            id.0,
            next.as_str(),
            now,
            steer == Steer::Cancel
        )
        .execute(&mut *transaction)
        .await?;
        let job = self.select_job(&mut transaction, id).await?;
        let state = |state: ReplayState| json!({ "state": state.as_str() });
        let entry = Entry::of(told(steer), id).before(state(current)).after(state(next));
        transaction.commit(&entry, now).await?;
        Ok(job.map_or(Steered::NoJob, |job| Steered::Changed(Box::new(job))))
    }

    /// Rolled back unless the job itself may be steered so.
    async fn steer_destinations(
        &self,
        connection: &mut PgConnection,
        id: ReplayJobId,
        steer: Steer,
    ) -> Result<()> {
        sqlx::query!(
            "update replay_job_destinations
             set next_step_at = case when $3 then 'infinity' else now() end,
                 phase = case when $4 then 'withdrawing' else phase end
             where organization_id = $1 and job_id = $2 and phase in ('scheduling', 'draining')",
            self.organization.0,
            id.0,
            steer == Steer::Pause,
            steer == Steer::Cancel
        )
        .execute(connection)
        .await?;
        Ok(())
    }

    async fn lock_job(&self, connection: &mut PgConnection, id: ReplayJobId) -> Result<Option<ReplayState>> {
        let state = sqlx::query_scalar!(
            "select state from replay_jobs where organization_id = $1 and id = $2 for update",
            self.organization.0,
            id.0
        )
        .fetch_optional(connection)
        .await?;
        let row = Row { table: "replay_jobs", id: id.0 };
        let word = |state: String| row.word("state", &state, ReplayState::parse);
        Ok(state.map(word).transpose()?)
    }
}

fn told(steer: Steer) -> Action {
    match steer {
        Steer::Pause => Action::ReplayPaused,
        Steer::Resume => Action::ReplayResumed,
        Steer::Cancel => Action::ReplayCancelled,
    }
}
