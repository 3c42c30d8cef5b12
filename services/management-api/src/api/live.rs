//! Live: what is accepted and attempted, as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::sse::{Event as Message, Sse};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use futures::stream;
use ravenpost_chassis::problem::{Kind, Problem, Query};
use ravenpost_core::delivery::Outcome;
use ravenpost_core::ids::{DeliveryId, DestinationId, EndpointId, EventId, OrganizationId};
use ravenpost_store::tenant::{LiveAttempt, LiveEvent};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Api, Failure};
use crate::auth::{Caller, EventsRead, Identity};
use crate::live::{Full, Item, Listener, LiveFilter, Place, Told};

/// How often something is said, so that nobody on the way takes the silence for an end.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often it is asked whether the caller may still listen.
const STILL_ALLOWED: Duration = Duration::from_secs(1);
/// When somebody may come again who found no place.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// How soon a client shall come again after the stream has ended, in milliseconds.
const RECONNECT: Duration = Duration::from_secs(2);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What to hear.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LiveQuery {
    /// Of one endpoint.
    endpoint_id: Option<EndpointId>,
    /// Attempts for one destination.
    destination_id: Option<DestinationId>,
    /// Of one kind only.
    #[param(inline)]
    kind: Option<LiveKind>,
    /// Attempts that came out so.
    outcome: Option<Outcome>,
}

/// A kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum LiveKind {
    /// Events that were accepted.
    Accepted,
    /// Attempts.
    Attempt,
}

/// The data of a message `accepted`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LiveAccepted)]
pub(super) struct AcceptedBody<'a> {
    /// The event.
    id: EventId,
    /// Through which endpoint it came.
    endpoint_id: EndpointId,
    /// When.
    received_at: DateTime<Utc>,
    /// What its producer says it is.
    event_type: Option<&'a str>,
    /// The length of its payload.
    payload_bytes: i64,
}

/// The data of a message `attempt`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LiveAttempt)]
pub(super) struct AttemptBody<'a> {
    /// The attempt.
    id: DeliveryId,
    /// Of which event.
    event_id: EventId,
    /// Through which endpoint the event came.
    endpoint_id: EndpointId,
    /// To which destination.
    destination_id: DestinationId,
    /// Of which run.
    run: u32,
    /// Which attempt of the run.
    attempt_number: u32,
    /// What came of it.
    outcome: Outcome,
    /// HTTP status, if there was a response.
    response_code: Option<u16>,
    /// Why it failed.
    error_message: Option<&'a str>,
    /// When it is due again.
    next_retry_at: Option<DateTime<Utc>>,
    /// How long it took.
    duration_ms: u32,
    /// When it started.
    attempted_at: DateTime<Utc>,
}

impl<'a> From<&'a LiveEvent> for AcceptedBody<'a> {
    fn from(event: &'a LiveEvent) -> Self {
        Self {
            id: event.id,
            endpoint_id: event.endpoint_id,
            received_at: event.received_at,
            event_type: event.event_type.as_deref(),
            payload_bytes: event.payload_bytes,
        }
    }
}

impl<'a> From<&'a LiveAttempt> for AttemptBody<'a> {
    fn from(attempt: &'a LiveAttempt) -> Self {
        Self {
            id: attempt.id,
            event_id: attempt.event_id,
            endpoint_id: attempt.endpoint_id,
            destination_id: attempt.destination_id,
            run: attempt.run,
            attempt_number: attempt.attempt_number,
            outcome: attempt.outcome,
            response_code: attempt.response_code,
            error_message: attempt.error_message.as_deref(),
            next_retry_at: attempt.next_retry_at,
            duration_ms: attempt.duration_ms,
            attempted_at: attempt.attempted_at,
        }
    }
}

impl From<Full> for Problem {
    fn from(full: Full) -> Self {
        Self::new(Kind::TooManyRequests, full.to_string()).retry_after(RETRY_AFTER)
    }
}

impl LiveQuery {
    fn filter(&self) -> LiveFilter {
        LiveFilter {
            endpoint: self.endpoint_id,
            destination: self.destination_id,
            accepted: self.kind.map(|kind| kind == LiveKind::Accepted),
            outcome: self.outcome,
        }
    }
}

/// Listen to what happens.
///
/// Server-sent events: `accepted` and `attempt` as they happen, within a second or two, each with an `id`. Whoever was
/// away sends the last one as `Last-Event-ID` (browsers do so by themselves) and hears what came since, from a few
/// seconds earlier on: **what was heard already comes again under the same `id`, so ignore ids that you know.** `lagged`
/// says that something may be missing: you were away for longer than ten minutes, or more happened than can be told; ask
/// `GET /events`. A comment is sent every 15 seconds. The stream ends when the key is no longer valid (`end`, with the
/// problem) and when the server stops; then come again.
#[utoipa::path(get, path = "/events/stream", tag = "events", operation_id = "stream_events",
    params(LiveQuery, ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last message that was heard.")),
    security(("api_key" = ["events:read"])),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 429)))]
