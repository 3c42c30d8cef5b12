//! Events become durable: handed over by requests, committed together by lanes (group commit).
//!
//! ```text
//! commit() ──▶ queue ──▶ lane 0..n: cut a batch (cursor) ──▶ payload (S3) ──▶ rows (Postgres) ──▶ messages (Kafka) ──▶ answers
//! ```
//!
//! A body above [`LARGE`] goes the same way in a batch of its own, beside the lanes, so that it stalls nobody.

mod batch;
mod cursor;
mod instance;
mod lane;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ravenpost_bus::Producer;
use ravenpost_chassis::Context;
use ravenpost_chassis::problem::Problem;
use ravenpost_core::endpoint::event_type;
use ravenpost_core::headers;
use ravenpost_core::ids::EventId;
use ravenpost_core::trace::Traceparent;
use ravenpost_store::{Payloads, System};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::admit::Admitted;
use crate::metrics::IngressMetrics;
use crate::settings::CommitSettings;
use crate::verify::Verified;
use batch::Writer;
use instance::Instance;

/// Bodies above this many bytes get an object of their own and do not join a batch.
const LARGE: usize = 64 * 1024;
/// When to come back after a 503.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// A verified event that waits to be committed.
struct Pending {
    endpoint: Arc<ravenpost_store::system::Endpoint>,
    received_at: chrono::DateTime<chrono::Utc>,
    body: Bytes,
    headers: Bytes,
    event_type: Option<String>,
    content_type: Option<String>,
    traceparent: Traceparent,
    answer: oneshot::Sender<Result<EventId, NotCommitted>>,
    _share: OwnedSemaphorePermit,
}

/// The event could not be made durable. Its cause was logged with its batch.
#[derive(Debug, Clone, Copy)]
struct NotCommitted;

/// Makes events durable.
pub struct Committer {
    queue: mpsc::Sender<Pending>,
    large: mpsc::Sender<Pending>,
    metrics: IngressMetrics,
}

impl Committer {
    /// Registers this run of ingress and starts its lanes. They end when the committer is dropped and what it was
    /// handed is answered.
    pub async fn start(
        settings: &CommitSettings,
        ctx: &Context,
        system: System,
        payloads: Payloads,
        producer: Producer,
        metrics: IngressMetrics,
    ) -> anyhow::Result<Self> {
        let lanes = i32::from(settings.commit_lanes);
        let instance = Arc::new(Instance::register(system.clone(), lanes).await?);
        instance::keep_alive(ctx, Arc::clone(&instance));
        let writer = Arc::new(Writer { system, payloads, producer, instance, metrics: metrics.clone() });
        let (queue, waiting) =
            mpsc::channel(usize::try_from(settings.commit_queue).unwrap_or(usize::MAX >> 4));
        let (large, waiting_large) = mpsc::channel(lane::LARGE_QUEUE);
        lane::start(ctx, settings, &writer, waiting);
        lane::start_large(ctx, &writer, waiting_large);
        Ok(Self { queue, large, metrics })
    }

    /// Commits one event: its id once it is in all three stores, or why it is not.
    pub async fn commit(&self, verified: Verified, traceparent: Traceparent) -> Result<EventId, Problem> {
        let admitted = verified.into_inner();
        let (answer, answered) = oneshot::channel();
        let queue = if admitted.body.len() > LARGE { &self.large } else { &self.queue };
        let content_type = admitted.headers.get("content-type").and_then(|value| value.to_str().ok());
        let pending = Pending {
            event_type: event_type(&admitted.endpoint.verification, &admitted.headers, &admitted.body),
            content_type: content_type.map(str::to_owned),
            headers: forwarded(&admitted),
            endpoint: admitted.endpoint,
            received_at: admitted.received_at,
            body: admitted.body,
            traceparent,
            answer,
            _share: admitted.share,
        };
        queue.try_send(pending).map_err(|_| unavailable("more is being received than can be stored"))?;
        self.metrics.queue_events.inc();
        match answered.await {
            Ok(Ok(id)) => Ok(id),
            Ok(Err(NotCommitted)) | Err(_) => Err(unavailable("the event can't be stored just now")),
        }
    }
}

/// The headers that travel on: not the one that showed the endpoint's secret.
fn forwarded(admitted: &Admitted) -> Bytes {
    let mut forwarded = headers::to_forward(&admitted.headers);
    if let Some(credential) = admitted.endpoint.verification.credential_header() {
        forwarded.remove(credential);
    }
    headers::encode(&forwarded).into()
}

fn unavailable(detail: &str) -> Problem {
    Problem::unavailable(detail, RETRY_AFTER)
}
