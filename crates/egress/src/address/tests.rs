use proptest::prelude::*;

use super::*;

fn reason(text: &str) -> Option<&'static str> {
    verdict(text.parse().unwrap(), &[]).err().map(|blocked| blocked.reason)
}

#[test]
fn public_addresses_pass() {
    for text in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2000::1",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2606:4700:4700::1111",
        "2a00:1450:4001:80b::200e",
        "3ffe:ffff::1",
    ] {
        assert_eq!(reason(text), None, "{text}");
    }
}

#[test]
fn everything_else_is_refused_by_name() {
    for (text, expected) in [
        ("0.0.0.0", "this network"),
        ("0.255.255.255", "this network"),
        ("10.0.0.0", "private"),
        ("10.255.255.255", "private"),
        ("100.64.0.0", "shared by carriers"),
        ("100.127.255.255", "shared by carriers"),
        ("100.100.100.200", "cloud metadata"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.255", "loopback"),
        ("168.63.129.16", "cloud metadata"),
        ("169.254.169.254", "cloud metadata"),
        ("169.254.170.2", "cloud metadata"),
        ("169.254.170.3", "link-local"),
        ("172.16.0.0", "private"),
        ("172.31.255.255", "private"),
        ("192.0.0.192", "cloud metadata"),
        ("192.0.0.8", "protocol assignments"),
        ("192.0.0.170", "protocol assignments"),
        ("192.31.196.1", "AS112"),
        ("192.52.193.1", "AMT"),
        ("192.175.48.1", "AS112"),
        ("192.0.2.1", "documentation"),
        ("192.88.99.1", "6to4 relay"),
        ("192.168.255.255", "private"),
        ("198.18.0.0", "benchmarking"),
        ("198.19.255.255", "benchmarking"),
        ("198.51.100.1", "documentation"),
        ("203.0.113.1", "documentation"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "broadcast"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::2", "IPv4-compatible"),
        ("::127.0.0.1", "IPv4-compatible"),
        ("::ffff:127.0.0.1", "IPv4-mapped"),
        ("::ffff:8.8.8.8", "IPv4-mapped"),
        ("::ffff:0:8.8.8.8", "IPv4-translated"),
        ("64:ff9b::8.8.8.8", "NAT64"),
        ("64:ff9b:1::1", "local NAT64"),
        ("100::1", "discard"),
        ("100:0:0:1::1", "dummy"),
        ("100:0:0:2::1", "not global unicast"),
        ("2001::1", "Teredo"),
        ("2001:10::1", "ORCHID"),
        ("2001:20::1", "ORCHIDv2"),
        ("2001:1::1", "protocol assignments"),
        ("2001:2::1", "protocol assignments"),
        ("2001:3::1", "protocol assignments"),
        ("2001:4:112::1", "protocol assignments"),
        ("2001:30::1", "protocol assignments"),
        ("2001:1ff:ffff::1", "protocol assignments"),
        ("2001:db8::1", "documentation"),
        ("2002:7f00:1::", "6to4"),
        ("2620:4f:8000::1", "AS112"),
        ("2a00::5efe:10.0.0.1", "ISATAP"),
        ("2a00::200:5efe:10.0.0.1", "ISATAP"),
        ("3fff::1", "documentation"),
        ("4000::1", "not global unicast"),
        ("5f00::1", "segment routing"),
        ("fc00::1", "unique local"),
        ("fd00:ec2::254", "cloud metadata"),
        ("fd20:ce::254", "cloud metadata"),
        ("fe80::a9fe:a9fe", "cloud metadata"),
        ("::ffff:169.254.169.254", "cloud metadata"),
        ("fdff::1", "unique local"),
        ("fe80::1", "link-local"),
        ("fec0::1", "site-local"),
        ("ff02::1", "multicast"),
    ] {
        assert_eq!(reason(text), Some(expected), "{text}");
    }
}

#[test]
fn the_operator_may_allow_networks() {
    let allowed: Vec<IpNet> = ["10.1.0.0/16", "::1/128"].map(|text| text.parse().unwrap()).to_vec();
    let passes = |text: &str| verdict(text.parse().unwrap(), &allowed).is_ok();
    assert!(passes("10.1.2.3") && passes("::ffff:10.1.2.3") && passes("::1"));
    assert!(!passes("10.2.0.0") && !passes("127.0.0.1") && !passes("::ffff:10.2.0.0"));
}

#[test]
fn a_metadata_service_is_allowed_by_its_own_address_alone() {
    let verdict = |allowed: &str, ip: &str| verdict(ip.parse().unwrap(), &[allowed.parse().unwrap()]);
    for network in ["0.0.0.0/0", "169.254.0.0/16", "169.254.169.254/31", "::/0"] {
        assert!(verdict(network, "169.254.169.254").is_err(), "{network}");
        assert!(verdict(network, "::ffff:169.254.169.254").is_err(), "{network}");
    }
    // By way of whatever translates.
    for ip in [
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::169.254.169.254",
        "2002:a9fe:a9fe::1",
        "2001:0:4136:e378:8000:63bf:5601:5601",
        "2001:db8::5efe:169.254.169.254",
        "::169.254.169.254",
        "::ffff:0:169.254.169.254",
    ] {
        assert!(verdict("::/0", ip).is_err(), "{ip}");
        assert!(verdict(&format!("{ip}/128"), ip).is_ok(), "{ip}");
    }
    assert!(verdict("::/0", "64:ff9b::10.0.0.1").is_ok(), "whoever allows it allows it");
    assert!(verdict("fd00::/8", "fd00:ec2::254").is_err() && verdict("fd00::/8", "fd00:ec2::255").is_ok());
    assert!(verdict("169.254.169.254/32", "169.254.169.254").is_ok());
    assert!(verdict("fd00:ec2::254/128", "fd00:ec2::254").is_ok());
}

#[test]
fn names_of_this_machine_and_of_metadata_services() {
    for name in ["localhost", "LocalHost.", "a.b.localhost", "localhost."] {
        assert!(is_localhost(name), "{name}");
    }
    for name in ["localhost.example.com", "notlocalhost", "example.com", ""] {
        assert!(!is_localhost(name), "{name}");
    }
    assert!(is_metadata_name("Metadata.Google.Internal.") && is_metadata_name("instance-data"));
    assert!(!is_metadata_name("metadata.google.internal.example.com"));
}

proptest! {
    #[test]
    fn no_private_address_passes_in_disguise(bits: u32, low: u16, interface: u64) {
        let v4 = Ipv4Addr::from(bits);
        let [a, b, c, d] = v4.octets().map(u16::from);
        let (high_half, low_half) = (a << 8 | b, c << 8 | d);
        let disguises = [
            v4.to_ipv6_mapped(),
            v4.to_ipv6_compatible(),
            Ipv6Addr::new(0x2002, high_half, low_half, low, 0, 0, 0, 1),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high_half, low_half),
            Ipv6Addr::new(0x64, 0xff9b, 1, low, 0, 0, high_half, low_half),
            Ipv6Addr::new(0x2001, 0, high_half, low_half, 0, 0, !high_half, !low_half),
            Ipv6Addr::new(0x2a00, low, 0, 0, 0, 0x5efe, high_half, low_half),
            Ipv6Addr::new(0x2a00, low, 0, 0, 0x200, 0x5efe, high_half, low_half),
        ];
        for disguise in disguises {
            prop_assert!(verdict(disguise.into(), &[]).is_err(), "{disguise}");
        }
        let scoped = Ipv6Addr::from(u128::from(interface) | 0xfe80 << 112);
        prop_assert!(verdict(scoped.into(), &[]).is_err());
    }

    #[test]
    fn agrees_with_the_standard_library(bits: u32) {
        let ip = Ipv4Addr::from(bits);
        let refused = ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_multicast()
            || ip.is_broadcast() || ip.is_documentation() || ip.is_unspecified();
        if refused {
            prop_assert!(verdict(ip.into(), &[]).is_err(), "{ip}");
        }
    }

    #[test]
    fn only_global_unicast_passes(bits: u128) {
        let ip = Ipv6Addr::from(bits);
        if verdict(ip.into(), &[]).is_ok() {
            prop_assert_eq!(ip.segments()[0] >> 13, 1);
        }
    }
}