pub(super) async fn stream(
    caller: Caller<EventsRead>,
    State(api): State<Api>,
    Query(query): Query<LiveQuery>,
    request: Parts,
) -> Result<Response, Failure> {
    let place = request.headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty());
    let place = place.map(|value| value.to_str().unwrap_or_default().parse::<Place>());
    let place =
        place.transpose().map_err(|error| Problem::invalid_parameter("Last-Event-ID", error.to_string()))?;
    let mut listener = api.live.listen(&caller.tenant, query.filter()).map_err(Problem::from)?;
    if let Some(place) = place {
        listener.resume(place).await?;
    }
    let speaker = Speaker::new(api, listener, caller.tenant.organization_id(), request);
    let messages = stream::unfold(speaker, |mut speaker| async move {
        let message = speaker.next().await?;
        Some((Ok::<_, Infallible>(message), speaker))
    });
    // Nobody on the way shall keep it back.
    let unbuffered = (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    let no_cache = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(([unbuffered, no_cache], Sse::new(messages)).into_response())
}

/// Says to one client what its listener hears.
struct Speaker {
    api: Api,
    listener: Listener,
    /// Whose events they hear. A person may be meant to be in another one by the time they are asked again.
    organization_id: OrganizationId,
    /// As it came: whoever may listen is asked by it again.
    request: Parts,
    said: VecDeque<Message>,
    spoke_at: Instant,
    asked_at: Instant,
    over: bool,
}

impl Speaker {
    fn new(api: Api, listener: Listener, organization_id: OrganizationId, mut request: Parts) -> Self {
        // As whom they were recognised then.
        request.extensions.remove::<Identity>();
        let now = Instant::now();
        // At once, so that the client knows that it is connected.
        let said = VecDeque::from([Message::default().comment("listening").retry(RECONNECT)]);
        Self { api, listener, organization_id, request, said, spoke_at: now, asked_at: now, over: false }
    }

    /// `None`: that was all.
    async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.said.pop_front() {
                self.spoke_at = Instant::now();
                return Some(message);
            }
            if self.over {
                return None;
            }
            let patience = STILL_ALLOWED.saturating_sub(self.asked_at.elapsed());
            match tokio::time::timeout(patience, self.listener.next()).await {
                Ok(Ok(told)) => self.say(&told),
                Ok(Err(error)) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "a listener can't be told what it has missed");
                    self.end("temporarily unavailable: come again");
                }
                Err(_) => {}
            }
            if self.asked_at.elapsed() >= STILL_ALLOWED {
                self.ask_again().await;
            }
            if self.said.is_empty() && self.spoke_at.elapsed() >= HEARTBEAT {
                self.said.push_back(Message::default().comment("listening"));
            }
        }
    }

    fn say(&mut self, told: &Told) {
        match told {
            Told::Happened(item) => self.said.extend(message(item)),
            Told::Lagged => self.said.push_back(Message::default().event("lagged").data("{}")),
            Told::Over => self.end("the server stops: come again"),
        }
    }

    /// Whether the caller may still listen. When that can't be told just now, as before.
    async fn ask_again(&mut self) {
        self.asked_at = Instant::now();
        let refused = match Caller::<EventsRead>::from_request_parts(&mut self.request, &self.api).await {
            Ok(caller) if caller.tenant.organization_id() == self.organization_id => return,
            Ok(_) => Problem::new(Kind::Forbidden, "you don't belong to this organization any more"),
            Err(Failure::Problem(problem)) => problem,
            Err(_) => return,
        };
        self.said.push_back(Message::default().event("end").data(refused.to_json()));
        self.over = true;
    }

    fn end(&mut self, why: &str) {
        self.said.push_back(Message::default().comment(why));
        self.over = true;
    }
}

/// As a message; `None` for what is none.
fn message(item: &Item) -> Option<Message> {
    let place = item.place()?.to_string();
    let (name, data) = match item {
        Item::Accepted(event) => ("accepted", serde_json::to_string(&AcceptedBody::from(event))),
        Item::Attempt(attempt) => ("attempt", serde_json::to_string(&AttemptBody::from(attempt))),
        Item::Skipped => return None,
    };
    Some(Message::default().id(place).event(name).data(data.ok()?))
}
