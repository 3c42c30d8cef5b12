//! Working on bulk replays of all organizations, a step at a time, and making those that a recovery asks for.

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_core::audit::Author;
use ravenpost_core::event::EventStatus;
use ravenpost_core::ids::{DestinationId, OrganizationId, ReplayJobId};
use ravenpost_core::replay::{AUTOMATIC_RUNS, ReplayFilter, ReplayKind};
use sqlx::{Executor, PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::System;
use crate::audit::append;
use crate::lease::bounded;
use crate::replay::create::{Job, Target};
use crate::replay::step::Track;
use crate::tenant::has_yielded;
use crate::{Error, Result};

pub use crate::replay::step::ReplayStep;

/// How soon a destination of a job is tried again after a store failed, in seconds.
const AFTER_FAILURE: f64 = 5.0;
/// A recovery is believed after so long without another failure, and acted on within so long.
const SETTLE: TimeDelta = TimeDelta::seconds(10);
const FORGOTTEN: TimeDelta = TimeDelta::hours(1);

/// A destination whose dead letters are replayed since it has recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// Which one.
    pub destination_id: DestinationId,
    /// The job that replays its dead letters; `None` when it has none.
    pub job_id: Option<ReplayJobId>,
}

struct RecoveredRow {
    organization: Uuid,
    destination: Uuid,
    endpoint: Uuid,
}

impl System {
    /// Does the next step of any job: at most a page of events for one destination, in one transaction. `None` when
    /// nothing is to be done now. Any number of processes may do steps at once; a pair is scheduled once in a job.
    ///
    /// A step that fails is noted with its job, and that destination is tried again later, or never if it is not a
    /// store that was away.
    pub async fn replay_step(&self, now: DateTime<Utc>) -> Result<Option<ReplayStep>> {
        let mut transaction = self.begin_step().await?;
        let Some(track) = Track::claim(&mut transaction).await? else { return Ok(None) };
        let done = take_step(&mut transaction, &track, now).await;
        match done {
            Ok(step) => {
                transaction.commit().await?;
                Ok(Some(step))
            }
            Err(error) => {
                // Before the note, which needs the row; a connection that broke has no transaction any more.
                let _ = transaction.rollback().await;
                if has_yielded(&error) {
                    return Ok(Some(track.nothing()));
                }
                self.note_failure(&track, &error).await?;
                Err(error)
            }
        }
    }

    async fn begin_step(&self) -> Result<Transaction<'static, Postgres>> {
        let mut transaction = self.pool.begin().await?;
        transaction.execute("set local lock_timeout = '200ms'").await?;
        Ok(transaction)
    }

    async fn note_failure(&self, track: &Track, error: &Error) -> Result<()> {
        bounded!(
            self,
            sqlx::query!(
                "update replay_job_destinations set error = $4, failed = failed or $5,
                     phase = case when $5 then 'ended' else phase end,
                     next_step_at = greatest(next_step_at, now() + make_interval(secs => $6))
                 where organization_id = $1 and job_id = $2 and destination_id = $3 and phase <> 'ended'",
                track.organization,
                track.job,
                track.destination,
                error.to_string(),
                !error.is_transient(),
                AFTER_FAILURE
            ),
            execute
        );
        Ok(())
    }

    /// Ends the jobs that have nothing left to do; answers how many.
    pub async fn finish_replay_jobs(&self, now: DateTime<Utc>) -> Result<u64> {
        let done = bounded!(
            self,
            sqlx::query!(
                "update replay_jobs j set finished_at = $1, updated_at = $1,
                     state = case when exists (select from replay_job_destinations t
                         where t.organization_id = j.organization_id and t.job_id = j.id and t.failed)
                         then 'failed' else 'done' end
                 where j.state in ('queued', 'running') and not exists (select from replay_job_destinations t
                     where t.organization_id = j.organization_id and t.job_id = j.id and t.phase <> 'ended')",
                now
            ),
            execute
        );
        Ok(done.rows_affected())
    }

    /// Takes up the recovery of one destination that wants its dead letters replayed then, and makes the job `id` of
    /// them, once for each recovery. `None` when none has recovered.
    pub async fn replay_recovered(&self, id: ReplayJobId, now: DateTime<Utc>) -> Result<Option<Recovered>> {
        let mut transaction = self.begin_step().await?;
        let Some(row) = recovered(&mut transaction, now).await? else { return Ok(None) };
        let made = make_automatic(&mut transaction, id, &row, now).await?;
        transaction.commit().await?;
        Ok(Some(Recovered {
            organization_id: row.organization.into(),
            destination_id: row.destination.into(),
            job_id: made.then_some(id),
        }))
    }
}

async fn take_step(connection: &mut PgConnection, track: &Track, now: DateTime<Utc>) -> Result<ReplayStep> {
    track.enter(&mut *connection).await?;
    track.step(connection, now).await
}

/// Claims a recovery: nobody else takes it up, now or later.
async fn recovered(connection: &mut PgConnection, now: DateTime<Utc>) -> Result<Option<RecoveredRow>> {
    let row = sqlx::query_as!(
        RecoveredRow,
        "update destination_health h set replayed_recovery_at = h.recovered_at
         from (select h.destination_id from destinations d join destination_health h on h.destination_id = d.id
               where d.replay_on_recovery and d.deleted_at is null and d.status = 'active'
                   and h.failures_in_a_row = 0 and h.recovered_at < $1 and h.recovered_at > $2
                   and h.recovered_at > coalesce(h.replayed_recovery_at, '-infinity')
               order by h.recovered_at limit 1 for update of h skip locked) as claimed
         where h.destination_id = claimed.destination_id
         returning h.organization_id as organization, h.destination_id as destination, h.endpoint_id as endpoint",
        now - SETTLE,
        now - FORGOTTEN
    )
    .fetch_optional(connection)
    .await?;
    Ok(row)
}

/// `false`: there is nothing to replay.
async fn make_automatic(
    connection: &mut PgConnection,
    id: ReplayJobId,
    row: &RecoveredRow,
    now: DateTime<Utc>,
) -> Result<bool> {
    let filter = ReplayFilter {
        destination_id: Some(row.destination.into()),
        status: vec![EventStatus::Failed],
        ..ReplayFilter::default()
    };
    let died_before = sqlx::query_scalar!("select now() as \"now!\"").fetch_one(&mut *connection).await?;
    let job = Job {
        organization: row.organization,
        id,
        kind: ReplayKind::Automatic,
        filter: &filter,
        rate: None,
        died_before: Some(died_before),
        runs_below: Some(AUTOMATIC_RUNS),
    };
    let targets = [Target { destination: row.destination, endpoint: row.endpoint }];
    let matched = job.count(&mut *connection, &targets).await?;
    if matched.count > 0 {
        job.insert(&mut *connection, &targets, matched, now).await?;
        append(connection, row.organization.into(), &Author::SYSTEM, &job.told(matched), now).await?;
    }
    Ok(matched.count > 0)
}
