//! Bulk replays: many events put back by a durable job.

use axum::Json as Answer;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use ravenpost_chassis::problem::{Json, Kind, Path, Problem, Query};
use ravenpost_chassis::{clock, random};
use ravenpost_core::event::EventStatus;
use ravenpost_core::ids::{DestinationId, ReplayJobId};
use ravenpost_core::replay::{RATE_BOUNDS, ReplayFilter, ReplayKind, ReplayState, Steer};
use ravenpost_store::tenant::{Matched, NewReplayJob, ReplayJob, ReplayJobError, Steered};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::destinations::{DestinationPath, missing as missing_destination};
use super::endpoints::{EndpointPath, missing as missing_endpoint};
use super::page::{List, PageQuery, list as listed};
use super::{BASE, Failure};
use crate::auth::{Caller, EventsRead, EventsReplay};

/// The path of one bulk replay.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct ReplayPath {
    /// The replay's id.
    replay_id: ReplayJobId,
}

/// What to replay, and how fast.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = NewReplay, example = json!({
    "filter": { "endpoint_id": "019a8c3e-7d2a-7000-8000-000000000001", "status": ["FAILED"], "reason": "timeout",
        "received_after": "2026-01-05T00:00:00Z", "received_before": "2026-01-06T00:00:00Z" },
    "rate": 100
}))]
pub(super) struct NewReplayBody {
    /// Which events to which destinations.
    filter: ReplayFilter,
    /// Only count what would be replayed.
    dry_run: bool,
    /// Most deliveries that are scheduled in a second for each destination; as many as it bears unless given.
    #[schema(minimum = 1, maximum = 10_000)]
    rate: Option<u32>,
}

/// Since when to recover, and how fast.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Recover, example = json!({ "since": "2026-01-05T08:30:00Z" }))]
pub(super) struct RecoverBody {
    /// What was given up since then is replayed.
    since: DateTime<Utc>,
    /// Also what was received since then and never meant for the destination: it did not exist yet, or no destination
    /// did. True unless given.
    #[serde(default = "yes")]
    #[schema(default = true)]
    never_sent: bool,
    /// Only count what would be replayed.
    #[serde(default)]
    dry_run: bool,
    /// Most deliveries that are scheduled in a second for each destination; as many as it bears unless given.
    #[schema(minimum = 1, maximum = 10_000)]
    rate: Option<u32>,
}

fn yes() -> bool {
    true
}

/// What a filter finds.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReplayCount, example = json!({ "matched": 1234, "exact": true }))]
pub(super) struct ReplayCountBody {
    /// How many deliveries it would come to.
    matched: u64,
    /// False: there are at least so many. Counting ends early at 100,000, or when 500,000 events were looked at.
    exact: bool,
}

/// A bulk replay and how far it is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BulkReplay)]
pub(super) struct ReplayBody {
    /// Its id.
    id: ReplayJobId,
    /// Who asked for it.
    kind: ReplayKind,
    /// Where it stands.
    state: ReplayState,
    /// What it replays, of the events that were accepted before it was made.
    filter: ReplayFilter,
    /// Most deliveries that are scheduled in a second for each destination; null means as many as it bears.
    #[schema(required = true)]
    rate: Option<u32>,
    /// How many deliveries it would come to when it was made.
    matched: u64,
    /// False: there were at least so many.
    matched_exactly: bool,
    /// Deliveries scheduled so far; each event once to each destination.
    scheduled: u64,
    /// Found and left alone, since they waited already or had changed meanwhile.
    skipped: u64,
    /// Scheduled, and taken back since the replay was cancelled.
    withdrawn: u64,
    /// Scheduled, and not sent yet; counted up to 10,000.
    waiting: u64,
    /// Sent without success, and waiting for a retry; counted up to 10,000.
    retrying: u64,
    /// How many destinations it replays to.
    destinations: u64,
    /// How many of them it is through with.
    destinations_ended: u64,
    /// What went wrong, with one of them.
    #[schema(required = true)]
    error: Option<String>,
    /// With which ones something went wrong.
    erring_destinations: Vec<DestinationId>,
    /// When it was made.
    created_at: DateTime<Utc>,
    /// When it began.
    #[schema(required = true)]
    started_at: Option<DateTime<Utc>>,
    /// When it was done, failed or was cancelled.
    #[schema(required = true)]
    finished_at: Option<DateTime<Utc>>,
}

impl From<ReplayJob> for ReplayBody {
    fn from(job: ReplayJob) -> Self {
        Self {
            id: job.id,
            kind: job.kind,
            state: job.state,
            filter: job.filter,
            rate: job.rate,
            matched: job.matched.count,
            matched_exactly: job.matched.exact,
            scheduled: job.scheduled,
            skipped: job.skipped,
            withdrawn: job.withdrawn,
            waiting: job.waiting,
            retrying: job.retrying,
            destinations: job.destinations,
            destinations_ended: job.ended,
            error: job.error,
            erring_destinations: job.erring,
            created_at: job.created_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
        }
    }
}

