//! Destinations: where an endpoint's events go.

use std::time::Duration;

use axum::Json as Answer;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use ravenpost_chassis::problem::{Json, Path, Problem, Query};
use ravenpost_chassis::{clock, random};
use ravenpost_core::destination::{DEFAULT_TIMEOUT, DestinationStatus};
use ravenpost_core::duration;
use ravenpost_core::ids::{DestinationId, EndpointId};
use ravenpost_core::pacing::{Breaker, DisabledReason, Limits, NEVER};
use ravenpost_core::retry::RetryPolicy;
use ravenpost_core::secret::Secret;
use ravenpost_store::system::DisableAfter;
use ravenpost_store::tenant::{Destination, DestinationChange, MOST_COUNTED, NewDestination};
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::{IntoParams, ToSchema};

use super::body::nullable;
use super::endpoints::{EndpointPath, missing as missing_endpoint, to_seal};
use super::page::{List, PageQuery, list as listed};
use super::{BASE, Failure, checks};
use crate::auth::{Caller, EndpointsRead, EndpointsWrite};

/// The path of one destination.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct DestinationPath {
    /// The endpoint's id.
    endpoint_id: EndpointId,
    /// The destination's id.
    destination_id: DestinationId,
}

/// A destination to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewDestination)]
pub(super) struct NewDestinationBody {
    /// What to call it.
    #[schema(min_length = 1, max_length = 200, example = "Billing")]
    name: String,
    /// Where to POST.
    #[schema(format = Uri, example = "https://api.example.com/webhooks")]
    url: String,
    /// When to try again; 1m, 5m, 15m, 1h, 6h unless given.
    retry_policy: Option<RetryPolicy>,
    /// How long it has to answer, `100ms` to `60s`; `30s` unless given.
    #[schema(example = "30s")]
    timeout: Option<String>,
    /// How fast it is sent to; what is absent is as the operator has set it.
    limits: Option<Limits>,
    /// After how long of failures only it is disabled, `1s` to `90d`, or `never`; as the operator has set it unless
    /// given. Its owner is warned at half the time.
    #[schema(example = "5d")]
    disable_after: Option<String>,
    /// What we are to sign with, `whsec_…` of Standard Webhooks; one is made unless given.
    #[schema(format = Password)]
    signing_secret: Option<String>,
}

/// What to change; what is absent stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = DestinationChange)]
pub(super) struct DestinationChangeBody {
    /// What to call it.
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// Where to POST.
    #[schema(format = Uri)]
    url: Option<String>,
    /// When to try again.
    retry_policy: Option<RetryPolicy>,
    /// How long it has to answer, `100ms` to `60s`.
    #[schema(example = "30s")]
    timeout: Option<String>,
    /// `paused` holds its events, `active` delivers them. `active` also enables a destination that was disabled, and
    /// lets one be tried at once that is being given a rest: how it has fared so far is forgotten.
    status: Option<DestinationStatus>,
    /// How fast it is sent to; null goes back to what the operator has set.
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<Limits>)]
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    limits: Option<Option<Limits>>,
    /// After how long of failures only it is disabled, `1s` to `90d`, or `never`; null goes back to what the operator
    /// has set.
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, example = "5d")]
    #[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
    disable_after: Option<Option<String>>,
}

/// One target URL of an endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Destination)]
pub(super) struct DestinationBody {
    /// Its id.
    id: DestinationId,
    /// Whose events it gets: those accepted since it was made.
    endpoint_id: EndpointId,
    /// What it is called.
    name: String,
    /// Where we POST.
    #[schema(format = Uri)]
    url: String,
    /// When it is tried again.
    retry_policy: RetryPolicy,
    /// How long it has to answer.
    #[schema(example = "30s")]
    timeout: String,
    /// Sent to, or held.
    status: DestinationStatus,
    /// How fast it is sent to; what is absent is as the operator has set it.
    limits: Limits,
    /// After how long of failures only it is disabled; null means as the operator has set it.
    #[schema(required = true, example = "5d")]
    disable_after: Option<String>,
    /// How it fares.
    state: DestinationStateBody,
    /// When it was made.
    created_at: DateTime<Utc>,
    /// When it was last changed.
    updated_at: DateTime<Utc>,
}

