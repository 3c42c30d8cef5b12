//! Serves HTTP until the process stops: bounded in connections, heads and patience, patient with what is in flight.
//!
//! ```text
//! accept ──▶ slot free? ──▶ stream (head deadline) ──▶ hyper ──▶ head within limits? ──▶ router ──▶ rest of the body
//!               no: 503                                              no: 431                        is drained
//! ```

mod full;
mod metrics;
mod stream;
mod unread;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::lifecycle::Context;
use crate::problem::{Kind, Problem};
use crate::procfs;
pub(crate) use metrics::HttpMetrics;
use stream::{Patient, Phase};

/// How long to wait after a failed `accept`: it fails for want of descriptors, which only time brings back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Descriptors that a process needs beside those of its clients.
const DESCRIPTORS_BESIDE: usize = 200;
/// Most bytes that a connection buffers. A head that does not fit gets hyper's bare 431; [`Limits::header_bytes`] is
/// below it, so that most such clients get a problem.
const BUFFER: usize = 64 * 1024;

/// What bounds a server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; who comes beyond them is answered 503 and let go. The default is 8192.
    pub connections: usize,
    /// How long a client may take to send a request's head, counted from its first byte, or from the connection for the
    /// first one. The default is 10 s.
    pub head: Duration,
    /// How long a connection may idle between requests. The default is 75 s, longer than common reverse proxies keep
    /// theirs, so that they close first.
    pub idle: Duration,
    /// Most header fields of a request; beyond them 431. The default is 80. hyper itself refuses above 100.
    pub headers: usize,
    /// Most bytes of all names and values of a request's header fields; beyond them 431. The default is 16 KiB.
    pub header_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8_192,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            headers: 80,
            header_bytes: 16 * 1024,
        }
    }
}

/// So many connections may wait to be accepted, or as many as `net.core.somaxconn` says if that is fewer. Of more the kernel
/// drops the request, and they wait a second to ask again: with the 128 that are usual in Rust a burst of producers would.
const BACKLOG: u32 = 4_096;

/// An address that can't be listened on; the message names the setting, and the source says why.
#[derive(Debug, thiserror::Error)]
#[error("{variable}: can't listen on {address}")]
pub struct BindError {
    variable: &'static str,
    address: SocketAddr,
    source: io::Error,
}

/// Listens on an address that came from the setting `variable`. To be called within a runtime.
pub fn bind(variable: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    listen(address).map_err(|source| BindError { variable, address, source })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until stage one, then finishes the requests in flight; at the cut they are dropped.
///
/// Handlers find the peer's address as [`ConnectInfo<SocketAddr>`]. A body that a handler leaves unread is read on for a
/// moment and thrown away, so that the client gets to see the answer.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    ctx: &Context,
) -> anyhow::Result<()> {
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "listening on {address}");
    }
    warn_of_few_descriptors(limits.connections);
    ctx.started();
    let server = Server { router, limits, metrics: HttpMetrics::new(&ctx.metrics) };
    server.run(listener, ctx.stopping.clone(), ctx.cut.clone()).await;
    Ok(())
}

/// Without descriptors nothing can be accepted, nor connected to a store: better to know before.
fn warn_of_few_descriptors(connections: usize) {
    #[expect(clippy::cast_precision_loss, reason = "no process has 2^52 connections")]
    let needed = (connections + DESCRIPTORS_BESIDE) as f64;
    if let Some(most) = procfs::max_fds().filter(|most| *most < needed) {
        tracing::warn!(
            "{connections} connections may need {needed} file descriptors, and at most {most} can be open: raise the \
             limit (ulimit -n) or lower the bound of connections"
        );
    }
}

/// What every connection needs.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) router: Router,
    pub(crate) limits: Limits,
    pub(crate) metrics: HttpMetrics,
}

impl Server {
    pub(crate) async fn run(
        self,
        listener: TcpListener,
        stopping: CancellationToken,
        cut: CancellationToken,
    ) {
        let graceful = GracefulShutdown::new();
        let slots = Arc::new(Semaphore::new(self.limits.connections));
        let refusals = Arc::new(Semaphore::new(full::AT_ONCE));
        let mut connections = JoinSet::new();
        while let Some((stream, peer)) = stopping.run_until_cancelled(accept(&listener)).await {
            if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
                connections.spawn(self.connection(stream, peer, &graceful, slot));
            } else {
                self.metrics.refused("connections");
                full::refuse(stream, &refusals, &mut connections);
            }
            // Ended connections would otherwise pile up in the set.
            while connections.try_join_next().is_some() {}
        }
        drop(listener);
        tokio::select! {
            () = graceful.shutdown() => {}
            () = cut.cancelled() => {}
        }
        // Dropping the set ends what is left.
    }

    fn connection(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        graceful: &GracefulShutdown,
        slot: OwnedSemaphorePermit,
    ) -> impl Future<Output = ()> + Send + 'static {
        // Answers are small and written at once: waiting to fill a segment only costs time.
        let _ = stream.set_nodelay(true);
        let (server, phase, open) = (self.clone(), Phase::default(), self.metrics.open());
        let stream = Patient::new(stream, phase.clone(), self.limits.head, self.metrics.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let number = phase.requested();
            let phase = phase.clone();
            server.clone().answer(peer, request, move || phase.answered(number))
        });
        // HTTP/1.1 alone: finding out which version it is has no deadline, and proxies in front speak HTTP/1.1 to us.
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(self.limits.idle).max_buf_size(BUFFER);
        let (watcher, metrics) = (graceful.watcher(), self.metrics.clone());
        async move {
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            if let Err(error) = watcher.watch(connection).await {
                // The client's doing: it went away, was too slow, or does not speak HTTP.
                metrics.broken(&error);
                tracing::debug!(%peer, %error, "a connection broke");
            }
            drop((slot, open));
        }
    }

    /// `read` is called when the body is read to its end, by whomever.
    async fn answer(
        self,
        peer: SocketAddr,
        mut request: Request<Incoming>,
        read: impl FnOnce() + Send + 'static,
    ) -> Result<Response<Body>, Infallible> {
        request.extensions_mut().insert(ConnectInfo(peer));
        let (parts, incoming) = request.into_parts();
        let (body, lender) = unread::lend(incoming);
        let mut response = match self.check_head(&parts.headers) {
            Ok(()) => self.router.oneshot(Request::from_parts(parts, body)).await?,
            Err(problem) => problem.into_response(),
        };
        match lender.unread() {
            Some(rest) => rest.drain(&mut response, read),
            None => read(),
        }
        Ok(response)
    }

    fn check_head(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
        let Limits { headers: most, header_bytes, .. } = self.limits;
        if headers.len() <= most && bytes <= header_bytes {
            return Ok(());
        }
        self.metrics.refused("headers");
        let detail = format!("at most {most} header fields with {header_bytes} bytes in all");
        Err(Problem::new(Kind::HeadersTooLarge, detail))
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