impl From<Matched> for ReplayCountBody {
    fn from(matched: Matched) -> Self {
        Self { matched: matched.count, exact: matched.exact }
    }
}

/// A job that somebody asks for.
struct Wanted {
    kind: ReplayKind,
    filter: ReplayFilter,
    rate: Option<u32>,
    dry_run: bool,
}

impl RecoverBody {
    fn wanted(&self, filter: ReplayFilter) -> Wanted {
        let mut status = vec![EventStatus::Failed];
        status.extend(self.never_sent.then_some(EventStatus::Dropped));
        let filter = ReplayFilter { status, since: Some(self.since), ..filter };
        Wanted { kind: ReplayKind::Recover, filter, rate: self.rate, dry_run: self.dry_run }
    }
}

/// List bulk replays.
#[utoipa::path(get, path = "/replays", tag = "replays", operation_id = "list_replays", params(PageQuery),
    security(("api_key" = ["events:read"])), responses((status = 200, body = List<ReplayBody>)))]
pub(super) async fn list(
    caller: Caller<EventsRead>,
    Query(query): Query<PageQuery>,
) -> Result<Answer<List<ReplayBody>>, Failure> {
    let jobs = caller.tenant.replay_jobs(query.page()?).await?;
    Ok(Answer(listed(jobs, ReplayBody::from)))
}

/// Replay many events.
///
/// A durable job puts back what the filter finds among the events accepted by now, oldest first, each once to each
/// destination. What waits already is left alone. With `dry_run` it is only counted. 409 when there is no destination,
/// there are more than 1,000, or 50 replays are not finished yet.
#[utoipa::path(post, path = "/replays", tag = "replays", operation_id = "create_replay", request_body = NewReplayBody,
    security(("api_key" = ["events:replay"])), responses(
        (status = 200, body = ReplayCountBody, description = "Counted, with `dry_run`."),
        (status = 201, body = ReplayBody, headers(("Location" = String, description = "Its path."))),
        (status = 409)))]
pub(super) async fn create(
    caller: Caller<EventsReplay>,
    Json(body): Json<NewReplayBody>,
) -> Result<Response, Failure> {
    let NewReplayBody { filter, dry_run, rate } = body;
    start(&caller, Wanted { kind: ReplayKind::Replay, filter, rate, dry_run }).await
}

/// Recover a destination.
///
/// Replays to it all that was given up since then, and all that was received since then and never meant for it. As
/// `POST /replays`, otherwise.
#[utoipa::path(post, path = "/endpoints/{endpoint_id}/destinations/{destination_id}/recover", tag = "replays",
    operation_id = "recover_destination", params(DestinationPath), request_body = RecoverBody,
    security(("api_key" = ["events:replay"])), responses(
        (status = 200, body = ReplayCountBody, description = "Counted, with `dry_run`."),
        (status = 201, body = ReplayBody, headers(("Location" = String, description = "Its path."))),
        (status = 409)))]
pub(super) async fn recover_destination(
    caller: Caller<EventsReplay>,
    Path(path): Path<DestinationPath>,
    Json(body): Json<RecoverBody>,
) -> Result<Response, Failure> {
    let (endpoint_id, destination_id) = (path.endpoint_id, path.destination_id);
    caller.tenant.destination(endpoint_id, destination_id).await?.ok_or_else(missing_destination)?;
    let filter = ReplayFilter {
        endpoint_id: Some(endpoint_id),
        destination_id: Some(destination_id),
        ..ReplayFilter::default()
    };
    start(&caller, body.wanted(filter)).await
}

/// Recover all destinations of an endpoint.
///
/// As for one destination.
#[utoipa::path(post, path = "/endpoints/{endpoint_id}/recover", tag = "replays", operation_id = "recover_endpoint",
    params(EndpointPath), request_body = RecoverBody, security(("api_key" = ["events:replay"])), responses(
        (status = 200, body = ReplayCountBody, description = "Counted, with `dry_run`."),
        (status = 201, body = ReplayBody, headers(("Location" = String, description = "Its path."))),
        (status = 409)))]
pub(super) async fn recover_endpoint(
    caller: Caller<EventsReplay>,
    Path(path): Path<EndpointPath>,
    Json(body): Json<RecoverBody>,
) -> Result<Response, Failure> {
    caller.tenant.endpoint(path.endpoint_id).await?.ok_or_else(missing_endpoint)?;
    let filter = ReplayFilter { endpoint_id: Some(path.endpoint_id), ..ReplayFilter::default() };
    start(&caller, body.wanted(filter)).await
}

