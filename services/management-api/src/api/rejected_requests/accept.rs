//! Verifying rejected requests again, and accepting those that are believed now, each once (PROTOCOLS I10).
//!
//! They are judged under their endpoint's verification and secrets of today, at the time at which they came: whoever
//! puts a secret right a day later does not find everything stale.

use axum::Json as Answer;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::Method;
use ravenpost_chassis::problem::{Kind, Path, Problem, Query};
use ravenpost_chassis::{clock, random, trace};
use ravenpost_core::access::{decode_cursor, encode_cursor};
use ravenpost_core::event::{Content, PayloadLocation};
use ravenpost_core::ids::{EventId, EventIds, InstanceId, RejectedRequestId};
use ravenpost_core::signature::{Rejection, Request, Url};
use ravenpost_core::trace::Traceparent;
use ravenpost_store::Tenant;
use ravenpost_store::system::{Draft, Endpoint};
use ravenpost_store::tenant::{Acceptance, Accepted, RejectedHead};
use serde::{Deserialize, Serialize};
use tracing::{Span, warn};
use utoipa::{IntoParams, ToSchema};

use super::super::endpoints::{self, EndpointPath};
use super::super::{Api, Failure};
use super::{RejectedRequestPath, missing};
use crate::auth::{Caller, EventsRead, EventsReplay};

/// How many requests one call looks at, unless it says fewer.
const MOST: u16 = 100;

/// What a rejected request is found to be now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Verdict)]
pub(in super::super) struct VerdictBody {
    /// Whether it is believed under the endpoint's verification and secrets of now.
    verified: bool,
    /// Why it is not, in one word.
    #[schema(required = true, example = "wrong_signature")]
    reason: Option<&'static str>,
    /// Why it is not, in a sentence.
    #[schema(required = true)]
    detail: Option<String>,
}

/// An accepted request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AcceptedRequest)]
pub(in super::super) struct AcceptedBody {
    /// The rejected request.
    id: RejectedRequestId,
    /// The event that it is; the same however often it is accepted.
    event_id: EventId,
}

/// Which part of an endpoint's rejected requests to accept.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct AcceptAllQuery {
    /// How many to look at.
    #[param(minimum = 1, maximum = 100, default = 100)]
    limit: Option<u16>,
    /// The `next` of the call before; absent for the first one.
    next: Option<String>,
}

/// What became of some of an endpoint's rejected requests.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AcceptedRequests)]
pub(in super::super) struct AcceptedAllBody {
    /// How many were looked at, the oldest first.
    examined: usize,
    /// Those that are accepted.
    accepted: Vec<AcceptedBody>,
    /// How many are still not believed, or have lost their body.
    still_rejected: usize,
    /// Pass it as `next` to go on; null when that was all.
    #[schema(required = true)]
    next: Option<String>,
}

/// Why a request does not become an event.
enum Refusal {
    Rejected(Rejection),
    BodyMissing,
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = match refusal {
            Refusal::Rejected(rejection) => format!("the request is still not believed: {rejection}"),
            Refusal::BodyMissing => "the request's body is not stored".to_owned(),
        };
        Self::new(Kind::Conflict, detail)
    }
}

impl From<Accepted> for AcceptedBody {
    fn from(accepted: Accepted) -> Self {
        Self { id: accepted.request, event_id: accepted.event }
    }
}

/// Verify a rejected request again.
///
/// Under the endpoint's verification and secrets of now, at the time at which the request came. Changes nothing.
/// 409 when the endpoint was deleted or the request's body is not stored.
#[utoipa::path(post, path = "/rejected-requests/{rejected_request_id}/verify", tag = "rejected requests",
    operation_id = "verify_rejected_request", params(RejectedRequestPath), security(("api_key" = ["events:read"])),
    responses((status = 200, body = VerdictBody), (status = 409)))]
