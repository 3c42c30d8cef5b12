//! What the notifier counts.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use ravenpost_bus::consumer::Liveness;
use ravenpost_chassis::Context;
use ravenpost_chassis::metrics::Metrics;
use ravenpost_store::Store;

/// The metrics of the notifier.
#[derive(Clone)]
pub struct NotifierMetrics {
    /// Outcomes read.
    pub observed: IntCounter,
    /// Messages that were none of ours.
    pub undecodable: IntCounter,
    /// Alerts by what happened to them: `opened`, `resolved`.
    pub alerts: IntCounterVec,
    /// Messages by channel and result: `sent`, `failed`.
    pub notifications: IntCounterVec,
    /// Channels that were disabled, since they take no messages.
    pub channels_disabled: IntCounter,
    /// Invitations by what became of their mail: `sent`, `failed` (it is tried again), `given_up`.
    pub invitations: IntCounterVec,
    lag_messages: IntGaugeVec,
    pool_connections: IntGauge,
    pool_idle: IntGauge,
}

impl NotifierMetrics {
    /// Declares them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            observed: metrics.counter("notifier_observed_total", "Outcomes of attempts read"),
            undecodable: metrics.counter(
                "notifier_undecodable_messages_total",
                "Messages on the deliveries topic that are no reports; they are skipped",
            ),
            alerts: metrics.counters("notifier_alerts_total", "Alerts opened and resolved", &["change"]),
            notifications: metrics.counters(
                "notifier_notifications_total",
                "Messages to people, by channel and result",
                &["channel", "result"],
            ),
            channels_disabled: metrics.counter(
                "notifier_channels_disabled_total",
                "Channels that were disabled after they had refused messages again and again",
            ),
            invitations: metrics.counters(
                "notifier_invitations_total",
                "Mails of invitations, by result",
                &["result"],
            ),
            lag_messages: metrics.gauges(
                "notifier_lag_messages",
                "Reports not yet read, by partition",
                &["partition"],
            ),
            pool_connections: metrics.gauge("postgres_connections", "Open connections to Postgres"),
            pool_idle: metrics.gauge("postgres_idle_connections", "Connections to Postgres that nobody uses"),
        }
    }
}

/// How often gauges are read.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Keeps the gauges of the pool and of lag up to date.
pub fn watch(ctx: &Context, metrics: &NotifierMetrics, store: &Store, liveness: Arc<Liveness>) {
    let (metrics, store) = (metrics.clone(), store.clone());
    tokio::spawn(ctx.cut.clone().run_until_cancelled_owned(async move {
        loop {
            let (connections, idle) = store.pool_size();
            metrics.pool_connections.set(i64::from(connections));
            metrics.pool_idle.set(i64::try_from(idle).unwrap_or(i64::MAX));
            metrics.lag_messages.reset();
            for (partition, lag) in liveness.lag() {
                metrics.lag_messages.with_label_values(&[&partition.to_string()]).set(lag);
            }
            tokio::time::sleep(WATCH_EVERY).await;
        }
    }));
}
