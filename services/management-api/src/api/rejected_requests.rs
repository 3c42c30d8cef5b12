//! Rejected requests: what failed verification, kept for a while, apart from events.

pub(super) mod accept;

use axum::Json as Answer;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use ravenpost_chassis::clock;
use ravenpost_chassis::problem::{Path, Problem, Query};
use ravenpost_core::ids::{EndpointId, EventId, RejectedRequestId};
use ravenpost_core::rejected::Head;
use ravenpost_store::tenant::{CountOfHour, RejectedFilter, RejectedRequest};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::endpoints::{self, EndpointPath};
use super::events::HeaderBody;
use super::page::{List, list as listed, page};
use super::{Api, Failure};
use crate::auth::{Caller, EventsRead, EventsReplay};

/// The path of one rejected request.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct RejectedRequestPath {
    /// The rejected request's id.
    rejected_request_id: RejectedRequestId,
}

/// Which rejected requests to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RejectedRequestQuery {
    /// Of one endpoint.
    endpoint_id: Option<EndpointId>,
    /// For that reason, such as `wrong_signature`.
    reason: Option<String>,
    /// Most entries of the page.
    #[param(minimum = 1, maximum = 250, default = 50)]
    limit: Option<u16>,
    /// The `next` of the page before; absent for the first one.
    next: Option<String>,
}

/// A request that failed verification.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RejectedRequest)]
pub(super) struct RejectedRequestBody {
    /// Its id.
    id: RejectedRequestId,
    /// To which endpoint it came.
    endpoint_id: EndpointId,
    /// When.
    received_at: DateTime<Utc>,
    /// Why it was rejected, in one word.
    #[schema(example = "wrong_signature")]
    reason: String,
    /// Why, in a sentence.
    detail: String,
    /// Its method.
    #[schema(example = "POST")]
    method: String,
    /// The address it came from, as far as ingress saw.
    #[schema(required = true, example = "203.0.113.7")]
    peer: Option<String>,
    /// The body's length.
    payload_bytes: i64,
    /// SHA-256 of the body, in hexadecimal.
    payload_sha256: String,
    /// As which event it was accepted since.
    #[schema(required = true)]
    event_id: Option<EventId>,
    /// When that was.
    #[schema(required = true)]
    accepted_at: Option<DateTime<Utc>>,
}

/// A rejected request with query and headers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RejectedRequestWithHeaders)]
pub(super) struct RejectedRequestWithHeadersBody {
    #[serde(flatten)]
    request: RejectedRequestBody,
    /// What followed the `?` in its URL; values that may be credentials are shown as `[redacted]`.
    #[schema(required = true)]
    query: Option<String>,
    /// Its headers, as they came; values that may be credentials are shown as `[redacted]`.
    headers: Vec<HeaderBody>,
}

/// How many requests of an endpoint were rejected.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RejectedCounts)]
pub(super) struct RejectedCountsBody {
    /// Kept, over all hours below. What is kept is removed with time.
    kept: i64,
    /// Only counted, over all hours below: more came than is kept.
    not_kept: i64,
    /// The hours in which any were rejected, newest first, of the last 31 days.
    hours: Vec<RejectedCountBody>,
}

/// How many requests were rejected in an hour.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RejectedCount)]
pub(super) struct RejectedCountBody {
    /// The beginning of the hour.
    hour: DateTime<Utc>,
    /// Kept.
    kept: i64,
    /// Only counted.
    not_kept: i64,
}

impl From<RejectedRequest> for RejectedRequestBody {
    fn from(request: RejectedRequest) -> Self {
        Self {
            id: request.id,
            endpoint_id: request.endpoint_id,
            received_at: request.received_at,
            reason: request.reason,
            detail: request.detail,
            method: request.method,
            peer: request.peer.map(|peer| peer.to_string()),
            payload_bytes: request.body.s3_length,
            payload_sha256: hex::encode(request.body_sha256),
            event_id: request.event_id,
            accepted_at: request.accepted_at,
        }
    }
}

impl From<CountOfHour> for RejectedCountBody {
    fn from(count: CountOfHour) -> Self {
        Self { hour: count.hour, kept: count.kept, not_kept: count.not_kept }
    }
}

/// List rejected requests.
///
/// Of each endpoint the newest are kept: a thousand, 64 MiB and seven days unless the operator has set other bounds, and
/// fewer of a flood.
#[utoipa::path(get, path = "/rejected-requests", tag = "rejected requests", operation_id = "list_rejected_requests",
    params(RejectedRequestQuery), security(("api_key" = ["events:read"])),
    responses((status = 200, body = List<RejectedRequestBody>)))]
