//! The settings of the worker: its own, and those of what it stands on.

use std::time::Duration;

use ravenpost_core::duration;

/// Delivers webhooks: signs each event and POSTs it to its destinations until each has accepted it or is given up.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "ravenpost-delivery-worker", version)]
pub struct Settings {
    /// How long Kafka has to acknowledge the report of an attempt before it is produced again.
    #[arg(long, env = "RAVENPOST_KAFKA_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub kafka_timeout: Duration,
    /// The bounds of a destination's lane.
    #[command(flatten)]
    pub lanes: LaneSettings,
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

/// The bounds of a destination's lane.
#[derive(Debug, Clone, Copy, clap::Args)]
#[group(skip)]
pub struct LaneSettings {
    /// Most requests to one destination at once.
    #[arg(long, env = "RAVENPOST_LANE_CONCURRENCY", value_name = "COUNT", default_value = "16", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub lane_concurrency: u16,
    /// Most events that wait in memory for one destination; beyond it they are parked in Postgres.
    #[arg(long, env = "RAVENPOST_LANE_QUEUE", value_name = "COUNT", default_value = "64", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub lane_queue: u16,
}

impl ravenpost_chassis::Service for Settings {
    const NAME: &'static str = "delivery-worker";
    const ADMIN_ADDR: &'static str = "127.0.0.1:9091";

    fn chassis(&self) -> &ravenpost_chassis::Settings {
        &self.chassis
    }
}
