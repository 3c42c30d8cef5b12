//! `If-Match` and `If-None-Match` (RFC 9110, section 13), for what two people may edit at once.
//!
//! An entity tag is `"<version>-<digest>"`. The digest is of the whole answer, so that a tag which is still the same
//! means that the answer is; the version is that of what a person can change. `If-Match` asks for the version alone:
//! a destination that fares otherwise than it did is still the destination that somebody has read and now changes.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ravenpost_chassis::problem::{Kind, Problem};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// How many characters of the digest a tag has.
const DIGEST: usize = 16;

/// A version, as a tag has it.
pub(crate) trait Version: Sized + Copy {
    /// Reads one; `None` when it is none.
    fn parse(text: &str) -> Option<Self>;
    /// Writes it, without a hyphen.
    fn write(self) -> String;
    /// One that nothing ever has.
    fn never() -> Self;
}

impl Version for i64 {
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn write(self) -> String {
        self.to_string()
    }

    fn never() -> Self {
        -1
    }
}

/// What a request demands of the present state.
pub(crate) struct Preconditions {
    if_match: Option<String>,
    if_none_match: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Preconditions {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self {
            if_match: line(&parts.headers, &header::IF_MATCH)?,
            if_none_match: line(&parts.headers, &header::IF_NONE_MATCH)?,
        })
    }
}

/// All lines of a header as one.
fn line(headers: &HeaderMap, name: &header::HeaderName) -> Result<Option<String>, Problem> {
    let mut lines = Vec::new();
    for value in headers.get_all(name) {
        let text = value.to_str();
        lines.push(
            text.map_err(|_| Problem::invalid_parameter(name.as_str(), "entity tags as they were answered"))?,
        );
    }
    Ok((!lines.is_empty()).then(|| lines.join(",")))
}

impl Preconditions {
    /// The version that a change is for; `None`: for any.
    pub(crate) fn version<V: Version>(&self) -> Result<Option<V>, Problem> {
        let Some(text) = self.if_match.as_deref().filter(|text| text.trim() != "*") else { return Ok(None) };
        let mut tags = text.split(',').map(str::trim).filter(|tag| !tag.is_empty());
        let (Some(tag), None) = (tags.next(), tags.next()) else {
            return Err(Problem::invalid_parameter("if-match", "one entity tag, or *"));
        };
        Ok(Some(version(tag).unwrap_or_else(V::never)))
    }

    /// The answer with its tag; without a body when the caller has it already.
    pub(crate) fn answer<V: Version>(&self, version: V, body: &impl Serialize) -> Response {
        let json = serde_json::to_vec(body).expect("answers serialise");
        let tag = tag(version, &json);
        let has = |text: &String| text.split(',').map(str::trim).any(|one| one == "*" || weak(one) == tag);
        if self.if_none_match.as_ref().is_some_and(has) {
            return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
        }
        tagged(tag, json).into_response()
    }
}

/// An answer with its tag.
pub(crate) fn answer<V: Version>(version: V, body: &impl Serialize) -> Response {
    Preconditions { if_match: None, if_none_match: None }.answer(version, body)
}

/// Somebody has changed it meanwhile.
pub(crate) fn failed(what: &str) -> Problem {
    Problem::new(Kind::PreconditionFailed, format!("the {what} is not of the version that If-Match names"))
}

fn tagged(tag: String, json: Vec<u8>) -> impl IntoResponse {
    let content_type = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let tag = HeaderValue::try_from(tag).expect("a tag is ASCII");
    ([content_type, (header::ETAG, tag)], json)
}

fn tag<V: Version>(version: V, json: &[u8]) -> String {
    let digest = hex::encode(Sha256::digest(json));
    format!("\"{}-{}\"", version.write(), &digest[..DIGEST])
}

/// `If-None-Match` compares weakly.
fn weak(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// The version in a strong tag.
fn version<V: Version>(tag: &str) -> Option<V> {
    let (version, _) = tag.strip_prefix('"')?.strip_suffix('"')?.split_once('-')?;
    V::parse(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demanding(if_match: &str) -> Preconditions {
        Preconditions { if_match: Some(if_match.to_owned()), if_none_match: None }
    }

    #[test]
    fn the_version_is_read_out_of_a_strong_tag() {
        assert_eq!(demanding(&tag(7_i64, b"{}")).version::<i64>().unwrap(), Some(7));
        assert_eq!(demanding("*").version::<i64>().unwrap(), None);
        for never in ["W/\"7-44136fa355b3678a\"", "7-44136fa355b3678a", "\"7\"", "\"x-y\"", "\"\""] {
            assert_eq!(demanding(never).version::<i64>().unwrap(), Some(-1), "{never}");
        }
        assert!(demanding("\"1-a\", \"2-b\"").version::<i64>().is_err());
        assert!(demanding("").version::<i64>().is_err());
    }

    #[test]
    fn who_has_it_already_gets_it_not_again() {
        let has = |tag: &str| Preconditions { if_match: None, if_none_match: Some(tag.to_owned()) };
        let tag = tag(7_i64, br#"{"a":1}"#);
        let body = serde_json::json!({ "a": 1 });
        for same in [tag.clone(), format!("W/{tag}"), format!("\"1-x\", {tag}"), "*".to_owned()] {
            assert_eq!(has(&same).answer(7, &body).status(), StatusCode::NOT_MODIFIED, "{same}");
        }
        let other = has(&tag).answer(7, &serde_json::json!({ "a": 2 }));
        assert_eq!(other.status(), StatusCode::OK, "the same version, and yet another answer");
        assert_ne!(other.headers()[header::ETAG], tag);
    }
}
