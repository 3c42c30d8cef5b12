//! What the worker counts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};
use ravenpost_bus::consumer::Liveness;
use ravenpost_chassis::metrics::{BATCH_SIZE, LATENCY_SECONDS, Metrics, WAIT_SECONDS};
use ravenpost_chassis::{Context, clock};
use ravenpost_store::Store;
use ravenpost_store::system::{Attempt, ParkReason};

use crate::gate::Shut;

/// The metrics of the worker.
#[derive(Clone)]
pub struct WorkerMetrics {
    attempts: IntCounterVec,
    attempt_seconds: HistogramVec,
    delivered_seconds: Histogram,
    dead_letters: IntCounter,
    parked: IntCounterVec,
    filtered: IntCounterVec,
    filter_errors: IntCounterVec,
    turns: IntCounterVec,
    lanes: IntGaugeVec,
    /// Times that a lane has waited for its rate.
    pub rate_waits: IntCounter,
    token_requests: IntCounterVec,
    /// Messages that were none of ours.
    pub undecodable: IntCounter,
    /// Pairs and events that were lost and found by the sweeper.
    pub swept: IntCounter,
    /// Times that the payload of an accepted event was not there.
    pub payloads_missing: IntCounter,
    /// Attempts that were not made for want of a proxy or name server.
    pub no_way_out: IntCounter,
    expired: IntCounter,
    /// Things recorded together.
    pub record_batch: Histogram,
    /// Requests under way.
    pub in_flight: IntGauge,
    /// Deliveries that wait in lanes.
    pub queued: IntGauge,
    lag_messages: IntGaugeVec,
    lag_seconds: GaugeVec,
    /// When the message consumed last was received, by partition.
    consumed: Arc<Mutex<HashMap<i32, DateTime<Utc>>>>,
    oldest_waiting_seconds: Gauge,
    pool_connections: IntGauge,
    pool_idle: IntGauge,
}

