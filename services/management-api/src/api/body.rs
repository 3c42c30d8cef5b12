//! Bodies that may be left out, and fields in which null means something.

use axum::extract::{FromRequest, Request};
use axum::http::header;
use ravenpost_chassis::problem::{Json, Problem};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

/// A JSON body, or the default when there is no body at all.
pub(super) struct OptionalJson<T>(pub(super) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let headers = request.headers();
        let length = headers.get(header::CONTENT_LENGTH).map(header::HeaderValue::as_bytes);
        let empty = match length {
            Some(length) => length == b"0",
            None => {
                !headers.contains_key(header::TRANSFER_ENCODING)
                    && !headers.contains_key(header::CONTENT_TYPE)
            }
        };
        if empty {
            return Ok(Self(T::default()));
        }
        Json::from_request(request, state).await.map(|Json(value)| Self(value))
    }
}

/// Tells a field that is null (`Some(None)`) from one that is absent; for `#[serde(default, deserialize_with)]`.
#[expect(clippy::option_option, reason = "absent, null and a value are three things to a PATCH")]
pub(super) fn nullable<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Some)
}
