//! What an endpoint lets in, and what it answers: rate, content types, custom answer.

pub mod bucket;

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many events are accepted: on average, and at once after a pause (a token bucket).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Events a second, lastingly. 1 to 1,000,000.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub per_second: u32,
    /// Events at once after a pause. 1 to 1,000,000, and at most what comes in an hour.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub burst: u32,
}

/// The highest rate and burst.
const MAX_RATE: u32 = 1_000_000;
/// In how many seconds a bucket must be full again, so that an idle one can be forgotten.
pub const FILLED_WITHIN_SECONDS: u32 = 3_600;

/// The field that is out of bounds, and its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Invalid {
    /// Its name, without that of what it stands in.
    pub field: &'static str,
    /// What it may be.
    pub message: String,
}

impl RateLimit {
    /// Checks the bounds.
    pub fn check(self) -> Result<(), Invalid> {
        let bounds = |field| Invalid { field, message: format!("from 1 to {MAX_RATE}") };
        if !(1..=MAX_RATE).contains(&self.per_second) {
            return Err(bounds("per_second"));
        }
        if !(1..=MAX_RATE).contains(&self.burst) {
            return Err(bounds("burst"));
        }
        if self.burst > self.per_second.saturating_mul(FILLED_WITHIN_SECONDS) {
            let message = format!("at most {FILLED_WITHIN_SECONDS} times per_second");
            return Err(Invalid { field: "burst", message });
        }
        Ok(())
    }
}

/// What an endpoint answers to a producer that insists on more than a `202`, or than what its provider is known to want. The
/// event's id is in the header `Ravenpost-Event-Id` in any case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomAnswer {
    /// The status, 200 to 299. 204 and 205 have no body.
    #[schema(minimum = 200, maximum = 299)]
    pub status: u16,
    /// The body, up to 4 KiB.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 4096)]
    pub body: String,
    /// The body's media type; `text/plain; charset=utf-8` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "application/json")]
    pub content_type: Option<String>,
}

/// The longest custom body in bytes.
const MAX_ANSWER: usize = 4 * 1_024;
/// The longest media type in bytes, parameters included.
const MAX_MEDIA_TYPE: usize = 200;
/// Most media types that an endpoint can list.
const MAX_MEDIA_TYPES: usize = 20;

impl CustomAnswer {
    /// Checks the bounds.
    pub fn check(&self) -> Result<(), Invalid> {
        let invalid = |field, message: &str| Err(Invalid { field, message: message.to_owned() });
        if !(200..=299).contains(&self.status) {
            return invalid("status", "from 200 to 299");
        }
        if self.body.len() > MAX_ANSWER {
            return invalid("body", "at most 4096 bytes");
        }
        if matches!(self.status, 204 | 205) && !(self.body.is_empty() && self.content_type.is_none()) {
            return invalid("body", "an answer with this status has no body and no content_type");
        }
        match &self.content_type {
            Some(text) if !is_header_value(text) || MediaType::parse(essence(text)).is_none() => {
                invalid("content_type", "a media type such as application/json")
            }
            _ => Ok(()),
        }
    }
}

/// A media type, or all that have a type (`image/*`), without parameters and in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "application/json")]
pub struct MediaType(String);

impl MediaType {
    /// `None` when it is not of the form `type/subtype` or `type/*` (RFC 9110, section 8.3.1).
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, subtype) = text.split_once('/')?;
        let well_formed = is_token(kind) && kind != "*" && is_token(subtype) && text.len() <= MAX_MEDIA_TYPE;
        well_formed.then(|| Self(text.to_ascii_lowercase()))
    }

    /// Whether a `Content-Type` is of this type, whatever its parameters.
    pub fn covers(&self, content_type: &str) -> bool {
        let essence = essence(content_type);
        match self.0.strip_suffix('*') {
            Some(kind) => essence.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind)),
            None => essence.eq_ignore_ascii_case(&self.0),
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for MediaType {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
            .ok_or("expected a media type without parameters, such as application/json or text/*")
    }
}

