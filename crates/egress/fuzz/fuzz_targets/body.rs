//! The body of the fuzz target: no spelling of a URL leads to an address that is not public, and what is sent is what
//! was vetted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ravenpost_egress::address;
use ravenpost_egress::target::Target;
use url::{Host, Url};

/// The same bytes as a URL, as the host of one, and as addresses.
pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    url(&text);
    url(&format!("http://{text}/"));
    url(&format!("https://[{text}]:8443/path?query"));
    if let Some(bytes) = data.first_chunk::<4>() {
        vetted(Ipv4Addr::from(*bytes).into());
    }
    if let Some(bytes) = data.first_chunk::<16>() {
        vetted(Ipv6Addr::from(*bytes).into());
    }
    // Every IPv4 address in each disguise.
    if let Some(bytes) = data.first_chunk::<4>() {
        let ip = Ipv4Addr::from(*bytes);
        for disguise in [ip.to_ipv6_mapped(), ip.to_ipv6_compatible()] {
            assert!(address::verdict(disguise.into(), &[]).is_err(), "{disguise} passes");
        }
    }
}

fn vetted(ip: IpAddr) {
    if address::verdict(ip, &[]).is_ok() {
        assert!(is_public(ip), "{ip} passes");
    }
    let everything = ["0.0.0.0/0", "::/0"].map(|network| network.parse().expect("a network"));
    if address::verdict(ip, &everything).is_err() {
        assert!(address::verdict(ip, &[]).is_err(), "{ip} passes only while nothing is allowed");
    }
}

fn url(text: &str) {
    let Ok(url) = Url::parse(text) else { return };
    let Ok(target) = Target::of(&url, &[]) else { return };
    match &target.host {
        Host::Ipv4(ip) => assert!(is_public((*ip).into()), "{text:?} leads to {ip}"),
        Host::Ipv6(ip) => assert!(is_public((*ip).into()), "{text:?} leads to {ip}"),
        Host::Domain(name) => named(text, name),
    }
    // Nothing in what is sent can end a line, or begin something else.
    let sent = [&target.authority, &target.path];
    for part in sent {
        assert!(part.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?} sends {part:?}");
    }
    assert!(!target.authority.contains(['/', '?', '#', '@', '\\']), "{text:?} names {:?}", target.authority);
    // What is sent, read by the receiver, leads to what was vetted.
    let scheme = if target.https { "https" } else { "http" };
    let again = Url::parse(&format!("{scheme}://{}{}", target.authority, target.path))
        .expect("what is sent is a URL");
    assert_eq!(Target::of(&again, &[]).as_ref(), Ok(&target), "{text:?} is read in two ways");
}

fn named(text: &str, name: &str) {
    assert!(!name.is_empty() && !name.ends_with('.'), "{text:?} has the host {name:?}");
    assert!(name.rsplit('.').next() != Some("localhost"), "{text:?} is this machine");
    assert_eq!(by_inet_aton(name), None, "{text:?} is an address to the C library");
    assert!(name.parse::<IpAddr>().is_err(), "{text:?} is an address");
}

/// By the standard library's words and bits, apart from the tables that are tested.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast()
                || ip.is_documentation()
                || a == 0
                || a >= 224
                || (a == 100 && b & 0xc0 == 64)
                || (a == 198 && b & 0xfe == 18))
        }
        IpAddr::V6(ip) => {
            let [a, b, ..] = ip.segments();
            a >> 13 == 1
                && a != 0x2002
                && !(a == 0x2001 && (b < 0x200 || b == 0xdb8))
                && ip.to_ipv4_mapped().is_none()
        }
    }
}

/// How `inet_aton(3)` reads a host: one to four parts, each decimal, octal or hexadecimal, the last as wide as fits.
fn by_inet_aton(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u64> = text.split('.').map(part).collect::<Option<_>>()?;
    let (last, first) = parts.split_last()?;
    if first.len() > 3 || first.iter().any(|part| *part > 255) {
        return None;
    }
    let room = 32 - 8 * first.len();
    if *last >> room != 0 {
        return None;
    }
    let high = first.iter().zip([24, 16, 8]).fold(0, |sum, (part, shift)| sum | part << shift);
    u32::try_from(high | last).ok().map(Ipv4Addr::from)
}

fn part(text: &str) -> Option<u64> {
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    match (hexadecimal, text.strip_prefix('0')) {
        (Some(digits), _) => u64::from_str_radix(digits, 16).ok(),
        (None, Some(digits)) if !digits.is_empty() => u64::from_str_radix(digits, 8).ok(),
        _ => text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten(),
    }
}
