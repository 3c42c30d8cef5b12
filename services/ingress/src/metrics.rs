//! What ingress counts.

use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};
use ravenpost_bus::Producer;
use ravenpost_chassis::Context;
use ravenpost_chassis::metrics::{BATCH_SIZE, LATENCY_SECONDS, Metrics};
use ravenpost_chassis::problem::Kind;
use ravenpost_store::Store;

use crate::rejected::Fate;

/// The metrics of ingress.
#[derive(Clone)]
pub struct IngressMetrics {
    accepted: IntCounter,
    rejected: IntCounterVec,
    limited: IntCounterVec,
    lookups: IntCounterVec,
    accept_seconds: Histogram,
    /// Handshakes of providers that were answered.
    pub handshakes: IntCounter,
    /// Events in each committed batch.
    pub batch_events: Histogram,
    /// Seconds by stage of a commit: `payload`, `rows`, `publish`.
    pub commit_seconds: HistogramVec,
    /// Batches that failed, by stage.
    pub commit_failures: IntCounterVec,
    /// Events that wait for a lane.
    pub queue_events: IntGauge,
    /// Requests that repeated an event.
    pub duplicates: IntCounter,
    /// Events published from Postgres.
    pub relayed: IntCounter,
    /// Runs of ingress that this one took over.
    pub adopted: IntCounter,
    outbox_events: IntGauge,
    outbox_age: IntGauge,
    /// Bytes of rejected requests that are about to be kept.
    pub rejected_held_bytes: IntGauge,
    rejected_requests: IntCounterVec,
    pool_connections: IntGauge,
    pool_idle: IntGauge,
    producer_queue: IntGauge,
}

impl IngressMetrics {
    /// Declares them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            accepted: metrics.counter("ingress_accepted_total", "Events accepted with 202"),
            rejected: metrics.counters(
                "ingress_rejected_total",
                "Requests refused, by the slug of the problem they were answered with",
                &["problem"],
            ),
            limited: metrics.counters(
                "ingress_limited_total",
                "Requests refused by a limit: endpoint_rate and organization_rate (429), memory, \
                 endpoint_memory and lookups (503), slow_body (400)",
                &["limit"],
            ),
            lookups: metrics.counters(
                "ingress_lookups_total",
                "Endpoints read from Postgres, by what came of it: found, unknown (no such token), failed",
                &["result"],
            ),
            accept_seconds: metrics.histogram(
                "ingress_accept_seconds",
                "From the head of a request to its 202",
                LATENCY_SECONDS,
            ),
            handshakes: metrics
                .counter("ingress_handshakes_total", "Handshakes of providers that were answered"),
            batch_events: metrics.histogram("ingress_batch_events", "Events committed together", BATCH_SIZE),
            commit_seconds: metrics.histograms(
                "ingress_commit_seconds",
                "Time of each stage of a batch: payload (S3), rows (Postgres), publish (Kafka)",
                LATENCY_SECONDS,
                &["stage"],
            ),
            commit_failures: metrics.counters(
                "ingress_commit_failures_total",
                "Batches that failed, by stage; their producers were told 503",
                &["stage"],
            ),
            queue_events: metrics.gauge("ingress_queue_events", "Events that wait to be committed"),
            duplicates: metrics.counter(
                "ingress_duplicates_total",
                "Requests that repeated an event by its producer's id and were answered with it",
            ),
            relayed: metrics.counter(
                "ingress_relayed_total",
                "Events published from Postgres: Kafka was away, or a process had died",
            ),
            adopted: metrics.counter(
                "ingress_adopted_total",
                "Processes that had died or left something unpublished, and were taken over",
            ),
            outbox_events: metrics
                .gauge("ingress_outbox_events", "Committed events that wait to be published"),
            outbox_age: metrics.gauge(
                "ingress_outbox_age_seconds",
                "How long the oldest committed event waits to be published",
            ),
            rejected_held_bytes: metrics
                .gauge("ingress_rejected_held_bytes", "Rejected requests in memory that are about to be kept"),
            rejected_requests: metrics.counters(
                "ingress_rejected_requests_total",
                "Requests that failed verification, by what became of them: kept, or why they are only counted",
                &["fate"],
            ),
            pool_connections: metrics.gauge("postgres_connections", "Open connections to Postgres"),
            pool_idle: metrics.gauge("postgres_idle_connections", "Connections to Postgres that nobody uses"),
            producer_queue: metrics
                .gauge("kafka_producer_queue", "Messages that Kafka has not acknowledged yet"),
        }
    }

    /// An event was accepted, so long after its request came.
    pub fn accepted(&self, elapsed: Duration) {
        self.accepted.inc();
        self.accept_seconds.observe(elapsed.as_secs_f64());
    }

    /// What waits for Kafka.
    pub fn outbox(&self, events: usize, age: Duration) {
        self.outbox_events.set(i64::try_from(events).unwrap_or(i64::MAX));
        self.outbox_age.set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    }

    /// A request was refused by a limit: `endpoint_rate`, `organization_rate`, `memory`, `endpoint_memory`, `lookups`,
    /// `slow_body`.
    pub fn limited(&self, limit: &'static str) {
        self.limited.with_label_values(&[limit]).inc();
    }

    /// An endpoint was looked up: `found`, `unknown`, `failed`.
    pub fn looked_up(&self, result: &'static str) {
        self.lookups.with_label_values(&[result]).inc();
    }

    /// A request was refused.
    pub fn rejected(&self, kind: Kind) {
        self.rejected.with_label_values(&[kind.slug()]).inc();
    }

    /// Something became of so many requests that failed verification.
    pub fn rejected_request(&self, fate: Fate, requests: usize) {
        let requests = u64::try_from(requests).unwrap_or(u64::MAX);
        self.rejected_requests.with_label_values(&[fate.as_str()]).inc_by(requests);
    }
}

/// How often gauges of pools are read.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Keeps the gauges of pools up to date.
pub fn watch(ctx: &Context, metrics: &IngressMetrics, store: &Store, producer: &Producer) {
    let (metrics, store, producer) = (metrics.clone(), store.clone(), producer.clone());
    tokio::spawn(ctx.cut.clone().run_until_cancelled_owned(async move {
        loop {
            let (connections, idle) = store.pool_size();
            metrics.pool_connections.set(i64::from(connections));
            metrics.pool_idle.set(i64::try_from(idle).unwrap_or(i64::MAX));
            metrics.producer_queue.set(i64::from(producer.queued()));
            tokio::time::sleep(WATCH_EVERY).await;
        }
    }));
}
