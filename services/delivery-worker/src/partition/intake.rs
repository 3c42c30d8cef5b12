//! From messages to jobs: what a message is, what is already known of it, and for whom it is.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use ravenpost_bus::message::{EventMessage, Undecodable};
use ravenpost_bus::{Error, Partition};
use ravenpost_chassis::clock;
use ravenpost_core::ids::{DestinationId, EventId};
use ravenpost_store::system::{Known, Pace, Route, Routed};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::owner::Owner;
use super::{AGAIN, Shared};
use crate::send::Job;

/// Most messages that are taken together: their look-ups cost one query.
const BATCH: usize = 256;

/// What was received longer ago may have been relayed to an owner before, and this is the first copy, late: a process
/// that was stopped counts as dead only after more than this time (PROTOCOLS I5, W3).
const LATE: TimeDelta = TimeDelta::seconds(5);

/// A message and where it stood.
type Taken = (i64, Result<EventMessage, Undecodable>);

/// What waits on the partition, at least one message. Safe to drop while it waits for the first one.
pub(super) async fn next_batch(partition: &Partition) -> Vec<Taken> {
    let mut batch = match partition.recv_event().await {
        Ok(taken) => vec![taken],
        Err(error) => {
            unreadable(&error);
            tokio::time::sleep(AGAIN).await;
            return Vec::new();
        }
    };
    while batch.len() < BATCH {
        match partition.recv_event().now_or_never() {
            Some(Ok(taken)) => batch.push(taken),
            Some(Err(error)) => {
                unreadable(&error);
                break;
            }
            None => break,
        }
    }
    batch
}

fn unreadable(error: &Error) {
    warn!(error = error as &dyn std::error::Error, "a partition can't be read");
}

/// Takes a batch in: every message ends as jobs, as something to record, or as known already.
pub(super) async fn accept(
    shared: &Shared,
    owner: &mut Owner,
    log_end: i64,
    batch: Vec<Taken>,
    stop: &CancellationToken,
) {
    for event in batch.iter().filter_map(|(_, message)| message.as_ref().ok()).filter(|event| event.relayed) {
        owner.relayed.remember(event.id);
    }
    let now = clock::now();
    let may_be_known = |owner: &Owner, offset: i64, event: &EventMessage| {
        offset < log_end || owner.relayed.contains(&event.id) || event.received_at < now - LATE
    };
    let to_look_up = |(offset, message): &Taken| {
        let event = message.as_ref().ok().filter(|event| may_be_known(owner, *offset, event));
        event.map(|event| event.id)
    };
    let ids: Vec<EventId> = batch.iter().filter_map(to_look_up).collect();
    let Some(known) = until_stopped(stop, || look_up(shared, &ids)).await else { return };
    let Some(messages) = route_all(shared, batch, now, stop).await else { return };
    let here = messages.iter().filter_map(|(_, event)| event.as_ref());
    let here = here.filter(|(event, _)| owner.is_at_home(event.endpoint_id));
    let routes = here.filter_map(|(_, route)| route.as_deref());
    let unmet = owner.unmet(routes.flat_map(|route| route.destinations.iter().map(|it| it.id)));
    if !unmet.is_empty() {
        let Some(paces) = until_stopped(stop, || paces(shared, &unmet)).await else { return };
        for pace in paces {
            owner.meet(&pace, clock::now());
        }
    }
    for (offset, event) in messages {
        let Some((event, route)) = event else {
            owner.skip(offset);
            continue;
        };
        shared.metrics.consumed(owner.partition, event.received_at);
        if may_be_known(owner, offset, &event) {
            resume(owner, offset, &event, route.as_deref(), known.get(&event.id));
        } else {
            begin(owner, offset, &event, route.as_deref(), None);
        }
    }
}

/// A message with where it stood, its event and where that goes; without an event it leads to nothing.
type RoutedMessage = (i64, Option<(Arc<EventMessage>, Option<Arc<Route>>)>);

