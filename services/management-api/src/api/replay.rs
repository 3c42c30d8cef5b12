//! Replay: an event put back by a person.

use axum::Json as Answer;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use ravenpost_chassis::clock;
use ravenpost_chassis::problem::{Kind, Path, Problem};
use ravenpost_core::ids::{DestinationId, EventId};
use ravenpost_store::tenant::{ReplayError, Replayed};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Failure;
use super::body::OptionalJson;
use super::events::{EventPath, missing};
use crate::auth::{Caller, EventsReplay};

/// To whom; without a body, or without a destination, to every current destination of the event's endpoint.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = Replay)]
pub(super) struct ReplayBody {
    /// To this destination only.
    destination_id: Option<DestinationId>,
}

/// What was scheduled.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ScheduledReplay)]
pub(super) struct ScheduledReplayBody {
    /// The event; its id stays the same over replays.
    event_id: EventId,
    /// A run for each destination.
    runs: Vec<RunBody>,
}

/// One more run of the event to one destination.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Run)]
pub(super) struct RunBody {
    /// To which destination.
    destination_id: DestinationId,
    /// The number of the run; its deliveries carry it.
    run: u32,
    /// When its first attempt is due.
    due_at: DateTime<Utc>,
}

impl From<Replayed> for RunBody {
    fn from(replayed: Replayed) -> Self {
        Self { destination_id: replayed.destination_id, run: replayed.run, due_at: replayed.due_at }
    }
}

/// Replay an event.
///
/// It is sent again with the same id and payload, at once, to one or all of its endpoint's current destinations. A
/// destination that is named gets it whatever its filter says; of all, those whose filter wants it now.
/// 409 when the endpoint was deleted or the event is still on its way to its first delivery.
#[utoipa::path(post, path = "/events/{event_id}/replay", tag = "events", operation_id = "replay_event",
    params(EventPath), request_body = Option<ReplayBody>, security(("api_key" = ["events:replay"])),
    responses((status = 202, body = ScheduledReplayBody), (status = 409)))]
pub(super) async fn replay(
    caller: Caller<EventsReplay>,
    Path(path): Path<EventPath>,
    OptionalJson(body): OptionalJson<ReplayBody>,
) -> Result<(StatusCode, Answer<ScheduledReplayBody>), Failure> {
    let replayed =
        caller.tenant.replay(path.event_id, body.destination_id, clock::now()).await.map_err(refused)?;
    let runs = replayed.into_iter().map(RunBody::from).collect();
    Ok((StatusCode::ACCEPTED, Answer(ScheduledReplayBody { event_id: path.event_id, runs })))
}

fn refused(error: ReplayError) -> Failure {
    match error {
        ReplayError::Store(error) => error.into(),
        ReplayError::NoEvent => missing().into(),
        ReplayError::NoDestination => Problem::invalid_field("destination_id", error.to_string()).into(),
        ReplayError::NotRouted
        | ReplayError::Expunged
        | ReplayError::EndpointDeleted
        | ReplayError::NoDestinations => Problem::new(Kind::Conflict, error.to_string()).into(),
    }
}
