//! Declares Prometheus metrics: every name gets the prefix `ravenpost_`, and help text is not optional.
//!
//! A service declares all of its metrics in one `metrics.rs` with these functions. Declaring the same name twice, or
//! a malformed one, is a bug that shows at start: they panic with the metric's name.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::procfs::ProcessCollector;

/// Buckets in seconds for what takes from half a millisecond to ten seconds.
pub const LATENCY_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.002, 0.003, 0.005, 0.008, 0.015, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Buckets in seconds for what may wait for retries: from a millisecond to a day.
pub const WAIT_SECONDS: &[f64] = &[
    0.001, 0.003, 0.006, 0.01, 0.015, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 900.0,
    3_600.0, 21_600.0, 86_400.0,
];
/// Buckets for numbers of things taken together: one to 4096, by powers of two.
pub const BATCH_SIZE: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 2_048.0, 4_096.0];
/// Buckets in bytes: 256 B to 16 MiB, by powers of four.
pub const SIZE_BYTES: &[f64] =
    &[256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0];

/// The metrics of a process. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { registry: Registry::new() }
    }
}

impl Metrics {
    /// A registry that also tells about the process itself (`process_…`).
    pub(crate) fn with_process() -> Self {
        let metrics = Self::default();
        metrics.register(ProcessCollector::new());
        metrics
    }

    /// A number that only grows. By custom its name ends in `_total`.
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(name, IntCounter::with_opts(options(name, help)))
    }

    /// Counters by label; the values of every label must be bounded.
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(name, IntCounterVec::new(options(name, help), labels))
    }

    /// A whole number that goes up and down.
    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(name, IntGauge::with_opts(options(name, help)))
    }

    /// Gauges by label; the values of every label must be bounded.
    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(name, IntGaugeVec::new(options(name, help), labels))
    }

    /// A number with a fraction, such as seconds, that goes up and down.
    pub fn float_gauge(&self, name: &str, help: &str) -> Gauge {
        self.add(name, Gauge::with_opts(options(name, help)))
    }

    /// Fractional gauges by label; the values of every label must be bounded.
    pub fn float_gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.add(name, GaugeVec::new(options(name, help), labels))
    }

    /// A distribution over `buckets` (upper bounds, ascending).
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.add(name, Histogram::with_opts(histogram_options(name, help, buckets)))
    }

    /// Distributions by label; the values of every label must be bounded.
    pub fn histograms(&self, name: &str, help: &str, buckets: &[f64], labels: &[&str]) -> HistogramVec {
        self.add(name, HistogramVec::new(histogram_options(name, help, buckets), labels))
    }

    /// Adds a collector that gathers its own numbers when asked.
    pub fn register(&self, collector: impl Collector + 'static) {
        if let Err(error) = self.registry.register(Box::new(collector)) {
            panic!("a metric is declared twice or wrongly: {error}");
        }
    }

    /// Everything in Prometheus' text format, version 0.0.4.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    fn add<C: Collector + Clone + 'static>(&self, name: &str, metric: prometheus::Result<C>) -> C {
        let metric = metric.unwrap_or_else(|error| panic!("metric {name}: {error}"));
        self.register(metric.clone());
        metric
    }
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("ravenpost")
}

fn histogram_options(name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::new(name, help).namespace("ravenpost").buckets(buckets.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_prefixed() {
        let metrics = Metrics::default();
        metrics
            .counters("events_accepted_total", "Events accepted.", &["endpoint_kind"])
            .with_label_values(&["a"])
            .inc();
        insta::assert_snapshot!(metrics.render().unwrap(), @r#"
        # HELP ravenpost_events_accepted_total Events accepted.
        # TYPE ravenpost_events_accepted_total counter
        ravenpost_events_accepted_total{endpoint_kind="a"} 1
        "#);
    }

    #[test]
    #[should_panic(expected = "declared twice")]
    fn a_name_is_declared_once() {
        let metrics = Metrics::default();
        metrics.counter("x_total", "X.");
        metrics.counter("x_total", "X.");
    }

    #[test]
    fn the_process_is_measured() {
        let text = Metrics::with_process().render().unwrap();
        for name in ["process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"] {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            let value: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            assert!(value >= 0.0, "{line}");
        }
    }
}
