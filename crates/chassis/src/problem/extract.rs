//! Extractors that answer bad input with a problem that names the field.
//!
//! The types they fill should `deny_unknown_fields`: a misspelt field that is ignored is a silent bug of the caller.

use axum::body::Bytes;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;

use super::{Kind, Problem, WHOLE_BODY};

/// A JSON body. 415 without a JSON `Content-Type`, 413 over the body limit, 400 when it is no JSON, 422 when it is not
/// what the type wants.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

/// The path's parameters. 400 names the one that is wrong.
#[derive(Debug, Clone, Copy)]
pub struct Path<T>(pub T);

/// The query's parameters. 400 names the one that is wrong.
#[derive(Debug, Clone, Copy)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::new(
                Kind::UnsupportedMediaType,
                "send JSON, with Content-Type: application/json",
            ));
        }
        let body = Bytes::from_request(request, state).await.map_err(unreadable)?;
        from_json(&body).map(Json)
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(bad_path(rejection, parameter_names(parts, state).await)),
        }
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let pairs = form_pairs(parts.uri.query().unwrap_or_default());
        serde_path_to_error::deserialize(pairs).map(Self).map_err(|error| {
            let path = error.path().to_string();
            let (field, message) = field_and_message(&path, &error.into_inner().to_string());
            Problem::invalid_parameter(field, message)
        })
    }
}

/// Reads a JSON document as [`Json`] does; the problem names the field that does not fit.
pub fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    if body.trim_ascii_start().first() == Some(&b'[') && serde_json::from_slice::<IgnoredAny>(body).is_ok() {
        // serde would fill a struct from an array, by position.
        return Err(Problem::invalid_field(WHOLE_BODY, "send a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        not_fitting(&path, &error.into_inner())
    })?;
    deserializer.end().map_err(|error| not_fitting(".", &error))?;
    Ok(value)
}

fn not_fitting(path: &str, error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    if error.classify() != Category::Data {
        return Problem::new(Kind::Malformed, format!("the body is not JSON: {text}"));
    }
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(before, _)| before);
    let (field, message) = field_and_message(path, text);
    Problem::invalid_field(field, message)
}

/// An unknown or missing field is named in serde's message, not in the path.
fn field_and_message(path: &str, message: &str) -> (String, String) {
    let named = ["unknown field `", "missing field `", "duplicate field `"];
    let name =
        named.iter().find_map(|start| message.strip_prefix(start)).and_then(|rest| rest.split('`').next());
    let parent = if path == "." { "" } else { path };
    let field = match name {
        Some(name) if parent == name || parent.ends_with(&format!(".{name}")) => parent.to_owned(),
        Some(name) if parent.is_empty() => name.to_owned(),
        Some(name) => format!("{parent}.{name}"),
        None if parent.is_empty() => WHOLE_BODY.to_owned(),
        None => parent.to_owned(),
    };
    (field, message.to_owned())
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn unreadable(rejection: BytesRejection) -> Problem {
    if rejection.into_response().status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Problem::new(Kind::PayloadTooLarge, "the body is larger than this operation takes");
    }
    Problem::new(Kind::Malformed, "the body could not be read to its end")
}

fn form_pairs(query: &str) -> serde_urlencoded::Deserializer<'_> {
    serde_urlencoded::Deserializer::new(url::form_urlencoded::parse(query.as_bytes()))
}

/// The names of the route's parameters, in its order: most errors do not name the one.
async fn parameter_names<S: Send + Sync>(parts: &mut Parts, state: &S) -> Vec<String> {
    let parameters = RawPathParams::from_request_parts(parts, state).await;
    parameters.iter().flatten().map(|(name, _)| name.to_owned()).collect()
}

fn bad_path(rejection: PathRejection, mut names: Vec<String>) -> Problem {
    let PathRejection::FailedToDeserializePathParams(error) = rejection else {
        // The route has no parameters although the handler wants some: our bug.
        return Problem::internal(&rejection);
    };
    let kind = error.into_kind();
    let message = match &kind {
        ErrorKind::ParseErrorAtKey { expected_type, .. }
        | ErrorKind::ParseErrorAtIndex { expected_type, .. }
        | ErrorKind::ParseError { expected_type, .. } => format!("it is not a valid {expected_type}"),
        ErrorKind::DeserializeError { message, .. } | ErrorKind::Message(message) => message.clone(),
        other => other.to_string(),
    };
    let name = match kind {
        ErrorKind::ParseErrorAtKey { key, .. }
        | ErrorKind::DeserializeError { key, .. }
        | ErrorKind::InvalidUtf8InPathParam { key } => Some(key),
        ErrorKind::ParseErrorAtIndex { index, .. } if index < names.len() => Some(names.swap_remove(index)),
        _ if names.len() == 1 => names.pop(),
        _ => None,
    };
    Problem::invalid_parameter(name.unwrap_or_else(|| "(path)".to_owned()), message)
}