/// How a destination fares.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DestinationState)]
pub(super) struct DestinationStateBody {
    /// Whether requests are let through: `open` after failures in a row, `half_open` while one tries again.
    breaker: Breaker,
    /// Since when the breaker is open.
    #[schema(required = true)]
    breaker_opened_at: Option<DateTime<Utc>>,
    /// From when on one request tries whether it works again.
    #[schema(required = true)]
    probe_at: Option<DateTime<Utc>>,
    /// Nothing is sent before, since it has answered 429 or 503.
    #[schema(required = true)]
    slow_until: Option<DateTime<Utc>>,
    /// Most requests at once while it starts slowly after a rest; null when it doesn't.
    #[schema(required = true)]
    slow_start: Option<u16>,
    /// Since when it has accepted nothing.
    #[schema(required = true)]
    failing_since: Option<DateTime<Utc>>,
    /// When it accepted last, within ten seconds.
    #[schema(required = true)]
    last_success_at: Option<DateTime<Utc>>,
    /// When an attempt failed last, within ten seconds.
    #[schema(required = true)]
    last_failure_at: Option<DateTime<Utc>>,
    /// When its owner was warned that it is going to be disabled.
    #[schema(required = true)]
    warned_at: Option<DateTime<Utc>>,
    /// Why it was disabled.
    #[schema(required = true)]
    disabled_reason: Option<DisabledReason>,
    /// When it was disabled.
    #[schema(required = true)]
    disabled_at: Option<DateTime<Utc>>,
    /// How many of its events wait, for whatever reason: 1000 may be more, see `waiting_more`.
    waiting: u32,
    /// More than that wait.
    waiting_more: bool,
}

/// A new destination, with what is shown only this once.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CreatedDestination)]
pub(super) struct CreatedDestinationBody {
    #[serde(flatten)]
    destination: DestinationBody,
    /// What we sign with (Standard Webhooks).
    #[schema(format = Password)]
    signing_secret: String,
}

impl From<Destination> for DestinationBody {
    fn from(destination: Destination) -> Self {
        let state = DestinationStateBody::of(&destination, clock::now());
        Self {
            id: destination.id,
            endpoint_id: destination.endpoint_id,
            name: destination.name,
            url: destination.url.into(),
            retry_policy: destination.retry_policy,
            timeout: duration::format(destination.timeout),
            status: destination.status,
            limits: destination.limits,
            disable_after: match destination.disable_after {
                DisableAfter::Operator => None,
                DisableAfter::Never => Some(NEVER.to_owned()),
                DisableAfter::After(time) => Some(duration::format(time)),
            },
            state,
            created_at: destination.created_at,
            updated_at: destination.updated_at,
        }
    }
}

impl DestinationStateBody {
    fn of(destination: &Destination, now: DateTime<Utc>) -> Self {
        let health = &destination.health;
        Self {
            breaker: health.breaker(now),
            breaker_opened_at: health.opened_at,
            probe_at: health.probe_at,
            slow_until: health.slow_until.filter(|until| *until > now),
            slow_start: health.concurrency,
            failing_since: health.failing_since,
            last_success_at: health.last_success_at,
            last_failure_at: health.last_failure_at,
            warned_at: health.warned_at,
            disabled_reason: destination.disabled.map(|(reason, _)| reason),
            disabled_at: destination.disabled.map(|(_, at)| at),
            waiting: destination.waiting.min(MOST_COUNTED),
            waiting_more: destination.waiting > MOST_COUNTED,
        }
    }
}

/// A destination that can be made as it is.
pub(super) struct DestinationDraft {
    id: DestinationId,
    name: String,
    url: Url,
    signing_secret: Secret,
    retry_policy: RetryPolicy,
    timeout: Duration,
    limits: Limits,
    disable_after: DisableAfter,
}

impl DestinationDraft {
    pub(super) fn check(
        url: Url,
        name: String,
        retry_policy: Option<RetryPolicy>,
        timeout: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Self, Problem> {
        retry_policy.as_ref().map(checks::retry_policy).transpose()?;
        Ok(Self {
            id: DestinationId::new(now, random::bytes()),
            name,
            url,
            signing_secret: Secret::standard_webhooks(random::bytes()),
            retry_policy: retry_policy.unwrap_or_default(),
            timeout: timeout.map_or(Ok(DEFAULT_TIMEOUT), |timeout| checks::timeout("timeout", timeout))?,
            limits: Limits::default(),
            disable_after: DisableAfter::Operator,
        })
    }

    pub(super) fn as_new(&self) -> NewDestination<'_> {
        NewDestination {
            id: self.id,
            name: &self.name,
            url: &self.url,
            signing_secret: to_seal(&self.signing_secret),
            retry_policy: &self.retry_policy,
            timeout: self.timeout,
            limits: self.limits,
            disable_after: self.disable_after,
        }
    }

    /// What was made of it, with the secret.
    pub(super) fn created(&self, destination: Destination) -> CreatedDestinationBody {
        CreatedDestinationBody {
            destination: destination.into(),
            signing_secret: self.signing_secret.reveal().to_owned(),
        }
    }
}

