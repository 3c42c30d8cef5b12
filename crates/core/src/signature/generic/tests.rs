use super::super::testing;
use super::*;
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use proptest::prelude::*;
use sha2::Sha256;

const NOW: i64 = 1_700_000_000;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(NOW, 0).unwrap()
}

fn scheme(extra: &serde_json::Value) -> HmacScheme {
    let mut json = serde_json::json!({"header": "X-Sig", "algorithm": "sha256", "encoding": "hex"});
    json.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    serde_json::from_value(json).unwrap()
}

fn sign(key: &[u8], signed: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(signed);
    hex::encode(mac.finalize().into_bytes())
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
}

fn verify(scheme: &HmacScheme, headers: &HeaderMap, at: DateTime<Utc>) -> Result<(), Rejection> {
    let secrets = [Secret::new("6f6c6421"), Secret::new("6e657721")];
    scheme.verify(&secrets, &testing::request(headers, b"body", at))
}

#[test]
fn the_body_alone_after_a_prefix() {
    let scheme = scheme(&serde_json::json!({"prefix": "v="}));
    let good = sign(b"6e657721", "body");
    assert_eq!(verify(&scheme, &headers(&[("x-sig", &format!("v={good}"))]), now()), Ok(()));
    let other = headers(&[("x-sig", &format!("v={}", sign(b"other", "body")))]);
    assert_eq!(verify(&scheme, &other, now()), Err(Rejection::WrongSignature));
    for bad in [good.as_str(), "v=zz", "v=abc"] {
        let answer = verify(&scheme, &headers(&[("x-sig", bad)]), now());
        assert!(matches!(answer, Err(Rejection::MalformedHeader(..))), "{bad}");
    }
    let missing = verify(&scheme, &HeaderMap::new(), now());
    assert_eq!(missing, Err(Rejection::MissingHeader("x-sig".to_owned())));
}

#[test]
fn a_timestamp_is_signed_before_the_body_unless_a_template_says_otherwise() {
    let plain = scheme(&serde_json::json!({"timestamp": {"header": "X-Time"}}));
    let template = "{method}|{url}|{path}|{header:X-Id}|{json:/none}";
    let template = template.replace("|{json:/none}", "|{body}|{body_sha256}|{timestamp}");
    let milliseconds = serde_json::json!({"header": "X-Time", "format": "milliseconds"});
    let rich = scheme(&serde_json::json!({"timestamp": milliseconds, "signed": template, "key": "hex"}));
    let hash = "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5";
    let url = "https://hooks.example.com/h/abc?x=1";
    let signed = format!("POST|{url}|/h/abc?x=1|7|body|{hash}|1700000000123");
    for (scheme, time, signature) in [
        (&plain, "1700000000", sign(b"6e657721", "1700000000.body")),
        (&rich, "1700000000123", sign(b"new!", &signed)),
    ] {
        let request = headers(&[("x-sig", &signature), ("x-time", time), ("x-id", "7")]);
        assert_eq!(verify(scheme, &request, now()), Ok(()), "{time}");
        let late = verify(scheme, &request, now() + TimeDelta::seconds(301));
        assert!(matches!(late, Err(Rejection::Stale(..))), "{time}");
        let mut without = request.clone();
        without.remove("x-time");
        let missing = verify(scheme, &without, now());
        assert_eq!(missing, Err(Rejection::MissingHeader("x-time".to_owned())));
    }
    let request = headers(&[("x-sig", &sign(b"new!", &signed)), ("x-time", "1700000000123")]);
    assert_eq!(verify(&rich, &request, now()), Err(Rejection::MissingHeader("x-id".to_owned())));
}

#[test]
fn one_right_signature_of_several_suffices() {
    let scheme = scheme(&serde_json::json!({"separator": ",", "prefix": "v1="}));
    let value = format!("t=5, v1={}, v1={}", "00".repeat(32), sign(b"6f6c6421", "body"));
    assert_eq!(verify(&scheme, &headers(&[("x-sig", &value)]), now()), Ok(()));
    let none = verify(&scheme, &headers(&[("x-sig", "t=5")]), now());
    assert!(matches!(none, Err(Rejection::MalformedHeader(..))));
}

#[test]
fn names_the_field_that_is_wrong() {
    let field = |extra: serde_json::Value| scheme(&extra).check().unwrap_err().field;
    assert_eq!(scheme(&serde_json::json!({})).check(), Ok(()));
    assert_eq!(field(serde_json::json!({"header": "two words"})), "header");
    assert_eq!(field(serde_json::json!({"prefix": "\n"})), "prefix");
    let long = serde_json::json!({"timestamp": {"header": "X-Time", "tolerance": "86401s"}});
    assert_eq!(field(long), "timestamp.tolerance");
    let unsigned = serde_json::json!({"timestamp": {"header": "X-Time"}, "signed": "{body}"});
    assert_eq!(field(unsigned), "signed");
    assert_eq!(field(serde_json::json!({"signed": "{timestamp}{body}"})), "timestamp");
}

proptest! {
    #[test]
    fn no_header_makes_it_panic_or_pass(value in "[ -~]{0,120}", separator in any::<Option<char>>(), encoding in 0_usize..3) {
        let encoding = ["hex", "base64", "base64_url"][encoding];
        let scheme = scheme(&serde_json::json!({"separator": separator, "encoding": encoding}));
        prop_assert!(verify(&scheme, &headers(&[("x-sig", value.trim())]), now()).is_err());
    }
}
