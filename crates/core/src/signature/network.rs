//! Addresses that may send.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Rejection;

/// A network, such as `192.0.2.0/24` or `2001:db8::/32`; an address alone is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "192.0.2.0/24")]
pub struct Network(IpNet);

/// A text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a network: write an address or a CIDR, such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32"
)]
pub struct InvalidNetwork(String);

impl Network {
    /// Whether an address is in it. An IPv4 address that is written as IPv6 (`::ffff:192.0.2.7`) is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let text = text.trim();
        let address = || text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
        let network = text.parse::<IpNet>().or_else(|_| address());
        network
            .map(|network| Self(network.trunc()))
            .map_err(|_| InvalidNetwork(text.chars().take(60).collect()))
    }
}

impl TryFrom<String> for Network {
    type Error = InvalidNetwork;

    fn try_from(text: String) -> Result<Self, InvalidNetwork> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.0.to_string()
    }
}

/// Checks that a request comes from one of `networks`.
pub(super) fn verify(networks: &[Network], peer: Option<IpAddr>) -> Result<(), Rejection> {
    let allowed = peer.is_some_and(|peer| networks.iter().any(|network| network.contains(peer)));
    if allowed { Ok(()) } else { Err(Rejection::AddressNotAllowed(peer)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_addresses() {
        let network = |text: &str| text.parse::<Network>().unwrap();
        let contains = |text: &str, address: &str| network(text).contains(address.parse().unwrap());
        assert!(contains("192.0.2.0/24", "192.0.2.9"));
        assert!(contains("192.0.2.9", "::ffff:192.0.2.9"));
        assert!(contains("2001:db8::/32", "2001:db8::1"));
        assert!(!contains("192.0.2.0/24", "192.0.3.9"));
        assert!(!contains("192.0.2.9", "192.0.2.8"));
        assert_eq!(String::from(network("192.0.2.77/24")), "192.0.2.0/24");
        for bad in ["", "192.0.2.0/33", "example.com", "192.0.2"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
        assert_eq!(verify(&[], None), Err(Rejection::AddressNotAllowed(None)));
    }
}
