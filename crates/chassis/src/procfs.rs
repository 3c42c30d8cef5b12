//! The process's own numbers, read from Linux' `/proc` when metrics are gathered; absent on other systems.

use std::fs;
use std::sync::{Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};

/// `utime` and `stime` are in `USER_HZ`, which is 100 in Linux' interface to user space, whatever the kernel's own.
const TICKS_PER_SECOND: f64 = 100.0;

/// Names follow Prometheus' convention for all client libraries.
pub(crate) struct ProcessCollector {
    /// Two scrapes at once must not add the same seconds twice.
    refreshing: Mutex<()>,
    cpu_seconds: Counter,
    resident_bytes: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    threads: Gauge,
    start_seconds: Gauge,
}

impl ProcessCollector {
    pub(crate) fn new() -> Self {
        let start_seconds =
            gauge("process_start_time_seconds", "When the process started, in seconds of Unix time.");
        #[expect(clippy::cast_precision_loss, reason = "seconds of Unix time fit")]
        start_seconds.set(crate::clock::now().timestamp() as f64);
        Self {
            refreshing: Mutex::new(()),
            cpu_seconds: Counter::new("process_cpu_seconds_total", "User and system CPU time, in seconds.")
                .expect("the name is valid"),
            resident_bytes: gauge("process_resident_memory_bytes", "Resident memory, in bytes."),
            open_fds: gauge("process_open_fds", "Open file descriptors."),
            max_fds: gauge("process_max_fds", "The soft limit of open file descriptors."),
            threads: gauge("process_threads", "Threads."),
            start_seconds,
        }
    }

    fn refresh(&self) {
        let _guard = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(total) = cpu_seconds() {
            // A counter can only be added to.
            self.cpu_seconds.inc_by((total - self.cpu_seconds.get()).max(0.0));
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        set(&self.resident_bytes, field(&status, "VmRSS:").map(|kibibytes| kibibytes * 1024.0));
        set(&self.threads, field(&status, "Threads:"));
        set(&self.max_fds, max_fds());
        #[expect(clippy::cast_precision_loss, reason = "no process has 2^52 descriptors")]
        set(&self.open_fds, fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64));
    }

    fn gauges(&self) -> [&Gauge; 5] {
        [&self.resident_bytes, &self.open_fds, &self.max_fds, &self.threads, &self.start_seconds]
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = self.gauges().into_iter().flat_map(Collector::desc);
        self.cpu_seconds.desc().into_iter().chain(gauges).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.refresh();
        let gauges = self.gauges().into_iter().flat_map(Collector::collect);
        self.cpu_seconds.collect().into_iter().chain(gauges).collect()
    }
}

fn gauge(name: &str, help: &str) -> Gauge {
    Gauge::new(name, help).expect("the name is valid")
}

fn set(gauge: &Gauge, value: Option<f64>) {
    if let Some(value) = value {
        gauge.set(value);
    }
}

/// The first number after a key at the start of a line.
fn field(text: &str, key: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The soft limit of open file descriptors.
pub(crate) fn max_fds() -> Option<f64> {
    field(&fs::read_to_string("/proc/self/limits").ok()?, "Max open files")
}

/// Fields 14 and 15 of `/proc/self/stat` (proc(5)); the second, in parentheses, may hold spaces.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / TICKS_PER_SECOND)
}
