//! The producer's own headers: which ones travel on to destinations, and how they are stored as bytes.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::trace::Traceparent;

/// Headers that end at us: hop-by-hop (RFC 9110, section 7.6.1), about this connection, or credentials meant for us.
const DROPPED: [&str; 25] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
    "content-length",
    "expect",
    "accept-encoding",
    "authorization",
    "cookie",
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
    "traceparent",
    "idempotency-key",
];

/// Headers that are ours on a delivery; a producer's of the same name do not travel on.
pub const OURS: [&str; 5] =
    ["webhook-id", "webhook-timestamp", "webhook-signature", "x-hub-signature-256", "traceparent"];

/// Of a producer's request: the headers to store and to deliver, in their order. What showed the endpoint's secret, in
/// the header `credential`, ends here.
pub fn to_forward(received: &HeaderMap, credential: Option<&str>) -> HeaderMap {
    let named_hop_by_hop: Vec<String> = received
        .get_all(http::header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|name| name.trim().to_ascii_lowercase()))
        .collect();
    // It belongs to the trace of its traceparent, which travels apart (W3C Trace Context, section 3.3).
    let traced =
        received.get("traceparent").and_then(|value| value.to_str().ok()).and_then(Traceparent::parse);
    let ends_here = |name: &HeaderName| {
        DROPPED.contains(&name.as_str())
            || (name == "tracestate" && traced.is_none())
            || named_hop_by_hop.iter().any(|named| named == name.as_str())
            || credential.is_some_and(|credential| credential.eq_ignore_ascii_case(name.as_str()))
    };
    received
        .iter()
        .filter(|(name, _)| !ends_here(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Encodes headers as HTTP/1.1 writes them: `name: value\r\n` each. A valid value holds neither CR nor LF.
pub fn encode(headers: &HeaderMap) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(headers.len() * 48);
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Stored headers that do not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stored headers are damaged at line {line}")]
pub struct Damaged {
    line: usize,
}

/// The inverse of [`encode`].
pub fn decode(bytes: &[u8]) -> Result<HeaderMap, Damaged> {
    let mut headers = HeaderMap::new();
    let Some(lines) = bytes.strip_suffix(b"\r\n") else {
        return if bytes.is_empty() { Ok(headers) } else { Err(Damaged { line: 0 }) };
    };
    for (index, line) in lines.split(|byte| *byte == b'\n').enumerate() {
        let (name, value) =
            header(line.strip_suffix(b"\r").unwrap_or(line)).ok_or(Damaged { line: index + 1 })?;
        headers.append(name, value);
    }
    Ok(headers)
}

fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let value = line[colon + 1..].strip_prefix(b" ")?;
    Some((HeaderName::from_bytes(&line[..colon]).ok()?, HeaderValue::from_bytes(value).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hop_by_hop_and_credentials_end_here() {
        let mut received = HeaderMap::new();
        for (name, value) in [
            ("host", "hooks.example.com"),
            ("connection", "keep-alive, X-Local"),
            ("x-local", "1"),
            ("authorization", "Bearer x"),
            ("cookie", "a=b"),
            ("content-type", "application/json"),
            ("x-github-event", "push"),
        ] {
            received.append(name, HeaderValue::from_static(value));
        }
        let forwarded = to_forward(&received, None);
        let names: Vec<_> = forwarded.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-type", "x-github-event"]);
    }

    #[test]
    fn tracestate_travels_with_its_trace_only() {
        let mut received = HeaderMap::new();
        received.append("tracestate", HeaderValue::from_static("rojo=00f067aa0ba902b7"));
        received.append("tracestate", HeaderValue::from_static("congo=t61rcWkgMzE"));
        assert!(to_forward(&received, None).is_empty());
        received.insert("traceparent", HeaderValue::from_static("00-nonsense"));
        assert!(to_forward(&received, None).is_empty());
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        received.insert("traceparent", HeaderValue::from_static(trace));
        let forwarded = to_forward(&received, None);
        let values: Vec<_> = forwarded.get_all("tracestate").iter().collect();
        assert_eq!(values, ["rojo=00f067aa0ba902b7", "congo=t61rcWkgMzE"]);
        assert_eq!(forwarded.len(), 2);
    }

    proptest! {
        #[test]
        fn headers_read_back_as_they_were(
            pairs in proptest::collection::vec(("[a-z0-9-]{1,20}", "[ -~\u{80}-\u{ff}]{0,40}"), 0..12)
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                let value: Vec<u8> = value.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
                headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(&value).unwrap());
            }
            prop_assert_eq!(decode(&encode(&headers)).unwrap(), headers);
        }

        #[test]
        fn damaged_headers_are_an_error_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
