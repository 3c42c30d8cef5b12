//! Destinations: where an endpoint's events go.

mod bodies;
pub(super) mod rotate;
mod state;
pub(super) mod steer;
pub(super) mod try_filter;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use ravenpost_chassis::clock;
use ravenpost_chassis::problem::{Json, Kind, Path, Problem, Query};
use ravenpost_core::ids::{DestinationId, EndpointId};
use ravenpost_store::tenant::{
    Deleted, DestinationChange, DestinationChanged, DestinationRefused, MAX_DESTINATIONS, Unsaid,
};
use serde::Deserialize;
use utoipa::IntoParams;

pub(super) use bodies::{CreatedDestinationBody, DestinationBody, DestinationDraft};
use bodies::{DestinationChangeBody, NewDestinationBody};
pub(super) use state::DestinationStateBody;

use super::body::{Patch, TRIES, contended};
use super::endpoints::{EndpointPath, missing as missing_endpoint};
use super::page::{List, PageQuery, list as listed};
use super::{Api, BASE, Failure, checks, signing_keys};
use crate::auth::{Caller, EndpointsRead, EndpointsWrite};
use crate::conventions::preconditions::{Preconditions, answer, failed};

/// Why a URL is not changed while its credentials stay.
const OTHER_ORIGIN: &str = "given for the present url, and the new one leads to another scheme, host or port: to be given \
    again with it, or removed by null";

/// The path of one destination.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct DestinationPath {
    /// The endpoint's id.
    pub(super) endpoint_id: EndpointId,
    /// The destination's id.
    pub(super) destination_id: DestinationId,
}

/// List an endpoint's destinations.
#[utoipa::path(get, path = "/endpoints/{endpoint_id}/destinations", tag = "destinations",
    operation_id = "list_destinations", params(EndpointPath, PageQuery), security(("api_key" = ["endpoints:read"])),
    responses((status = 200, body = List<DestinationBody>)))]
pub(super) async fn list(
    caller: Caller<EndpointsRead>,
    Path(path): Path<EndpointPath>,
    Query(query): Query<PageQuery>,
) -> Result<Answer<List<DestinationBody>>, Failure> {
    let page = query.page()?;
    caller.tenant.endpoint(path.endpoint_id).await?.ok_or_else(missing_endpoint)?;
    let destinations = caller.tenant.destinations(path.endpoint_id, page).await?;
    Ok(Answer(listed(destinations, DestinationBody::from)))
}

/// Create a destination.
///
/// It gets the events that are accepted from now on. The signing secret is shown this once. An endpoint has 100 destinations
/// at most; one more is answered 409.
#[utoipa::path(post, path = "/endpoints/{endpoint_id}/destinations", tag = "destinations",
    operation_id = "create_destination", params(EndpointPath), request_body = NewDestinationBody,
    security(("api_key" = ["endpoints:write"])), responses((status = 201, body = CreatedDestinationBody,
        headers(("Location" = String, description = "Its path."))), (status = 409)))]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller<EndpointsWrite>,
    Path(path): Path<EndpointPath>,
    Json(body): Json<NewDestinationBody>,
) -> Result<impl IntoResponse, Failure> {
    let now = clock::now();
    let draft = body.check(now)?;
    signing_keys::ensure(&api, &caller.tenant, draft.signing, now).await?;
    let created = caller.tenant.create_destination(path.endpoint_id, &draft.as_new(), now).await?;
    let destination = created.map_err(refused)?;
    let location = format!("{BASE}/endpoints/{}/destinations/{}", path.endpoint_id, destination.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Answer(draft.created(destination))))
}

/// Get a destination.
#[utoipa::path(get, path = "/endpoints/{endpoint_id}/destinations/{destination_id}", tag = "destinations",
    operation_id = "get_destination", params(DestinationPath), security(("api_key" = ["endpoints:read"])),
    responses((status = 200, body = DestinationBody), (status = 304)))]
pub(super) async fn get(
    caller: Caller<EndpointsRead>,
    Path(path): Path<DestinationPath>,
    preconditions: Preconditions,
) -> Result<Response, Failure> {
    let destination = caller.tenant.destination(path.endpoint_id, path.destination_id).await?;
    let destination = destination.ok_or_else(missing)?;
    Ok(preconditions.answer(destination.version, &DestinationBody::from(destination)))
}

