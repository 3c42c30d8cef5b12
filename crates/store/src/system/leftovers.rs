//! Removing what nobody needs any more, in small steps by one elected process for each kind of it.
//!
//! A step reaches only what the policies of the maintenance role let it see (migration 0011 and those after it): what has expired, belongs to
//! something deleted, or has come to its end, by the database's own clock.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Executor, PgConnection};

use super::System;
use super::maintenance::LEFTOVERS;
use super::retention::kept_from;
use crate::error::POSTGRES;
use crate::tenant::has_yielded;
use crate::{Error, Result};

/// Most rows of one step. A job takes its destinations along, up to a thousand, so that fewer of them go at once.
const STEP: i64 = 500;
const JOBS: i64 = 20;

/// What is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftover {
    /// How deleted destinations fared.
    DestinationStates,
    /// What deleted destinations were sent with: signing secret, headers, authentication and TLS. The row stays, as its
    /// attempts do.
    DestinationCredentials,
    /// What the producers of deleted endpoints signed with last. The row stays: it answers 410.
    EndpointCredentials,
    /// Secrets of destinations whose grace is over.
    DestinationSecrets,
    /// Secrets of endpoints whose grace is over.
    EndpointSecrets,
    /// Key pairs that neither sign nor are published any more.
    SigningKeys,
    /// Bulk replays that have ended, of which nothing waits any more.
    ReplayJobs,
    /// Answers to requests with an `Idempotency-Key` whose time is over.
    IdempotencyKeys,
    /// Changes of routes that every worker has heard of, or believes nothing any more.
    RouteChanges,
    /// What channels were told, ninety days ago.
    Notifications,
    /// Alerts that were resolved ninety days ago.
    Alerts,
    /// Dead letters of events that are kept no longer.
    DeadLetters,
    /// Rows of the schedule of such events: a day is not dropped while there are any, so somebody has made them by hand.
    Scheduled,
    /// That payloads of such events were expunged.
    ExpungedPayloads,
}

/// How long alerts, and what was told of them, are listed.
const ALERTS: TimeDelta = TimeDelta::days(90);

/// How long leftovers are kept all the same. What has expired goes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// What belongs to something deleted, from its deletion: until then an operator can take that back.
    pub of_deleted: TimeDelta,
    /// Bulk replays, from their end.
    pub replay_jobs: TimeDelta,
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// How many rows were removed, or emptied.
    pub count: u64,
    /// It was a full step: there may be more.
    pub more: bool,
}

impl Leftover {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::DestinationStates,
        Self::DestinationCredentials,
        Self::EndpointCredentials,
        Self::DestinationSecrets,
        Self::EndpointSecrets,
        Self::SigningKeys,
        Self::ReplayJobs,
        Self::IdempotencyKeys,
        Self::RouteChanges,
        Self::Notifications,
        Self::Alerts,
        Self::DeadLetters,
        Self::Scheduled,
        Self::ExpungedPayloads,
    ];

    /// Its name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DestinationStates => "destination_states",
            Self::DestinationCredentials => "destination_credentials",
            Self::EndpointCredentials => "endpoint_credentials",
            Self::DestinationSecrets => "destination_secrets",
            Self::EndpointSecrets => "endpoint_secrets",
            Self::SigningKeys => "signing_keys",
            Self::ReplayJobs => "replay_jobs",
            Self::IdempotencyKeys => "idempotency_keys",
            Self::RouteChanges => "route_changes",
            Self::Notifications => "notifications",
            Self::Alerts => "alerts",
            Self::DeadLetters => "dead_letters",
            Self::Scheduled => "scheduled_deliveries",
            Self::ExpungedPayloads => "expunged_payloads",
        }
    }

    fn step(self) -> i64 {
        if self == Self::ReplayJobs { JOBS } else { STEP }
    }
}

impl System {
    /// Removes one step of `leftover`. `None`: another process is at this kind, or somebody holds a row of it, to whom
    /// this gives way; it is for the next time.
    pub async fn remove_leftovers(
        &self,
        leftover: Leftover,
        keeping: Keeping,
        now: DateTime<Utc>,
    ) -> Result<Option<Removed>> {
        let step = self.leftovers_step(leftover, keeping, now);
        match tokio::time::timeout(self.deadline, step).await {
            Ok(Err(error)) if has_yielded(&error) => Ok(None),
            Ok(done) => done,
            Err(elapsed) => Err(Error::Unavailable { store: POSTGRES, cause: elapsed.into() }),
        }
    }

