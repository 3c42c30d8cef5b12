//! Scheduled deliveries: what waits, until when and why; run now; cancel.

use axum::Json as Answer;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use ravenpost_chassis::clock;
use ravenpost_chassis::problem::{Path, Problem, Query};
use ravenpost_core::access::{decode_timed_cursor, encode_timed_cursor};
use ravenpost_core::delivery::{KeptBy, WaitingReason};
use ravenpost_core::ids::{DestinationId, EndpointId, EventId};
use ravenpost_store::tenant::{Scheduled, ScheduledFilter, ScheduledPlace};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Failure;
use super::page::{List, limit, some};
use crate::auth::{Caller, EventsRead, EventsReplay};

/// The path of what waits.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct ScheduledPath {
    /// The event.
    event_id: EventId,
    /// For which destination.
    destination_id: DestinationId,
}

/// What to list of it.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ScheduledQuery {
    /// Of one endpoint.
    endpoint_id: Option<EndpointId>,
    /// For one destination.
    destination_id: Option<DestinationId>,
    /// Of one event.
    event_id: Option<EventId>,
    /// Waiting for that reason.
    reason: Option<WaitingReason>,
    /// Most entries of the page.
    #[param(minimum = 1, maximum = 250, default = 50)]
    limit: Option<u16>,
    /// The `next` of the page before; absent for the first one.
    next: Option<String>,
}

/// An attempt to come.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ScheduledDelivery)]
pub(super) struct ScheduledBody {
    /// The event.
    event_id: EventId,
    /// For which destination.
    destination_id: DestinationId,
    /// Through which endpoint it came.
    endpoint_id: EndpointId,
    /// Of which run.
    run: u32,
    /// Which attempt of the run.
    attempt_number: u32,
    /// When it is due at the earliest.
    due_at: DateTime<Utc>,
    /// Since when it waits.
    waiting_since: DateTime<Utc>,
    /// Why it waits.
    reason: WaitingReason,
    /// What keeps its destination from being sent to, even when it is due; null when nothing does.
    #[schema(required = true)]
    kept_by: Option<KeptBy>,
    /// Until when, where that is known.
    #[schema(required = true)]
    kept_until: Option<DateTime<Utc>>,
}

impl From<Scheduled> for ScheduledBody {
    fn from(scheduled: Scheduled) -> Self {
        Self {
            event_id: scheduled.event_id,
            destination_id: scheduled.destination_id,
            endpoint_id: scheduled.endpoint_id,
            run: scheduled.run,
            attempt_number: scheduled.attempt_number,
            due_at: scheduled.due_at,
            waiting_since: scheduled.waiting_since,
            reason: scheduled.reason,
            kept_by: scheduled.kept_by,
            kept_until: scheduled.kept_until,
        }
    }
}

impl ScheduledQuery {
    fn after(&self) -> Result<Option<ScheduledPlace>, Problem> {
        let place = |text: &str| {
            let place = decode_timed_cursor(text);
            let place = place.map(|(due_at, event, destination)| (due_at, event.into(), destination.into()));
            place.ok_or_else(|| Problem::invalid_parameter("next", "not a cursor of ours"))
        };
        self.next.as_deref().map(place).transpose()
    }
}

/// List what waits.
///
/// Soonest due first. What is put off while you page may be listed again, and what is brought forward may be missed.
/// With `reason` a page may be short, or empty, and have a `next`: what waits for other reasons is looked through for it.
#[utoipa::path(get, path = "/scheduled-deliveries", tag = "events", operation_id = "list_scheduled_deliveries",
    params(ScheduledQuery), security(("api_key" = ["events:read"])),
    responses((status = 200, body = List<ScheduledBody>)))]
pub(super) async fn list(
    caller: Caller<EventsRead>,
    Query(query): Query<ScheduledQuery>,
) -> Result<Answer<List<ScheduledBody>>, Failure> {
    let (limit, after) = (limit(query.limit)?, query.after()?);
    let filter = ScheduledFilter {
        endpoint: query.endpoint_id,
        destination: query.destination_id,
        event: query.event_id,
        reason: query.reason,
    };
    let found = caller.tenant.scheduled(&filter, after, limit).await?;
    let next =
        found.next.map(|(due_at, event, destination)| encode_timed_cursor(due_at, event.0, destination.0));
    Ok(Answer(some(found.rows.into_iter().map(ScheduledBody::from), next)))
}

/// Run what waits now.
///
/// It is due at once, as the same attempt that it was going to be. What is parked is due already or under way, and stays
/// as it is. A destination that is paused, disabled or given a rest keeps it all the same: `kept_by` says so.
#[utoipa::path(post, path = "/scheduled-deliveries/{event_id}/{destination_id}/run", tag = "events",
    operation_id = "run_scheduled_delivery", params(ScheduledPath), security(("api_key" = ["events:replay"])),
    responses((status = 200, body = ScheduledBody)))]
pub(super) async fn run(
    caller: Caller<EventsReplay>,
    Path(path): Path<ScheduledPath>,
) -> Result<Answer<ScheduledBody>, Failure> {
    let scheduled = caller.tenant.run_scheduled(path.event_id, path.destination_id, clock::now()).await?;
    Ok(Answer(scheduled.ok_or_else(missing)?.into()))
}

/// Cancel what waits.
///
/// It becomes a dead letter with the reason `cancelled`, which can be replayed; when the event was delivered there
/// before, only the replay is called off. What a worker has
/// already taken, to send it in its turn, is not called back: if it succeeds, it counts.
/// No message on `webhooks.dlq` tells of it.
#[utoipa::path(post, path = "/scheduled-deliveries/{event_id}/{destination_id}/cancel", tag = "events",
    operation_id = "cancel_scheduled_delivery", params(ScheduledPath), security(("api_key" = ["events:replay"])),
    responses((status = 204)))]
pub(super) async fn cancel(
    caller: Caller<EventsReplay>,
    Path(path): Path<ScheduledPath>,
) -> Result<StatusCode, Failure> {
    let cancelled = caller.tenant.cancel_scheduled(path.event_id, path.destination_id, clock::now()).await?;
    if cancelled { Ok(StatusCode::NO_CONTENT) } else { Err(missing().into()) }
}

fn missing() -> Problem {
    Problem::not_found("scheduled delivery")
}
