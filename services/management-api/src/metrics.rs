//! What the management API counts.

use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts};
use ravenpost_chassis::metrics::LATENCY_SECONDS;
use ravenpost_store::Store;
use tracing::Instrument;

use crate::auth::Refusal;

/// All metrics of the service. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    requests: IntCounterVec,
    latency: HistogramVec,
    /// Access tokens that people came with, by what was made of them.
    access_tokens: IntCounterVec,
    /// How often the issuer of logins was asked for its keys, by whether it told them.
    issuer_fetches: IntCounterVec,
    /// Rejected requests that were removed: too old, beyond a cap, or deleted.
    pub rejected_removed: IntCounter,
    /// What nobody needed any more and was removed, by kind.
    pub leftovers_removed: IntCounterVec,
    /// How often removing it failed, by kind.
    pub leftover_failures: IntCounterVec,
    /// Days of events that were dropped.
    pub days_dropped: IntCounter,
    /// Payloads that were removed, since their events are gone.
    pub payloads_removed: IntCounter,
    /// How often one or the other failed.
    pub retention_failures: IntCounter,
    oldest_events_seconds: IntGauge,
    /// What steps of bulk replays came to: deliveries scheduled, skipped, withdrawn.
    pub replayed: IntCounterVec,
    /// Steps of bulk replays that failed.
    pub replay_failures: IntCounter,
    /// Bulk replays that a recovery has made.
    pub automatic_replays: IntCounter,
}

impl Metrics {
    /// Declares them.
    pub fn declare(metrics: &ravenpost_chassis::metrics::Metrics, store: Store) -> Self {
        metrics.register(PoolCollector::new(store));
        Self {
            requests: metrics.counters(
                "api_requests_total",
                "Requests to the management API.",
                &["route", "method", "status"],
            ),
            latency: metrics.histograms(
                "api_request_seconds",
                "From a request's head to the head of its answer.",
                LATENCY_SECONDS,
                &["route", "method"],
            ),
            access_tokens: metrics.counters(
                "access_tokens_total",
                "Access tokens that were looked at: accepted, or why they were refused.",
                &["result"],
            ),
            issuer_fetches: metrics.counters(
                "issuer_key_fetches_total",
                "Fetches of the keys that the issuer of logins signs with: ok or failed.",
                &["result"],
            ),
            rejected_removed: metrics.counter(
                "rejected_requests_removed_total",
                "Rejected requests that were removed: too old, beyond their endpoint's caps, or deleted.",
            ),
            leftovers_removed: metrics.counters(
                "leftovers_removed_total",
                "Rows that nobody needed any more and that were removed or emptied: of what was deleted, has expired, or \
                 ended long ago.",
                &["kind"],
            ),
            leftover_failures: metrics.counters(
                "leftover_failures_total",
                "Steps of removing leftovers that failed; they are made again.",
                &["kind"],
            ),
            days_dropped: metrics.counter(
                "event_days_dropped_total",
                "Days of events that were dropped, since they were kept for as long as they are to be.",
            ),
            payloads_removed: metrics.counter(
                "payloads_removed_total",
                "Objects that were removed from the payload store, since the events in them are gone.",
            ),
            retention_failures: metrics.counter(
                "retention_failures_total",
                "Failures to drop days of events or to remove their payloads; it is tried again.",
            ),
            oldest_events_seconds: metrics.gauge(
                "oldest_events_seconds",
                "How long ago the oldest day of events that is kept began; much more than RAVENPOST_EVENT_RETENTION means \
                 that something still waits for its events, or that it can't be dropped.",
            ),
            replayed: metrics.counters(
                "replay_deliveries_total",
                "Deliveries that bulk replays have scheduled, skipped (they had changed meanwhile) or withdrawn.",
                &["step"],
            ),
            replay_failures: metrics.counter("replay_failures_total", "Steps of bulk replays that failed."),
            automatic_replays: metrics
                .counter("automatic_replays_total", "Bulk replays made since a destination has recovered."),
        }
    }

    pub(crate) fn oldest_events(&self, age: Duration) {
        self.oldest_events_seconds.set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    }

    pub(crate) fn token_checked(&self, refused: Option<&Refusal>) {
        let result = refused.map_or("accepted", |refusal| refusal.as_str());
        self.access_tokens.with_label_values(&[result]).inc();
    }

    pub(crate) fn issuer_asked(&self, told: bool) {
        self.issuer_fetches.with_label_values(&[if told { "ok" } else { "failed" }]).inc();
    }

    fn observe(&self, route: &str, method: &str, status: &str, took: Duration) {
        self.requests.with_label_values(&[route, method, status]).inc();
        self.latency.with_label_values(&[route, method]).observe(took.as_secs_f64());
    }
}

/// Counts a request and gives it a span.
pub async fn measure(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    // The route, not the path: label values must be bounded.
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = label(request.method());
    let span = tracing::info_span!("request", method, route);
    let response = next.run(request).instrument(span).await;
    metrics.observe(&route, method, response.status().as_str(), started.elapsed());
    response
}

fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Asks the pool when it is scraped.
struct PoolCollector {
    store: Store,
    open: Gauge,
    idle: Gauge,
}

impl PoolCollector {
    fn new(store: Store) -> Self {
        let gauge = |name, help| {
            Gauge::with_opts(Opts::new(name, help).namespace("ravenpost")).expect("the name is well-formed")
        };
        Self {
            store,
            open: gauge("postgres_connections", "Open connections to Postgres."),
            idle: gauge("postgres_connections_idle", "Open connections to Postgres that nobody uses."),
        }
    }
}

impl Collector for PoolCollector {
    fn desc(&self) -> Vec<&Desc> {
        [self.open.desc(), self.idle.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let (open, idle) = self.store.pool_size();
        self.open.set(f64::from(open));
        self.idle.set(f64::from(u32::try_from(idle).unwrap_or(u32::MAX)));
        [self.open.collect(), self.idle.collect()].concat()
    }
}
