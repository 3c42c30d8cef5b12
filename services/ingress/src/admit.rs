//! The body is taken in, bounded in kind, size, time and memory.

mod budget;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, Method, Uri, header};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use ravenpost_chassis::peer::peer;
use ravenpost_chassis::problem::{Kind, Problem};
use ravenpost_core::limit::MediaType;
use ravenpost_store::system::Endpoint;
use tokio::time::timeout;

use crate::receive::Ingress;
pub use budget::{Budget, Share};
use budget::{Full, Intake};

/// When to come back while memory is short.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The longest silence within a body. Together with the time that a body may take in all, it bounds how long somebody
/// who sends a byte now and then can hold memory.
const SILENCE: Duration = Duration::from_secs(10);

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
    pub share: Share,
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
    check_content_type(endpoint.content_types.as_deref(), &parts.headers)?;
    let announced = announced(&parts.headers)?;
    if announced.is_some_and(|length| length > u64::from(limit)) {
        return Err(too_large(limit));
    }
    let most = announced.map_or(limit, |length| u32::try_from(length).unwrap_or(limit));
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let intake = ingress.budget.open(endpoint.organization_id, endpoint.id, most).await;
    let intake = intake.map_err(|full| no_room(ingress, full))?;
    let (body, share) = timeout(ingress.body_timeout, read(ingress, intake, body, limit))
        .await
        .map_err(|_| too_slow(ingress))??;
    let connection = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let peer = connection.and_then(|connection| peer(connection.0, &parts.headers, &ingress.trusted_proxies));
    let (method, uri, headers) = (parts.method, parts.uri, parts.headers);
    Ok(Admitted { endpoint, method, uri, peer, headers, body, received_at, share })
}

fn check_content_type(accepted: Option<&[MediaType]>, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(accepted) = accepted else { return Ok(()) };
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if content_type.is_some_and(|content_type| accepted.iter().any(|accepted| accepted.covers(content_type)))
    {
        return Ok(());
    }
    let accepted = accepted.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(Problem::new(Kind::UnsupportedMediaType, format!("this endpoint takes {accepted}")))
}

fn announced(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| Problem::new(Kind::Malformed, "Content-Length is not a number"))
}

/// Reads up to the limit and not further.
async fn read(
    ingress: &Ingress,
    mut intake: Intake,
    body: Body,
    limit: u32,
) -> Result<(Bytes, Share), Problem> {
    let limit_bytes = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = timeout(SILENCE, chunks.next()).await.map_err(|_| too_slow(ingress))? {
        let chunk = chunk.map_err(|_| Problem::new(Kind::Malformed, "the body broke off"))?;
        if intake.len() + chunk.len() > limit_bytes {
            return Err(too_large(limit));
        }
        intake.add(&chunk).map_err(|full| no_room(ingress, full))?;
    }
    Ok(intake.finish())
}

fn too_large(limit: u32) -> Problem {
    Problem::new(Kind::PayloadTooLarge, format!("this endpoint takes bodies of up to {limit} bytes"))
}

fn too_slow(ingress: &Ingress) -> Problem {
    ingress.metrics.limited("slow_body");
    Problem::new(Kind::Malformed, "the body did not arrive in time")
}

fn no_room(ingress: &Ingress, full: Full) -> Problem {
    ingress.metrics.limited(full.as_str());
    let detail = match full {
        Full::Memory => "too much is being received at once",
        Full::Organization => "too much is being received for this endpoint's organization at once",
        Full::Endpoint => "too much is being received for this endpoint at once",
    };
    Problem::unavailable(detail, RETRY_AFTER)
}