    async fn leftovers_step(
        &self,
        leftover: Leftover,
        keeping: Keeping,
        now: DateTime<Utc>,
    ) -> Result<Option<Removed>> {
        let Some(mut transaction) = self.elected(LEFTOVERS + leftover as i64).await? else { return Ok(None) };
        match remove(&mut transaction, leftover, keeping, now).await {
            Ok(count) => {
                transaction.commit().await?;
                let more = i64::try_from(count).is_ok_and(|count| count >= leftover.step());
                Ok(Some(Removed { count, more }))
            }
            Err(error) => {
                // At once: as long as it is open nobody else is elected.
                let _ = transaction.rollback().await;
                Err(error)
            }
        }
    }
}

async fn remove(
    connection: &mut PgConnection,
    leftover: Leftover,
    keeping: Keeping,
    now: DateTime<Utc>,
) -> Result<u64> {
    // Nobody waits for us: see tenant::yielding.
    connection.execute("set local lock_timeout = '200ms'").await?;
    let (deleted, most) = (now - keeping.of_deleted, leftover.step());
    match leftover {
        Leftover::DestinationStates => destination_states(connection, deleted, most).await,
        Leftover::DestinationCredentials => destination_credentials(connection, deleted, most).await,
        Leftover::EndpointCredentials => endpoint_credentials(connection, deleted, most).await,
        Leftover::DestinationSecrets => destination_secrets(connection, now, deleted, most).await,
        Leftover::EndpointSecrets => endpoint_secrets(connection, now, deleted, most).await,
        Leftover::SigningKeys => signing_keys(connection, now, most).await,
        Leftover::ReplayJobs => replay_jobs(connection, now - keeping.replay_jobs, most).await,
        Leftover::IdempotencyKeys => idempotency_keys(connection, now, most).await,
        Leftover::RouteChanges => route_changes(connection, most).await,
        Leftover::Notifications => notifications(connection, now - ALERTS, most).await,
        Leftover::Alerts => alerts(connection, now - ALERTS, most).await,
        Leftover::DeadLetters => dead_letters(connection, most).await,
        Leftover::Scheduled => scheduled(connection, most).await,
        Leftover::ExpungedPayloads => expunged_payloads(connection, most).await,
    }
}

