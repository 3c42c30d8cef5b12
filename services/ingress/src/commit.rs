//! Events become durable: handed over by requests, committed together by lanes (group commit).
//!
//! ```text
//! commit() ──▶ queue ──▶ lane: cut a batch (cursor) ──▶ payload (S3) ──▶ rows (Postgres) ──▶ messages (Kafka)
//!                                                                          │                    └──▶ answers
//!                                                                          │ Kafka is away, or the process dies
//!                                                                          ▼
//!                                                    relay (this one's, or an adopting peer's) ──▶ messages, marked
//! ```
//!
//! A body above [`LARGE`] goes the same way in a batch of its own, through lanes of its own, so that it stalls nobody.

mod answers;
mod batch;
mod lane;
mod publish;

mod cursor;
mod instance;
mod peers;
mod relay;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ravenpost_bus::Producer;
use ravenpost_chassis::Context;
use ravenpost_chassis::problem::{Kind, Problem};
use ravenpost_core::event::Content;
use ravenpost_core::ids::{EndpointId, EventId};
use ravenpost_core::trace::Traceparent;
use ravenpost_store::system::{Draft, KeyOfEndpoint};
use ravenpost_store::{Payloads, System};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::admit::Share;
use crate::limit::Replicas;
use crate::metrics::IngressMetrics;
use crate::settings::{CommitSettings, OutboxSettings};
use crate::verify::Verified;
use batch::Writer;
use instance::Instance;
use publish::Publisher;
use relay::Relay;

/// Bodies above this many bytes get an object of their own and do not join a batch.
const LARGE: usize = 64 * 1024;
/// Statements of large bodies at once.
const LARGE_STATEMENTS: usize = 3;
/// When to come back after a 503.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// A verified event that waits to be committed.
struct Pending {
    draft: Draft,
    body: Bytes,
    answer: oneshot::Sender<Result<EventId, NotCommitted>>,
    _share: Share,
}

impl Pending {
    /// What its producer's retries repeat.
    fn key(&self) -> Option<KeyOfEndpoint> {
        self.draft.key().map(|key| (self.draft.endpoint_id, key.hash))
    }

    /// Tells the producer; one that has gone does not hear of it.
    fn answer(self, told: Result<EventId, NotCommitted>) {
        let _ = self.answer.send(told);
    }
}

impl lane::Waiting for Pending {
    fn endpoint(&self) -> EndpointId {
        self.draft.endpoint_id
    }

    fn bytes(&self) -> usize {
        self.body.len()
    }
}

/// Why an event was not accepted. The cause was logged with its batch.
#[derive(Debug, Clone, Copy)]
enum NotCommitted {
    /// A store is away.
    Unavailable,
    /// Postgres does not take what is in it.
    Refused,
    /// Its `Idempotency-Key` belongs to another body.
    KeyReused,
}

/// Makes events durable.
pub struct Committer {
    queue: mpsc::Sender<Pending>,
    large: mpsc::Sender<Pending>,
    /// How long a producer's retry is recognised.
    window: Duration,
    /// More waits for Kafka than may.
    outbox_full: Arc<AtomicBool>,
    metrics: IngressMetrics,
}

/// What events are stored in.
pub struct Stores {
    /// Their rows.
    pub system: System,
    /// Their bodies.
    pub payloads: Payloads,
    /// Their messages.
    pub producer: Producer,
}

impl Committer {
    /// Registers this run of ingress and starts its lanes, its heartbeat and its relay. Lanes end when the committer is
    /// dropped and what it was handed is answered. `replicas` hears how many runs of ingress live.
    pub async fn start(
        settings: &CommitSettings,
        outbox: &OutboxSettings,
        ctx: &Context,
        stores: Stores,
        metrics: IngressMetrics,
        replicas: Replicas,
    ) -> anyhow::Result<Self> {
        let lanes = settings.commit_lanes + lane::LARGE_LANES;
        let instance = Arc::new(Instance::register(stores.system.clone(), lanes).await?);
        let outbox_full = Arc::new(AtomicBool::new(false));
        let (own, full) = (Arc::clone(&instance), Arc::clone(&outbox_full));
        let relay = Arc::new(Relay::new(ctx, outbox, &stores, own, metrics.clone(), replicas, full));
        let over = CancellationToken::new();
        relay::start(ctx, Arc::clone(&relay), over.clone());
        instance::keep_alive(ctx, Arc::clone(&instance), relay, outbox.adopt_after, over.clone());
        let Stores { system, payloads, producer } = stores;
        let writer = Writer {
            system,
            payloads,
            publisher: Publisher { producer, wait: outbox.kafka_wait },
            instance,
            metrics: metrics.clone(),
            large_from: usize::from(settings.commit_lanes),
            large_statements: Semaphore::new(LARGE_STATEMENTS),
            _over: over.drop_guard(),
        };
        let (queue, large) = lane::start(ctx, settings, writer);
        let window = settings.deduplication.deduplication_window;
        Ok(Self { queue, large, window, outbox_full, metrics })
    }

    /// Commits one event: its id once it is accepted, that of the event that it repeats, or why it is not accepted.
    pub async fn commit(&self, verified: Verified, traceparent: Traceparent) -> Result<EventId, Problem> {
        if self.outbox_full.load(Ordering::Relaxed) {
            return Err(unavailable("too much waits for its delivery to begin"));
        }
        let admitted = verified.into_inner();
        let content = Content::of(&admitted.endpoint.verification, &admitted.headers, &admitted.body);
        if let Err(invalid) = content.deduplication {
            return Err(Problem::new(Kind::Malformed, invalid.to_string()));
        }
        let draft = Draft::new(&admitted.endpoint, content, admitted.received_at, traceparent, self.window);
        let queue = if admitted.body.len() > LARGE { &self.large } else { &self.queue };
        let (answer, answered) = oneshot::channel();
        let pending = Pending { draft, body: admitted.body, answer, _share: admitted.share };
        queue.try_send(pending).map_err(|_| unavailable("more is being received than can be stored"))?;
        self.metrics.queue_events.inc();
        answered.await.unwrap_or(Err(NotCommitted::Unavailable)).map_err(NotCommitted::problem)
    }
}

impl NotCommitted {
    fn problem(self) -> Problem {
        match self {
            Self::Unavailable => unavailable("the event can't be stored just now"),
            Self::Refused => {
                Problem::new(Kind::Malformed, "a header or the type of this event holds what can't be stored")
            }
            Self::KeyReused => Problem::new(
                Kind::Conflict,
                "this Idempotency-Key was used before with another body; use a new key for a new event",
            ),
        }
    }
}

fn unavailable(detail: &str) -> Problem {
    Problem::unavailable(detail, RETRY_AFTER)
}
