//! Taking back what a cancelled job has scheduled and was not sent: each pair is again what it was before.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::step::Track;
use crate::Result;

/// Most deliveries that are taken back at once.
const PAGE: i64 = 1_000;

/// Takes back the next ones; answers how many. An attempt that is in the air at this moment is recorded as ever, and
/// completes nothing more than a success would.
pub(super) async fn step(connection: &mut PgConnection, track: &Track, now: DateTime<Utc>) -> Result<u64> {
    let rows = sqlx::query!(
        "delete from scheduled_deliveries s using (
             select event_id from scheduled_deliveries
             where organization_id = $1 and replay_job_id = $2 and destination_id = $3 and attempt_number = 1
             order by event_id limit $4 for update) taken
         where s.event_id = taken.event_id and s.destination_id = $3
         returning s.event_id, s.run, s.died_of, s.died_at, s.was_filtered",
        track.organization,
        track.job,
        track.destination,
        PAGE
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut events: Vec<Uuid> = rows.iter().map(|row| row.event_id).collect();
    events.sort_unstable();
    let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(0) };
    let dead = rows.iter().filter_map(|row| Some((row.event_id, row.run, row.died_of.clone()?, row.died_at)));
    let (died, runs, reasons, times): (Vec<Uuid>, Vec<i32>, Vec<String>, Vec<_>) = dead.collect();
    let unwanted: Vec<Uuid> = rows.iter().filter(|row| row.was_filtered).map(|row| row.event_id).collect();
    let (first, last) = (*first, *last);
    put_back(&mut *connection, track, &events, (first, last), (&died, &unwanted), now).await?;
    bury(connection, track, (first, last), &died, &runs, &reasons, &times).await?;
    Ok(u64::try_from(rows.len()).unwrap_or(u64::MAX))
}

/// The events no longer wait for the destination; those that were dead for it, or not wanted by it, are so again.
async fn put_back(
    connection: &mut PgConnection,
    track: &Track,
    events: &[Uuid],
    bounds: (Uuid, Uuid),
    (died, unwanted): (&[Uuid], &[Uuid]),
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update events e set (pending, dead, filtered, status, updated_at) = (
             select n.pending, n.dead, n.filtered, case when cardinality(n.pending) > 0 then 'PENDING'
                 when cardinality(n.dead) > 0 then 'FAILED'
                 when cardinality(e.delivered) > 0 then 'SUCCESS'
                 else 'DROPPED' end, $7::timestamptz
             from (select array_remove(e.pending, $2) as pending,
                 case when e.id = any ($6) and $2 <> all (e.delivered) and $2 <> all (e.dead)
                     then e.dead || $2 else e.dead end as dead,
                 case when e.id = any ($8) and $2 <> all (e.delivered || e.dead || e.filtered)
                     then e.filtered || $2 else e.filtered end as filtered) n)
         from (select id from events where organization_id = $1 and id = any ($3) and id between $4 and $5
               order by id for update) locked
         where e.id = locked.id and e.id between $4 and $5",
        track.organization,
        track.destination,
        events,
        bounds.0,
        bounds.1,
        died,
        now,
        unwanted
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The dead letters are there again and as old as they were, under the run that was withdrawn, so that no later replay
/// takes its number.
async fn bury(
    connection: &mut PgConnection,
    track: &Track,
    bounds: (Uuid, Uuid),
    died: &[Uuid],
    runs: &[i32],
    reasons: &[String],
    times: &[Option<DateTime<Utc>>],
) -> Result<()> {
    sqlx::query!(
        "insert into dead_letters (event_id, destination_id, organization_id, endpoint_id, run, reason, created_at)
         select e.id, $2, $1, $3, t.run, t.reason, coalesce(t.died_at, now())
         from unnest($4::uuid[], $5::int[], $6::text[], $9::timestamptz[]) t (id, run, reason, died_at)
         join events e on e.organization_id = $1 and e.id = t.id and e.id between $7 and $8 and $2 = any (e.dead)
         on conflict (event_id, destination_id) do nothing",
        track.organization,
        track.destination,
        track.endpoint,
        died,
        runs,
        reasons,
        bounds.0,
        bounds.1,
        times as &[Option<DateTime<Utc>>]
    )
    .execute(connection)
    .await?;
    Ok(())
}
