//! A destination's own headers, which go to it beside the producer's and over those of the same name. Their values may
//! be credentials: they are written and never read.

use std::collections::BTreeMap;
use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::headers::OURS;
use crate::secret::Secret;

/// Most headers of a destination.
pub const MAX_HEADERS: usize = 50;
/// The longest name, in bytes.
const MAX_NAME: usize = 100;
/// The longest value, in bytes.
const MAX_VALUE: usize = 4 * 1_024;
/// All names and values together, in bytes: most servers take no more than 8 KiB of headers, and the producer's come too.
const MAX_TOTAL: usize = 6 * 1_024;

/// Headers of the connection or of the message's framing (RFC 9110, sections 7.2, 7.6.1, 8.6 and 10.1.1): the HTTP client's.
const FRAMING: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A header that a destination can't have, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidHeader {
    /// Its name as it was given; `None` when it is about all of them.
    pub name: Option<String>,
    /// Why, or what it may be.
    pub message: String,
}

/// The headers of one destination.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CustomHeaders(HeaderMap);

/// Some headers set and some removed (`None`).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HeaderChange {
    /// All that were there are removed first.
    clears: bool,
    headers: Vec<(HeaderName, Option<HeaderValue>)>,
}

/// Reads the name of a header that a destination may set.
pub fn name(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(text.as_bytes()).ok().filter(|name| name.as_str().len() <= MAX_NAME);
    let name = name.ok_or_else(|| format!("not a header name of 1 to {MAX_NAME} characters"))?;
    let lower = name.as_str();
    if FRAMING.contains(&lower) {
        return Err(format!("`{lower}` belongs to the connection or the message's framing"));
    }
    if OURS.contains(&lower) || lower == "tracestate" || lower.starts_with("webhook-") {
        return Err(format!("`{lower}` is set by the service itself"));
    }
    if lower == "content-encoding" {
        return Err(format!("`{lower}` tells how the producer's body is encoded, which is sent as it came"));
    }
    Ok(name)
}

/// Reads the value of such a header. It is marked as sensitive, so that nothing prints it.
pub fn value(text: &str) -> Result<HeaderValue, String> {
    let visible = text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
    if !visible || text.trim() != text || !(1..=MAX_VALUE).contains(&text.len()) {
        return Err(format!("1 to {MAX_VALUE} characters of visible ASCII, no blanks around them"));
    }
    let mut value = HeaderValue::from_str(text).map_err(|error| error.to_string())?;
    value.set_sensitive(true);
    Ok(value)
}

impl HeaderChange {
    /// Reads a change as the API has it: values by name, null removes.
    pub fn parse(change: &BTreeMap<String, Option<Secret>>) -> Result<Self, InvalidHeader> {
        let mut parsed: Vec<(HeaderName, Option<HeaderValue>)> = Vec::with_capacity(change.len());
        for (text, set) in change {
            let invalid = |message| InvalidHeader { name: Some(text.clone()), message };
            let name = name(text).map_err(invalid)?;
            let value = set.as_ref().map(|set| value(set.reveal())).transpose().map_err(invalid)?;
            if parsed.iter().any(|(known, _)| *known == name) {
                return Err(invalid("given twice: header names do not differ by case".to_owned()));
            }
            parsed.push((name, value));
        }
        Ok(Self { clears: false, headers: parsed })
    }

    /// Whether it says what becomes of the header of that name, as [`CustomHeaders::names`] has it.
    pub fn decides(&self, name: &str) -> bool {
        self.clears || self.headers.iter().any(|(decided, _)| decided.as_str() == name)
    }

    /// None is left.
    pub fn clear() -> Self {
        Self { clears: true, headers: Vec::new() }
    }
}

impl CustomHeaders {
    /// These headers and a change, if the result is within bounds.
    pub fn changed(mut self, change: &HeaderChange) -> Result<Self, InvalidHeader> {
        if change.clears {
            self.0.clear();
        }
        for (name, value) in &change.headers {
            match value {
                Some(value) => self.0.insert(name, value.clone()),
                None => self.0.remove(name),
            };
        }
        let bytes: usize = self.0.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let message = match (self.0.len(), bytes) {
            (..=MAX_HEADERS, ..=MAX_TOTAL) => return Ok(self),
            (..=MAX_HEADERS, _) => format!("at most {MAX_TOTAL} bytes of names and values together"),
            _ => format!("at most {MAX_HEADERS}"),
        };
        Err(InvalidHeader { name: None, message })
    }