pub(in super::super) async fn verify(
    caller: Caller<EventsRead>,
    State(api): State<Api>,
    Path(path): Path<RejectedRequestPath>,
) -> Result<Answer<VerdictBody>, Failure> {
    let rejected = caller.tenant.rejected_request(path.rejected_request_id).await?.ok_or_else(missing)?;
    let endpoint = endpoint_now(&api, &rejected.token).await?;
    let verdict = match believed(&api, &endpoint, &rejected).await? {
        Ok(_) => VerdictBody { verified: true, reason: None, detail: None },
        Err(Refusal::Rejected(rejection)) => VerdictBody {
            verified: false,
            reason: Some(rejection.reason()),
            detail: Some(rejection.to_string()),
        },
        Err(missing @ Refusal::BodyMissing) => return Err(Problem::from(missing).into()),
    };
    Ok(Answer(verdict))
}

/// Accept a rejected request.
///
/// If it verifies now, it becomes an event, received now, for the endpoint's current destinations. Accepting it again
/// answers the same event, and so does accepting its producer's retry. 409 when it still does not verify, its endpoint was deleted or its body is not stored.
#[utoipa::path(post, path = "/rejected-requests/{rejected_request_id}/accept", tag = "rejected requests",
    operation_id = "accept_rejected_request", params(RejectedRequestPath),
    security(("api_key" = ["events:replay"])), responses((status = 200, body = AcceptedBody), (status = 409)))]
pub(in super::super) async fn accept(
    caller: Caller<EventsReplay>,
    State(api): State<Api>,
    Path(path): Path<RejectedRequestPath>,
) -> Result<Answer<AcceptedBody>, Failure> {
    let rejected = caller.tenant.rejected_request(path.rejected_request_id).await?.ok_or_else(missing)?;
    if let Some(event) = rejected.request.event_id {
        return Ok(Answer(Accepted { request: rejected.request.id, event }.into()));
    }
    let endpoint = endpoint_now(&api, &rejected.token).await?;
    let acceptance =
        prepare(&api, &endpoint, &rejected, &mut EventIds::default()).await?.map_err(Problem::from)?;
    let accepted = commit(&api, &caller.tenant, vec![acceptance]).await?;
    let accepted = accepted.into_iter().next().ok_or_else(missing)?;
    Ok(Answer(accepted.into()))
}

/// Accept an endpoint's rejected requests that verify now.
///
/// The oldest first, so many in one call; go on with `next`. What does not verify stays as it is.
/// 409 when the endpoint was deleted meanwhile.
#[utoipa::path(post, path = "/endpoints/{endpoint_id}/rejected-requests/accept", tag = "rejected requests",
    operation_id = "accept_rejected_requests", params(EndpointPath, AcceptAllQuery),
    security(("api_key" = ["events:replay"])), responses((status = 200, body = AcceptedAllBody), (status = 409)))]
pub(in super::super) async fn accept_all(
    caller: Caller<EventsReplay>,
    State(api): State<Api>,
    Path(path): Path<EndpointPath>,
    Query(query): Query<AcceptAllQuery>,
) -> Result<Answer<AcceptedAllBody>, Failure> {
    let (limit, after) = query.check()?;
    let endpoint = caller.tenant.endpoint(path.endpoint_id).await?.ok_or_else(endpoints::missing)?;
    let endpoint = endpoint_now(&api, &endpoint.token).await?;
    let requests = caller.tenant.unaccepted_requests(path.endpoint_id, after, limit).await?;
    let (examined, acceptances) = prepare_all(&api, &endpoint, &requests).await?;
    let still_rejected = examined - acceptances.len();
    let accepted = commit(&api, &caller.tenant, acceptances).await?;
    let more = examined < requests.len() || requests.len() == usize::from(limit);
    let last = requests[..examined].last().filter(|_| more);
    Ok(Answer(AcceptedAllBody {
        examined,
        accepted: accepted.into_iter().map(AcceptedBody::from).collect(),
        still_rejected,
        next: last.map(|last| encode_cursor(last.request.id.0)),
    }))
}

/// How many were looked at, and those among them that are believed now.
async fn prepare_all(
    api: &Api,
    endpoint: &Endpoint,
    requests: &[RejectedHead],
) -> Result<(usize, Vec<Acceptance>), Failure> {
    let mut ids = EventIds::default();
    let mut acceptances = Vec::new();
    for (examined, rejected) in requests.iter().enumerate() {
        match prepare(api, endpoint, rejected, &mut ids).await {
            Ok(prepared) => acceptances.extend(prepared.ok()),
            Err(failure) if acceptances.is_empty() => return Err(failure),
            // Their payloads are stored: they are accepted, and the next call meets what has failed.
            Err(_) => return Ok((examined, acceptances)),
        }
    }
    Ok((requests.len(), acceptances))
}

