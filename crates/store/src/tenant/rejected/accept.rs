//! Rejected requests that verify now become events, each once (PROTOCOLS I10).
//!
//! The events belong to an ingress instance that is born dead: it has no lanes, so nobody commits through it, and has
//! published up to just below them, so whichever ingress adopts it publishes them. Each transaction makes an instance of its own: one
//! that is shared could be adopted and taken off the books while another transaction adds to it.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use ravenpost_core::audit::Action;
use ravenpost_core::deduplication::{Met, meet};
use ravenpost_core::ids::{EventId, InstanceId, RejectedRequestId};
use serde_json::json;
use sqlx::{Executor, PgConnection};

use super::super::Tenant;
use crate::Result;
use crate::audit::Entry;
use crate::new_event::{Columns, Lost, NewEvent, Winner, insert_events, winners};

/// A rejected request that verifies now, and the event it becomes. Its payload is stored.
#[derive(Debug, Clone)]
pub struct Acceptance {
    /// The request.
    pub request: RejectedRequestId,
    /// The event. It is received now, not when the request was: it is for the destinations that exist now, and its id
    /// has to be of the same time.
    pub event: NewEvent,
}

/// As which event a request was accepted, now or by an earlier call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The request.
    pub request: RejectedRequestId,
    /// The event.
    pub event: EventId,
}

impl Tenant {
    /// Accepts requests, each once: what was accepted before keeps its event, and what repeats an event is that event. A
    /// request that is gone is absent from the answer, which is in the order of the requests.
    ///
    /// Payloads of [`Acceptance::event`]s that are not in the answer belong to nothing and may be deleted.
    pub async fn accept_rejected(
        &self,
        acceptances: &[Acceptance],
        instance: InstanceId,
        now: DateTime<Utc>,
    ) -> Result<Vec<Accepted>> {
        let mut transaction = self.begin_change().await?;
        let mut accepted = Vec::with_capacity(acceptances.len());
        let mut fresh = Vec::with_capacity(acceptances.len());
        for (request, event) in self.lock_rejected(&mut transaction, acceptances).await? {
            match (event, acceptances.iter().find(|acceptance| acceptance.request == request)) {
                (Some(event), _) => accepted.push(Accepted { request, event }),
                (None, Some(acceptance)) => fresh.push(acceptance.clone()),
                (None, None) => {}
            }
        }
        if fresh.is_empty() {
            return Ok(accepted);
        }
        let events = self.insert_events(&mut transaction, fresh, instance).await?;
        self.mark_accepted(&mut transaction, &events, now).await?;
        transaction.commit(&told(&events), now).await?;
        accepted.extend(events);
        accepted.sort_by_key(|accepted| accepted.request);
        Ok(accepted)
    }

    /// As which event each is accepted: its own, which is inserted, or the one that it repeats, since a producer that is
    /// refused tries again (PROTOCOLS I7).
    ///
    /// As the system, since no tenant may write what says where a payload is: it could name another's. Whose the events
    /// are is not up to the caller.
    async fn insert_events(
        &self,
        connection: &mut PgConnection,
        fresh: Vec<Acceptance>,
        instance: InstanceId,
    ) -> Result<Vec<Accepted>> {
        connection.execute("set local role ravenpost_system").await?;
        let (mut accepted, mut first) = (Vec::with_capacity(fresh.len()), None);
        let mut open = fresh;
        for new in &mut open {
            new.event.organization_id = self.organization;
        }
        while !open.is_empty() {
            let Met { firsts, repeats } = meet(open, |new| new.event.key());
            let inserted = insert(connection, &firsts, instance).await?;
            first = first.into_iter().chain(inserted.iter().copied()).min();
            let (own, lost): (Vec<_>, Vec<_>) =
                firsts.into_iter().partition(|new| inserted.contains(&new.event.id));
            accepted.extend(own.iter().map(|new| Accepted { request: new.request, event: new.event.id }));
            // Those that repeat one of these meet it next time.
            open = repeats.into_iter().map(|(_, repeat)| repeat).collect();
            resolve(connection, lost, &mut accepted, &mut open).await?;
        }
        if let Some(first) = first {
            register(connection, instance, first).await?;
        }
        connection.execute("set local role ravenpost_tenant").await?;
        Ok(accepted)
    }