    /// Their names, in alphabetical order.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter()
    }

    /// As they are sealed.
    pub fn to_secret(&self) -> Secret {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let pairs: BTreeMap<&str, String> =
            self.0.iter().map(|(name, value)| (name.as_str(), text(value))).collect();
        Secret::new(serde_json::to_string(&pairs).expect("a map of strings serialises"))
    }

    /// The inverse of [`CustomHeaders::to_secret`]; the error holds nothing of it.
    pub fn from_secret(secret: &Secret) -> Result<Self, &'static str> {
        let damaged = "not headers as they are stored";
        let change = serde_json::from_str(secret.reveal()).map_err(|_| damaged)?;
        let change = HeaderChange::parse(&change).map_err(|_| damaged)?;
        Self::default().changed(&change).map_err(|_| damaged)
    }
}

impl fmt::Debug for CustomHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CustomHeaders({:?})", self.names())
    }
}

impl fmt::Debug for HeaderChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.headers.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(pairs: &[(&str, Option<&str>)]) -> Result<HeaderChange, InvalidHeader> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), value.map(Secret::new)));
        HeaderChange::parse(&pairs.collect())
    }

    fn headers(pairs: &[(&str, Option<&str>)]) -> CustomHeaders {
        CustomHeaders::default().changed(&change(pairs).unwrap()).unwrap()
    }

    #[test]
    fn are_set_and_removed_by_name() {
        let before = headers(&[("X-Tenant", Some("acme")), ("x-old", Some("1"))]);
        let after = before.changed(&change(&[("x-tenant", Some("b c")), ("X-OLD", None)]).unwrap()).unwrap();
        assert_eq!(after.names(), ["x-tenant"]);
        assert_eq!(after.iter().next().unwrap().1, "b c");
        assert_eq!(CustomHeaders::from_secret(&after.to_secret()).unwrap(), after);
        assert!(after.changed(&HeaderChange::clear()).unwrap().is_empty());
        let decided = change(&[("X-Tenant", None)]).unwrap();
        assert!(decided.decides("x-tenant") && !decided.decides("x-other"));
        assert!(HeaderChange::clear().decides("x-other"));
    }

    #[test]
    fn what_is_not_theirs_to_set_is_refused_by_name() {
        for reserved in FRAMING.into_iter().chain(OURS).chain(["tracestate", "webhook-x", "content-encoding"])
        {
            let given = reserved.to_ascii_uppercase();
            let refused = change(&[("x-good", Some("1")), (&given, Some("1"))]).unwrap_err();
            assert_eq!(refused.name.as_deref(), Some(given.as_str()));
            assert!(refused.message.contains(reserved), "{refused}");
        }
        for bad in ["", "a b", "a:b", "ü", &"a".repeat(101)] {
            assert!(change(&[(bad, Some("1"))]).is_err(), "{bad}");
        }
        for bad in ["", " a", "a ", "a\nb", "ü", "a\0", &"a".repeat(4_097)] {
            assert!(change(&[("x-a", Some(bad))]).is_err(), "{bad:?}");
        }
        assert!(change(&[("x-a", Some("1")), ("X-A", None)]).is_err());
    }

    #[test]
    fn are_bounded_in_count_and_size() {
        let many: Vec<String> = (0..51).map(|index| format!("x-{index}")).collect();
        let pairs: Vec<_> = many.iter().map(|name| (name.as_str(), Some("1"))).collect();
        let all = change(&pairs).unwrap();
        assert_eq!(CustomHeaders::default().changed(&all).unwrap_err().message, "at most 50");
        let long = "a".repeat(4_000);
        let two = change(&[("x-a", Some(&long)), ("x-b", Some(&long))]).unwrap();
        assert_eq!(CustomHeaders::default().changed(&two).unwrap_err().name, None);
    }

    #[test]
    fn show_no_value() {
        let hidden = [("authorization", Some("Bearer hush"))];
        let shown = format!("{:?} {:?}", headers(&hidden), change(&hidden).unwrap());
        assert!(!shown.contains("hush") && shown.contains("authorization"), "{shown}");
        let value = value("hush").unwrap();
        assert!(!format!("{value:?}").contains("hush"));
        assert_eq!(CustomHeaders::from_secret(&Secret::new("{\"x\":\"hush")).unwrap_err().find("hush"), None);
    }
}
