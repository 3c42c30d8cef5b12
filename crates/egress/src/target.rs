//! Where a URL leads, as far as can be told without a name lookup. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use ravenpost_core::delivery::{Failure, FailureKind};
use url::{Host, Position, Url};

use crate::address::{self, Blocked};
use crate::classify::{blocked, failure};

/// Longer URLs are taken by few servers, and much longer ones fit in no request.
const URL_BYTES: usize = 16 * 1024;

/// What is connected to for a URL, and how it is named in the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// TLS or not.
    pub https: bool,
    /// Whose addresses to look up, or the address itself. A name has no dot at its end.
    pub host: Host,
    /// The TCP port.
    pub port: u16,
    /// Host and port as a request names them (RFC 9110, section 7.2).
    pub authority: String,
    /// What is asked for there: path and query.
    pub path: String,
}

impl Target {
    /// Checks that a URL is fit to be sent to: http or https, no user or password, and if it names an address, one that
    /// may be connected to. `allowed` is what the operator has allowed beside public addresses.
    pub fn of(url: &Url, allowed: &[IpNet]) -> Result<Self, Failure> {
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(invalid("the URL is neither http nor https")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("the URL carries a user or password"));
        }
        if url.as_str().len() > URL_BYTES {
            return Err(invalid("the URL is too long"));
        }
        let host = host(url, allowed)?;
        Ok(Self {
            https,
            host,
            port: url.port_or_known_default().ok_or_else(|| invalid("the URL has no port"))?,
            authority: url[Position::BeforeHost..Position::AfterPort].to_owned(),
            path: url[Position::BeforePath..Position::AfterQuery].to_owned(),
        })
    }
}

fn host(url: &Url, allowed: &[IpNet]) -> Result<Host, Failure> {
    let vetted = |ip: IpAddr| address::verdict(ip, allowed).map_err(|refused| blocked(&refused));
    match url.host() {
        Some(Host::Ipv4(ip)) => vetted(ip.into()).map(|()| Host::Ipv4(ip)),
        Some(Host::Ipv6(ip)) => vetted(ip.into()).map(|()| Host::Ipv6(ip)),
        Some(Host::Domain(name)) => named(name, allowed),
        None => Err(invalid("the URL has no host")),
    }
}

/// Names that are known without asking: they mean this machine, or a metadata service.
fn named(name: &str, allowed: &[IpNet]) -> Result<Host, Failure> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() || name.ends_with('.') {
        return Err(invalid("the URL's host is no name"));
    }
    if name.parse::<IpAddr>().is_ok() {
        // The URL's parser reads every spelling of an address as one; a name that still looks so is a trick.
        return Err(invalid("the URL's host is neither a name nor an address"));
    }
    let this_machine = [std::net::Ipv4Addr::LOCALHOST.into(), std::net::Ipv6Addr::LOCALHOST.into()];
    let refused = |ip: IpAddr| address::verdict(ip, allowed).err();
    if address::is_localhost(name) && this_machine.into_iter().all(|ip| refused(ip).is_some()) {
        return Err(blocked(&Blocked { address: this_machine[0], reason: "loopback" }));
    }
    if address::is_metadata_name(name) {
        return Err(failure(
            FailureKind::BlockedAddress,
            "the destination's address is not public: cloud metadata",
        ));
    }
    Ok(Host::Domain(name.to_owned()))
}

fn invalid(message: &str) -> Failure {
    failure(FailureKind::InvalidUrl, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, Failure> {
        Target::of(&url.parse().unwrap(), &[])
    }

    #[test]
    fn a_url_is_taken_apart() {
        let target = target("https://Hooks.Example.COM.:8443/a%20b?key=1#part").unwrap();
        let expected = Target {
            https: true,
            host: Host::Domain("hooks.example.com".to_owned()),
            port: 8443,
            authority: "hooks.example.com.:8443".to_owned(),
            path: "/a%20b?key=1".to_owned(),
        };
        assert_eq!(target, expected);
        let target = super::tests::target("http://[2606:4700::1]").unwrap();
        assert_eq!(
            (target.authority.as_str(), target.port, target.path.as_str()),
            ("[2606:4700::1]", 80, "/")
        );
    }

    #[test]
    fn hosts_that_are_refused_at_once() {
        for (url, expected) in [
            ("http://169.254.169.254/latest/meta-data/", FailureKind::BlockedAddress),
            ("http://0251.0376.0251.0376/", FailureKind::BlockedAddress),
            ("http://0xa9fea9fe/", FailureKind::BlockedAddress),
            ("http://2852039166/", FailureKind::BlockedAddress),
            ("http://169.254.43518/", FailureKind::BlockedAddress),
            ("http://[::ffff:a9fe:a9fe]/", FailureKind::BlockedAddress),
            ("http://10.1/", FailureKind::BlockedAddress),
            ("http://metadata.google.internal/computeMetadata/v1/", FailureKind::BlockedAddress),
            ("http://instance-data/", FailureKind::BlockedAddress),
            ("http://a.localhost./", FailureKind::BlockedAddress),
            ("http://example.com../", FailureKind::InvalidUrl),
            ("gopher://example.com/", FailureKind::InvalidUrl),
            ("http://user:pass@example.com/", FailureKind::InvalidUrl),
        ] {
            assert_eq!(target(url).unwrap_err().kind, expected, "{url}");
        }
    }

    #[test]
    fn spellings_that_are_no_url_at_all() {
        for text in [
            "http://[fe80::1%25eth0]/",
            "http://[fe80::1%eth0]/",
            "http://0x7f.1.2.3.4/",
            "http://127.0.0.256/",
            "http://999999999999/",
            "http://09.0.0.1/",
            "http://[::1/",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }
}
