//! Which addresses are public. Pure, so that it can be tested over the whole space.
//!
//! The rule is refusal: everything in the IANA special-purpose registries (RFC 6890 and its updates) is refused, and
//! of IPv6 only global unicast (`2000::/3`, RFC 4291) is considered at all. Addresses that carry an IPv4 address
//! inside (mapped, 6to4, NAT64, Teredo, ISATAP) are refused whatever they carry, because where they lead is decided
//! by a translator that we don't know.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// An address that is not public.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{address} is not a public address ({reason})")]
pub struct Blocked {
    /// The address.
    pub address: IpAddr,
    /// What it is instead.
    pub reason: &'static str,
}

/// Whether a connection to `ip` may be opened: it is public, or within a network that the operator allowed.
///
/// An IPv4-mapped IPv6 address (`::ffff:10.0.0.1`) reaches the IPv4 address on most systems, so a network of IPv4
/// allows it too. A cloud's metadata service hands out the machine's credentials: it is allowed by its own address
/// alone, and not by a network that happens to contain it.
pub fn verdict(ip: IpAddr, allowed: &[IpNet]) -> Result<(), Blocked> {
    let canonical = ip.to_canonical();
    let covers = |network: &IpNet| network.contains(&ip) || network.contains(&canonical);
    let metadata =
        METADATA.contains(&canonical) || embedded(ip).any(|inner| METADATA.contains(&inner.into()));
    let is_alone = |network: &IpNet| network.prefix_len() == network.max_prefix_len();
    if allowed.iter().any(|network| covers(network) && (!metadata || is_alone(network))) {
        return Ok(());
    }
    let special = match ip {
        _ if metadata => Some("cloud metadata"),
        IpAddr::V4(ip) => special_v4(ip),
        IpAddr::V6(ip) => special_v6(ip),
    };
    special.map_or(Ok(()), |reason| Err(Blocked { address: ip, reason }))
}

/// IPv4 addresses to which a translator or a tunnel may lead an IPv6 address: NAT64 (RFC 6052), 6to4 (RFC 3056), Teredo
/// (RFC 4380), ISATAP (RFC 5214), IPv4-compatible and IPv4-translated ones.
fn embedded(ip: IpAddr) -> impl Iterator<Item = Ipv4Addr> {
    let IpAddr::V6(ip) = ip else { return [None; 3].into_iter().flatten() };
    let bits = ip.to_bits();
    let inner =
        |shift: u32| Ipv4Addr::from_bits(u32::try_from((bits >> shift) & 0xffff_ffff).unwrap_or_default());
    let covers = |net: Ipv6Net| net.contains(&ip);
    let last = EMBEDS_LAST.iter().copied().any(covers) || is_isatap(ip);
    let teredo = covers(v6(0x2001, 0, 0, 0, 32));
    [
        last.then(|| inner(0)),
        covers(v6(0x2002, 0, 0, 0, 16)).then(|| inner(80)),
        teredo.then(|| Ipv4Addr::from_bits(!inner(0).to_bits())),
    ]
    .into_iter()
    .flatten()
}

/// Networks of which the last 32 bits are an IPv4 address.
const EMBEDS_LAST: [Ipv6Net; 4] = [
    v6(0x64, 0xff9b, 0, 0, 96),
    v6(0x64, 0xff9b, 1, 0, 48),
    v6(0, 0, 0, 0, 96),
    Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96),
];

/// Whether a name means this machine (RFC 6761, section 6.3), whatever the DNS says.
pub(crate) fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or_default();
    last.eq_ignore_ascii_case("localhost")
}

/// Whether a name is the one of a cloud's metadata service, which nothing else has.
pub(crate) fn is_metadata_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    METADATA_NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Names of metadata services: Google, AWS, Alibaba, Tencent.
const METADATA_NAMES: &[&str] = &[
    "metadata.google.internal",
    "metadata.goog",
    "instance-data",
    "instance-data.ec2.internal",
    "metadata.tencentyun.com",
    "100-100-100-200.alibaba.internal",
];

/// Where clouds hand out what a machine may know of itself, credentials among it.
const METADATA: &[IpAddr] = &[
    // AWS, Azure, Google, Oracle, DigitalOcean, Hetzner, OpenStack and others.
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    // AWS: tasks, pods, and time.
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    // Tencent, Scaleway.
    IpAddr::V4(Ipv4Addr::new(169, 254, 0, 23)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 42, 42)),
    // Alibaba, Oracle's older platform, Azure's virtual host.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // AWS, its pods, Google, Oracle, Scaleway, OpenStack.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
];

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, c: u16, d: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), prefix)
}

