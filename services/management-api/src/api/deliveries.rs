//! Deliveries: every attempt of an event, and what is to come.

use axum::Json as Answer;
use chrono::{DateTime, Utc};
use ravenpost_chassis::problem::Path;
use ravenpost_core::delivery::{Outcome, PhaseTimes, WaitingReason};
use ravenpost_core::ids::{DeliveryId, DestinationId};
use ravenpost_store::tenant::{Attempts, Delivery, Waiting};
use serde::Serialize;
use utoipa::ToSchema;

use super::Failure;
use super::events::{EventPath, missing};
use crate::auth::{Caller, EventsRead};

/// Everything that was and will be tried for one event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Deliveries)]
pub(super) struct DeliveriesBody {
    /// The attempts, in their order in time; of more than a thousand the latest.
    data: Vec<DeliveryBody>,
    /// What waits for its time, soonest first.
    waiting: Vec<WaitingBody>,
}

/// One attempt to hand the event to one destination.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(super) struct DeliveryBody {
    /// Its id.
    id: DeliveryId,
    /// To which destination.
    destination_id: DestinationId,
    /// The destination's URL as it is now.
    #[schema(format = Uri)]
    destination_url: String,
    /// 0 for the original delivery; each replay is the next.
    run: u32,
    /// From 1, within the run.
    attempt_number: u32,
    /// What came of it.
    outcome: Outcome,
    /// HTTP status, if there was a response.
    #[schema(required = true)]
    response_code: Option<u16>,
    /// The start of the response's body.
    #[schema(required = true)]
    response_body_snippet: Option<String>,
    /// Why it failed.
    #[schema(required = true)]
    error_message: Option<String>,
    /// Why the destination's filter could not decide on the event and so let it through; null when it could, or had
    /// decided before.
    #[schema(required = true)]
    filter_error: Option<String>,
    /// When the next attempt was due; null after the last one.
    #[schema(required = true)]
    next_retry_at: Option<DateTime<Utc>>,
    /// How long it took.
    duration_ms: u32,
    /// Where the time went; all null for attempts of before that was recorded.
    phases: PhaseTimes,
    /// What was connected to, as `address:port`; null when it did not come to that.
    #[schema(required = true, example = "93.184.215.14:443")]
    connected_address: Option<String>,
    /// When it started.
    attempted_at: DateTime<Utc>,
}

/// An attempt to come.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WaitingDelivery)]
pub(super) struct WaitingBody {
    /// To which destination.
    destination_id: DestinationId,
    /// The destination's URL as it is now.
    #[schema(format = Uri)]
    destination_url: String,
    /// Of which run.
    run: u32,
    /// Which attempt of the run.
    attempt_number: u32,
    /// When it is due at the earliest.
    due_at: DateTime<Utc>,
    /// Why it waits.
    reason: WaitingReason,
}

impl From<Delivery> for DeliveryBody {
    fn from(delivery: Delivery) -> Self {
        Self {
            id: delivery.id,
            destination_id: delivery.destination_id,
            destination_url: delivery.url,
            run: delivery.run,
            attempt_number: delivery.attempt_number,
            outcome: delivery.outcome,
            response_code: delivery.response_code,
            response_body_snippet: delivery.response_body_snippet,
            error_message: delivery.error_message,
            filter_error: delivery.filter_error,
            next_retry_at: delivery.next_retry_at,
            duration_ms: delivery.duration_ms,
            phases: delivery.phases,
            connected_address: delivery.connected_address,
            attempted_at: delivery.attempted_at,
        }
    }
}

impl From<Waiting> for WaitingBody {
    fn from(waiting: Waiting) -> Self {
        Self {
            destination_id: waiting.destination_id,
            destination_url: waiting.url,
            run: waiting.run,
            attempt_number: waiting.attempt_number,
            due_at: waiting.due_at,
            reason: waiting.reason,
        }
    }
}

impl From<Attempts> for DeliveriesBody {
    fn from(attempts: Attempts) -> Self {
        Self {
            data: attempts.deliveries.into_iter().map(DeliveryBody::from).collect(),
            waiting: attempts.waiting.into_iter().map(WaitingBody::from).collect(),
        }
    }
}

/// List an event's deliveries.
#[utoipa::path(get, path = "/events/{event_id}/deliveries", tag = "events", operation_id = "list_deliveries",
    params(EventPath), security(("api_key" = ["events:read"])), responses((status = 200, body = DeliveriesBody)))]
pub(super) async fn list(
    caller: Caller<EventsRead>,
    Path(path): Path<EventPath>,
) -> Result<Answer<DeliveriesBody>, Failure> {
    let attempts = caller.tenant.attempts(path.event_id).await?.ok_or_else(missing)?;
    Ok(Answer(attempts.into()))
}
