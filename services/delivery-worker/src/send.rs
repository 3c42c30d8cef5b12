//! One attempt: fetch the payload, sign, POST, judge the answer.

mod conceal;
mod exchange;
mod fetch;
mod neighbours;
mod sign;
mod token;

pub use exchange::Profiles;
pub use neighbours::Neighbours;
pub use token::Tokens;

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ravenpost_bus::consumer::Liveness;
use ravenpost_bus::message::{DeadLetter, EventMessage, INLINE_LIMIT, Message};
use ravenpost_chassis::{clock, random, trace};
use ravenpost_core::delivery::{Answer, DeliveryKey, Made, Outcome, PhaseTimes, Signal, Verdict};
use ravenpost_core::event;
use ravenpost_core::ids::{DeliveryId, DestinationId};
use ravenpost_core::trace::Traceparent;
use ravenpost_egress::Client;
use ravenpost_store::system::{Attempt, DeliveryConfig};
use ravenpost_store::{Payloads, System};
use tracing::{Instrument, Span, error, info_span, warn};

use crate::budget::{Budget, Part};
use crate::expunged::Expunged;
use crate::filter::{Filters, Opinion, Question};
use crate::metrics::WorkerMetrics;
use crate::route::Routes;

/// How much of a response body is stored, in bytes.
const SNIPPET: usize = 4 * 1024;

/// What an attempt needs.
pub struct Sender {
    /// Where events go.
    pub routes: Routes,
    /// What destinations want.
    pub filters: Filters,
    /// Where it is asked whether a payload was expunged.
    pub system: System,
    /// Those that lately were.
    pub expunged: Expunged,
    /// The payload store.
    pub payloads: Payloads,
    /// The way out.
    pub client: Client,
    /// What destinations want of TLS, ready for use.
    pub profiles: Profiles,
    /// Access tokens for destinations.
    pub tokens: Tokens,
    /// What is counted.
    pub metrics: WorkerMetrics,
    /// What all attempts share.
    pub budget: Arc<Budget>,
    /// Whether this process may still send.
    pub liveness: Arc<Liveness>,
}

/// One event for one destination, and which attempt it is.
#[derive(Debug, Clone)]
pub struct Job {
    /// The event, its body inline where it is at hand.
    pub event: Arc<EventMessage>,
    /// For whom.
    pub destination_id: DestinationId,
    /// Which run.
    pub run: i32,
    /// Which attempt, from 1.
    pub attempt_number: i32,
    /// Somebody has named the destination: its filter is not asked.
    pub unfiltered: bool,
    /// What came of the attempt before it in the same run, where that is known.
    pub previous: Option<Outcome>,
    /// Those beside which its payload lies, if they wait, too.
    pub neighbours: Option<Arc<Neighbours>>,
    /// Since when it could be sent: when the event was received, or the attempt was due.
    pub ready_at: DateTime<Utc>,
}

impl Job {
    fn key(&self) -> DeliveryKey {
        DeliveryKey {
            event_id: self.event.id,
            destination_id: self.destination_id,
            run: self.run,
            attempt_number: self.attempt_number,
        }
    }
}

/// What a destination wants, at hand.
struct Wanted {
    body: Bytes,
    /// What it takes of the shared memory.
    part: Option<Part>,
    /// Why the destination's filter could not tell, if it could not.
    filter_error: Option<String>,
}

/// An attempt that was made.
#[derive(Debug)]
pub struct Attempted {
    /// For the record. Its `version` is the owner's to fill in.
    pub attempt: Attempt,
    /// What the answer tells of its destination.
    pub signal: Signal,
    /// The event is given up: what Kafka is told of it.
    pub letter: Option<Message>,
}

/// What came of a job.
#[derive(Debug)]
pub enum Done {
    /// It was sent and judged; it remains to be reported and recorded.
    Attempted(Box<Attempted>),
    /// The destination is paused or disabled meanwhile.
    Held,
    /// Somebody deleted the destination, or had the payload expunged, meanwhile.
    Cancelled,
    /// The destination does not want it.
    Filtered,
    /// Something of ours was away; that is no attempt.
    NotSent,
    /// There is no way out: the operator's proxy or name server can't be reached. That is no attempt either.
    NoWayOut(String),
    /// The destination's settings can't be read, neither for this nor for its other events.
    Unreadable,
    /// Its payload is not where it was put, or is not what was received. That is no attempt either: somebody has to bring
    /// it back.
    PayloadMissing,
}