async fn destination_states(connection: &mut PgConnection, deleted: DateTime<Utc>, most: i64) -> Result<u64> {
    let done = sqlx::query!(
        "delete from destination_state where destination_id in (
             select s.destination_id from destination_state s
             join destinations d on d.organization_id = s.organization_id and d.id = s.destination_id
             where d.deleted_at <= $1 limit $2)",
        deleted,
        most
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// The signing secret can't be null: a replica of the release before could not read any destination of the endpoint.
async fn destination_credentials(
    connection: &mut PgConnection,
    deleted: DateTime<Utc>,
    most: i64,
) -> Result<u64> {
    let done = sqlx::query!(
        "update destinations set signing_secret = '', headers = null, authentication = null, tls = null
         where (organization_id, id) in (
             select organization_id, id from destinations where deleted_at <= $1 and signing_secret <> ''
             order by deleted_at limit $2)",
        deleted,
        most
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

async fn endpoint_credentials(
    connection: &mut PgConnection,
    deleted: DateTime<Utc>,
    most: i64,
) -> Result<u64> {
    let done = sqlx::query!(
        "update endpoints set secret_key = null
         where (organization_id, id) in (
             select organization_id, id from endpoints where deleted_at <= $1 and secret_key is not null
             order by deleted_at limit $2)",
        deleted,
        most
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

async fn destination_secrets(
    connection: &mut PgConnection,
    expired: DateTime<Utc>,
    deleted: DateTime<Utc>,
    most: i64,
) -> Result<u64> {
    let done = sqlx::query!(
        "delete from destination_secrets where (organization_id, id) in (
             select s.organization_id, s.id from destination_secrets s
             where s.expires_at <= $1 or exists (select from destinations d
                 where d.organization_id = s.organization_id and d.id = s.destination_id and d.deleted_at <= $2)
             limit $3)",
        expired,
        deleted,
        most
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

async fn endpoint_secrets(
    connection: &mut PgConnection,
    expired: DateTime<Utc>,
    deleted: DateTime<Utc>,
    most: i64,
) -> Result<u64> {
    let done = sqlx::query!(
        "delete from endpoint_secrets where (organization_id, id) in (
             select s.organization_id, s.id from endpoint_secrets s
             where s.expires_at <= $1 or exists (select from endpoints e
                 where e.organization_id = s.organization_id and e.id = s.endpoint_id and e.deleted_at <= $2)
             limit $3)",
        expired,
        deleted,
        most
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

async fn signing_keys(connection: &mut PgConnection, expired: DateTime<Utc>, most: i64) -> Result<u64> {
    let done = sqlx::query!(
        "delete from signing_keys where (organization_id, id) in (
             select organization_id, id from signing_keys where expires_at <= $1 limit $2)",
        expired,
        most
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

async fn idempotency_keys(connection: &mut PgConnection, expired: DateTime<Utc>, most: i64) -> Result<u64> {
    let done = sqlx::query!(
        "delete from idempotency_keys where (organization_id, actor_id, key) in (
             select organization_id, actor_id, key from idempotency_keys where expires_at <= $1
             order by expires_at limit $2)",
        expired,
        most
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// A cancelled job is finished before it has taken back what it had scheduled, and what a job has scheduled may wait for
/// a paused destination longer than the job is kept.
async fn replay_jobs(connection: &mut PgConnection, finished: DateTime<Utc>, most: i64) -> Result<u64> {
    let done = sqlx::query!(
        "delete from replay_jobs where (organization_id, id) in (
             select j.organization_id, j.id from replay_jobs j
             where j.finished_at <= $1 and j.state in ('done', 'failed', 'cancelled')
                 and not exists (select from replay_job_destinations t
                     where t.organization_id = j.organization_id and t.job_id = j.id and t.phase <> 'ended')
                 and not exists (select from scheduled_deliveries s where s.replay_job_id = j.id)
             order by j.finished_at limit $2)",
        finished,
        most
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// The policy of the maintenance role says when a change is old.
async fn route_changes(connection: &mut PgConnection, most: i64) -> Result<u64> {
    let done = sqlx::query!(
        "delete from route_changes where ctid = any(array(select ctid from route_changes limit $1))",
        most
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

async fn notifications(connection: &mut PgConnection, settled: DateTime<Utc>, most: i64) -> Result<u64> {
    let done = sqlx::query!(
        "delete from notifications where (organization_id, id) in (
             select organization_id, id from notifications where state <> 'pending' and created_at <= $1
             order by created_at limit $2)",
        settled,
        most
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

async fn alerts(connection: &mut PgConnection, resolved: DateTime<Utc>, most: i64) -> Result<u64> {
    let done = sqlx::query!(
        "delete from alerts where (organization_id, id) in (
             select organization_id, id from alerts where resolved_at <= $1 order by resolved_at limit $2)",
        resolved,
        most
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// The bound is read first: the planner has to know it.
async fn dead_letters(connection: &mut PgConnection, most: i64) -> Result<u64> {
    let kept_from = kept_from(connection).await?.0;
    let done = sqlx::query!(
        "delete from dead_letters where (event_id, destination_id) in (
             select event_id, destination_id from dead_letters where event_id < $1
             order by event_id, destination_id limit $2)",
        kept_from,
        most
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

async fn scheduled(connection: &mut PgConnection, most: i64) -> Result<u64> {
    let kept_from = kept_from(connection).await?.0;
    let done = sqlx::query!(
        "delete from scheduled_deliveries where (event_id, destination_id) in (
             select event_id, destination_id from scheduled_deliveries where event_id < $1
             order by event_id, destination_id limit $2)",
        kept_from,
        most
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

async fn expunged_payloads(connection: &mut PgConnection, most: i64) -> Result<u64> {
    let kept_from = kept_from(connection).await?.0;
    let done = sqlx::query!(
        "delete from expunged_payloads where (organization_id, event_id) in (
             select organization_id, event_id from expunged_payloads where event_id < $1
             order by event_id limit $2)",
        kept_from,
        most
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
