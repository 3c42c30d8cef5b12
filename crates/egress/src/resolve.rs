//! Names to addresses that may be connected to.
//!
//! The HTTP client asks this resolver and connects to what it returns, so the address that was vetted is the address
//! that is used: a name that changes its mind between two lookups (DNS rebinding) gains nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::address::{self, Blocked};

/// Looks names up with the system's resolver and passes on only addresses with a good verdict.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    allowed: Arc<[IpNet]>,
}

/// A name without an address that may be connected to.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(crate) enum Refused {
    #[error("no public address: {0}")]
    NotPublic(#[from] Blocked),
    #[error("the name has no address")]
    NoAddress,
}

impl Resolver {
    pub(crate) fn new(allowed: &[IpNet]) -> Self {
        Self { allowed: allowed.into() }
    }

    /// The verdict on an address that the URL spells out: the HTTP client asks no resolver for those.
    pub(crate) fn vet(&self, ip: IpAddr) -> Result<(), Blocked> {
        address::verdict(ip, &self.allowed)
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = Arc::clone(&self.allowed);
        Box::pin(async move {
            // Port 0 is replaced by the URL's.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let passed = passed(found, &allowed)?;
            Ok(Box::new(passed.into_iter()) as Addrs)
        })
    }
}

/// The addresses that passed; the first refusal when none did.
pub(crate) fn passed(
    found: impl Iterator<Item = SocketAddr>,
    allowed: &[IpNet],
) -> Result<Vec<SocketAddr>, Refused> {
    let (mut passed, mut first) = (Vec::new(), None);
    for address in found {
        match address::verdict(address.ip(), allowed) {
            Ok(()) => passed.push(address),
            Err(blocked) => first = first.or(Some(blocked)),
        }
    }
    match (passed.is_empty(), first) {
        (false, _) => Ok(passed),
        (true, Some(blocked)) => Err(blocked.into()),
        (true, None) => Err(Refused::NoAddress),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect()
    }

    #[test]
    fn only_what_passed_is_used() {
        let found = addresses(&["10.0.0.1", "1.1.1.1", "::1", "2606:4700::1"]);
        assert_eq!(passed(found.into_iter(), &[]).unwrap(), addresses(&["1.1.1.1", "2606:4700::1"]));
    }

    #[test]
    fn a_name_with_private_addresses_only_is_refused() {
        let refused = passed(addresses(&["10.0.0.1", "::1"]).into_iter(), &[]).unwrap_err();
        assert!(matches!(refused, Refused::NotPublic(blocked) if blocked.reason == "private"));
        let refused = passed(std::iter::empty(), &[]).unwrap_err();
        assert!(matches!(refused, Refused::NoAddress));
    }
}