async fn route_all(
    shared: &Shared,
    batch: Vec<Taken>,
    taken_at: DateTime<Utc>,
    stop: &CancellationToken,
) -> Option<Vec<RoutedMessage>> {
    let mut routed = Vec::with_capacity(batch.len());
    for (offset, message) in batch {
        match message {
            Ok(event) => {
                let event = Arc::new(event);
                let route = until_stopped(stop, || route(shared, &event, taken_at)).await?;
                routed.push((offset, Some((event, route))));
            }
            Err(cause) => {
                error!(
                    offset,
                    error = &cause as &dyn std::error::Error,
                    "a message is no event and is skipped"
                );
                shared.metrics.undecodable.inc();
                routed.push((offset, None));
            }
        }
    }
    Some(routed)
}

async fn paces(shared: &Shared, destinations: &[DestinationId]) -> Option<Vec<Pace>> {
    let paces = shared.system.paces(destinations, clock::now()).await;
    let told = |error: &ravenpost_store::Error| {
        warn!(error = error as &dyn std::error::Error, "how destinations fare can't be read");
    };
    paces.inspect_err(told).ok()
}

/// Asks until there is an answer, or until the partition is let go.
async fn until_stopped<T, F, Fut>(stop: &CancellationToken, ask: F) -> Option<T>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    loop {
        if let Some(answer) = stop.run_until_cancelled(ask()).await? {
            return Some(answer);
        }
        stop.run_until_cancelled(tokio::time::sleep(AGAIN)).await?;
    }
}

async fn look_up(shared: &Shared, ids: &[EventId]) -> Option<HashMap<EventId, Known>> {
    let known = shared.system.known(ids).await;
    known.map_err(|error| warn!(error = &error as &dyn std::error::Error, "events can't be looked up")).ok()
}

async fn route(shared: &Shared, event: &EventMessage, taken_at: DateTime<Utc>) -> Option<Option<Arc<Route>>> {
    let route = shared.routes.of(event.endpoint_id, taken_at).await;
    route
        .map_err(|error| warn!(error = error.as_ref() as &dyn std::error::Error, "a route can't be read"))
        .ok()
}

/// An event that nobody has met before: it is for all the destinations that existed when it was accepted.
fn begin(
    owner: &mut Owner,
    offset: i64,
    event: &Arc<EventMessage>,
    route: Option<&Route>,
    known: Option<&Known>,
) {
    let wanted: Vec<_> = route.into_iter().flat_map(|route| route.wanted_by(event.received_at)).collect();
    let routed = Routed {
        event_id: event.id,
        destinations: wanted.iter().map(|destination| destination.id).collect(),
    };
    owner.route(offset, routed);
    for destination in wanted {
        let attempts = known.and_then(|known| known.attempts.get(&destination.id)).copied().unwrap_or(0);
        let job = Job {
            event: Arc::clone(event),
            destination_id: destination.id,
            run: 0,
            attempt_number: attempts + 1,
            unfiltered: false,
            previous: None,
            neighbours: None,
            ready_at: event.received_at,
        };
        let held = route.is_some_and(|route| route.holds(destination));
        let now = clock::now();
        owner.configure(destination.id, destination.pace, now);
        owner.arrive(job, offset, held, now);
    }
}

/// An event that may have been met before: only what has neither ended nor waits in the schedule is sent (W3).
fn resume(
    owner: &mut Owner,
    offset: i64,
    event: &Arc<EventMessage>,
    route: Option<&Route>,
    known: Option<&Known>,
) {
    let Some(known) = known else {
        warn!(event_id = %event.id, "a message names an event that is not in Postgres; it is skipped");
        return owner.skip(offset);
    };
    let Some(pending) = &known.pending else { return begin(owner, offset, event, route, Some(known)) };
    let open: Vec<_> = pending.difference(&known.scheduled).copied().collect();
    owner.take(offset, open.len());
    for destination_id in open {
        let attempts = known.attempts.get(&destination_id).copied().unwrap_or(0);
        let job = Job {
            event: Arc::clone(event),
            destination_id,
            run: 0,
            attempt_number: attempts + 1,
            unfiltered: false,
            previous: None,
            neighbours: None,
            ready_at: event.received_at,
        };
        let held = route
            .is_some_and(|route| route.destination(destination_id).is_some_and(|found| route.holds(found)));
        owner.arrive(job, offset, held, clock::now());
    }
}
