//! A connection that reads no more than it may: whatever a destination sends (headers without end, interim responses,
//! frames that answer nothing), what it costs us is bounded.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many bytes a connection may still read. Shared with whoever sends requests on it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Allowance(Arc<AtomicU64>);

/// The allowance is used up.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the connection has read all that it may")]
pub(crate) struct TooMuch;

impl Allowance {
    /// `bytes` more, for one request more; never more than `most`.
    pub(crate) fn grant(&self, bytes: u64, most: u64) {
        let more = |left: u64| Some(left.saturating_add(bytes).min(most));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// What may still be read.
    pub(crate) fn left(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) {
        let less = |left: u64| Some(left.saturating_sub(bytes as u64));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

/// A stream with an allowance. It may be exceeded by one read.
pub(crate) struct Metered<S> {
    stream: S,
    allowance: Allowance,
}

impl<S> Metered<S> {
    pub(crate) fn new(stream: S, allowance: Allowance) -> Self {
        Self { stream, allowance }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let read = buffer.filled().len() - before;
        if read > 0 && self.allowance.left() == 0 {
            return Poll::Ready(Err(io::Error::other(TooMuch)));
        }
        self.allowance.take(read);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn reads_as_much_as_it_may() {
        let allowance = Allowance::default();
        allowance.grant(3, 4);
        let mut stream = Metered::new(&b"0123456789"[..], allowance.clone());
        let mut bytes = [0; 3];
        stream.read_exact(&mut bytes).await.unwrap();
        let error = stream.read_u8().await.unwrap_err();
        assert!(error.get_ref().unwrap().is::<TooMuch>());
        allowance.grant(3, 4);
        allowance.grant(3, 4);
        stream.read_exact(&mut [0; 4]).await.unwrap();
        assert!(stream.read_u8().await.is_err());
    }

    #[tokio::test]
    async fn an_end_is_no_excess() {
        let mut stream = Metered::new(&b""[..], Allowance::default());
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    }
}
