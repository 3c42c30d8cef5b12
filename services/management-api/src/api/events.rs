//! Events: what was accepted, and where it stands.

pub(super) mod expunge;
mod search;

use axum::Json as Answer;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use ravenpost_chassis::problem::{Path, Problem, Query};
use ravenpost_core::access::encode_cursor;
use ravenpost_core::deduplication::DeduplicationKey;
use ravenpost_core::event::EventStatus;
use ravenpost_core::ids::{DestinationId, EndpointId, EventId};
use ravenpost_store::Tenant;
use ravenpost_store::tenant::{Event, EventFilter, Listed};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::page::{page, text};
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
    /// For one destination, however it stands with it.
    destination_id: Option<DestinationId>,
    /// In that status.
    status: Option<EventStatus>,
    /// Of that type, as the producer names it.
    event_type: Option<String>,
    /// With that id of its producer: the one by which the producer's retries are recognised, as long as they are. Needs
    /// `endpoint_id`.
    #[param(max_length = 256)]
    producer_event_id: Option<String>,
    /// With that text in its payload, byte for byte. The latest events are looked at, up to a bound: when `bounded` is
    /// true it was reached, `searched_through` says where, and `next` goes on from there. Of a payload the first MiB is
    /// looked at.
    #[param(min_length = 1, max_length = 200)]
    text: Option<String>,
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
    /// When its payload was expunged; null unless it was.
    #[schema(required = true)]
    expunged_at: Option<DateTime<Utc>>,
}

/// One page of events, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventList)]
pub(super) struct EventListBody {
    /// The entries.
    data: Vec<EventBody>,
    /// Pass it as `next` to get the following page; null on the last one.
    #[schema(required = true)]
    next: Option<String>,
    /// With `text`: when the oldest event was received that was looked at.
    #[schema(required = true)]
    searched_through: Option<DateTime<Utc>>,
    /// With `text`: the search has ended at its bound; older events were not looked at.
    bounded: bool,
}

/// Why no destination got an event.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum DroppedReason {
    /// The filter of each destination that there was has refused it.
    Filtered,
    /// Its endpoint had no destination, or its destinations were deleted before they got it, or its payload was expunged.
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
            expunged_at: event.expunged_at,
        }
    }
}

/// List events.
#[utoipa::path(get, path = "/events", tag = "events", operation_id = "list_events", params(EventQuery),
    security(("api_key" = ["events:read"])), responses((status = 200, body = EventListBody)))]
pub(super) async fn list(
    caller: Caller<EventsRead>,
    State(api): State<Api>,
    Query(query): Query<EventQuery>,
) -> Result<Answer<EventListBody>, Failure> {
    let page = page(query.limit, query.next.as_deref())?;
    let filter = EventFilter {
        endpoint: query.endpoint_id,
        destination: query.destination_id,
        status: query.status,
        event_type: text("event_type", query.event_type.as_deref())?,
        received_after: query.received_after,
        received_before: query.received_before,
    };
    let events = match (&query.producer_event_id, &query.text) {
        (None, None) => EventListBody::of(caller.tenant.events(&filter, page).await?),
        (None, Some(wanted)) => {
            check_text(wanted)?;
            search::search(&caller.tenant, &api.payloads, &filter, wanted, page).await?.into()
        }
        (Some(id), None) => by_producer(&api, &caller.tenant, &filter, id).await?,
        (Some(_), Some(_)) => {
            return Err(Problem::invalid_parameter("text", "not together with producer_event_id").into());
        }
    };
    Ok(Answer(events))
}

fn check_text(text: &str) -> Result<(), Problem> {
    let fits = (1..=200).contains(&text.chars().count()) && !text.contains('\0');
    if fits {
        Ok(())
    } else {
        Err(Problem::invalid_parameter("text", "1 to 200 characters, none of them U+0000"))
    }
}

/// The events that an endpoint's producer calls so: at most two, since an `Idempotency-Key` may be the same as an id.
async fn by_producer(
    api: &Api,
    tenant: &Tenant,
    filter: &EventFilter<'_>,
    id: &str,
) -> Result<EventListBody, Failure> {
    let endpoint = filter.endpoint.ok_or_else(|| {
        Problem::invalid_parameter(
            "endpoint_id",
            "needed with producer_event_id: each producer has ids of its own",
        )
    })?;
    let keys = DeduplicationKey::of_id(id).map(|key| (endpoint, key.hash));
    let mut rows = Vec::new();
    // Keys are the system's; what they lead to is read as the caller, to whom another's event is not there.
    for winner in api.store.system().winners(&keys).await?.into_values() {
        let event = tenant.event(winner.event_id).await?;
        rows.extend(event.filter(|event| filter.admits(event)));
    }
    rows.sort_by_key(|event| std::cmp::Reverse(event.id));
    Ok(EventListBody::of(Listed { rows, next: None }))
}

impl EventListBody {
    fn of(listed: Listed<Event>) -> Self {
        let data = listed.rows.into_iter().map(EventBody::from).collect();
        Self { data, next: listed.next.map(encode_cursor), searched_through: None, bounded: false }
    }
}

impl From<search::Found> for EventListBody {
    fn from(found: search::Found) -> Self {
        let through = found.through;
        Self {
            data: found.events.into_iter().map(EventBody::from).collect(),
            next: through.as_ref().filter(|_| found.more).map(|event| encode_cursor(event.id.0)),
            searched_through: through.map(|event| event.received_at),
            bounded: found.bounded,
        }
    }
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
    if event.expunged_at.is_some() {
        return Err(no_payload().into());
    }
    let payload = api.payloads.get(&event.payload).await?.ok_or_else(no_payload)?;
    Ok(download(&event, payload))
}

/// It was expunged, or its object is gone.
pub(super) fn no_payload() -> Problem {
    Problem::not_found("payload any more")
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
