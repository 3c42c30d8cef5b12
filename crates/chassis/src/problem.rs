//! Errors as the outside sees them: RFC 9457 `application/problem+json`, from one closed list.
//!
//! ```json
//! {"type": "urn:ravenpost:problem:invalid-field", "title": "A field is invalid", "status": 422,
//!  "detail": "target_url: only http and https", "errors": [
//!   {"field": "target_url", "detail": "only http and https", "pointer": "#/target_url"}]}
//! ```
//!
//! `type` is a URN: a stable name to compare with, not an address to fetch. Which status for bad input: what can't be
//! read at all (broken JSON) is 400, as is a path or query parameter; a body that is well-formed JSON but has an
//! unknown or missing field, a wrong type or a value out of bounds is 422 and names the field.

mod extract;
mod guard;
mod kind;

use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

pub use extract::{Json, Path, Query, from_json};
pub use guard::guard;
pub use kind::Kind;

/// What a problem of the body as a whole names.
const WHOLE_BODY: &str = "(body)";
/// The media type of every error.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// One error, ready to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which of the list.
    pub kind: Kind,
    /// What is wrong this time, for the person who reads it. Holds no secret and nothing internal.
    pub detail: String,
    /// The fields or parameters that are wrong, if any.
    pub errors: Vec<FieldError>,
    /// When it is worth trying again (`Retry-After`, in whole seconds, rounded up).
    pub retry_after: Option<Duration>,
}

/// One wrong field or parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Its path, such as `verification.header` or `destinations[0].url`; or the parameter's or header's name.
    pub field: String,
    /// What is wrong with it.
    #[serde(rename = "detail")]
    pub message: String,
    /// Where it is in the body: a JSON pointer (RFC 6901) as a fragment, as RFC 9457 has it. `None` for what is not in
    /// the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
}

/// A problem as it travels.
#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

impl Problem {
    /// A problem of a kind.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), errors: Vec::new(), retry_after: None }
    }

    /// A field of the body has a value that can't be accepted (422).
    pub fn invalid_field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::of_field(Kind::InvalidField, field.into(), message.into())
    }

    /// Several fields of the body can't be accepted, for one reason (422).
    pub fn invalid_fields(fields: Vec<String>, message: &str) -> Self {
        let detail = format!("{}: {message}", fields.join(", "));
        let error =
            |field: String| FieldError { pointer: Some(pointer(&field)), field, message: message.to_owned() };
        Self { errors: fields.into_iter().map(error).collect(), ..Self::new(Kind::InvalidField, detail) }
    }

    /// A path or query parameter can't be accepted (400).
    pub fn invalid_parameter(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::of_field(Kind::InvalidParameter, name.into(), message.into())
    }

    /// There is no such thing, or not for this caller (404). `what` is the noun, as in `endpoint`.
    pub fn not_found(what: &str) -> Self {
        Self::new(Kind::NotFound, format!("there is no such {what}"))
    }

    /// Something that the service needs is away (503); it is worth trying again after `retry_after`.
    pub fn unavailable(detail: impl Into<String>, retry_after: Duration) -> Self {
        Self::new(Kind::Unavailable, detail).retry_after(retry_after)
    }

    /// A bug or a broken store (500). Logs the cause, which the outside does not get to see.
    pub fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        let causes = std::iter::successors(Some(cause), |cause| cause.source());
        let chain = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        tracing::error!(error = chain, "a request failed");
        Self::new(Kind::Internal, "something went wrong on our side")
    }

    /// The same problem, worth trying again after a while.
    #[must_use]
    pub fn retry_after(self, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..self }
    }

    fn of_field(kind: Kind, field: String, message: String) -> Self {
        let detail = format!("{field}: {message}");
        let pointer = (kind == Kind::InvalidField).then(|| pointer(&field));
        Self { errors: vec![FieldError { field, message, pointer }], ..Self::new(kind, detail) }
    }

    /// This problem and another one of the same request, told together. They are of one kind, or only the first is told.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        if self.kind == other.kind {
            self.detail = format!("{}; {}", self.detail, other.detail);
            self.errors.extend(other.errors);
        }
        self
    }

    /// The document, as it is sent.
    pub fn to_json(&self) -> String {
        let document = Document {
            r#type: self.kind.uri(),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: &self.detail,
            errors: &self.errors,
        };
        serde_json::to_string(&document).expect("strings and numbers always serialise")
    }
}

/// `destinations[0].url` as `#/destinations/0/url`. What is escaped is what RFC 6901 and a fragment (RFC 3986) want.
fn pointer(field: &str) -> String {
    if field == WHOLE_BODY {
        return "#".to_owned();
    }
    let mut pointer = String::from("#");
    for part in field.split(['.', '[']) {
        let part = part.strip_suffix(']').unwrap_or(part).replace('~', "~0").replace('/', "~1");
        pointer.push('/');
        pointer.extend(
            url::form_urlencoded::byte_serialize(part.as_bytes()).map(|text| text.replace('+', "%20")),
        );
    }
    pointer
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.kind.status(), self.to_json()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        if let Some(wait) = self.retry_after {
            // Rounded up: a client that comes a moment early would be refused again.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.kind.status() == axum::http::StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, challenge(self.kind));
        }
        response
    }
}

/// RFC 9110 wants a challenge with every 401; what the API takes is a bearer token (RFC 6750, section 3).
fn challenge(kind: Kind) -> HeaderValue {
    HeaderValue::from_static(match kind {
        Kind::AccessTokenInvalid => r#"Bearer error="invalid_token""#,
        _ => "Bearer",
    })
}

#[cfg(test)]
mod tests;
