//! What a server counts of its connections.

use prometheus::{IntCounterVec, IntGauge, Opts};

use crate::metrics::Metrics;

const REFUSED: &str = "http_refused_total";
const REFUSED_HELP: &str = "Connections and requests refused before any handler, by reason: connections, headers, slow_head, unreadable";
const REASON: &[&str] = &["reason"];

/// Connections and what is refused before a handler sees it.
#[derive(Clone)]
pub(crate) struct HttpMetrics {
    connections: IntGauge,
    refused: IntCounterVec,
}

impl HttpMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            connections: metrics.gauge("http_connections", "Open connections of clients"),
            refused: metrics.counters(REFUSED, REFUSED_HELP, REASON),
        }
    }

    /// Counts for nobody: for the admin port, whose own traffic is of no interest.
    pub(crate) fn unseen() -> Self {
        let refused = IntCounterVec::new(Opts::new(REFUSED, REFUSED_HELP), REASON);
        Self {
            connections: IntGauge::new("http_connections", "unseen").expect("the name is valid"),
            refused: refused.expect("the name is valid"),
        }
    }

    pub(super) fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    /// A connection ended before its time; counted when it did not speak HTTP.
    pub(super) fn broken(&self, error: &hyper::Error) {
        if error.is_parse() || error.is_parse_too_large() {
            self.refused("unreadable");
        }
    }

    /// Counts a connection until it is dropped.
    pub(super) fn open(&self) -> Open {
        self.connections.inc();
        Open(self.connections.clone())
    }
}

/// An open connection.
pub(super) struct Open(IntGauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
