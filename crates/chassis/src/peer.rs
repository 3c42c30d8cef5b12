//! From where a request comes, behind the proxies that are trusted to say so.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ravenpost_core::signature::Network;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The sender's address: that of the connection, unless a trusted proxy opened it; then the rightmost address of
/// `X-Forwarded-For` that is no trusted proxy's. What stands left of it the sender may have made up. `None` when a
/// trusted proxy says nothing that reads.
pub fn peer(connection: SocketAddr, headers: &HeaderMap, trusted: &[Network]) -> Option<IpAddr> {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut peer = connection.ip().to_canonical();
    if !is_trusted(peer) {
        return Some(peer);
    }
    for line in headers.get_all(FORWARDED_FOR).iter().rev() {
        for entry in line.to_str().ok()?.rsplit(',') {
            peer = address(entry.trim())?;
            if !is_trusted(peer) {
                return Some(peer);
            }
        }
    }
    // A proxy alone, or a chain of them: it was one of them that sent.
    Some(peer)
}

/// An address, or one with a port, as some proxies write it.
fn address(text: &str) -> Option<IpAddr> {
    let address = text.parse().or_else(|_| text.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(connection: &str, forwarded: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        peer(format!("{connection}:1").parse().unwrap(), &headers, &trusted).map(|peer| peer.to_string())
    }

    #[test]
    fn what_an_untrusted_sender_says_does_not_count() {
        assert_eq!(of("192.0.2.1", &["10.0.0.1"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(of("192.0.2.1", &[]).as_deref(), Some("192.0.2.1"));
    }

    #[test]
    fn behind_proxies_the_rightmost_address_that_is_not_theirs_counts() {
        assert_eq!(of("10.0.0.1", &["198.51.100.9, 192.0.2.1"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(of("10.0.0.1", &["198.51.100.9", "192.0.2.1, 10.2.3.4"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(of("[2001:db8::1]", &["[2001:db9::7]:443"]).as_deref(), Some("2001:db9::7"));
        assert_eq!(of("10.0.0.1", &["192.0.2.1:51234"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(of("[::ffff:10.0.0.1]", &["::ffff:192.0.2.1"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(of("10.0.0.1", &[]).as_deref(), Some("10.0.0.1"));
        assert_eq!(of("10.0.0.1", &["192.0.2.1, unknown"]), None);
    }
}
