//! Pausing, activating, another token.

use axum::Json as Answer;
use axum::extract::State;
use ravenpost_chassis::problem::Path;
use ravenpost_chassis::{clock, random};
use ravenpost_core::endpoint::{EndpointStatus, token};
use ravenpost_core::ids::EndpointId;
use ravenpost_store::Tenant;
use ravenpost_store::tenant::{EndpointChange, EndpointChanged};

use super::{EndpointBody, EndpointPath, missing};
use crate::api::{Api, Failure};
use crate::auth::{Caller, EndpointsWrite};

/// Pause an endpoint.
///
/// What is sent to it is accepted and held. Nothing happens when it is paused already.
#[utoipa::path(post, path = "/endpoints/{endpoint_id}/pause", tag = "endpoints", operation_id = "pause_endpoint",
    params(EndpointPath), security(("api_key" = ["endpoints:write"])), responses((status = 200, body = EndpointBody)))]
pub(in crate::api) async fn pause(
    caller: Caller<EndpointsWrite>,
    State(api): State<Api>,
    Path(path): Path<EndpointPath>,
) -> Result<Answer<EndpointBody>, Failure> {
    set(&api, &caller.tenant, path.endpoint_id, EndpointStatus::Paused).await
}

/// Activate an endpoint.
///
/// What was held is delivered, oldest first. Nothing happens when it is active already.
#[utoipa::path(post, path = "/endpoints/{endpoint_id}/activate", tag = "endpoints", operation_id = "activate_endpoint",
    params(EndpointPath), security(("api_key" = ["endpoints:write"])), responses((status = 200, body = EndpointBody)))]
pub(in crate::api) async fn activate(
    caller: Caller<EndpointsWrite>,
    State(api): State<Api>,
    Path(path): Path<EndpointPath>,
) -> Result<Answer<EndpointBody>, Failure> {
    set(&api, &caller.tenant, path.endpoint_id, EndpointStatus::Active).await
}

async fn set(
    api: &Api,
    tenant: &Tenant,
    id: EndpointId,
    status: EndpointStatus,
) -> Result<Answer<EndpointBody>, Failure> {
    let change = EndpointChange { status: Some(status), ..EndpointChange::default() };
    match tenant.change_endpoint(id, &change, clock::now()).await? {
        EndpointChanged::Changed(endpoint) => Ok(Answer(EndpointBody::show(api, *endpoint, None))),
        // Nothing but the status changes, whatever version it is of.
        EndpointChanged::Missing | EndpointChanged::Stale | EndpointChanged::Unsaid(_) => {
            Err(missing().into())
        }
    }
}

/// Rotate an endpoint's token.
///
/// It gets another URL. The one before is unknown from now on, within a second everywhere: its producers are answered 404
/// until they have the new one.
#[utoipa::path(post, path = "/endpoints/{endpoint_id}/rotate-token", tag = "endpoints",
    operation_id = "rotate_endpoint_token", params(EndpointPath), security(("api_key" = ["endpoints:write"])),
    responses((status = 200, body = EndpointBody)))]
pub(in crate::api) async fn rotate_token(
    caller: Caller<EndpointsWrite>,
    State(api): State<Api>,
    Path(path): Path<EndpointPath>,
) -> Result<Answer<EndpointBody>, Failure> {
    let token = token(random::bytes());
    let endpoint = caller.tenant.rotate_token(path.endpoint_id, &token, clock::now()).await?;
    Ok(Answer(EndpointBody::show(&api, endpoint.ok_or_else(missing)?, None)))
}