    /// The requests that are there, with the events that they became; nobody else accepts them until we are done.
    async fn lock_rejected(
        &self,
        connection: &mut PgConnection,
        acceptances: &[Acceptance],
    ) -> Result<Vec<(RejectedRequestId, Option<EventId>)>> {
        let ids: Vec<_> = acceptances.iter().map(|acceptance| acceptance.request.0).collect();
        let rows = sqlx::query!(
            "select id, event_id from rejected_requests
             where organization_id = $1 and id = any ($2) and deleted_at is null order by id for update",
            self.organization.0,
            &ids
        )
        .fetch_all(connection)
        .await?;
        Ok(rows.into_iter().map(|row| (row.id.into(), row.event_id.map(EventId))).collect())
    }

    async fn mark_accepted(
        &self,
        connection: &mut PgConnection,
        accepted: &[Accepted],
        now: DateTime<Utc>,
    ) -> Result<()> {
        let requests: Vec<_> = accepted.iter().map(|accepted| accepted.request.0).collect();
        let events: Vec<_> = accepted.iter().map(|accepted| accepted.event.0).collect();
        sqlx::query!(
            "update rejected_requests r set event_id = a.event_id, accepted_at = $4
             from unnest($2::uuid[], $3::uuid[]) as a (id, event_id)
             where r.organization_id = $1 and r.id = a.id",
            self.organization.0,
            &requests,
            &events,
            now
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// One row for all of them: each says as which event it was accepted.
fn told(accepted: &[Accepted]) -> Entry {
    let events: Vec<_> = accepted
        .iter()
        .map(|accepted| json!({ "rejected_request_id": accepted.request, "event_id": accepted.event }))
        .collect();
    let entry = match accepted {
        [one] => Entry::of(Action::RejectedRequestAccepted, one.request),
        _ => Entry::new(Action::RejectedRequestAccepted),
    };
    entry.after(json!({ "accepted": events }))
}

/// Inserts events with different keys, and tells which: the others repeat one that was committed before.
async fn insert(
    connection: &mut PgConnection,
    acceptances: &[Acceptance],
    instance: InstanceId,
) -> Result<HashSet<EventId>> {
    let columns = Columns::of(acceptances.iter().map(|new| &new.event));
    let row =
        insert_events!("select $16::uuid as instance_id", columns, instance.0).fetch_one(connection).await?;
    Ok(row.ids.into_iter().map(EventId).collect())
}

/// What has lost its key is accepted as the event that holds it. With another body under an `Idempotency-Key`, or with a
/// winner that has gone, it is an event of its own and stays open, without the key.
async fn resolve(
    connection: &mut PgConnection,
    lost: Vec<Acceptance>,
    accepted: &mut Vec<Accepted>,
    open: &mut Vec<Acceptance>,
) -> Result<()> {
    let keys: Vec<_> = lost.iter().filter_map(|new| new.event.key()).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let winners = winners(Lost(&keys).fetch(connection).await?)?;
    for mut new in lost {
        let winner = new.event.key().and_then(|key| winners.get(&key));
        if let Some(winner) = winner.filter(|winner| repeats(&new.event, winner)) {
            accepted.push(Accepted { request: new.request, event: winner.event_id });
        } else {
            new.event.deduplication = None;
            open.push(new);
        }
    }
    Ok(())
}

fn repeats(new: &NewEvent, winner: &Winner) -> bool {
    new.deduplication.is_some_and(|it| it.key.is_repeated(&new.body_sha256, &winner.body_sha256))
}

/// Makes the instance to which the events from `first` on belong. It is born dead.
async fn register(connection: &mut PgConnection, instance: InstanceId, first: EventId) -> Result<()> {
    sqlx::query!(
        "insert into ingress_instances (id, published_through) values ($1, $2)",
        instance.0,
        first.predecessor().0
    )
    .execute(connection)
    .await?;
    Ok(())
}
