//! Trying a filter against a stored event.

use std::time::{Duration, Instant};

use axum::Json as Answer;
use axum::extract::State;
use axum::http::HeaderMap;
use ravenpost_chassis::problem::{Json, Kind, Path, Problem};
use ravenpost_core::filter::{Compiled, Facts, Failed, Filter, MAX_BODY, STACK};
use ravenpost_core::ids::EventId;
use ravenpost_store::tenant::Event;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use utoipa::ToSchema;

use super::{DestinationPath, missing};
use crate::api::{Api, Failure, events};
use crate::auth::{Caller, EventsRead};

/// How long an expression may take here. The worker gives it 100 ms of a processor's time, on a machine that may be busy.
const BUDGET: Duration = Duration::from_secs(1);
/// Expressions that are evaluated at once; others wait for their turn, and for how long.
static TURNS: Semaphore = Semaphore::const_new(2);
const PATIENCE: Duration = Duration::from_secs(5);
/// When to try again that had no turn.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Against which event, and which filter.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TryFilter)]
pub(in crate::api) struct TryFilterBody {
    /// An event of any endpoint of the organization.
    event_id: EventId,
    /// Another filter than the destination has.
    filter: Option<Filter>,
}

/// What a filter says of an event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TriedFilter)]
pub(in crate::api) struct TriedFilterBody {
    /// Whether the destination would get it.
    wanted: bool,
    /// What decided.
    decided_by: DecidedBy,
    /// Why the expression could not tell, and so let the event through.
    #[schema(required = true)]
    error: Option<String>,
}

/// What decides whether an event is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::api) enum DecidedBy {
    /// There is no filter: everything is wanted.
    NoFilter,
    /// The patterns of types.
    EventTypes,
    /// The expression.
    Expression,
}

/// Try a filter.
///
/// The destination's own filter or the one that is given, against a stored event, as the worker asks it. Nothing is sent.
/// 409 when the event's payload was expunged.
#[utoipa::path(post, path = "/endpoints/{endpoint_id}/destinations/{destination_id}/filter/try", tag = "destinations",
    operation_id = "try_filter", params(DestinationPath), request_body = TryFilterBody,
    security(("api_key" = ["events:read"])), responses((status = 200, body = TriedFilterBody), (status = 409)))]
pub(in crate::api) async fn try_filter(
    caller: Caller<EventsRead>,
    State(api): State<Api>,
    Path(path): Path<DestinationPath>,
    Json(body): Json<TryFilterBody>,
) -> Result<Answer<TriedFilterBody>, Failure> {
    let tenant = &caller.tenant;
    let destination = tenant.destination(path.endpoint_id, path.destination_id).await?.ok_or_else(missing)?;
    let no_event = || Problem::invalid_field("event_id", "there is no such event");
    let event = tenant.event(body.event_id).await?.ok_or_else(no_event)?;
    let Some(filter) = body.filter.or(destination.filter).filter(|filter| !filter.is_empty()) else {
        return Ok(Answer(TriedFilterBody { wanted: true, decided_by: DecidedBy::NoFilter, error: None }));
    };
    let compiled = Compiled::new(&filter)
        .map_err(|invalid| Problem::invalid_field(format!("filter.{}", invalid.field), invalid.message))?;
    let named = event.event_type.as_deref().unwrap_or_default();
    if !filter.wants_type(named) || filter.expression.is_none() {
        let wanted = filter.wants_type(named);
        return Ok(Answer(TriedFilterBody { wanted, decided_by: DecidedBy::EventTypes, error: None }));
    }
    let headers = tenant.event_headers(event.id).await?;
    let payload = payload(&api, &event, &compiled).await?;
    let name = tenant.endpoint(event.endpoint_id).await?.map(|endpoint| endpoint.name).unwrap_or_default();
    let turn = turn(&TURNS, PATIENCE).await?;
    let asked = ask(turn, compiled, Material { event, headers, payload, name }).await;
    let (wanted, error) = match asked {
        Ok(wanted) => (wanted, None),
        Err(failed) => (true, Some(failed.to_string())),
    };
    Ok(Answer(TriedFilterBody { wanted, decided_by: DecidedBy::Expression, error }))
}

/// What an expression is asked about.
struct Material {
    event: Event,
    headers: HeaderMap,
    payload: Vec<u8>,
    name: String,
}

/// The payload, where the expression looks at it. Of one that is too large to be looked at as much as shows that.
async fn payload(api: &Api, event: &Event, compiled: &Compiled) -> Result<Vec<u8>, Failure> {
    if event.expunged_at.is_some() {
        return Err(Problem::new(Kind::Conflict, "the event's payload was expunged").into());
    }
    if !compiled.reads_body() {
        return Ok(Vec::new());
    }
    let most = i64::try_from(MAX_BODY).unwrap_or(i64::MAX).saturating_add(1);
    let place = &event.payload;
    let read = api.payloads.get_range(&place.s3_key, place.s3_offset, place.s3_length.min(most)).await?;
    Ok(read.ok_or_else(events::no_payload)?.into())
}

/// Leave to evaluate an expression.
async fn turn(turns: &Semaphore, patience: Duration) -> Result<SemaphorePermit<'_>, Problem> {
    match tokio::time::timeout(patience, turns.acquire()).await {
        Ok(Ok(turn)) => Ok(turn),
        _ => Err(Problem::unavailable("others are trying filters that take long", RETRY_AFTER)),
    }
}

/// On a thread with the stack that deep expressions need. The turn lasts until it has ended, whoever waits for it.
async fn ask(turn: SemaphorePermit<'static>, compiled: Compiled, material: Material) -> Result<bool, Failed> {
    let (answer, answered) = oneshot::channel();
    let evaluation = move || {
        let endpoint_id = material.event.endpoint_id.to_string();
        let facts = Facts {
            event_type: material.event.event_type.as_deref().unwrap_or_default(),
            headers: &material.headers,
            body: &material.payload,
            endpoint_id: &endpoint_id,
            endpoint_name: &material.name,
        };
        let started = Instant::now();
        // Nobody listens when the caller is gone.
        let _ = answer.send(compiled.ask(&facts, &|| started.elapsed() > BUDGET));
        drop(turn);
    };
    let spawned = std::thread::Builder::new().name("filter".to_owned()).stack_size(STACK).spawn(evaluation);
    if spawned.is_err() {
        return Err(Failed::Panic);
    }
    answered.await.unwrap_or(Err(Failed::Panic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_gets_no_turn_in_time_is_told_to_come_again() {
        let turns = Semaphore::new(1);
        let held = turn(&turns, Duration::ZERO).await.ok();
        assert!(held.is_some() && turn(&turns, Duration::ZERO).await.is_err());
        drop(held);
        assert!(turn(&turns, Duration::ZERO).await.is_ok());
    }
}