async fn start(caller: &Caller<EventsReplay>, wanted: Wanted) -> Result<Response, Failure> {
    let within = if wanted.kind == ReplayKind::Recover { "" } else { "filter." };
    wanted
        .filter
        .check()
        .map_err(|error| Problem::invalid_field(format!("{within}{}", error.field()), error.to_string()))?;
    check_rate(wanted.rate)?;
    if wanted.dry_run {
        let matched = caller.tenant.count_replay(&wanted.filter).await.map_err(refused)?;
        return Ok(Answer(ReplayCountBody::from(matched)).into_response());
    }
    let now = clock::now();
    let id = ReplayJobId::new(now, random::bytes());
    let new = NewReplayJob { id, kind: wanted.kind, filter: &wanted.filter, rate: wanted.rate };
    let job = caller.tenant.create_replay_job(&new, now).await.map_err(refused)?;
    let location = format!("{BASE}/replays/{id}");
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Answer(ReplayBody::from(job))).into_response())
}

fn check_rate(rate: Option<u32>) -> Result<(), Problem> {
    let (least, most) = RATE_BOUNDS;
    match rate {
        Some(rate) if !(least..=most).contains(&rate) => {
            Err(Problem::invalid_field("rate", format!("a number from {least} to {most}")))
        }
        _ => Ok(()),
    }
}

/// Get a bulk replay and its progress.
#[utoipa::path(get, path = "/replays/{replay_id}", tag = "replays", operation_id = "get_replay", params(ReplayPath),
    security(("api_key" = ["events:read"])), responses((status = 200, body = ReplayBody)))]
pub(super) async fn get(
    caller: Caller<EventsRead>,
    Path(path): Path<ReplayPath>,
) -> Result<Answer<ReplayBody>, Failure> {
    let job = caller.tenant.replay_job(path.replay_id).await?;
    Ok(Answer(job.ok_or_else(missing)?.into()))
}

/// Pause a bulk replay.
///
/// It schedules nothing more. What it has scheduled, at most 10,000 deliveries for each destination, is sent.
#[utoipa::path(post, path = "/replays/{replay_id}/pause", tag = "replays", operation_id = "pause_replay",
    params(ReplayPath), security(("api_key" = ["events:replay"])),
    responses((status = 200, body = ReplayBody), (status = 409)))]
pub(super) async fn pause(
    caller: Caller<EventsReplay>,
    Path(path): Path<ReplayPath>,
) -> Result<Answer<ReplayBody>, Failure> {
    steer(&caller, path.replay_id, Steer::Pause).await
}

/// Resume a paused bulk replay.
#[utoipa::path(post, path = "/replays/{replay_id}/resume", tag = "replays", operation_id = "resume_replay",
    params(ReplayPath), security(("api_key" = ["events:replay"])),
    responses((status = 200, body = ReplayBody), (status = 409)))]
pub(super) async fn resume(
    caller: Caller<EventsReplay>,
    Path(path): Path<ReplayPath>,
) -> Result<Answer<ReplayBody>, Failure> {
    steer(&caller, path.replay_id, Steer::Resume).await
}

/// Cancel a bulk replay.
///
/// It schedules nothing more, for good. What it has scheduled and was not sent is taken back: what was a dead letter is
/// one again. What was sent and failed goes on with its retries.
#[utoipa::path(post, path = "/replays/{replay_id}/cancel", tag = "replays", operation_id = "cancel_replay",
    params(ReplayPath), security(("api_key" = ["events:replay"])),
    responses((status = 200, body = ReplayBody), (status = 409)))]
pub(super) async fn cancel(
    caller: Caller<EventsReplay>,
    Path(path): Path<ReplayPath>,
) -> Result<Answer<ReplayBody>, Failure> {
    steer(&caller, path.replay_id, Steer::Cancel).await
}

async fn steer(
    caller: &Caller<EventsReplay>,
    id: ReplayJobId,
    steer: Steer,
) -> Result<Answer<ReplayBody>, Failure> {
    match caller.tenant.steer_replay_job(id, steer, clock::now()).await? {
        Steered::Changed(job) => Ok(Answer(ReplayBody::from(*job))),
        Steered::NoJob => Err(missing().into()),
        Steered::Refused(state) => {
            let detail = format!("the replay is {}", state.as_str());
            Err(Problem::new(Kind::Conflict, detail).into())
        }
    }
}

fn refused(error: ReplayJobError) -> Failure {
    match error {
        ReplayJobError::Store(error) => error.into(),
        ReplayJobError::NoDestination => {
            Problem::invalid_field("filter.destination_id", error.to_string()).into()
        }
        ReplayJobError::NoEndpoint => Problem::invalid_field("filter.endpoint_id", error.to_string()).into(),
        ReplayJobError::NoDestinations
        | ReplayJobError::TooManyDestinations
        | ReplayJobError::TooManyJobs => Problem::new(Kind::Conflict, error.to_string()).into(),
    }
}

fn missing() -> Problem {
    Problem::not_found("replay")
}
