//! The settings of the worker: its own, and those of what it stands on.

use std::time::Duration;

use ravenpost_core::limit::RateLimit;
use ravenpost_core::{duration, pacing};

/// Delivers webhooks: signs each event and POSTs it to its destinations until each has accepted it or is given up.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "ravenpost-delivery-worker", version)]
pub struct Settings {
    /// How long Kafka has to acknowledge the report of an attempt before it is produced again.
    #[arg(long, env = "RAVENPOST_KAFKA_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub kafka_timeout: Duration,
    /// How fast destinations are sent to.
    #[command(flatten)]
    pub pacing: PacingSettings,
    /// What all destinations share.
    #[command(flatten)]
    pub budget: BudgetSettings,
    /// The way out.
    #[command(flatten)]
    pub egress: ravenpost_egress::Settings,
    /// Postgres.
    #[command(flatten)]
    pub store: ravenpost_store::Settings,
    /// Sealed secrets.
    #[command(flatten)]
    pub master_key: ravenpost_store::MasterKeySettings,
    /// The payload store.
    #[command(flatten)]
    pub payloads: ravenpost_store::payloads::Settings,
    /// Kafka.
    #[command(flatten)]
    pub bus: ravenpost_bus::Settings,
    /// The process.
    #[command(flatten)]
    pub chassis: ravenpost_chassis::Settings,
}

/// What all destinations share. One organization gets half of the memory and a quarter of the requests at most.
#[derive(Debug, Clone, Copy, clap::Args)]
#[group(skip)]
pub struct BudgetSettings {
    /// Memory for events that wait for their destinations, and as much again for payloads that are fetched; what finds no
    /// room waits in Postgres.
    #[arg(long, env = "RAVENPOST_DELIVERY_MEMORY", value_name = "BYTES", default_value = "67108864", value_parser = clap::value_parser!(u32).range(1_048_576..=2_000_000_000))]
    pub delivery_memory: u32,
    /// Most requests to all destinations at once.
    #[arg(long, env = "RAVENPOST_DELIVERY_REQUESTS", value_name = "COUNT", default_value = "2048", value_parser = clap::value_parser!(u16).range(4..=32768))]
    pub delivery_requests: u16,
}

/// How fast destinations are sent to, unless they have settings of their own, and when one is given a rest.
#[derive(Debug, Clone, Copy, clap::Args)]
#[group(skip)]
pub struct PacingSettings {
    /// Most requests to one destination at once, unless it has a limit of its own.
    #[arg(long, env = "RAVENPOST_LANE_CONCURRENCY", value_name = "COUNT", default_value = "16", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub lane_concurrency: u16,
    /// Most events that wait in memory for one destination; beyond it they are parked in Postgres.
    #[arg(long, env = "RAVENPOST_LANE_QUEUE", value_name = "COUNT", default_value = "2048", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub lane_queue: u16,
    /// Most requests to one destination a second, and at once after a pause, as in `50:100`; what exceeds them waits.
    /// Unlimited unless given. A destination's own limit goes before.
    #[arg(long, env = "RAVENPOST_DESTINATION_RATE_LIMIT", value_name = "PER_SECOND:BURST", value_parser = rate_limit)]
    pub destination_rate_limit: Option<RateLimit>,
    /// So many failures of a destination in a row (5xx, no answer) open its breaker: it is sent nothing for a while.
    #[arg(long, env = "RAVENPOST_BREAKER_FAILURES", value_name = "COUNT", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub breaker_failures: u32,
    /// How long a breaker is open before one request tries whether the destination works again. It doubles each time
    /// that it does not.
    #[arg(long, env = "RAVENPOST_BREAKER_WAIT", value_name = "DURATION", default_value = "5s", value_parser = duration::parse)]
    pub breaker_wait: Duration,
    /// How long a breaker is open at most before the next request tries.
    #[arg(long, env = "RAVENPOST_BREAKER_LONGEST_WAIT", value_name = "DURATION", default_value = "5m", value_parser = duration::parse)]
    pub breaker_longest_wait: Duration,
    /// A destination that has failed for so long, and nothing else, is disabled, unless it has a time of its own; its
    /// owner is warned at half the time. `never`, or from 1s to 90d.
    #[arg(long, env = "RAVENPOST_DISABLE_AFTER", value_name = "DURATION|never", default_value = "5d", value_parser = disable_after)]
    pub disable_after: DisableAfter,
}

/// After how long of failures only a destination is disabled; `None` never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DisableAfter(pub Option<Duration>);

fn disable_after(text: &str) -> Result<DisableAfter, String> {
    pacing::disable_after(text).map(DisableAfter)
}

fn rate_limit(text: &str) -> Result<RateLimit, String> {
    let numbers =
        text.split_once(':').and_then(|(rate, burst)| Some((rate.parse().ok()?, burst.parse().ok()?)));
    let (per_second, burst) = numbers.ok_or("expected requests a second and at once, such as 50:100")?;
    let limit = RateLimit { per_second, burst };
    limit.check().map_err(|error| error.to_string())?;
    Ok(limit)
}

impl ravenpost_chassis::Service for Settings {
    const NAME: &'static str = "delivery-worker";
    const ADMIN_ADDR: &'static str = "127.0.0.1:9091";

    fn chassis(&self) -> &ravenpost_chassis::Settings {
        &self.chassis
    }
}
