//! How an endpoint fares, in one answer.

use axum::Json as Answer;
use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_chassis::clock;
use ravenpost_chassis::problem::{Path, Problem};
use ravenpost_core::delivery::WaitingReason;
use ravenpost_core::destination::DestinationStatus;
use ravenpost_core::endpoint::EndpointStatus;
use ravenpost_core::ids::{DestinationId, EndpointId};
use ravenpost_core::statistics::{Grain, Span};
use ravenpost_store::tenant::{Counted, Destination, EndpointHealth, MOST_WAITING_COUNTED, Page};
use serde::Serialize;
use utoipa::ToSchema;

use super::{EndpointPath, missing};
use crate::api::Failure;
use crate::api::analytics::FiguresBody;
use crate::api::destinations::DestinationStateBody;
use crate::auth::{Caller, EventsRead};

/// What counts as now.
const NOW: TimeDelta = TimeDelta::minutes(15);
/// Most destinations that are told.
const DESTINATIONS: u16 = 250;

/// How an endpoint fares.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EndpointHealth)]
pub(in crate::api) struct HealthBody {
    /// Which one.
    endpoint_id: EndpointId,
    /// Whether its events are delivered.
    status: EndpointStatus,
    /// When its last event was received.
    #[schema(required = true)]
    last_event_at: Option<DateTime<Utc>>,
    /// When one of its destinations accepted an event last, within ten seconds.
    #[schema(required = true)]
    last_success_at: Option<DateTime<Utc>>,
    /// What it came to in the last 15 minutes.
    lately: FiguresBody,
    /// What waits for its time, by reason. Of each destination 1000 are counted, and one more where there are more: see `waiting_more`.
    waiting: WaitingBody,
    /// Of some destination more wait.
    waiting_more: bool,
    /// When the first of what waits is, or was, due.
    #[schema(required = true)]
    oldest_due_at: Option<DateTime<Utc>>,
    /// Dead letters: 1000 may be more, see `dead_more`.
    dead: u32,
    /// There are more than that.
    dead_more: bool,
    /// Its destinations, newest first, up to 250.
    destinations: Vec<DestinationHealthBody>,
}

/// What waits, by reason.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = WaitingByReason)]
pub(in crate::api) struct WaitingBody {
    /// The attempt before has failed.
    retry: u64,
    /// The destination is busy or slow.
    parked: u64,
    /// Endpoint or destination is paused.
    held: u64,
    /// A person asked for it.
    replay: u64,
}

/// How one of its destinations fares.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DestinationHealth)]
pub(in crate::api) struct DestinationHealthBody {
    /// Which one.
    id: DestinationId,
    /// What its owner calls it.
    name: String,
    /// Whether it is sent to.
    status: DestinationStatus,
    /// How it fares.
    state: DestinationStateBody,
}

impl WaitingBody {
    fn of(health: &EndpointHealth) -> Self {
        let mut body = Self::default();
        for (reason, count) in &health.waiting {
            *match reason {
                WaitingReason::Retry => &mut body.retry,
                WaitingReason::Parked => &mut body.parked,
                WaitingReason::Held => &mut body.held,
                WaitingReason::Replay => &mut body.replay,
            } += count;
        }
        body
    }
}

impl DestinationHealthBody {
    fn of(destination: Destination, now: DateTime<Utc>) -> Self {
        let state = DestinationStateBody::of(&destination, now);
        Self { id: destination.id, name: destination.name, status: destination.status, state }
    }
}

/// Get how an endpoint fares.
///
/// In one answer: its status, what came last, what waits and why, what was given up, and the state of each destination.
#[utoipa::path(get, path = "/endpoints/{endpoint_id}/health", tag = "analytics", operation_id = "get_endpoint_health",
    params(EndpointPath), security(("api_key" = ["events:read"])), responses((status = 200, body = HealthBody)))]
pub(in crate::api) async fn health(
    caller: Caller<EventsRead>,
    Path(path): Path<EndpointPath>,
) -> Result<Answer<HealthBody>, Failure> {
    let (tenant, id, now) = (&caller.tenant, path.endpoint_id, clock::now());
    let span =
        Span::covering(now - NOW, now, Some(Grain::Minute)).map_err(|error| Problem::internal(&error))?;
    // Asked at once, so that the answer takes as long as the slowest of them.
    let (endpoint, health, lately, destinations) = tokio::try_join!(
        tenant.endpoint(id),
        tenant.endpoint_health(id),
        tenant.series(Counted::Endpoint(id), span),
        tenant.destinations(id, Page { after: None, limit: DESTINATIONS }),
    )?;
    let endpoint = endpoint.ok_or_else(missing)?;
    let (lately, destinations) = (lately.total(), destinations.rows);
    Ok(Answer(HealthBody {
        endpoint_id: id,
        status: endpoint.status,
        last_event_at: health.last_event_at,
        last_success_at: destinations.iter().filter_map(|one| one.health.last_success_at).max(),
        lately: FiguresBody::from(&lately),
        waiting: WaitingBody::of(&health),
        waiting_more: health.waiting_more,
        oldest_due_at: health.oldest_due_at,
        dead: health.dead.min(MOST_WAITING_COUNTED),
        dead_more: health.dead > MOST_WAITING_COUNTED,
        destinations: destinations.into_iter().map(|one| DestinationHealthBody::of(one, now)).collect(),
    }))
}