pub(super) async fn list(
    caller: Caller<EventsRead>,
    Query(query): Query<RejectedRequestQuery>,
) -> Result<Answer<List<RejectedRequestBody>>, Failure> {
    let page = page(query.limit, query.next.as_deref())?;
    let filter = RejectedFilter { endpoint: query.endpoint_id, reason: query.reason.as_deref() };
    let requests = caller.tenant.rejected_requests(&filter, page).await?;
    Ok(Answer(listed(requests, RejectedRequestBody::from)))
}

/// Get a rejected request.
#[utoipa::path(get, path = "/rejected-requests/{rejected_request_id}", tag = "rejected requests",
    operation_id = "get_rejected_request", params(RejectedRequestPath), security(("api_key" = ["events:read"])),
    responses((status = 200, body = RejectedRequestWithHeadersBody)))]
pub(super) async fn get(
    caller: Caller<EventsRead>,
    Path(path): Path<RejectedRequestPath>,
) -> Result<Answer<RejectedRequestWithHeadersBody>, Failure> {
    let found = caller.tenant.rejected_request(path.rejected_request_id).await?.ok_or_else(missing)?;
    let (query, headers) = (found.head.shown_query(), shown(&found.head));
    Ok(Answer(RejectedRequestWithHeadersBody { request: found.request.into(), query, headers }))
}

/// Get a rejected request's body, byte for byte.
#[utoipa::path(get, path = "/rejected-requests/{rejected_request_id}/payload", tag = "rejected requests",
    operation_id = "get_rejected_request_payload", params(RejectedRequestPath),
    security(("api_key" = ["events:read"])),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream", description = "The body.")))]
pub(super) async fn payload(
    caller: Caller<EventsRead>,
    State(api): State<Api>,
    Path(path): Path<RejectedRequestPath>,
) -> Result<impl IntoResponse, Failure> {
    let found = caller.tenant.rejected_request(path.rejected_request_id).await?.ok_or_else(missing)?;
    let body = api.payloads.get(&found.request.body).await?;
    Ok(download(body.ok_or_else(|| Problem::not_found("payload any more"))?))
}

/// Delete a rejected request.
///
/// An event that it was accepted as stays.
#[utoipa::path(delete, path = "/rejected-requests/{rejected_request_id}", tag = "rejected requests",
    operation_id = "delete_rejected_request", params(RejectedRequestPath),
    security(("api_key" = ["events:replay"])), responses((status = 204)))]
pub(super) async fn delete(
    caller: Caller<EventsReplay>,
    Path(path): Path<RejectedRequestPath>,
) -> Result<StatusCode, Failure> {
    let deleted = caller.tenant.delete_rejected_request(path.rejected_request_id, clock::now()).await?;
    if deleted { Ok(StatusCode::NO_CONTENT) } else { Err(missing().into()) }
}

/// Count an endpoint's rejected requests, kept or not, by the hour.
#[utoipa::path(get, path = "/endpoints/{endpoint_id}/rejected-requests/counts", tag = "rejected requests",
    operation_id = "count_rejected_requests", params(EndpointPath), security(("api_key" = ["events:read"])),
    responses((status = 200, body = RejectedCountsBody)))]
pub(super) async fn counts(
    caller: Caller<EventsRead>,
    Path(path): Path<EndpointPath>,
) -> Result<Answer<RejectedCountsBody>, Failure> {
    caller.tenant.endpoint(path.endpoint_id).await?.ok_or_else(endpoints::missing)?;
    let hours = caller.tenant.rejected_counts(path.endpoint_id).await?;
    Ok(Answer(RejectedCountsBody {
        kept: hours.iter().map(|hour| hour.kept).sum(),
        not_kept: hours.iter().map(|hour| hour.not_kept).sum(),
        hours: hours.into_iter().map(RejectedCountBody::from).collect(),
    }))
}

/// Whatever somebody sent whom nobody believes, no browser may take it for anything.
fn download(body: Bytes) -> ([(HeaderName, HeaderValue); 3], Bytes) {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, body)
}

fn shown(head: &Head) -> Vec<HeaderBody> {
    head.shown_headers().into_iter().map(|(name, value)| HeaderBody { name, value }).collect()
}

fn missing() -> Problem {
    Problem::not_found("rejected request")
}