/// Change, pause, resume or enable a destination.
///
/// A destination that was disabled, since it answered 410 or failed for too long, is enabled by `"status": "active"`, as
/// one that is paused is resumed: what was held is delivered, oldest first, at the pace that it bears.
///
/// A `url` of another scheme, host or port takes no credentials along: what there is of `authentication`, `headers` and
/// a client key in `tls` has to be given again in the same request, or removed by null. Otherwise the answer is 422 and
/// names what is missing. The signing secret stays.
///
/// What is secret is not shown, so nothing can be merged with it: whoever changes a part of `authentication` gives its
/// secret again, and with a client certificate in `tls` its key.
#[utoipa::path(patch, path = "/endpoints/{endpoint_id}/destinations/{destination_id}", tag = "destinations",
    operation_id = "change_destination", params(DestinationPath), request_body = DestinationChangeBody,
    security(("api_key" = ["endpoints:write"])), responses((status = 200, body = DestinationBody), (status = 409), (status = 412)))]
pub(super) async fn change(
    State(api): State<Api>,
    caller: Caller<EndpointsWrite>,
    Path(path): Path<DestinationPath>,
    preconditions: Preconditions,
    asked: Patch<DestinationChangeBody>,
) -> Result<Response, Failure> {
    let now = clock::now();
    let demanded = preconditions.version()?;
    let (endpoint, id) = (path.endpoint_id, path.destination_id);
    for _ in 0..TRIES {
        let present = caller.tenant.destination(endpoint, id).await?.ok_or_else(missing)?;
        let version = present.version;
        if demanded.is_some_and(|demanded| demanded != version) {
            return Err(failed("destination").into());
        }
        let (body, merged) = asked.of(&DestinationBody::from(present))?;
        let (if_version, draft) = (demanded.or(merged.then_some(version)), body.check()?);
        signing_keys::ensure(&api, &caller.tenant, draft.signing.unwrap_or_default(), now).await?;
        let change = DestinationChange { if_version, ..draft.as_change() };
        return match caller.tenant.change_destination(endpoint, id, &change, now).await? {
            DestinationChanged::Changed(destination) => {
                Ok(answer(destination.version, &DestinationBody::from(*destination)))
            }
            DestinationChanged::Stale if demanded.is_none() => continue,
            DestinationChanged::Stale => Err(failed("destination").into()),
            DestinationChanged::Missing => Err(missing().into()),
            DestinationChanged::Headers(invalid) => Err(checks::invalid_header(&invalid).into()),
            DestinationChanged::Unsaid(Unsaid(fields)) => {
                Err(Problem::invalid_fields(fields, OTHER_ORIGIN).into())
            }
        };
    }
    Err(contended("destination").into())
}

/// Delete a destination.
///
/// What waits for it is cancelled. Its attempts stay readable.
#[utoipa::path(delete, path = "/endpoints/{endpoint_id}/destinations/{destination_id}", tag = "destinations",
    operation_id = "delete_destination", params(DestinationPath), security(("api_key" = ["endpoints:write"])),
    responses((status = 204), (status = 412)))]
pub(super) async fn delete(
    caller: Caller<EndpointsWrite>,
    Path(path): Path<DestinationPath>,
    preconditions: Preconditions,
) -> Result<StatusCode, Failure> {
    let (endpoint, id, if_version) = (path.endpoint_id, path.destination_id, preconditions.version()?);
    match caller.tenant.delete_destination(endpoint, id, if_version, clock::now()).await? {
        Deleted::Deleted => Ok(StatusCode::NO_CONTENT),
        Deleted::Missing => Err(missing().into()),
        Deleted::Stale => Err(failed("destination").into()),
    }
}

fn refused(why: DestinationRefused) -> Problem {
    match why {
        DestinationRefused::NoEndpoint => missing_endpoint(),
        DestinationRefused::TooMany => {
            let detail = format!(
                "the endpoint has {MAX_DESTINATIONS} destinations, which is the most: delete one that nobody needs"
            );
            Problem::new(Kind::Conflict, detail)
        }
    }
}

pub(super) fn missing() -> Problem {
    Problem::not_found("destination")
}
