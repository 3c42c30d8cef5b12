//! HTTP/2: one connection for many exchanges, moved by tasks of its own that end with it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper::client::conn::http2;
use ravenpost_core::delivery::Response;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Bounds, Broken, Io, Origin, Outgoing, headers, read, unanswered, unfit};
use crate::seen::Seen;
use crate::target::Target;

/// What may come unread: of one response, and of all responses on one connection.
const STREAM_WINDOW: u32 = 65_535;
const CONNECTION_WINDOW: u32 = 4 * 65_535;
const HEADER_LIST_BYTES: u32 = 64 * 1024;
/// What of a request is buffered before the destination takes it.
const SEND_BUFFER: usize = 64 * 1024;
/// Resets that are remembered and borne; a destination that only resets is closed.
const RESETS: usize = 32;
/// Requests' worth of allowance that a connection can gather.
const GATHERED: u64 = 16;

/// A shared connection; clones are the same one. It is closed when the last clone is gone.
#[derive(Clone)]
pub(crate) struct Http2(Arc<Shared>);

struct Shared {
    sender: http2::SendRequest<Full<Bytes>>,
    moving: Moving,
    origin: Origin,
    in_flight: AtomicUsize,
    /// An exchange went wrong: no other begins.
    retired: AtomicBool,
    _tasks: DropGuard,
}

/// The library's state machine, until it has ended. Its task moves it, and it knows how much the other side takes at
/// once.
type Moving = Arc<Mutex<Option<Pin<Box<http2::Connection<Io, Full<Bytes>, Tasks>>>>>>;

impl Http2 {
    pub(super) async fn open(io: Io, origin: Origin) -> hyper::Result<Self> {
        let end = CancellationToken::new();
        let tasks = Tasks(end.clone());
        // From here on, whatever happens, the tasks end.
        let guard = end.drop_guard();
        // Its settings, before the first request.
        origin.allowance.grant(super::BESIDE_THE_BODY, super::BESIDE_THE_BODY);
        let (sender, moving) = http2::Builder::new(tasks.clone())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_LIST_BYTES)
            .max_send_buf_size(SEND_BUFFER)
            .max_concurrent_reset_streams(RESETS)
            .max_local_error_reset_streams(RESETS)
            .handshake(io)
            .await?;
        let moving: Moving = Arc::new(Mutex::new(Some(Box::pin(moving))));
        hyper::rt::Executor::execute(&tasks, moved(Arc::clone(&moving)));
        let (in_flight, retired) = (AtomicUsize::new(0), AtomicBool::new(false));
        Ok(Self(Arc::new(Shared { sender, moving, origin, in_flight, retired, _tasks: guard })))
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// Whether another exchange may begin now: it is open, nothing went wrong, and the destination takes one more.
    pub(crate) fn is_usable(&self) -> bool {
        let moving = self.0.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let most = moving.as_ref().map_or(0, |moving| moving.current_max_send_streams());
        drop(moving);
        !self.is_over() && self.0.in_flight.load(Ordering::Relaxed) < most
    }

    /// Whether it is of no use any more.
    pub(crate) fn is_over(&self) -> bool {
        self.0.retired.load(Ordering::Relaxed) || self.0.sender.is_closed()
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) async fn exchange(
        &self,
        target: &Target,
        request: Outgoing,
        bounds: Bounds,
        seen: &mut Seen,
    ) -> Result<Response, Broken> {
        let request = addressed(request, target)?;
        let mut exchange = Exchange::begin(&self.0);
        self.0.origin.allowance.grant(bounds.allowance(), GATHERED * bounds.allowance());
        let mut sender = self.0.sender.clone();
        sender.ready().await.map_err(|error| unanswered(&error, true))?;
        // What comes is of other requests as well; an end of the connection says enough.
        let is_silent = || true;
        let response = headers(sender.send_request(request), is_silent, bounds, seen).await?;
        let (response, _) = read(response, bounds, seen).await?;
        exchange.went_well = true;
        Ok(response)
    }
}

/// Polls the connection until it has ended, and drops it then: what waits to be sent fails with it.
async fn moved(moving: Moving) {
    std::future::poll_fn(|cx| {
        let mut moving = moving.lock().unwrap_or_else(PoisonError::into_inner);
        // Its error, if any, has reached each exchange as well.
        let ended = moving.as_mut().is_none_or(|connection| connection.as_mut().poll(cx).is_ready());
        if ended {
            *moving = None;
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
}

/// One exchange; when it does not go well (it may be dropped at its deadline), no other begins on the connection:
/// it may be dead without having said so.
struct Exchange<'a> {
    shared: &'a Shared,
    went_well: bool,
}

impl<'a> Exchange<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { shared, went_well: false }
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        if !self.went_well {
            self.shared.retired.store(true, Ordering::Relaxed);
        }
    }
}

/// In absolute form: the library makes `:scheme`, `:authority` and `:path` of it (RFC 9113, section 8.3.1).
fn addressed(mut request: Outgoing, target: &Target) -> Result<Outgoing, Broken> {
    let uri = Uri::builder()
        .scheme("https")
        .authority(target.authority.as_str())
        .path_and_query(target.path.as_str())
        .build();
    *request.uri_mut() = uri.map_err(unfit)?;
    Ok(request)
}

/// Runs the library's tasks until the connection is dropped.
#[derive(Clone)]
struct Tasks(CancellationToken);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        let end = self.0.clone();
        tokio::spawn(async move { end.run_until_cancelled_owned(task).await });
    }
}
