//! HTTP/1.1 without a task of its own: the connection moves while an exchange waits on it, and is closed with it.

use std::pin::{Pin, pin};
use std::task::Poll;

use bytes::Bytes;
use futures::FutureExt;
use http::header::{self, HeaderValue};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ravenpost_core::delivery::Response;

use super::{Bounds, Broken, HEADERS, HEADERS_BYTES, Origin, Outgoing, headers, read, unfit};
use crate::connect::Stream;
use crate::metered::{Allowance, Metered};
use crate::seen::Seen;
use crate::target::Target;

/// A connection for one exchange at a time.
pub(crate) struct Http1 {
    sender: http1::SendRequest<Full<Bytes>>,
    moving: Moving,
    /// Without an end: what is read of HTTP comes off it. Beneath TLS that can't be told from what TLS says itself.
    unheard: Allowance,
    pub(super) origin: Origin,
}

type Io = TokioIo<Metered<Stream>>;

/// The library's state machine, until it has ended.
type Moving = Option<Pin<Box<http1::Connection<Io, Full<Bytes>>>>>;

impl Http1 {
    pub(super) async fn open(stream: Stream, origin: Origin) -> hyper::Result<Self> {
        let unheard = Allowance::default();
        unheard.grant(u64::MAX, u64::MAX);
        let io = TokioIo::new(Metered::new(stream, unheard.clone()));
        let (sender, moving) = http1::Builder::new()
            .max_headers(HEADERS)
            .max_header_size(HEADERS_BYTES)
            .max_buf_size(HEADERS_BYTES)
            .handshake(io)
            .await?;
        Ok(Self { sender, moving: Some(Box::pin(moving)), unheard, origin })
    }

    /// Whether a request can be sent: the destination has neither closed it nor said anything unasked.
    pub(crate) fn is_usable(&mut self) -> bool {
        let idle = std::future::pending::<()>();
        let _ = tokio::task::unconstrained(drive(&mut self.moving, idle)).now_or_never();
        self.moving.is_some() && self.sender.is_ready()
    }

    pub(super) async fn exchange(
        mut self: Box<Self>,
        target: &Target,
        request: Outgoing,
        bounds: Bounds,
        seen: &mut Seen,
    ) -> (Result<Response, Broken>, Option<Box<Self>>) {
        let request = match addressed(request, target) {
            Ok(request) => request,
            Err(broken) => return (Err(broken), None),
        };
        self.origin.allowance.grant(bounds.allowance(), bounds.allowance());
        let (sender, unheard) = (&mut self.sender, &self.unheard);
        let before = unheard.left();
        // The library does not tell an end after half of the headers from one without any.
        let is_silent = || unheard.left() == before;
        let exchange = async {
            let response = headers(sender.send_request(request), is_silent, bounds, seen).await?;
            read(response, bounds, seen).await
        };
        match drive(&mut self.moving, exchange).await {
            Ok((response, complete)) => {
                let again = complete && self.is_usable();
                (Ok(response), again.then_some(self))
            }
            Err(broken) => (Err(broken), None),
        }
    }
}

/// In origin form, with the host in a header (RFC 9112, section 3.2).
fn addressed(mut request: Outgoing, target: &Target) -> Result<Outgoing, Broken> {
    *request.uri_mut() = target.path.parse().map_err(unfit)?;
    let host = HeaderValue::from_str(&target.authority).map_err(unfit)?;
    request.headers_mut().insert(header::HOST, host);
    Ok(request)
}

/// Polls the connection along with what waits on it. That comes first and last, as it gives the connection work and
/// takes what came of it.
async fn drive<T>(moving: &mut Moving, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        // Its error, if any, has reached the work as well.
        if let Some(connection) = moving
            && connection.as_mut().poll(cx).is_ready()
        {
            *moving = None;
        }
        work.as_mut().poll(cx)
    })
    .await
}
