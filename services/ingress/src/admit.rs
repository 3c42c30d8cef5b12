//! The body is taken in, bounded in size, time and memory.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, Method, Uri, header};
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use futures::StreamExt;
use ravenpost_chassis::problem::{Kind, Problem};
use ravenpost_store::system::Endpoint;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::peer::peer;
use crate::receive::Ingress;

/// What an event without a body counts for.
const EMPTY: usize = 1_024;
/// When to come back while memory is short.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// A request whose body is here.
pub struct Admitted {
    /// To whom it came.
    pub endpoint: Arc<Endpoint>,
    /// Its method.
    pub method: Method,
    /// Its path and query.
    pub uri: Uri,
    /// From where it came, if that can be told.
    pub peer: Option<IpAddr>,
    /// Its headers, all of them.
    pub headers: HeaderMap,
    /// Its body, byte for byte.
    pub body: Bytes,
    /// When it came.
    pub received_at: DateTime<Utc>,
    /// Its share of the memory budget, given back when it is answered.
    pub share: OwnedSemaphorePermit,
}

/// The memory that bodies in flight may take, so that it is bounded by the setting and not by traffic (invariant 7).
/// It is reserved as a body arrives: announcing much and sending little takes little.
pub struct Budget(Arc<Semaphore>);

impl Budget {
    /// So many bytes.
    pub fn new(bytes: u32) -> Self {
        Self(Arc::new(Semaphore::new(usize::try_from(bytes).unwrap_or(Semaphore::MAX_PERMITS))))
    }

    fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let refused = || Problem::unavailable("too much is being received at once", RETRY_AFTER);
        let bytes = u32::try_from(bytes).map_err(|_| refused())?;
        Arc::clone(&self.0).try_acquire_many_owned(bytes).map_err(|_| refused())
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
    if announced(&parts.headers)?.is_some_and(|length| length > u64::from(limit)) {
        return Err(too_large(limit));
    }
    let read = tokio::time::timeout(ingress.body_timeout, read(&ingress.budget, body, limit));
    let (body, share) =
        read.await.map_err(|_| Problem::new(Kind::Malformed, "the body did not arrive in time"))??;
    let connection = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let peer = connection.and_then(|connection| peer(connection.0, &parts.headers, &ingress.trusted_proxies));
    let (method, uri, headers) = (parts.method, parts.uri, parts.headers);
    Ok(Admitted { endpoint, method, uri, peer, headers, body, received_at, share })
}

fn announced(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| Problem::new(Kind::Malformed, "Content-Length is not a number"))
}

/// Reads up to the limit and not further.
async fn read(budget: &Budget, body: Body, limit: u32) -> Result<(Bytes, OwnedSemaphorePermit), Problem> {
    let limit_bytes = usize::try_from(limit).unwrap_or(usize::MAX);
    // Every event costs something, an empty one too.
    let mut share = budget.reserve(EMPTY)?;
    let mut chunks = body.into_data_stream();
    let mut read = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::new(Kind::Malformed, "the body broke off"))?;
        if read.len() + chunk.len() > limit_bytes {
            return Err(too_large(limit));
        }
        share.merge(budget.reserve(chunk.len())?);
        read.extend_from_slice(&chunk);
    }
    Ok((read.freeze(), share))
}

fn too_large(limit: u32) -> Problem {
    Problem::new(Kind::PayloadTooLarge, format!("this endpoint takes bodies of up to {limit} bytes"))
}
