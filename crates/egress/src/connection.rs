//! An open connection and one exchange on it, HTTP/1.1 or HTTP/2. Everything that the other side sends has a bound.

mod http1;
mod http2;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use ravenpost_core::delivery::{Failure, FailureKind, Response};
use ravenpost_core::ids::EventId;
use tokio::time::Instant;

use crate::classify::{self, Stage};
use crate::connect::{Connected, Stream};
use crate::metered::Allowance;
use crate::seen::Seen;
use crate::target::Target;

pub(crate) use http1::Http1;
pub(crate) use http2::Http2;

/// By what an ingress of ours says which event it has accepted.
const EVENT_ID: HeaderName = HeaderName::from_static("ravenpost-event-id");
/// Headers of a response: their bytes, and how many (HTTP/1.1).
const HEADERS_BYTES: usize = 64 * 1024;
const HEADERS: usize = 256;
/// What a connection may read for one response beside its body: headers, interim responses, framing, TLS.
const BESIDE_THE_BODY: u64 = 512 * 1024;

/// A request in the making: its target is the connection's, its body can be sent twice.
pub(crate) type Outgoing = http::Request<Full<Bytes>>;

type Io = TokioIo<Stream>;

/// Bounds of one exchange.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// From the connection to the end of the response's headers.
    pub(crate) first_byte: Duration,
    /// Of the body.
    pub(crate) body_bytes: usize,
}

impl Bounds {
    /// What a connection may read for one response.
    fn allowance(&self) -> u64 {
        // Chunks of a byte each cost six.
        BESIDE_THE_BODY + 6 * self.body_bytes as u64
    }
}

/// Where a connection leads, and since when.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    pub(crate) opened: Instant,
    allowance: Allowance,
}

/// An open connection.
pub(crate) enum Connection {
    /// For one exchange at a time.
    Http1(Box<Http1>),
    /// Shared.
    Http2(Http2),
}

/// Why there is no response.
pub(crate) struct Broken {
    pub(crate) failure: Failure,
    /// On a connection that had been used before: the destination has not taken the request, as far as can be told.
    pub(crate) untaken: bool,
}

impl Connection {
    /// Begins to speak HTTP.
    pub(crate) async fn open(connected: Connected) -> Result<Self, Failure> {
        let Connected { stream, address, http2, allowance } = connected;
        let origin = Origin { address, opened: Instant::now(), allowance };
        let opened = if http2 {
            Http2::open(TokioIo::new(stream), origin).await.map(Self::Http2)
        } else {
            Http1::open(stream, origin).await.map(|connection| Self::Http1(Box::new(connection)))
        };
        opened.map_err(|error| classify::http(&error))
    }

    pub(crate) fn origin(&self) -> &Origin {
        match self {
            Self::Http1(connection) => &connection.origin,
            Self::Http2(connection) => connection.origin(),
        }
    }

    /// Sends a request and reads the response. Gives the connection back when it can be used again.
    pub(crate) async fn exchange(
        self,
        target: &Target,
        request: Outgoing,
        bounds: Bounds,
        seen: &mut Seen,
    ) -> (Result<Response, Broken>, Option<Self>) {
        seen.address = Some(self.origin().address);
        seen.stage = Stage::Waiting;
        match self {
            Self::Http1(connection) => {
                let (result, again) = connection.exchange(target, request, bounds, seen).await;
                (result, again.map(Self::Http1))
            }
            Self::Http2(connection) => {
                let result = connection.exchange(target, request, bounds, seen).await;
                let again = result.is_ok().then_some(Self::Http2(connection));
                (result, again)
            }
        }
    }
}

/// Waits for the response's headers, within their time. `is_silent` tells whether nothing of them has come.
async fn headers(
    response: impl Future<Output = hyper::Result<http::Response<Incoming>>>,
    is_silent: impl Fn() -> bool,
    bounds: Bounds,
    seen: &mut Seen,
) -> Result<http::Response<Incoming>, Broken> {
    let started = Instant::now();
    let response = match tokio::time::timeout(bounds.first_byte, response).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(unanswered(&error, is_silent())),
        Err(_) => {
            let failure = classify::first_byte_timed_out(bounds.first_byte);
            return Err(Broken { failure, untaken: false });
        }
    };
    seen.phases.first_byte = Some(started.elapsed());
    seen.stage = Stage::Reading;
    Ok(response)
}

/// The request has ended without the headers of a response.
fn unanswered(error: &hyper::Error, is_silent: bool) -> Broken {
    Broken { failure: classify::http(error), untaken: classify::is_untaken(error, is_silent) }
}

/// What the URL's parser lets through and a request can't carry.
fn unfit<E>(_: E) -> Broken {
    let failure = classify::failure(FailureKind::InvalidUrl, "no request can be made of this URL");
    Broken { failure, untaken: false }
}

/// Reads the body up to the bound, and tells whether that was all of it. What is left is never read. Nothing is
/// decoded: what a compressed body would unpack to does not matter.
async fn read(
    response: http::Response<Incoming>,
    bounds: Bounds,
    seen: &mut Seen,
) -> Result<(Response, bool), Broken> {
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let begun = seen.begun.insert(Response {
        status: response.status().as_u16(),
        retry_after: text(header::RETRY_AFTER).map(str::to_owned),
        event_id: text(EVENT_ID).and_then(|value| value.parse().ok()).map(EventId),
        body: Vec::new(),
    });
    let mut incoming = response.into_body();
    let complete = loop {
        match incoming.frame().await {
            None => break true,
            Some(Ok(frame)) => {
                let Some(data) = frame.data_ref() else { continue };
                let room = bounds.body_bytes - begun.body.len();
                begun.body.extend_from_slice(&data[..data.len().min(room)]);
                if data.len() > room {
                    break false;
                }
            }
            Some(Err(error)) => {
                return Err(Broken { failure: classify::http(&error), untaken: false });
            }
        }
    };
    let body = std::mem::take(&mut begun.body);
    Ok((Response { body, ..begun.clone() }, complete))
}