/// IANA IPv4 Special-Purpose Address Registry (as of 2025-10), and multicast. Narrower ones first, for the better
/// reason.
const SPECIAL_V4: &[(Ipv4Net, &str)] = &[
    (v4(0, 0, 0, 0, 8), "this network"),
    (v4(10, 0, 0, 0, 8), "private"),
    (v4(100, 64, 0, 0, 10), "shared by carriers"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    (v4(169, 254, 0, 0, 16), "link-local"),
    (v4(172, 16, 0, 0, 12), "private"),
    (v4(192, 0, 0, 0, 24), "protocol assignments"),
    (v4(192, 0, 2, 0, 24), "documentation"),
    (v4(192, 31, 196, 0, 24), "AS112"),
    (v4(192, 52, 193, 0, 24), "AMT"),
    (v4(192, 88, 99, 0, 24), "6to4 relay"),
    (v4(192, 168, 0, 0, 16), "private"),
    (v4(192, 175, 48, 0, 24), "AS112"),
    (v4(198, 18, 0, 0, 15), "benchmarking"),
    (v4(198, 51, 100, 0, 24), "documentation"),
    (v4(203, 0, 113, 0, 24), "documentation"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(255, 255, 255, 255, 32), "broadcast"),
    (v4(240, 0, 0, 0, 4), "reserved"),
];

/// IANA IPv6 Special-Purpose Address Registry, as far as it lies in `2000::/3`, and what embeds IPv4. The globally
/// reachable parts of `2001::/23` (anycast of protocols, AMT, AS112, drones) are no place of a web server either.
const SPECIAL_V6: &[(Ipv6Net, &str)] = &[
    (v6(0x2001, 0, 0, 0, 32), "Teredo"),
    (v6(0x2001, 0x10, 0, 0, 28), "ORCHID"),
    (v6(0x2001, 0x20, 0, 0, 28), "ORCHIDv2"),
    (v6(0x2001, 0, 0, 0, 23), "protocol assignments"),
    (v6(0x2001, 0xdb8, 0, 0, 32), "documentation"),
    (v6(0x2002, 0, 0, 0, 16), "6to4"),
    (v6(0x2620, 0x4f, 0x8000, 0, 48), "AS112"),
    (v6(0x3fff, 0, 0, 0, 20), "documentation"),
];

/// Names for what lies outside `2000::/3`, all of which is refused.
const OUTSIDE_GLOBAL_UNICAST: &[(Ipv6Net, &str)] = &[
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128), "unspecified"),
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), "loopback"),
    (Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96), "IPv4-mapped"),
    (Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96), "IPv4-translated"),
    (v6(0, 0, 0, 0, 96), "IPv4-compatible"),
    (v6(0x64, 0xff9b, 0, 0, 96), "NAT64"),
    (v6(0x64, 0xff9b, 1, 0, 48), "local NAT64"),
    (v6(0x100, 0, 0, 0, 64), "discard"),
    (v6(0x100, 0, 0, 1, 64), "dummy"),
    (v6(0x5f00, 0, 0, 0, 16), "segment routing"),
    (v6(0xfc00, 0, 0, 0, 7), "unique local"),
    (v6(0xfe80, 0, 0, 0, 10), "link-local"),
    (v6(0xfec0, 0, 0, 0, 10), "site-local"),
    (v6(0xff00, 0, 0, 0, 8), "multicast"),
];

const GLOBAL_UNICAST: Ipv6Net = v6(0x2000, 0, 0, 0, 3);

fn special_v4(ip: Ipv4Addr) -> Option<&'static str> {
    SPECIAL_V4.iter().find(|(network, _)| network.contains(&ip)).map(|(_, reason)| *reason)
}

fn special_v6(ip: Ipv6Addr) -> Option<&'static str> {
    let named = |table: &[(Ipv6Net, &'static str)]| {
        table.iter().find(|(network, _)| network.contains(&ip)).map(|(_, reason)| *reason)
    };
    if !GLOBAL_UNICAST.contains(&ip) {
        return Some(named(OUTSIDE_GLOBAL_UNICAST).unwrap_or("not global unicast"));
    }
    named(SPECIAL_V6).or_else(|| is_isatap(ip).then_some("ISATAP"))
}

/// The interface identifier `::0:5efe:a.b.c.d` or `::200:5efe:a.b.c.d` (RFC 5214, section 6.1).
fn is_isatap(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    matches!(segments[4], 0 | 0x200) && segments[5] == 0x5efe
}

#[cfg(test)]
mod tests;
