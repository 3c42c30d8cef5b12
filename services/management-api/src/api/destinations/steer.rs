//! Pausing, resuming and enabling, each by its own name.

use axum::Json as Answer;
use ravenpost_chassis::clock;
use ravenpost_chassis::problem::{Kind, Path, Problem};
use ravenpost_core::destination::DestinationStatus;
use ravenpost_store::Tenant;
use ravenpost_store::tenant::{Destination, DestinationChange, DestinationChanged};

use super::{DestinationBody, DestinationPath, missing};
use crate::api::Failure;
use crate::auth::{Caller, EndpointsWrite};

/// How often it is tried again when somebody else has changed the destination in between.
const TRIES: usize = 4;

/// What a person wants of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Pause,
    Resume,
    Enable,
}

impl Wish {
    /// The status to be set; `None` when that is how it is.
    fn from(self, status: DestinationStatus) -> Result<Option<DestinationStatus>, Problem> {
        use DestinationStatus::{Active, Disabled, Paused};
        let refused = |detail| Err(Problem::new(Kind::Conflict, detail));
        match (self, status) {
            (Self::Pause, Active) => Ok(Some(Paused)),
            (Self::Resume, Paused) | (Self::Enable, Disabled) => Ok(Some(Active)),
            (Self::Pause, Paused) | (Self::Resume | Self::Enable, Active) => Ok(None),
            (Self::Pause | Self::Resume, Disabled) => {
                refused("the destination is disabled: its events are held until it is enabled")
            }
            (Self::Enable, Paused) => refused("the destination is paused, not disabled: resume it"),
        }
    }
}

/// Pause a destination.
///
/// Its events are held. Nothing happens when it is paused already; 409 when it is disabled.
#[utoipa::path(post, path = "/endpoints/{endpoint_id}/destinations/{destination_id}/pause", tag = "destinations",
    operation_id = "pause_destination", params(DestinationPath), security(("api_key" = ["endpoints:write"])),
    responses((status = 200, body = DestinationBody), (status = 409)))]
pub(in crate::api) async fn pause(
    caller: Caller<EndpointsWrite>,
    Path(path): Path<DestinationPath>,
) -> Result<Answer<DestinationBody>, Failure> {
    steer(&caller.tenant, &path, Wish::Pause).await
}

/// Resume a destination.
///
/// What was held is delivered, oldest first, at the pace that it bears. Nothing happens when it is active already; 409
/// when it is disabled.
#[utoipa::path(post, path = "/endpoints/{endpoint_id}/destinations/{destination_id}/resume", tag = "destinations",
    operation_id = "resume_destination", params(DestinationPath), security(("api_key" = ["endpoints:write"])),
    responses((status = 200, body = DestinationBody), (status = 409)))]
pub(in crate::api) async fn resume(
    caller: Caller<EndpointsWrite>,
    Path(path): Path<DestinationPath>,
) -> Result<Answer<DestinationBody>, Failure> {
    steer(&caller.tenant, &path, Wish::Resume).await
}

/// Enable a destination.
///
/// One that was disabled, since it answered 410 or failed for too long, is sent to again, and how it fared is forgotten.
/// Nothing happens when it is active; 409 when it is paused.
#[utoipa::path(post, path = "/endpoints/{endpoint_id}/destinations/{destination_id}/enable", tag = "destinations",
    operation_id = "enable_destination", params(DestinationPath), security(("api_key" = ["endpoints:write"])),
    responses((status = 200, body = DestinationBody), (status = 409)))]
pub(in crate::api) async fn enable(
    caller: Caller<EndpointsWrite>,
    Path(path): Path<DestinationPath>,
) -> Result<Answer<DestinationBody>, Failure> {
    steer(&caller.tenant, &path, Wish::Enable).await
}

async fn steer(
    tenant: &Tenant,
    path: &DestinationPath,
    wish: Wish,
) -> Result<Answer<DestinationBody>, Failure> {
    let (endpoint, id) = (path.endpoint_id, path.destination_id);
    for _ in 0..TRIES {
        let found: Destination = tenant.destination(endpoint, id).await?.ok_or_else(missing)?;
        let Some(status) = wish.from(found.status)? else { return Ok(Answer(found.into())) };
        // Only what was looked at: it may have been disabled meanwhile.
        let if_version = Some(found.version);
        let change = DestinationChange { status: Some(status), if_version, ..DestinationChange::default() };
        match tenant.change_destination(endpoint, id, &change, clock::now()).await? {
            DestinationChanged::Changed(changed) => return Ok(Answer((*changed).into())),
            DestinationChanged::Stale => {}
            DestinationChanged::Missing | DestinationChanged::Headers(_) | DestinationChanged::Unsaid(_) => {
                return Err(missing().into());
            }
        }
    }
    let detail = "the destination is being changed by others just now: try again";
    Err(Problem::new(Kind::Conflict, detail).into())
}
