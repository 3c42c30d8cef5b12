//! A connection that knows whether it waits for a request's head, and for how long it may.
//!
//! hyper has one timeout for both the time between requests and the time that a head takes. One that is kind to idle
//! connections is too kind to clients that send a byte now and then.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::metrics::HttpMetrics;

/// Where a connection stands: in a head (also before the first), in a request, or between two. The state is in the two
/// lowest bits, the number of the request above them.
#[derive(Clone, Default)]
pub(super) struct Phase(Arc<AtomicU64>);

const HEAD: u64 = 0;
const REQUEST: u64 = 1;
const IDLE: u64 = 2;
const STATE: u64 = 3;
const NEXT: u64 = 4;

/// Which request of a connection.
#[derive(Clone, Copy)]
pub(super) struct Number(u64);

impl Phase {
    /// A head is here.
    pub(super) fn requested(&self) -> Number {
        // Only the connection's own task gets here, so nobody is overtaken.
        let number = (self.0.load(Ordering::Relaxed) & !STATE).wrapping_add(NEXT);
        self.0.store(number | REQUEST, Ordering::Relaxed);
        Number(number)
    }

    /// The request is answered and its body read: what comes next is another head, unless it has come already.
    pub(super) fn answered(&self, Number(number): Number) {
        self.change(number | REQUEST, number | IDLE);
    }

    fn begun(&self) {
        // Only from idle: what arrives within a request is its body.
        let number = self.0.load(Ordering::Relaxed) & !STATE;
        self.change(number | IDLE, number | HEAD);
    }

    fn is_head(&self) -> bool {
        self.0.load(Ordering::Relaxed) & STATE == HEAD
    }

    fn change(&self, from: u64, to: u64) {
        let _ = self.0.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Most bytes of one read. hyper doubles a connection's buffer whenever a read fills it and keeps it so: just short of
/// 16 KiB it stays at 16 KiB, where a large upload would have it grow to its bound, for each of thousands of
/// connections.
const READ: u64 = 16 * 1024 - 1;

/// Fails reads with [`io::ErrorKind::TimedOut`] when a head takes too long.
pub(super) struct Patient {
    stream: Take<TcpStream>,
    phase: Phase,
    patience: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
    metrics: HttpMetrics,
}

impl Patient {
    pub(super) fn new(stream: TcpStream, phase: Phase, patience: Duration, metrics: HttpMetrics) -> Self {
        Self { stream: stream.take(READ), phase, patience, deadline: None, metrics }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.phase.is_head() {
            self.deadline = None;
            return Poll::Pending;
        }
        let patience = self.patience;
        self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience))).as_mut().poll(cx)
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.poll_deadline(cx).is_ready() {
            self.deadline = None;
            self.metrics.refused("slow_head");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the head took too long")));
        }
        let before = buffer.filled().len();
        self.stream.set_limit(READ);
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.phase.begun();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.stream.get_mut()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.stream.get_mut()).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_shutdown(cx)
    }
}
