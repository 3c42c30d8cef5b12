//! Expunging a payload.

use axum::Json as Answer;
use axum::extract::State;
use chrono::{DateTime, Utc};
use ravenpost_chassis::problem::{Kind, Path, Problem};
use ravenpost_chassis::{clock, random};
use ravenpost_core::ids::EventId;
use ravenpost_store::tenant::Expunged;
use serde::Serialize;
use tracing::warn;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{EventPath, missing};
use crate::api::{Api, Failure};
use crate::auth::{Caller, EventsReplay};

/// A payload that was expunged.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ExpungedPayload)]
pub(in crate::api) struct ExpungedBody {
    /// Of which event.
    event_id: EventId,
    /// Since when nothing reads or sends it any more.
    expunged_at: DateTime<Utc>,
    /// Its bytes in the payload store are overwritten. If not, they will be as soon as the store is back.
    erased: bool,
}

/// Expunge an event's payload.
///
/// From now on it can't be read, sent or replayed, and its bytes in the payload store are overwritten. What waits for it
/// becomes a dead letter with the reason `expunged`. What is not part of it stays: headers, type, digest, attempts. A
/// request that is under way is not called back, nor one that begins within a second elsewhere. A copy of a small payload
/// in Kafka ends with the topic's retention. May be repeated. 409 when the event is still on its way to its first
/// delivery.
#[utoipa::path(delete, path = "/events/{event_id}/payload", tag = "events", operation_id = "expunge_event_payload",
    params(EventPath), security(("api_key" = ["events:replay"])),
    responses((status = 200, body = ExpungedBody), (status = 409)))]
pub(in crate::api) async fn expunge(
    caller: Caller<EventsReplay>,
    State(api): State<Api>,
    Path(path): Path<EventPath>,
) -> Result<Answer<ExpungedBody>, Failure> {
    let event_id = path.event_id;
    let expunged_at = match caller.tenant.expunge(event_id, clock::now()).await? {
        Expunged::Since(since) => since,
        Expunged::Missing => return Err(missing().into()),
        Expunged::NotRouted => {
            let detail = "the event has not been delivered a first time yet: try again in a moment";
            return Err(Problem::new(Kind::Conflict, detail).into());
        }
    };
    let system = api.store.system();
    if let Err(error) = system.erase(&api.payloads, Some(event_id), Uuid::from_bytes(random::bytes())).await {
        let error = &error as &dyn std::error::Error;
        warn!(error, %event_id, "a payload that was expunged is overwritten later");
    }
    let erased = system.is_erased(event_id).await?;
    Ok(Answer(ExpungedBody { event_id, expunged_at, erased }))
}
