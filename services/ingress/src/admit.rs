//! The body is taken in, bounded in size, time and memory.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use ravenpost_chassis::problem::{Kind, Problem};
use ravenpost_store::system::Endpoint;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::receive::Ingress;

/// When to come back while memory is short.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// A request whose body is here.
pub struct Admitted {
    /// To whom it came.
    pub endpoint: Arc<Endpoint>,
    /// Its headers, all of them.
    pub headers: HeaderMap,
    /// Its body, byte for byte.
    pub body: Bytes,
    /// When it came.
    pub received_at: DateTime<Utc>,
    /// Its share of the memory budget, given back when it is answered.
    pub share: OwnedSemaphorePermit,
}

/// The memory that bodies in flight may take: reserved before a body is read, so that it is bounded by the setting
/// and not by traffic (invariant 7).
pub struct Budget(Arc<Semaphore>);

impl Budget {
    /// So many bytes.
    pub fn new(bytes: u32) -> Self {
        Self(Arc::new(Semaphore::new(usize::try_from(bytes).unwrap_or(Semaphore::MAX_PERMITS))))
    }

    fn reserve(&self, bytes: u32) -> Result<OwnedSemaphorePermit, Problem> {
        // Every event costs something, an empty one too.
        let share = Arc::clone(&self.0).try_acquire_many_owned(bytes.max(1_024));
        share.map_err(|_| Problem::unavailable("too much is being received at once", RETRY_AFTER))
    }
}

/// Takes the body in.
pub async fn admit(
    ingress: &Ingress,
    endpoint: Arc<Endpoint>,
    request: Request,
    received_at: DateTime<Utc>,
) -> Result<Admitted, Problem> {
    let limit = endpoint.max_body_bytes.unwrap_or(ingress.max_body_bytes);
    let (parts, body) = request.into_parts();
    let announced = announced(&parts.headers)?;
    if announced.is_some_and(|length| length > u64::from(limit)) {
        return Err(too_large(limit));
    }
    let expected = announced.and_then(|length| u32::try_from(length).ok()).unwrap_or(limit);
    let share = ingress.budget.reserve(expected)?;
    let read = tokio::time::timeout(ingress.body_timeout, read(body, limit));
    let body = read.await.map_err(|_| Problem::new(Kind::Malformed, "the body did not arrive in time"))??;
    Ok(Admitted { endpoint, headers: parts.headers, body, received_at, share })
}

fn announced(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| Problem::new(Kind::Malformed, "Content-Length is not a number"))
}

async fn read(body: Body, limit: u32) -> Result<Bytes, Problem> {
    let limit_bytes = usize::try_from(limit).unwrap_or(usize::MAX);
    to_bytes(body, limit_bytes).await.map_err(|error| {
        let is_limit = std::error::Error::source(&error)
            .is_some_and(|source| source.to_string().contains("length limit exceeded"));
        if is_limit { too_large(limit) } else { Problem::new(Kind::Malformed, "the body broke off") }
    })
}

fn too_large(limit: u32) -> Problem {
    Problem::new(Kind::PayloadTooLarge, format!("this endpoint takes bodies of up to {limit} bytes"))
}