impl WorkerMetrics {
    /// Declares them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            attempts: metrics.counters("delivery_attempts_total", "Attempts by outcome", &["outcome"]),
            attempt_seconds: metrics.histograms(
                "delivery_attempt_seconds",
                "Time of an attempt, from its start to the end of the answer",
                LATENCY_SECONDS,
                &["result"],
            ),
            delivered_seconds: metrics.histogram(
                "delivery_delivered_seconds",
                "From the receipt of an event to its acceptance by a destination, retries included",
                WAIT_SECONDS,
            ),
            dead_letters: metrics.counter("delivery_dead_letters_total", "Events given up for a destination"),
            parked: metrics.counters(
                "delivery_parked_total",
                "Deliveries put into the schedule without an attempt, by reason",
                &["reason"],
            ),
            filtered: metrics.counters(
                "delivery_filtered_total",
                "Deliveries that the destination's filter did not want, by what refused them",
                &["by"],
            ),
            filter_errors: metrics.counters(
                "delivery_filter_errors_total",
                "Deliveries made because the destination's expression failed, by reason",
                &["reason"],
            ),
            turns: metrics.counters(
                "delivery_gate_turns_total",
                "What destinations' gates have turned to: opened, slowed down, breaker, disabled, warned, resumed",
                &["turn"],
            ),
            rate_waits: metrics.counter(
                "delivery_rate_waits_total",
                "Times that a destination's next request has waited for its rate limit",
            ),
            lanes: metrics.gauges(
                "delivery_lanes",
                "Destinations that are sent to, by what keeps them from full speed",
                &["gate"],
            ),
            token_requests: metrics.counters(
                "delivery_token_requests_total",
                "Access tokens asked for, by result",
                &["result"],
            ),
            undecodable: metrics.counter(
                "delivery_undecodable_messages_total",
                "Messages on the ingest topic that are no events; they are skipped",
            ),
            swept: metrics.counter(
                "delivery_swept_total",
                "Deliveries that waited nowhere and were scheduled by the sweeper; anything but 0 means that Kafka has lost messages",
            ),
            payloads_missing: metrics.counter(
                "delivery_payloads_missing_total",
                "Times that the payload of an accepted event was not in the payload store, or was not what was received, so that it could not be sent; it is tried again every minute, until the event is kept no longer",
            ),
            no_way_out: metrics.counter(
                "delivery_no_way_out_total",
                "Times that nothing could be sent for want of a way out, since the operator's forward proxy or name server is away or refuses us; that is no attempt, and is tried again every five seconds",
            ),
            expired: metrics.counter(
                "delivery_expired_total",
                "Deliveries given up without being sent, since their event had waited for as long as events are kept",
            ),
            record_batch: metrics.histogram(
                "delivery_record_batch",
                "Attempts and parked pairs recorded together",
                BATCH_SIZE,
            ),
            in_flight: metrics.gauge("delivery_in_flight", "Attempts under way"),
            queued: metrics.gauge("delivery_queued", "Deliveries that wait in memory for their lane"),
            lag_messages: metrics.gauges(
                "delivery_lag_messages",
                "Messages not yet consumed, by partition",
                &["partition"],
            ),
            lag_seconds: metrics.float_gauges(
                "delivery_lag_seconds",
                "Age of the message consumed last, by partition; 0 when nothing waits",
                &["partition"],
            ),
            consumed: Arc::default(),
            oldest_waiting_seconds: metrics.float_gauge(
                "delivery_oldest_waiting_seconds",
                "How long the most overdue scheduled delivery has been due",
            ),
            pool_connections: metrics.gauge("postgres_connections", "Open connections to Postgres"),
            pool_idle: metrics.gauge("postgres_idle_connections", "Connections to Postgres that nobody uses"),
        }
    }

    /// An attempt was made.
    pub fn attempted(&self, attempt: &Attempt, received_at: DateTime<Utc>, took: Duration) {
        self.attempts.with_label_values(&[attempt.outcome.as_str()]).inc();
        let result = if attempt.outcome.is_success() { "success" } else { "failure" };
        self.attempt_seconds.with_label_values(&[result]).observe(took.as_secs_f64());
        if attempt.outcome.is_success() {
            let since = (clock::now() - received_at).to_std().unwrap_or_default();
            self.delivered_seconds.observe(since.as_secs_f64());
        }
        if attempt.is_dead() {
            self.dead_letters.inc();
        }
    }

    /// A delivery goes into the schedule without an attempt.
    pub fn parked(&self, reason: ParkReason) {
        self.parked.with_label_values(&[reason.as_str()]).inc();
    }

    /// An event is given up for a destination without being sent.
    pub fn expired(&self) {
        self.expired.inc();
        self.dead_letters.inc();
    }

    /// A destination did not want an event.
    pub fn filtered(&self, by: &str) {
        self.filtered.with_label_values(&[by]).inc();
    }

    /// A destination's expression failed, and so it gets the event.
    pub fn filter_failed(&self, reason: &str) {
        self.filter_errors.with_label_values(&[reason]).inc();
    }

    /// A destination's gate has turned: to one of [`Shut`], or `warned` or `resumed`.
    pub fn turned(&self, turn: &'static str) {
        self.turns.with_label_values(&[turn]).inc();
    }

    /// So many lanes more are shut so.
    pub fn lanes(&self, shut: Shut, more: i64) {
        self.lanes.with_label_values(&[shut.as_str()]).add(more);
    }

    /// A token endpoint was asked.
    pub fn asked_for_token(&self, granted: bool) {
        let result = if granted { "granted" } else { "failed" };
        self.token_requests.with_label_values(&[result]).inc();
    }

    /// A message received at `received_at` is being consumed.
    pub fn consumed(&self, partition: i32, received_at: DateTime<Utc>) {
        self.consumed.lock().unwrap_or_else(PoisonError::into_inner).insert(partition, received_at);
    }

    /// How far behind a partition is: by how much the message consumed last is older than now, if any waits behind it.
    /// It grows while the partition stands still.
    fn lag(&self, partition: i32, messages: i64) {
        let label = partition.to_string();
        let consumed = self.consumed.lock().unwrap_or_else(PoisonError::into_inner).get(&partition).copied();
        let behind = consumed.filter(|_| messages > 0).and_then(|at| (clock::now() - at).to_std().ok());
        self.lag_messages.with_label_values(&[&label]).set(messages);
        self.lag_seconds.with_label_values(&[&label]).set(behind.unwrap_or_default().as_secs_f64());
    }

    /// How long the most overdue row of the schedule has been due.
    pub fn oldest_waiting(&self, overdue: Duration) {
        self.oldest_waiting_seconds.set(overdue.as_secs_f64());
    }
}

/// How often gauges are read.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Keeps the gauges of pools and of lag up to date.
pub fn watch(ctx: &Context, metrics: &WorkerMetrics, store: &Store, liveness: Arc<Liveness>) {
    let (metrics, store) = (metrics.clone(), store.clone());
    tokio::spawn(ctx.cut.clone().run_until_cancelled_owned(async move {
        loop {
            let (connections, idle) = store.pool_size();
            metrics.pool_connections.set(i64::from(connections));
            metrics.pool_idle.set(i64::try_from(idle).unwrap_or(i64::MAX));
            // Partitions that went to other workers are theirs to report.
            metrics.lag_messages.reset();
            metrics.lag_seconds.reset();
            for (partition, lag) in liveness.lag() {
                metrics.lag(partition, lag);
            }
            tokio::time::sleep(WATCH_EVERY).await;
        }
    }));
}
