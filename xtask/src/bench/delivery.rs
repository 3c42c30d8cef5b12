//! What the benches of delivery share: a running ingress and worker with a receiver inside this process, so that
//! one clock tells when a webhook was sent and when it arrived, and a table of what was found.

pub(crate) mod arrivals;
pub(crate) mod report;
pub(crate) mod subject;

use std::time::{Duration, Instant};

use anyhow::Result;
use ravenpost_testkit::load::Pace;

use super::{ingest::cases, machine};

/// Before anything is measured: Kafka's machine code is as good as it gets only after some ten thousand messages.
pub(crate) const WARM_UP: Duration = Duration::from_secs(10);
pub(crate) const WARM_UP_CONNECTIONS: usize = 16;
/// Between two runs: what the last one left to the stores is done meanwhile.
pub(crate) const PAUSE: Duration = Duration::from_millis(500);

/// What every bench of delivery is told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Common {
    /// How often each case is run
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) runs: u32,
    /// The size of all bodies in bytes
    #[arg(long, default_value = "1024")]
    pub(crate) body: usize,
    /// Variables of the services' environment, such as their settings
    #[arg(long, value_name = "NAME=VALUE;…", value_parser = cases::environment, default_value = "")]
    pub(crate) set: cases::Environment,
    /// A run waits until everything on the machine takes no more than so many cores
    #[arg(long, value_name = "CORES")]
    pub(crate) quiet: Option<f64>,
    /// How many seconds a run may wait for such a moment
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    pub(crate) patience: u64,
}

impl Common {
    /// Waits for a quiet moment, if one was asked for, and for what the run before has left to be written.
    pub(crate) async fn pause(&self) -> Result<()> {
        tokio::time::sleep(PAUSE).await;
        machine::write_out().await?;
        let Some(most) = self.quiet else { return Ok(()) };
        machine::wait_for_quiet(most, Instant::now() + Duration::from_secs(self.patience)).await
    }
}

/// How requests are sent in a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) connections: usize,
    pub(crate) pace: Pace,
    pub(crate) duration: Duration,
}

impl Manner {
    /// At a fixed rate.
    pub(crate) fn open(open: cases::OpenLoop, duration: Duration) -> Self {
        Self { connections: open.connections, pace: open.pace(), duration }
    }

    /// As fast as it goes on so many connections.
    pub(crate) fn closed(connections: usize, duration: Duration) -> Self {
        Self { connections, pace: Pace::Closed, duration }
    }
}
