//! Cancelling what waits for a deleted destination (PROTOCOLS W6), one step at a time, so that no transaction is long.

use chrono::{DateTime, Utc};
use ravenpost_core::ids::{DestinationId, OrganizationId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Result;

/// Most rows of one step.
const STEP: i64 = 1_000;

/// Cancels the oldest of what waits for `destination`, which is deleted, in the transaction that `connection` is in.
/// Answers how many; zero when nothing waits.
pub(crate) async fn step(
    connection: &mut PgConnection,
    organization: OrganizationId,
    destination: DestinationId,
    now: DateTime<Utc>,
) -> Result<usize> {
    let events = delete_schedule(connection, organization, destination).await?;
    if let (Some(first), Some(last)) = (events.first(), events.last()) {
        withdraw(connection, organization, destination, &events, (*first, *last), now).await?;
    }
    Ok(events.len())
}

/// Deletes the schedule of one step, in the order of its index; answers the events in theirs. Others lock such rows in
/// other orders: our callers give up waiting for them and start over (`tenant::yielding`).
async fn delete_schedule(
    connection: &mut PgConnection,
    organization: OrganizationId,
    destination: DestinationId,
) -> Result<Vec<Uuid>> {
    let mut events = sqlx::query_scalar!(
        "delete from scheduled_deliveries s using (
             select event_id from scheduled_deliveries where organization_id = $1 and destination_id = $2
             order by due_at, event_id limit $3 for update) locked
         where s.event_id = locked.event_id and s.destination_id = $2
         returning s.event_id",
        organization.0,
        destination.0,
        STEP
    )
    .fetch_all(connection)
    .await?;
    events.sort_unstable();
    Ok(events)
}

/// Takes the destination out of what the events wait for. The bounds let partitions be pruned (PROTOCOLS D3).
async fn withdraw(
    connection: &mut PgConnection,
    organization: OrganizationId,
    destination: DestinationId,
    events: &[Uuid],
    bounds: (Uuid, Uuid),
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update events e set pending = array_remove(e.pending, $2), updated_at = $6,
             status = case when cardinality(array_remove(e.pending, $2)) > 0 then 'PENDING'
                 when cardinality(e.dead) > 0 then 'FAILED'
                 when cardinality(e.delivered) > 0 then 'SUCCESS'
                 else 'DROPPED' end
         from (select id from events where organization_id = $1 and id = any($3) and id between $4 and $5
               order by id for update) locked
         where e.id = locked.id and e.id between $4 and $5 and e.pending is not null",
        organization.0,
        destination.0,
        events,
        bounds.0,
        bounds.1,
        now
    )
    .execute(connection)
    .await?;
    Ok(())
}
