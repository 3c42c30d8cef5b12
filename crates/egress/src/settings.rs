//! What the operator decides about the way out.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use ravenpost_core::duration;

use crate::proxy::Proxy;

/// Settings of the way out.
#[derive(Debug, Clone, clap::Args)]
// Without a group: it would be named after the struct, as would every other crate's `Settings`.
#[group(skip)]
#[command(next_help_heading = "Egress")]
pub struct Settings {
    /// Networks that may be sent to although they are not public, as CIDRs separated by commas, such as `10.1.0.0/16,fd00:1::/32`. Whoever can set a destination can reach them. A cloud's metadata service is reached only when its own address is given (`169.254.169.254/32`), not with a network around it.
    #[arg(long, env = "RAVENPOST_EGRESS_ALLOWED_NETWORKS", value_name = "CIDR,…", value_delimiter = ',', value_parser = network)]
    pub egress_allowed_networks: Vec<IpNet>,

    /// Name servers that are asked for the addresses of destinations, instead of those of `/etc/resolv.conf`, separated by commas, such as `10.0.0.2:53`.
    #[arg(long, env = "RAVENPOST_EGRESS_NAME_SERVERS", value_name = "ADDRESS,…", value_delimiter = ',')]
    pub egress_name_servers: Vec<SocketAddr>,

    /// A forward proxy for everything that is sent to destinations, such as `http://user:password@proxy.internal:3128` (or `https://`, with a certificate of an authority that the system trusts). It is asked to `CONNECT` to addresses that were resolved and vetted here. The variables `HTTP_PROXY` and `HTTPS_PROXY` are not looked at.
    #[arg(long, env = "RAVENPOST_EGRESS_PROXY", value_name = "URL", hide_env_values = true, value_parser = Proxy::parse)]
    pub egress_proxy: Option<Proxy>,

    /// How long a connection to a destination (name, TCP and TLS together) may take to come about, within the request's own timeout.
    #[arg(long, env = "RAVENPOST_EGRESS_CONNECT_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub egress_connect_timeout: Duration,

    /// How long a destination may take from the connection to the end of its response's headers, within the request's own timeout, where the destination says nothing else.
    #[arg(long, env = "RAVENPOST_EGRESS_FIRST_BYTE_TIMEOUT", value_name = "DURATION", default_value = "60s", value_parser = duration::parse)]
    pub egress_first_byte_timeout: Duration,

    /// How many bytes of a response's body are read and kept; the rest is discarded unread.
    #[arg(long, env = "RAVENPOST_EGRESS_MAX_RESPONSE_BYTES", value_name = "BYTES", default_value_t = 16_384)]
    pub egress_max_response_bytes: usize,

    /// How many connections to all destinations together are kept open for the next request while they are idle (for 30 seconds at most).
    #[arg(long, env = "RAVENPOST_EGRESS_IDLE_CONNECTIONS", value_name = "COUNT", default_value_t = 512)]
    pub egress_idle_connections: usize,
}

impl Default for Settings {
    /// What applies when nothing is set.
    fn default() -> Self {
        Self {
            egress_allowed_networks: Vec::new(),
            egress_name_servers: Vec::new(),
            egress_proxy: None,
            egress_connect_timeout: Duration::from_secs(10),
            egress_first_byte_timeout: Duration::from_secs(60),
            egress_max_response_bytes: 16_384,
            egress_idle_connections: 512,
        }
    }
}

fn network(text: &str) -> Result<IpNet, &'static str> {
    text.trim().parse().map_err(|_| "write networks such as 10.1.0.0/16 or fd00::/8")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        egress: Settings,
    }

    #[test]
    fn the_defaults_are_told_once() {
        let parsed = Program::parse_from(["program"]).egress;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", Settings::default()));
    }
}
