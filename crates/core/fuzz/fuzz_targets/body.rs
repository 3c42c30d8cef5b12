//! The body of the fuzz target: no request makes verification panic, and none is believed that is not signed with the
//! endpoint's secret.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use ravenpost_core::endpoint::{Verification, event_id, event_type};
use ravenpost_core::handshake;
use ravenpost_core::provider::Provider;
use ravenpost_core::secret::Secret;
use ravenpost_core::signature::encoding::Encoding;
use ravenpost_core::signature::generic::{HmacScheme, SecretForm, SignedTimestamp};
use ravenpost_core::signature::rule::Algorithm;
use ravenpost_core::signature::template::Template;
use ravenpost_core::signature::timestamp::TimestampFormat;
use ravenpost_core::signature::{Request, Url, to_fetch, verify};

/// A request as bytes: one that chooses the way to verify, the query in a line, headers in lines, an empty line, the body.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let verification = verification(*choice);
    let (query, rest) = line(rest);
    let (headers, body) = headers(rest);
    let query = String::from_utf8_lossy(query).replace(|c: char| c.is_control(), "");
    let path_and_query = format!("/h/token?{query}");
    let secrets = [Secret::new("a secret that no fuzzer guesses"), Secret::standard_webhooks([7; 32])];
    for method in [Method::POST, Method::GET, Method::HEAD] {
        let request = Request {
            method: &method,
            url: Url { base: "https://hooks.example.com", path_and_query: &path_and_query },
            headers: &headers,
            body,
            peer: None,
            received_at: chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap_or_default(),
            fetched: Some(body),
        };
        let _ = to_fetch(&verification, &secrets, &request);
        let believed = verify(&verification, &secrets, &request).is_ok();
        assert!(!believed, "{verification:?} believes a request that nobody has signed");
        let _ = handshake::unsigned(&verification, &secrets, &request);
        let _ = handshake::signed(&verification, &secrets, &request);
    }
    for told in [event_id(&verification, &headers, body), event_type(&verification, &headers, body)] {
        assert!(
            !told.is_some_and(|told| told.contains(char::is_control)),
            "{verification:?} tells a control character"
        );
    }
}

/// The ways that are no provider, in the order of [`other`].
pub(crate) const OTHERS: usize = 8;

/// A provider, or one of the ways that are none.
fn verification(choice: u8) -> Verification {
    let choice = usize::from(choice) % (Provider::ALL.len() + OTHERS);
    match Provider::ALL.get(choice) {
        Some(provider) => Verification::Provider { provider: *provider },
        None => other(choice - Provider::ALL.len()),
    }
}

fn other(choice: usize) -> Verification {
    let allowed = || Verification::IpAllowList { networks: "192.0.2.0/24".parse().into_iter().collect() };
    let api_key = || Verification::ApiKey { header: "X-Signature".to_owned() };
    match choice {
        0 => Verification::StandardWebhooks {},
        1 => Verification::BasicAuth { username: "user".to_owned() },
        2 => Verification::Bearer {},
        3 => api_key(),
        4 => allowed(),
        5 => Verification::All { of: vec![hmac(false), api_key()] },
        _ => hmac(choice == 6),
    }
}

/// Everything that a customer's description can have, with a time or without.
fn hmac(timed: bool) -> Verification {
    let (timestamp, separator) = if timed { ("{timestamp}", Some(',')) } else { ("", None) };
    let signed = format!(
        "v0:{timestamp}{{{{{{method}}{{url}}{{path}}{{header:Date}}{{json:/id}}{{body_sha256}}{{body}}"
    );
    let time = SignedTimestamp {
        header: "X-Timestamp".to_owned(),
        tolerance: std::time::Duration::from_secs(300),
        format: TimestampFormat::Milliseconds,
    };
    let scheme = HmacScheme {
        header: "X-Signature".to_owned(),
        algorithm: if timed { Algorithm::Sha384 } else { Algorithm::Sha512 },
        encoding: if timed { Encoding::Base64 } else { Encoding::Hex },
        prefix: if timed { "v1=".to_owned() } else { String::new() },
        separator,
        timestamp: timed.then_some(time),
        signed: Some(Template::try_from(signed).expect("a template that reads")),
        key: SecretForm::Text,
    };
    assert_eq!(scheme.check(), Ok(()));
    Verification::Hmac(scheme)
}

fn headers(mut rest: &[u8]) -> (HeaderMap, &[u8]) {
    let mut headers = HeaderMap::new();
    loop {
        let (head, after) = line(rest);
        if head.is_empty() {
            return (headers, after);
        }
        rest = after;
        let colon = head.iter().position(|byte| *byte == b':').unwrap_or(head.len());
        let (name, value) = head.split_at(colon);
        let value = HeaderValue::from_bytes(value.get(1..).unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
            headers.append(name, value);
        }
    }
}

fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[]),
    }
}
