//! What waits and has no row anywhere is given one (PROTOCOLS W11).
//!
//! An event is lost for sure when it was published, the workers have recorded all that Kafka had at a later moment, and
//! still a destination that it waits for has neither attempt to come, nor dead letter, nor delivery.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_core::ids::{DestinationId, EndpointId, EventId};
use uuid::Uuid;

use super::System;
use crate::Result;
use crate::lease::bounded;
use crate::tenant::yielding::{TRIES, has_yielded};

/// Ids above are not looked at: an id is drawn a moment before its row is committed, and clocks may differ.
const UNSETTLED: TimeDelta = TimeDelta::seconds(20);

/// How far workers and sweeper have come; see the migration that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweeperState {
    /// Up to here everything was published and is recorded.
    pub met_through: EventId,
    /// Up to here nothing of it is lost.
    pub swept_through: EventId,
}

/// What a step of the sweeper came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// The pairs that were lost and have a row now.
    pub pairs: Vec<(EventId, DestinationId)>,
    /// The events that were lost and have no destinations: nothing is left to do for them.
    pub dropped: Vec<EventId>,
}

impl Swept {
    /// How much was lost.
    pub fn count(&self) -> usize {
        self.pairs.len() + self.dropped.len()
    }
}

/// An event that may be lost.
struct Candidate {
    id: Uuid,
    endpoint_id: Uuid,
    received_at: DateTime<Utc>,
    unrouted: bool,
}

impl System {
    /// Takes, or keeps, the sweeper's lease for `lease`. `None`: somebody else has it.
    pub async fn hold_sweeper(&self, holder: Uuid, lease: TimeDelta) -> Result<Option<SweeperState>> {
        let query = sqlx::query!(
            "update sweeper set holder = $1, held_until = now() + make_interval(secs => $2), updated_at = now()
             where holder = $1 or holder is null or held_until < now()
             returning met_through, swept_through",
            holder,
            seconds(lease)
        );
        let row = bounded!(self, query, fetch_optional);
        Ok(row.map(|row| SweeperState {
            met_through: EventId(row.met_through.unwrap_or_default()),
            swept_through: EventId(row.swept_through.unwrap_or_default()),
        }))
    }

