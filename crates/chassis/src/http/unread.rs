//! What becomes of a body that a handler does not read to its end.
//!
//! Closing a connection while data of the client are unread resets it, and with the reset the client may lose the answer
//! that was on its way: it sees a broken connection where we said 413 or 429. So the rest is read on and thrown away,
//! for a while; then the connection is closed.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use hyper::Response;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};

/// Most bytes that are read on, all but certainly those of a client that writes everything before it reads.
const DRAIN_BYTES: u64 = 4 * 1024 * 1024;
/// How long a client has to send them, or to take the answer and close.
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// A rest of at most so many bytes is worth keeping the connection for.
const SMALL: u64 = 64 * 1024;

/// A body lent to a handler can be taken back afterwards.
pub(super) fn lend(incoming: Incoming) -> (Body, Lender) {
    if incoming.is_end_stream() {
        return (Body::empty(), Lender(None));
    }
    let lent = Arc::new(Mutex::new(Shared { incoming: Some(incoming), ended: false }));
    (Body::new(Lent(Arc::clone(&lent))), Lender(Some(lent)))
}

struct Shared {
    incoming: Option<Incoming>,
    ended: bool,
}

/// What the handler reads.
struct Lent(Arc<Mutex<Shared>>);

/// The handler has answered, so nobody should read any more; an end would be taken for that of the body.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("the request was answered before its body was read")]
    Answered,
    #[error(transparent)]
    Broken(#[from] hyper::Error),
}

impl hyper::body::Body for Lent {
    type Data = Bytes;
    type Error = ReadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReadError>>> {
        let mut shared = lock(&self.0);
        let Some(incoming) = shared.incoming.as_mut() else {
            return Poll::Ready(Some(Err(ReadError::Answered)));
        };
        let polled = Pin::new(incoming).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            shared.ended = true;
        }
        polled.map(|frame| frame.map(|frame| frame.map_err(ReadError::from)))
    }

    fn is_end_stream(&self) -> bool {
        let shared = lock(&self.0);
        shared.ended || shared.incoming.as_ref().is_some_and(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.0).incoming.as_ref().map(Incoming::size_hint).unwrap_or_default()
    }
}

/// Takes back what was lent.
pub(super) struct Lender(Option<Arc<Mutex<Shared>>>);

impl Lender {
    /// What the handler has left, if anything.
    pub(super) fn unread(self) -> Option<Rest> {
        let mut shared = lock(self.0.as_ref()?);
        let incoming = shared.incoming.take()?;
        (!shared.ended && !incoming.is_end_stream()).then_some(Rest(incoming))
    }
}

/// The unread rest of a body.
pub(super) struct Rest(Incoming);

impl Rest {
    /// Reads it beside the answer, then calls `read`. The connection lives on only when little is left.
    pub(super) fn drain(self, response: &mut Response<Body>, read: impl FnOnce() + Send + 'static) {
        if self.0.size_hint().upper().is_none_or(|left| left > SMALL) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let mut incoming = self.0;
        tokio::spawn(async move {
            // When time is up, dropping the body closes the connection.
            let _ = tokio::time::timeout(DRAIN_TIME, discard(&mut incoming)).await;
            read();
        });
    }
}

/// Reads up to the bound; then only waits, as a client that reads its answer closes by itself.
async fn discard(incoming: &mut Incoming) {
    let mut left = DRAIN_BYTES;
    while let Some(Ok(frame)) = std::future::poll_fn(|cx| Pin::new(&mut *incoming).poll_frame(cx)).await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(u64::try_from(length).unwrap_or(u64::MAX)) {
            Some(rest) => left = rest,
            None => std::future::pending().await,
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