impl NewDestinationBody {
    fn check(self, now: DateTime<Utc>) -> Result<DestinationDraft, Problem> {
        checks::name("name", &self.name)?;
        let url = checks::url("url", &self.url)?;
        let brought =
            self.signing_secret.map(|text| checks::signing_secret("signing_secret", &text)).transpose()?;
        let limits = self.limits.map(checks::pace).transpose()?.unwrap_or_default();
        let disable_after = self.disable_after.as_deref().map(checks::disable_after).transpose()?;
        let draft = DestinationDraft::check(url, self.name, self.retry_policy, self.timeout.as_deref(), now)?;
        let draft = DestinationDraft { limits, disable_after: disable_after.unwrap_or_default(), ..draft };
        Ok(match brought {
            Some(signing_secret) => DestinationDraft { signing_secret, ..draft },
            None => draft,
        })
    }
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
/// It gets the events that are accepted from now on. The signing secret is shown this once.
#[utoipa::path(post, path = "/endpoints/{endpoint_id}/destinations", tag = "destinations",
    operation_id = "create_destination", params(EndpointPath), request_body = NewDestinationBody,
    security(("api_key" = ["endpoints:write"])), responses((status = 201, body = CreatedDestinationBody,
        headers(("Location" = String, description = "Its path.")))))]
pub(super) async fn create(
    caller: Caller<EndpointsWrite>,
    Path(path): Path<EndpointPath>,
    Json(body): Json<NewDestinationBody>,
) -> Result<impl IntoResponse, Failure> {
    let now = clock::now();
    let draft = body.check(now)?;
    let created = caller.tenant.create_destination(path.endpoint_id, &draft.as_new(), now).await?;
    let destination = created.ok_or_else(missing_endpoint)?;
    let location = format!("{BASE}/endpoints/{}/destinations/{}", path.endpoint_id, destination.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Answer(draft.created(destination))))
}

/// Get a destination.
#[utoipa::path(get, path = "/endpoints/{endpoint_id}/destinations/{destination_id}", tag = "destinations",
    operation_id = "get_destination", params(DestinationPath), security(("api_key" = ["endpoints:read"])),
    responses((status = 200, body = DestinationBody)))]
pub(super) async fn get(
    caller: Caller<EndpointsRead>,
    Path(path): Path<DestinationPath>,
) -> Result<Answer<DestinationBody>, Failure> {
    let destination = caller.tenant.destination(path.endpoint_id, path.destination_id).await?;
    Ok(Answer(destination.ok_or_else(missing)?.into()))
}

/// Change, pause, resume or enable a destination.
///
/// A destination that was disabled, since it answered 410 or failed for too long, is enabled by `"status": "active"`, as
/// one that is paused is resumed: what was held is delivered, oldest first, at the pace that it bears.
#[utoipa::path(patch, path = "/endpoints/{endpoint_id}/destinations/{destination_id}", tag = "destinations",
    operation_id = "change_destination", params(DestinationPath), request_body = DestinationChangeBody,
    security(("api_key" = ["endpoints:write"])), responses((status = 200, body = DestinationBody)))]
pub(super) async fn change(
    caller: Caller<EndpointsWrite>,
    Path(path): Path<DestinationPath>,
    Json(body): Json<DestinationChangeBody>,
) -> Result<Answer<DestinationBody>, Failure> {
    let url = body.url.as_deref().map(|url| checks::url("url", url)).transpose()?;
    body.retry_policy.as_ref().map(checks::retry_policy).transpose()?;
    let change = DestinationChange {
        name: body.name.as_deref().map(|name| checks::name("name", name)).transpose()?,
        url: url.as_ref(),
        retry_policy: body.retry_policy.as_ref(),
        timeout: body.timeout.as_deref().map(|timeout| checks::timeout("timeout", timeout)).transpose()?,
        status: body.status.map(checks::status).transpose()?,
        limits: body.limits.map(|limits| checks::pace(limits.unwrap_or_default())).transpose()?,
        disable_after: body.disable_after.as_ref().map(|text| disable_after(text.as_deref())).transpose()?,
    };
    let changed = caller
        .tenant
        .change_destination(path.endpoint_id, path.destination_id, &change, clock::now())
        .await?;
    Ok(Answer(changed.ok_or_else(missing)?.into()))
}

/// Delete a destination.
///
/// What waits for it is cancelled. Its attempts stay readable.
#[utoipa::path(delete, path = "/endpoints/{endpoint_id}/destinations/{destination_id}", tag = "destinations",
    operation_id = "delete_destination", params(DestinationPath), security(("api_key" = ["endpoints:write"])),
    responses((status = 204)))]
pub(super) async fn delete(
    caller: Caller<EndpointsWrite>,
    Path(path): Path<DestinationPath>,
) -> Result<StatusCode, Failure> {
    let deleted =
        caller.tenant.delete_destination(path.endpoint_id, path.destination_id, clock::now()).await?;
    if deleted { Ok(StatusCode::NO_CONTENT) } else { Err(missing().into()) }
}

/// Null goes back to what the operator has set.
fn disable_after(text: Option<&str>) -> Result<DisableAfter, Problem> {
    text.map_or(Ok(DisableAfter::Operator), checks::disable_after)
}

fn missing() -> Problem {
    Problem::not_found("destination")
}
