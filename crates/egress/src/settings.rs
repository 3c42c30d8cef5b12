//! What the operator decides about the way out.

use std::time::Duration;

use ipnet::IpNet;

/// Settings of the way out.
#[derive(Debug, Clone, clap::Args)]
// Without a group: it would be named after the struct, as would every other crate's `Settings`.
#[group(skip)]
#[command(next_help_heading = "Egress")]
pub struct Settings {
    /// Networks that may be sent to although they are not public, as CIDRs separated by commas, such as `10.1.0.0/16,fd00::/8`. Whoever can set a destination can reach them.
    #[arg(long, env = "RAVENPOST_EGRESS_ALLOWED_NETWORKS", value_name = "CIDR,…", value_delimiter = ',', value_parser = network)]
    pub egress_allowed_networks: Vec<IpNet>,

    /// How long a connection to a destination (TCP and TLS) may take to come about, within the request's own timeout.
    #[arg(long, env = "RAVENPOST_EGRESS_CONNECT_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = ravenpost_core::duration::parse)]
    pub egress_connect_timeout: Duration,

    /// How many bytes of a response are read and kept; the rest is discarded unread.
    #[arg(long, env = "RAVENPOST_EGRESS_MAX_RESPONSE_BYTES", value_name = "BYTES", default_value_t = 16_384)]
    pub egress_max_response_bytes: usize,
}

fn network(text: &str) -> Result<IpNet, &'static str> {
    text.trim().parse().map_err(|_| "write networks such as 10.1.0.0/16 or fd00::/8")
}