impl From<MediaType> for String {
    fn from(media_type: MediaType) -> Self {
        media_type.0
    }
}

/// Checks a list of accepted media types.
pub fn check_content_types(types: &[MediaType]) -> Result<(), Invalid> {
    if (1..=MAX_MEDIA_TYPES).contains(&types.len()) {
        return Ok(());
    }
    let message = format!("from 1 to {MAX_MEDIA_TYPES} media types, or null for any");
    Err(Invalid { field: "content_types", message })
}

fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

fn is_token(text: &str) -> bool {
    // RFC 9110, section 5.6.2.
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}

fn is_header_value(text: &str) -> bool {
    text.len() <= MAX_MEDIA_TYPE && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_bounds() {
        let check = |per_second, burst| RateLimit { per_second, burst }.check().map_err(|error| error.field);
        assert_eq!(check(1, 1), Ok(()));
        assert_eq!(check(1, 3_600), Ok(()));
        assert_eq!(check(1_000_000, 1_000_000), Ok(()));
        assert_eq!(check(0, 1), Err("per_second"));
        assert_eq!(check(1_000_001, 1), Err("per_second"));
        assert_eq!(check(1, 0), Err("burst"));
        assert_eq!(check(1, 3_601), Err("burst"), "a bucket that takes more than an hour to fill");
        assert_eq!(check(1_000, 1_000_001), Err("burst"));
    }

    #[test]
    fn media_types_cover_what_they_name() {
        let json = MediaType::parse("Application/JSON").unwrap();
        for content_type in ["application/json", "application/json; charset=utf-8", "APPLICATION/json ;x=y"] {
            assert!(json.covers(content_type), "{content_type}");
        }
        for content_type in ["", "application/jsonp", "application/ld+json", "text/json", "application"] {
            assert!(!json.covers(content_type), "{content_type}");
        }
        let text = MediaType::parse("text/*").unwrap();
        assert!(text.covers("text/plain; charset=utf-8") && text.covers("TEXT/xml"));
        assert!(!text.covers("text") && !text.covers("application/text") && !text.covers("t\u{e4}xt/plain"));
        for bad in ["", "json", "/", "a/", "/b", "*/*", "a/b/c", "a/b; c=d", "a /b", "a/b\n", "\u{e4}/b"] {
            assert_eq!(MediaType::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn custom_answers_have_bounds() {
        let check = |status, body: &str, content_type: Option<&str>| {
            let content_type = content_type.map(str::to_owned);
            CustomAnswer { status, body: body.to_owned(), content_type }.check().map_err(|error| error.field)
        };
        assert_eq!(check(200, "[accepted]", None), Ok(()));
        assert_eq!(check(299, "{}", Some("application/json; charset=utf-8")), Ok(()));
        assert_eq!(check(204, "", None), Ok(()));
        assert_eq!(check(199, "", None), Err("status"));
        assert_eq!(check(300, "", None), Err("status"));
        assert_eq!(check(204, "x", None), Err("body"));
        assert_eq!(check(204, "", Some("text/plain")), Err("body"));
        assert_eq!(check(200, &"x".repeat(4_096), None), Ok(()));
        assert_eq!(check(200, &"x".repeat(4_097), None), Err("body"));
        for bad in ["", "json", "text/plain\r\nx: y", "text/plain; \u{e4}"] {
            assert_eq!(check(200, "", Some(bad)), Err("content_type"), "{bad:?}");
        }
    }

    #[test]
    fn they_read_as_documented() {
        let answer: CustomAnswer = serde_json::from_str(r#"{"status": 200, "body": "ok"}"#).unwrap();
        assert_eq!(serde_json::to_string(&answer).unwrap(), r#"{"status":200,"body":"ok"}"#);
        assert!(serde_json::from_str::<CustomAnswer>(r#"{"status": 200, "headers": {}}"#).is_err());
        assert!(serde_json::from_str::<RateLimit>(r#"{"per_second": 1}"#).is_err());
        assert!(serde_json::from_str::<MediaType>(r#""*/*""#).is_err());
    }
}