    /// Everything accepted up to this id is published now: what a run of ingress has not published lies above.
    pub async fn published_through(&self) -> Result<EventId> {
        let query = sqlx::query_scalar!(
            r#"select least(uuid_v7_floor(now() - make_interval(secs => $1)), (
                 select coalesce(published_through, id) from ingress_instances order by 1 limit 1)) as "through!""#,
            seconds(UNSETTLED)
        );
        Ok(EventId(bounded!(self, query, fetch_one)))
    }

    /// Notes that the workers have recorded everything that was published up to `through`.
    pub async fn met(&self, through: EventId) -> Result<()> {
        let query = sqlx::query!(
            "update sweeper set met_through = greatest(met_through, $1), updated_at = now()",
            through.0
        );
        bounded!(self, query, execute);
        Ok(())
    }

    /// Looks for what is lost among the next `most` events after `after` and up to `through`, which the workers have met,
    /// gives each a row in the schedule, and notes that it was looked at. Answers the last id looked at as well.
    pub async fn sweep(&self, after: EventId, through: EventId, most: i64) -> Result<(EventId, Swept)> {
        let query = sqlx::query_scalar!(
            "select id from events where id > $1 and id <= $2 order by id offset $3 limit 1",
            after.0,
            through.0,
            most - 1
        );
        let reached = EventId(bounded!(self, query, fetch_optional).unwrap_or(through.0));
        let mut swept = Swept::default();
        let mut from = after;
        while let Some(last) = self.sweep_some(from, reached, &mut swept).await? {
            from = last;
        }
        let query = sqlx::query!(
            "update sweeper set swept_through = greatest(swept_through, $1), updated_at = now()",
            reached.0
        );
        bounded!(self, query, execute);
        Ok((reached, swept))
    }

    /// Answers the last event that was lost, until there is none.
    async fn sweep_some(
        &self,
        after: EventId,
        through: EventId,
        swept: &mut Swept,
    ) -> Result<Option<EventId>> {
        let candidates = self.candidates(after, through).await?;
        let Some(last) = candidates.last().map(|last| EventId(last.id)) else { return Ok(None) };
        self.give_rows(&candidates, swept).await?;
        Ok(Some(last))
    }

    /// Gives rows to what is lost of these events, which the workers have met.
    pub async fn sweep_events(&self, events: &[EventId]) -> Result<Swept> {
        let ids: Vec<Uuid> = events.iter().map(|id| id.0).collect();
        let (Some(low), Some(high)) = (ids.iter().min(), ids.iter().max()) else {
            return Ok(Swept::default());
        };
        let query = sqlx::query_as!(
            Candidate,
            r#"select id, endpoint_id, received_at, pending is null as "unrouted!" from events
             where id = any ($1) and id between $2 and $3 and status = 'PENDING' order by id"#,
            &ids,
            low,
            high
        );
        let candidates = bounded!(self, query, fetch_all);
        let mut swept = Swept::default();
        self.give_rows(&candidates, &mut swept).await?;
        Ok(swept)
    }

    async fn candidates(&self, after: EventId, through: EventId) -> Result<Vec<Candidate>> {
        const MOST: i64 = 500;
        let query = sqlx::query_as!(
            Candidate,
            r#"select e.id, e.endpoint_id, e.received_at, e.pending is null as "unrouted!"
             from events e
             where e.id > $1 and e.id <= $2 and e.status = 'PENDING' and (e.pending is null or exists (
                 select from unnest(e.pending) as p (destination_id)
                 where not exists (select from scheduled_deliveries s
                     where s.event_id = e.id and s.destination_id = p.destination_id)))
             order by e.id limit $3"#,
            after.0,
            through.0,
            MOST
        );
        Ok(bounded!(self, query, fetch_all))
    }

    async fn give_rows(&self, candidates: &[Candidate], swept: &mut Swept) -> Result<()> {
        let wanted = self.wanted(candidates).await?;
        let (events, destinations): (Vec<Uuid>, Vec<Uuid>) = wanted.into_iter().unzip();
        let ids: Vec<Uuid> = candidates.iter().map(|candidate| candidate.id).collect();
        let mut tries = 0;
        let given = loop {
            match self.try_give_rows(&ids, &events, &destinations).await {
                Err(error) if has_yielded(&error) && tries < TRIES => tries += 1,
                given => break given?,
            }
        };
        swept.pairs.extend(given.pairs);
        swept.dropped.extend(given.dropped);
        Ok(())
    }

    /// The pairs of events that have not met their destinations; by the worker's own rule.
    async fn wanted(&self, candidates: &[Candidate]) -> Result<Vec<(Uuid, Uuid)>> {
        let mut routes = HashMap::new();
        let mut wanted = Vec::new();
        for candidate in candidates.iter().filter(|candidate| candidate.unrouted) {
            let route = match routes.entry(candidate.endpoint_id) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => {
                    unknown.insert(self.route(EndpointId(candidate.endpoint_id)).await?)
                }
            };
            let destinations = route.iter().flat_map(|route| route.wanted_by(candidate.received_at));
            wanted.extend(destinations.map(|destination| (candidate.id, destination.id.0)));
        }
        Ok(wanted)
    }

    /// Whoever waits for a lock here gives way: a record of the worker never has to wait for it.
    async fn try_give_rows(&self, ids: &[Uuid], events: &[Uuid], destinations: &[Uuid]) -> Result<Swept> {
        let (Some(low), Some(high)) = (ids.iter().min(), ids.iter().max()) else {
            return Ok(Swept::default());
        };
        let mut transaction = self.pool.begin_with("begin; set local lock_timeout = '200ms'").await?;
        let row = sqlx::query_file!("src/system/sweep.sql", ids, low, high, events, destinations)
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        let pairs = row.events.into_iter().zip(row.destinations);
        Ok(Swept {
            pairs: pairs.map(|(event, destination)| (EventId(event), DestinationId(destination))).collect(),
            dropped: row.dropped.into_iter().map(EventId).collect(),
        })
    }
}

fn seconds(length: TimeDelta) -> f64 {
    length.as_seconds_f64()
}