impl Sender {
    /// Makes one attempt.
    pub async fn attempt(&self, job: Job) -> Done {
        let incoming = job.event.traceparent.as_deref().and_then(Traceparent::parse);
        let span = info_span!(
            "deliver",
            event_id = %job.event.id,
            endpoint_id = %job.event.endpoint_id,
            destination_id = %job.destination_id,
            attempt = job.attempt_number,
        );
        trace::follow(&span, incoming.as_ref());
        self.in_span(job, incoming).instrument(span).await
    }

    async fn in_span(&self, job: Job, incoming: Option<Traceparent>) -> Done {
        if self.expunged.contains(job.event.id) {
            return Done::Cancelled;
        }
        let route = match self.routes.to(job.destination_id, job.event.endpoint_id).await {
            Ok(route) => route,
            Err(error) => {
                warn!(error = error.as_ref() as &dyn std::error::Error, "a route can't be read");
                return Done::NotSent;
            }
        };
        let destination =
            route.as_deref().and_then(|route| Some((route, route.destination(job.destination_id)?)));
        let destination = match destination {
            None => return Done::Cancelled,
            Some((_, destination)) if destination.deleted => return Done::Cancelled,
            Some((route, destination)) if route.holds(destination) => return Done::Held,
            Some((_, destination)) => match &destination.delivery {
                Ok(config) => config,
                Err(damaged) => {
                    error!(
                        error = damaged.as_ref() as &dyn std::error::Error,
                        "a destination can't be sent to"
                    );
                    return Done::Unreadable;
                }
            },
        };
        let endpoint_name = route.as_ref().map_or("", |route| route.endpoint_name.as_str());
        let wanted = match self.wanted_body(&job, destination, endpoint_name).await {
            Ok(wanted) => wanted,
            Err(done) => return done,
        };
        let Wanted { body, part: _part, filter_error } = wanted;
        let event = with_inline(&job.event, &body);
        let traceparent = trace::current(&Span::current(), incoming.as_ref());
        let attempted_at = clock::now();
        let headers = sign::headers(&job.event, destination, attempted_at, &body, &traceparent);
        let Some(answer) = self.exchange(job.destination_id, destination, headers, body).await else {
            return Done::NotSent;
        };
        if let Some(why) = answer.why_not_out() {
            self.metrics.no_way_out.inc();
            return Done::NoWayOut(why.to_owned());
        }
        let attempt = Attempt { filter_error, ..judge(&job, destination, &answer, attempted_at) };
        self.metrics.attempted(&attempt, job.event.received_at, answer.duration);
        let letter = attempt.is_dead().then(|| dead_letter(&event, &attempt));
        Done::Attempted(Box::new(Attempted { attempt, signal: answer.signal(clock::now()), letter }))
    }

    /// The body, if the destination wants it. A filter is asked once,
    /// before the first attempt of a run; it is not fetched for that does not look at the body.
    async fn wanted_body(
        &self,
        job: &Job,
        destination: &DeliveryConfig,
        endpoint_name: &str,
    ) -> Result<Wanted, Done> {
        let fetched = async || {
            let (body, part) = fetch::body(&self.payloads, &self.budget, job).await?;
            self.refuse_altered(job, &body).await?;
            Ok(Wanted { body, part, filter_error: None })
        };
        let is_asked = job.attempt_number == 1 && !job.unfiltered;
        let Some(filter) = destination.filter.as_ref().filter(|_| is_asked) else {
            return fetched().await;
        };
        if !filter.wants_type(job.event.event_type.as_deref().unwrap_or_default()) {
            self.filters.refused_type();
            return Err(Done::Filtered);
        }
        let filter = self.filters.of(job.destination_id, filter);
        let early = if filter.reads_body() { Some(fetched().await?) } else { None };
        let question = Question {
            event: Arc::clone(&job.event),
            endpoint_name: endpoint_name.to_owned(),
            body: early.as_ref().map(|early| early.body.clone()).unwrap_or_default(),
        };
        match (Box::pin(self.filters.ask(&filter, job.destination_id, question)).await, early) {
            (Opinion::Unwanted, _) => Err(Done::Filtered),
            (Opinion::Wanted(filter_error), Some(early)) => Ok(Wanted { filter_error, ..early }),
            (Opinion::Wanted(filter_error), None) => Ok(Wanted { filter_error, ..fetched().await? }),
        }
    }
}

