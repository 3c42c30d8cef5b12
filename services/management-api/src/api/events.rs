//! Events: what was accepted, and where it stands.

use axum::Json as Answer;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use ravenpost_chassis::problem::{Path, Problem, Query};
use ravenpost_core::event::EventStatus;
use ravenpost_core::ids::{DestinationId, EndpointId, EventId};
use ravenpost_store::tenant::{Event, EventFilter};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::page::{List, list as listed, page};
use super::{Api, Failure};
use crate::auth::{Caller, EventsRead};

/// The path of one event.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct EventPath {
    /// The event's id; destinations know it as `webhook-id`.
    pub(super) event_id: EventId,
}

/// Which events to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventQuery {
    /// Of one endpoint.
    endpoint_id: Option<EndpointId>,
    /// In that status.
    status: Option<EventStatus>,
    /// Of that type, as the producer names it.
    event_type: Option<String>,
    /// Received at or after (RFC 3339).
    received_after: Option<DateTime<Utc>>,
    /// Received before (RFC 3339).
    received_before: Option<DateTime<Utc>>,
    /// Most entries of the page.
    #[param(minimum = 1, maximum = 250, default = 50)]
    limit: Option<u16>,
    /// The `next` of the page before; absent for the first one.
    next: Option<String>,
}

/// One accepted webhook.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub(super) struct EventBody {
    /// Its id; destinations know it as `webhook-id`.
    id: EventId,
    /// Through which endpoint it came.
    endpoint_id: EndpointId,
    /// When.
    received_at: DateTime<Utc>,
    /// Where it stands over all destinations.
    status: EventStatus,
    /// What its producer says it is.
    #[schema(required = true)]
    event_type: Option<String>,
    /// The media type of its payload, as its producer says.
    #[schema(required = true)]
    content_type: Option<String>,
    /// The payload's length.
    payload_bytes: i64,
    /// SHA-256 of the payload, in hexadecimal.
    payload_sha256: String,
    /// Destinations that it waits for; null until it has met its destinations.
    #[schema(required = true)]
    pending: Option<Vec<DestinationId>>,
    /// Destinations that have accepted it.
    delivered: Vec<DestinationId>,
    /// Destinations for which it was given up.
    dead: Vec<DestinationId>,
    /// Destinations whose filter did not want it.
    filtered: Vec<DestinationId>,
    /// Why it is `DROPPED`; null unless it is.
    #[schema(required = true)]
    dropped_reason: Option<DroppedReason>,
}

/// Why no destination got an event.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum DroppedReason {
    /// The filter of each destination that there was has refused it.
    Filtered,
    /// Its endpoint had no destination, or its destinations were deleted before they got it.
    NoDestination,
}

impl DroppedReason {
    fn of(event: &Event) -> Option<Self> {
        match (event.status, event.filtered.is_empty()) {
            (EventStatus::Dropped, false) => Some(Self::Filtered),
            (EventStatus::Dropped, true) => Some(Self::NoDestination),
            _ => None,
        }
    }
}

/// One accepted webhook with the headers it came with.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventWithHeaders)]
pub(super) struct EventWithHeadersBody {
    #[serde(flatten)]
    event: EventBody,
    /// The producer's headers that travel on to destinations. Credentials are never stored.
    headers: Vec<HeaderBody>,
}

/// A header.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Header)]
pub(super) struct HeaderBody {
    /// In lower case.
    pub(super) name: String,
    /// Bytes that are not UTF-8 are shown as U+FFFD.
    pub(super) value: String,
}

impl From<Event> for EventBody {
    fn from(event: Event) -> Self {
        let dropped_reason = DroppedReason::of(&event);
        Self {
            id: event.id,
            endpoint_id: event.endpoint_id,
            received_at: event.received_at,
            status: event.status,
            event_type: event.event_type,
            content_type: event.content_type,
            payload_bytes: event.payload.s3_length,
            payload_sha256: hex::encode(event.body_sha256),
            pending: event.pending,
            delivered: event.delivered,
            dead: event.dead,
            filtered: event.filtered,
            dropped_reason,
        }
    }
}

/// List events.
#[utoipa::path(get, path = "/events", tag = "events", operation_id = "list_events", params(EventQuery),
    security(("api_key" = ["events:read"])), responses((status = 200, body = List<EventBody>)))]
pub(super) async fn list(
    caller: Caller<EventsRead>,
    Query(query): Query<EventQuery>,
) -> Result<Answer<List<EventBody>>, Failure> {
    let page = page(query.limit, query.next.as_deref())?;
    let filter = EventFilter {
        endpoint: query.endpoint_id,
        status: query.status,
        event_type: query.event_type.as_deref(),
        received_after: query.received_after,
        received_before: query.received_before,
    };
    let events = caller.tenant.events(&filter, page).await?;
    Ok(Answer(listed(events, EventBody::from)))
}

/// Get an event.
#[utoipa::path(get, path = "/events/{event_id}", tag = "events", operation_id = "get_event", params(EventPath),
    security(("api_key" = ["events:read"])), responses((status = 200, body = EventWithHeadersBody)))]
pub(super) async fn get(
    caller: Caller<EventsRead>,
    Path(path): Path<EventPath>,
) -> Result<Answer<EventWithHeadersBody>, Failure> {
    let event = caller.tenant.event(path.event_id).await?.ok_or_else(missing)?;
    let headers = shown(&caller.tenant.event_headers(path.event_id).await?);
    Ok(Answer(EventWithHeadersBody { event: event.into(), headers }))
}

/// Get an event's payload, byte for byte.
#[utoipa::path(get, path = "/events/{event_id}/payload", tag = "events", operation_id = "get_event_payload",
    params(EventPath), security(("api_key" = ["events:read"])),
    responses((status = 200, body = Vec<u8>, content_type = "*/*",
        description = "The payload, with the media type that its producer named.")))]
pub(super) async fn payload(
    caller: Caller<EventsRead>,
    State(api): State<Api>,
    Path(path): Path<EventPath>,
) -> Result<impl IntoResponse, Failure> {
    let event = caller.tenant.event(path.event_id).await?.ok_or_else(missing)?;
    let payload =
        api.payloads.get(&event.payload).await?.ok_or_else(|| Problem::not_found("payload any more"))?;
    Ok(download(&event, payload))
}

/// Whatever a producer sent, no browser may take it for a page of ours.
fn download(event: &Event, payload: Bytes) -> ([(HeaderName, HeaderValue); 3], Bytes) {
    let named = event.content_type.as_deref().and_then(|name| HeaderValue::from_str(name).ok());
    let media_type = named.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let headers = [
        (header::CONTENT_TYPE, media_type),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, payload)
}

fn shown(headers: &HeaderMap) -> Vec<HeaderBody> {
    let show = |(name, value): (&HeaderName, &HeaderValue)| HeaderBody {
        name: name.as_str().to_owned(),
        value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
    };
    headers.iter().map(show).collect()
}

pub(super) fn missing() -> Problem {
    Problem::not_found("event")
}