impl AcceptAllQuery {
    fn check(&self) -> Result<(u16, Option<uuid::Uuid>), Problem> {
        let limit = self.limit.unwrap_or(MOST);
        if !(1..=MOST).contains(&limit) {
            return Err(Problem::invalid_parameter("limit", format!("a number from 1 to {MOST}")));
        }
        let cursor = |text: &str| {
            decode_cursor(text).ok_or_else(|| Problem::invalid_parameter("next", "not a cursor of ours"))
        };
        Ok((limit, self.next.as_deref().map(cursor).transpose()?))
    }
}

/// The endpoint as ingress would know it now.
async fn endpoint_now(api: &Api, token: &str) -> Result<Endpoint, Failure> {
    let endpoint = api.store.system().endpoint_by_token(token).await?;
    let deleted = || Problem::new(Kind::Conflict, "the endpoint was deleted");
    Ok(endpoint.filter(|endpoint| !endpoint.deleted).ok_or_else(deleted)?)
}

/// The body of a request that is believed now.
async fn believed(
    api: &Api,
    endpoint: &Endpoint,
    rejected: &RejectedHead,
) -> Result<Result<Bytes, Refusal>, Failure> {
    let request = &rejected.request;
    let Some(body) = api.payloads.get(&request.body).await? else { return Ok(Err(Refusal::BodyMissing)) };
    // A word that ingress took for a method is one.
    let method = Method::from_bytes(request.method.as_bytes()).unwrap_or_default();
    let query = rejected.head.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    let seen = Request {
        method: &method,
        url: Url { base: &api.hook_base_url, path_and_query: &format!("/h/{}{query}", rejected.token) },
        headers: &rejected.head.headers,
        body: &body,
        peer: request.peer,
        received_at: request.received_at,
        fetched: None,
    };
    let (verification, secrets) = (&endpoint.verification, &endpoint.secrets);
    let verified = api.certificates.verify(endpoint.id, verification, secrets, seen).await;
    Ok(verified.map(|()| body).map_err(Refusal::Rejected))
}

/// What makes an event of a request that is believed now; its payload is stored. It is received now.
async fn prepare(
    api: &Api,
    endpoint: &Endpoint,
    rejected: &RejectedHead,
    ids: &mut EventIds,
) -> Result<Result<Acceptance, Refusal>, Failure> {
    let body = match believed(api, endpoint, rejected).await? {
        Ok(body) => body,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let received = &rejected.head.headers;
    let traceparent = trace::current(&Span::none(), Traceparent::of(received).as_ref());
    // An `Idempotency-Key` that can't be used is told to its producer by ingress; here a person has decided.
    let content = Content::of(&endpoint.verification, received, &body);
    let now = clock::now();
    let id = ids.next(now, random::bytes());
    let payload = PayloadLocation::of_event(id, body.len());
    api.payloads.put(&payload.s3_key, body).await?;
    let draft = Draft::new(endpoint, content, now, traceparent, api.deduplication_window);
    Ok(Ok(Acceptance { request: rejected.request.id, event: draft.stored(id, payload) }))
}

/// Makes events of them, and takes away the payloads of those that somebody else has accepted or deleted meanwhile.
async fn commit(api: &Api, tenant: &Tenant, acceptances: Vec<Acceptance>) -> Result<Vec<Accepted>, Failure> {
    let now = clock::now();
    let instance = InstanceId::new(now, random::bytes());
    // When this fails nobody knows whether it is committed: then no payload is taken away.
    let accepted = tenant.accept_rejected(&acceptances, instance, now).await?;
    for acceptance in acceptances {
        if accepted.iter().any(|accepted| accepted.event == acceptance.event.id) {
            continue;
        }
        let s3_key = acceptance.event.payload.s3_key;
        if let Err(error) = api.payloads.delete(&s3_key).await {
            warn!(
                error = &error as &dyn std::error::Error,
                s3_key, "a payload that belongs to nothing stays"
            );
        }
    }
    Ok(accepted)
}