impl Sender {
    /// What is sent is what was received, or nothing. Expunging leaves zeros alone; some that were sent so are, too.
    async fn refuse_altered(&self, job: &Job, body: &[u8]) -> Result<(), Done> {
        let is_altered = job.event.body_sha256.is_some_and(|sha256| sha256 != event::digest(body));
        let is_nothing = !body.is_empty() && body.iter().all(|byte| *byte == 0);
        if !is_altered && !is_nothing {
            return Ok(());
        }
        match self.system.is_expunged(job.event.id).await {
            Ok(true) => Err(Done::Cancelled),
            Ok(false) if !is_altered => Ok(()),
            Ok(false) => {
                error!(
                    s3_key = job.event.payload.s3_key,
                    "what the payload store has differs from its digest in `events`; it is not sent"
                );
                Err(Done::PayloadMissing)
            }
            Err(error) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "it can't be asked whether a payload was expunged"
                );
                Err(Done::NotSent)
            }
        }
    }
}

/// What is recorded, and what Kafka is told, of something that is given up at `now` without having been sent, since its
/// event is not kept for longer.
pub fn expired(job: &Job, now: DateTime<Utc>) -> (Attempt, Message) {
    let attempt = Attempt {
        id: DeliveryId::new(now, random::bytes()),
        key: job.key(),
        organization_id: job.event.organization_id,
        endpoint_id: job.event.endpoint_id,
        version: 0,
        outcome: Outcome::Expired,
        response_code: None,
        response_body_snippet: None,
        error_message: Some("not sent: it has waited for as long as events are kept".to_owned()),
        next_retry_at: None,
        attempted_at: now,
        duration_ms: 0,
        filter_error: None,
        phases: PhaseTimes::default(),
        connected_address: None,
    };
    let letter = dead_letter(&job.event, &attempt);
    (attempt, letter)
}

fn dead_letter(event: &EventMessage, attempt: &Attempt) -> Message {
    let letter =
        DeadLetter { event, destination_id: attempt.key.destination_id, reason: attempt.outcome.as_str() };
    letter.encode()
}

/// The event with its body inline where it is small enough: what is told of it looks the same on every attempt.
fn with_inline(event: &Arc<EventMessage>, body: &Bytes) -> Arc<EventMessage> {
    if event.body.is_some() || body.len() > INLINE_LIMIT {
        return Arc::clone(event);
    }
    Arc::new(EventMessage { body: Some(body.clone()), ..EventMessage::clone(event) })
}

fn judge(job: &Job, destination: &DeliveryConfig, answer: &Answer, attempted_at: DateTime<Utc>) -> Attempt {
    let attempt = u32::try_from(job.attempt_number).unwrap_or(u32::MAX);
    let made = Made { attempt, previous: job.previous };
    let verdict = answer.verdict(&destination.retry_policy, made, clock::now(), random::fraction());
    Attempt {
        id: DeliveryId::new(attempted_at, random::bytes()),
        key: job.key(),
        organization_id: job.event.organization_id,
        endpoint_id: job.event.endpoint_id,
        version: 0,
        outcome: answer.outcome(),
        response_code: answer.status(),
        response_body_snippet: answer.body_snippet(SNIPPET),
        error_message: answer.error_message(),
        next_retry_at: match verdict {
            Verdict::Retry { at } => Some(at),
            Verdict::Delivered | Verdict::GiveUp => None,
        },
        attempted_at,
        duration_ms: u32::try_from(answer.duration.as_millis()).unwrap_or(u32::MAX),
        filter_error: None,
        phases: PhaseTimes::new((attempted_at - job.ready_at).to_std().ok(), answer.phases),
        connected_address: answer.address.map(|address| address.to_string()),
    }
}
