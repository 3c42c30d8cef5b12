//! The settings of ingress: its own, and those of what it stands on.

use std::net::SocketAddr;
use std::time::Duration;

use ravenpost_core::duration;
use ravenpost_core::endpoint::base_url;
use ravenpost_core::limit::RateLimit;
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
    /// Connections of producers at once; who comes beyond them is answered 503. Each needs a file descriptor.
    #[arg(long, env = "RAVENPOST_MAX_CONNECTIONS", value_name = "COUNT", default_value = "8192", value_parser = connections)]
    pub max_connections: usize,
    /// How much is accepted.
    #[command(flatten)]
    pub limits: LimitSettings,
    /// How events are committed together.
    #[command(flatten)]
    pub commit: CommitSettings,
    /// What happens while Kafka is away, or a process dies.
    #[command(flatten)]
    pub outbox: OutboxSettings,
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

/// How much is accepted where neither the endpoint nor its organization says so.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
#[group(skip)]
pub struct LimitSettings {
    /// Most events that an endpoint accepts a second, and at once after a pause, as in `500:2000`, over all replicas;
    /// what exceeds them is answered 429. Unlimited unless given. An endpoint's own limit goes before.
    #[arg(long, env = "RAVENPOST_ENDPOINT_RATE_LIMIT", value_name = "PER_SECOND:BURST", value_parser = rate_limit)]
    pub endpoint_rate_limit: Option<RateLimit>,
    /// The same for all endpoints of an organization together. An organization's own limit goes before.
    #[arg(long, env = "RAVENPOST_ORGANIZATION_RATE_LIMIT", value_name = "PER_SECOND:BURST", value_parser = rate_limit)]
    pub organization_rate_limit: Option<RateLimit>,
}

fn rate_limit(text: &str) -> Result<RateLimit, String> {
    let numbers =
        text.split_once(':').and_then(|(rate, burst)| Some((rate.parse().ok()?, burst.parse().ok()?)));
    let (per_second, burst) = numbers.ok_or("expected events a second and at once, such as 500:2000")?;
    let limit = RateLimit { per_second, burst };
    limit.check().map_err(|error| error.to_string())?;
    Ok(limit)
}

fn connections(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=1_000_000).contains(count));
    count.ok_or_else(|| "expected a number from 1 to 1000000".to_owned())
}

/// How events are committed together.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct CommitSettings {
    /// Batches that are committed at once.
    #[arg(long, env = "RAVENPOST_COMMIT_LANES", value_name = "COUNT", default_value = "2", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub commit_lanes: u16,
    /// Most events in a batch.
    #[arg(long, env = "RAVENPOST_COMMIT_BATCH", value_name = "COUNT", default_value = "512", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub commit_batch: u16,
    /// Most events that wait for a lane; beyond it requests are refused with 503.
    #[arg(long, env = "RAVENPOST_COMMIT_QUEUE", value_name = "COUNT", default_value = "8192", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub commit_queue: u32,
    /// How long a batch waits for company while another one is being committed, if that takes so long. One with an event
    /// of an endpoint whose last batch began twice as long ago goes at once while the other is small.
    #[arg(long, env = "RAVENPOST_COMMIT_LINGER", value_name = "DURATION", default_value = "5ms", value_parser = duration::parse)]
    pub commit_linger: Duration,
    /// How a producer's retry is recognised.
    #[command(flatten)]
    pub deduplication: ravenpost_store::DeduplicationSettings,
}

/// What happens while Kafka is away, or a process dies: committed rows are the outbox.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct OutboxSettings {
    /// How long a producer waits for Kafka before its event's row is promise enough and it is answered 202.
    #[arg(long, env = "RAVENPOST_KAFKA_WAIT", value_name = "DURATION", default_value = "500ms", value_parser = duration::parse)]
    pub kafka_wait: Duration,
    /// How long Kafka has to acknowledge a message before it is published anew from Postgres, `1s` to `1m`.
    #[arg(long, env = "RAVENPOST_KAFKA_TIMEOUT", value_name = "DURATION", default_value = "5s", value_parser = kafka_timeout)]
    pub kafka_timeout: Duration,
    /// Most events that may wait for Kafka; beyond it requests are refused with 503.
    #[arg(long, env = "RAVENPOST_OUTBOX_EVENTS", value_name = "COUNT", default_value = "1000000", value_parser = clap::value_parser!(u64).range(1..))]
    pub outbox_events: u64,
    /// How long an event may wait for Kafka; beyond it requests are refused with 503.
    #[arg(long, env = "RAVENPOST_OUTBOX_AGE", value_name = "DURATION", default_value = "1h", value_parser = duration::parse)]
    pub outbox_age: Duration,
    /// When a process whose heartbeat stands still counts as dead, so that a peer publishes what it left; at least 5 s
    /// more than RAVENPOST_KAFKA_TIMEOUT, since until then its messages may still arrive.
    #[arg(long, env = "RAVENPOST_ADOPT_AFTER", value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub adopt_after: Duration,
}

/// Settings that don't go together.
#[derive(Debug, thiserror::Error)]
#[error(
    "RAVENPOST_ADOPT_AFTER is {}: it must be at least {} more than RAVENPOST_KAFKA_TIMEOUT, which is {}",
    duration::format(*adopt_after), duration::format(ADOPTION_MARGIN), duration::format(*kafka_timeout)
)]
pub struct AdoptsTooEarly {
    adopt_after: Duration,
    kafka_timeout: Duration,
}

/// How much later than its last message can arrive a process may be taken for dead.
const ADOPTION_MARGIN: Duration = Duration::from_secs(5);

impl OutboxSettings {
    /// Checks what no single setting shows.
    pub fn check(&self) -> Result<(), AdoptsTooEarly> {
        let Self { adopt_after, kafka_timeout, .. } = *self;
        if adopt_after < kafka_timeout + ADOPTION_MARGIN {
            return Err(AdoptsTooEarly { adopt_after, kafka_timeout });
        }
        Ok(())
    }
}

fn kafka_timeout(text: &str) -> Result<Duration, String> {
    let bounds = Duration::from_secs(1)..=Duration::from_mins(1);
    let timeout = duration::parse(text).map_err(|error| error.to_string())?;
    if bounds.contains(&timeout) { Ok(timeout) } else { Err("from 1s to 1m".to_owned()) }
}

impl ravenpost_chassis::Service for Settings {
    const NAME: &'static str = "ingress";
    const ADMIN_ADDR: &'static str = "127.0.0.1:9090";

    fn chassis(&self) -> &ravenpost_chassis::Settings {
        &self.chassis
    }
}
