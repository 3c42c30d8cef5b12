//! Replay: an event put back by a person, as rows in the schedule; the worker does the rest (PROTOCOLS W5, W8).

use chrono::{DateTime, Utc};
use ravenpost_core::audit::Action;
use ravenpost_core::ids::{DestinationId, EndpointId, EventId};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::yielding::{TRIES, has_yielded};
use super::{Tenant, unsigned};
use crate::audit::Entry;
use crate::decode::Row;
use crate::{Error, Result};

/// A pair of event and destination that will be tried again.
#[derive(Debug, Clone, Copy)]
pub struct Replayed {
    /// To which destination.
    pub destination_id: DestinationId,
    /// The run that this replay is.
    pub run: u32,
    /// When its first attempt is due.
    pub due_at: DateTime<Utc>,
}

/// Why nothing is replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// There is no such event.
    #[error("there is no such event")]
    NoEvent,
    /// Its payload was expunged.
    #[error("the event's payload was expunged")]
    Expunged,
    /// The event has not met its destinations yet: its original delivery is still to come.
    #[error("the event has not been delivered a first time yet")]
    NotRouted,
    /// The endpoint through which the event came was deleted.
    #[error("the event's endpoint was deleted")]
    EndpointDeleted,
    /// The endpoint has no destination any more.
    #[error("the event's endpoint has no destination")]
    NoDestinations,
    /// It is not one of the endpoint's destinations, or no longer.
    #[error("there is no such destination of the event's endpoint")]
    NoDestination,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl From<sqlx::Error> for ReplayError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Tenant {
    /// Schedules an event at once for `only` one, or for all, of its endpoint's current destinations.
    ///
    /// A replay is a new run of the same event. What is dead waits again; what was delivered is sent again without a
    /// change of the event's status; what waits is brought forward under a new version, so that an attempt in the air
    /// can't complete the replay. What a bulk replay has scheduled becomes this person's: cancelling that one takes it
    /// back no more.
    ///
    /// Who is named gets it whatever its filter says; of all, those do whose filter wants it by then.
    pub async fn replay(
        &self,
        event: EventId,
        only: Option<DestinationId>,
        now: DateTime<Utc>,
    ) -> std::result::Result<Vec<Replayed>, ReplayError> {
        for _ in 1..TRIES {
            match self.try_replay(event, only, now).await {
                Err(ReplayError::Store(error)) if has_yielded(&error) => {}
                done => return done,
            }
        }
        self.try_replay(event, only, now).await
    }

    async fn try_replay(
        &self,
        event: EventId,
        only: Option<DestinationId>,
        now: DateTime<Utc>,
    ) -> std::result::Result<Vec<Replayed>, ReplayError> {
        let mut transaction = self.begin_yielding().await?;
        let endpoint = self.endpoint_of(&mut transaction, event).await?;
        let targets = self.targets(&mut transaction, endpoint, only).await?;
        let replayed =
            self.schedule_replay(&mut transaction, (event, endpoint), &targets, only.is_some(), now).await?;
        self.reopen(&mut transaction, event, &targets, now).await?;
        self.exhume(&mut transaction, event, &targets).await?;
        let runs: Vec<_> = replayed
            .iter()
            .map(|replayed| json!({ "destination_id": replayed.destination_id, "run": replayed.run }))
            .collect();
        let entry = Entry::of(Action::EventReplayed, event).after(json!({ "runs": runs }));
        transaction.commit(&entry, now).await?;
        Ok(replayed)
    }

    async fn endpoint_of(
        &self,
        connection: &mut PgConnection,
        event: EventId,
    ) -> std::result::Result<EndpointId, ReplayError> {
        let found = sqlx::query!(
            "select v.endpoint_id, v.pending is not null as \"routed!\", e.deleted_at is not null as \"deleted!\",
                 v.expunged_at is not null as \"expunged!\"
             from events v join endpoints e on e.organization_id = v.organization_id and e.id = v.endpoint_id
             where v.organization_id = $1 and v.id = $2",
            self.organization.0,
            event.0
        )
        .fetch_optional(connection)
        .await?;
        match found {
            None => Err(ReplayError::NoEvent),
            Some(found) if found.deleted => Err(ReplayError::EndpointDeleted),
            Some(found) if found.expunged => Err(ReplayError::Expunged),
            Some(found) if !found.routed => Err(ReplayError::NotRouted),
            Some(found) => Ok(found.endpoint_id.into()),
        }
    }

    /// The destinations to send to, locked so that their deletion comes before or after, and then cancels.
    async fn targets(
        &self,
        connection: &mut PgConnection,
        endpoint: EndpointId,
        only: Option<DestinationId>,
    ) -> std::result::Result<Vec<Uuid>, ReplayError> {
        let targets = sqlx::query_scalar!(
            "select id from destinations
             where organization_id = $1 and endpoint_id = $2 and deleted_at is null and id = coalesce($3, id)
             order by id for share",
            self.organization.0,
            endpoint.0,
            only.map(|destination| destination.0)
        )
        .fetch_all(connection)
        .await?;
        match (targets.is_empty(), only) {
            (true, Some(_)) => Err(ReplayError::NoDestination),
            (true, None) => Err(ReplayError::NoDestinations),
            (false, _) => Ok(targets),
        }
    }

    async fn schedule_replay(
        &self,
        connection: &mut PgConnection,
        (event, endpoint): (EventId, EndpointId),
        targets: &[Uuid],
        unfiltered: bool,
        now: DateTime<Utc>,
    ) -> Result<Vec<Replayed>> {
        let rows = sqlx::query!(
            "insert into scheduled_deliveries as s (event_id, destination_id, organization_id, endpoint_id, due_at,
                 created_at, run, attempt_number, reason, unfiltered)
             select $2, t.id, $1, $3, $5, $5, 1 + greatest((select max(v.run) from deliveries v
                 where v.event_id = $2 and v.destination_id = t.id and v.organization_id = $1), l.run, 0), 1, 'replay', $6
             from unnest($4::uuid[]) t (id)
             left join dead_letters l on l.organization_id = $1 and l.event_id = $2 and l.destination_id = t.id
             order by t.id
             on conflict (event_id, destination_id) do update
             set due_at = excluded.due_at, run = greatest(s.run + 1, excluded.run), attempt_number = 1,
                 version = s.version + 1, reason = 'replay', replay_job_id = null, died_of = null,
                 was_filtered = false, unfiltered = s.unfiltered or excluded.unfiltered
             returning destination_id, run, due_at",
            self.organization.0,
            event.0,
            endpoint.0,
            targets,
            now,
            unfiltered
        )
        .fetch_all(connection)
        .await?;
        rows.into_iter()
            .map(|scheduled| {
                let row = Row { table: "scheduled_deliveries", id: event.0 };
                Ok(Replayed {
                    destination_id: scheduled.destination_id.into(),
                    run: unsigned(row, "run", scheduled.run)?,
                    due_at: scheduled.due_at,
                })
            })
            .collect()
    }

    /// The event waits again for the targets that it has not been delivered to.
    async fn reopen(
        &self,
        connection: &mut PgConnection,
        event: EventId,
        targets: &[Uuid],
        now: DateTime<Utc>,
    ) -> Result<()> {
        sqlx::query!(
            "update events e set (pending, dead, filtered, status, updated_at) = (
                 select n.pending, n.dead, n.filtered, case when cardinality(n.pending) > 0 then 'PENDING' else e.status end, $4::timestamptz
                 from (select
                     array(select distinct p from unnest(e.pending || array(
                         select t from unnest($3::uuid[]) t where t <> all (e.delivered))) p) as pending,
                     array(select d from unnest(e.dead) d where d <> all ($3::uuid[])) as dead,
                     array(select f from unnest(e.filtered) f where f <> all ($3::uuid[])) as filtered) n)
             where e.organization_id = $1 and e.id = $2 and e.pending is not null",
            self.organization.0,
            event.0,
            targets,
            now
        )
        .execute(connection)
        .await?;
        Ok(())
    }

    async fn exhume(&self, connection: &mut PgConnection, event: EventId, targets: &[Uuid]) -> Result<()> {
        sqlx::query!(
            "delete from dead_letters where organization_id = $1 and event_id = $2 and destination_id = any ($3)",
            self.organization.0,
            event.0,
            targets
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}
