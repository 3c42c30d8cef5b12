//! The settings of ingress: its own, and those of what it stands on.

use std::net::SocketAddr;
use std::time::Duration;

use ravenpost_core::duration;
use ravenpost_core::endpoint::base_url;
use ravenpost_core::signature::Network;
use url::Url;

/// Receives webhooks: verifies them, makes them durable and answers 202.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "ravenpost-ingress", version)]
pub struct Settings {
    /// Where producers are listened to, such as `0.0.0.0:8080`.
    #[arg(long, env = "RAVENPOST_LISTEN_ADDR", value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    pub listen_addr: SocketAddr,
    /// Where ingress is reached from outside, as for the management API: some producers sign the URL that they send to.
    #[arg(long, env = "RAVENPOST_HOOK_BASE_URL", value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = base_url)]
    pub hook_base_url: Url,
    /// Proxies in front of ingress, as addresses and CIDRs separated by commas, such as `10.0.0.0/8`: only they are believed when `X-Forwarded-For` says where a request comes from.
    #[arg(long, env = "RAVENPOST_TRUSTED_PROXIES", value_name = "CIDR,…", value_delimiter = ',')]
    pub trusted_proxies: Vec<Network>,
    /// The largest body in bytes, unless the endpoint says otherwise. Nothing is read past it.
    #[arg(long, env = "RAVENPOST_MAX_BODY_BYTES", value_name = "BYTES", default_value = "1048576", value_parser = clap::value_parser!(u32).range(1..=26_214_400))]
    pub max_body_bytes: u32,
    /// How long a producer may take to send its body.
    #[arg(long, env = "RAVENPOST_BODY_TIMEOUT", value_name = "DURATION", default_value = "20s", value_parser = duration::parse)]
    pub body_timeout: Duration,
    /// The memory in bytes that bodies in flight may take; beyond it requests are refused with 503.
    #[arg(long, env = "RAVENPOST_MEMORY_BUDGET", value_name = "BYTES", default_value = "67108864", value_parser = clap::value_parser!(u32).range(33_554_432..=2_000_000_000))]
    pub memory_budget: u32,
    /// How long Kafka has to acknowledge an event before its producer is told 503.
    #[arg(long, env = "RAVENPOST_KAFKA_TIMEOUT", value_name = "DURATION", default_value = "5s", value_parser = duration::parse)]
    pub kafka_timeout: Duration,
    /// How events are committed together.
    #[command(flatten)]
    pub commit: CommitSettings,
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
    /// The way out, to what providers have us fetch: certificates and confirmations.
    #[command(flatten)]
    pub egress: ravenpost_egress::Settings,
    /// The process.
    #[command(flatten)]
    pub chassis: ravenpost_chassis::Settings,
}

/// How events are committed together.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct CommitSettings {
    /// Batches that are committed at once.
    #[arg(long, env = "RAVENPOST_COMMIT_LANES", value_name = "COUNT", default_value = "2", value_parser = clap::value_parser!(u16).range(1..=16))]
    pub commit_lanes: u16,
    /// Most events in a batch.
    #[arg(long, env = "RAVENPOST_COMMIT_BATCH", value_name = "COUNT", default_value = "512", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub commit_batch: u16,
    /// Most events that wait for a lane; beyond it requests are refused with 503.
    #[arg(long, env = "RAVENPOST_COMMIT_QUEUE", value_name = "COUNT", default_value = "8192", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub commit_queue: u32,
    /// How long a batch waits for company while another one is being committed.
    #[arg(long, env = "RAVENPOST_COMMIT_LINGER", value_name = "DURATION", default_value = "1ms", value_parser = duration::parse)]
    pub commit_linger: Duration,
}

impl ravenpost_chassis::Service for Settings {
    const NAME: &'static str = "ingress";
    const ADMIN_ADDR: &'static str = "127.0.0.1:9090";

    fn chassis(&self) -> &ravenpost_chassis::Settings {
        &self.chassis
    }
}
