//! The fuzz target's body on stable: spellings of hosts that are known for their tricks, and thousands that are made up.

#[path = "../fuzz/fuzz_targets/body.rs"]
mod body;

use proptest::prelude::*;

#[test]
fn known_tricks() {
    for text in [
        "127.0.0.1",
        "0x7f.0.0.1",
        "0177.1",
        "2130706433",
        "0x7f000001",
        "00000000000177.0.0.1",
        "127.0.0.1.",
        "127.0.0.1..",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "fe80::1%25lo",
        "http://127.0.0.1:80@example.com/",
        "http://example.com:80@127.0.0.1/",
        "http://example.com#@127.0.0.1/",
        "http://example.com\\@127.0.0.1/",
        "http://127.0.0.1\\.example.com/",
        "http:127.0.0.1",
        "http:///127.0.0.1",
        "http:\\\\127.0.0.1",
        "ht\ntp://127.0.0.1",
        "http://1.1.1.1 &@2.2.2.2# @3.3.3.3/",
        "http://１２７.０.０.１/",
        "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/",
        "http://localhost%00.example.com/",
        "http://localhost%2eexample.com/",
        "http://xn--/",
        "http://example.com/\r\nHost: 127.0.0.1/",
        "http://example.com/%0d%0aHost:%20127.0.0.1/",
        "http://example.com/a b\tc?d e#f",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:080/",
    ] {
        body::run(text.as_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes(data: Vec<u8>) {
        body::run(&data);
    }

    #[test]
    fn hosts_of_digits(host in "(0x|0|)[0-9a-fA-F]{0,11}([.。](0x|0|)[0-9a-fA-F]{0,9}){0,4}[.]{0,2}") {
        body::run(host.as_bytes());
    }

    #[test]
    fn hosts_of_ipv6(host in "[0-9a-f:]{2,30}(:[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3})?(%[a-z0-9]{1,4})?") {
        body::run(host.as_bytes());
    }

    #[test]
    fn whole_urls(url in "(https?|HTTP|ftp)[:/\\\\@]{1,4}[a-z0-9.@:%#?\\\\\\[\\]_~-]{0,30}([/?#\\\\][ -~\t\r\n]{0,30})?") {
        body::run(url.as_bytes());
    }
}
