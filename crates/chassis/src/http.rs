//! Serves HTTP until the process stops: bounded in connections, patient with what is in flight.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::lifecycle::Context;

/// How long to wait after a failed `accept`: it fails for want of descriptors, which only time brings back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What bounds a server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; further ones wait in the kernel's queue. The default is 8192.
    pub connections: usize,
    /// How long a client may take to send a request's head, and how long a connection may idle (HTTP/1). The default
    /// is 75 s, longer than common reverse proxies keep theirs, so that they close first.
    pub header: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 8_192, header: Duration::from_secs(75) }
    }
}

/// An address that can't be listened on; the message names the setting, and the source says why.
#[derive(Debug, thiserror::Error)]
#[error("{variable}: can't listen on {address}")]
pub struct BindError {
    variable: &'static str,
    address: SocketAddr,
    source: io::Error,
}

/// Listens on an address that came from the setting `variable`.
pub async fn bind(variable: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { variable, address, source })
}

/// Serves until stage one, then finishes the requests in flight; at the cut they are dropped.
///
/// Handlers find the peer's address as [`ConnectInfo<SocketAddr>`].
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    ctx: &Context,
) -> anyhow::Result<()> {
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "listening on {address}");
    }
    ctx.started();
    serve_until(listener, router, limits, ctx.stopping.clone(), ctx.cut.clone()).await;
    Ok(())
}

pub(crate) async fn serve_until(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stopping: CancellationToken,
    cut: CancellationToken,
) {
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    while let Some(accepted) = stopping.run_until_cancelled(accept(&listener, &slots)).await {
        let (stream, peer, slot) = accepted;
        let connection = connection(stream, peer, router.clone(), limits, &graceful);
        connections.spawn(async move {
            connection.await;
            drop(slot);
        });
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

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, Option<tokio::sync::OwnedSemaphorePermit>) {
    // The semaphore is never closed, so a slot always comes.
    let slot = Arc::clone(slots).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, slot),
            Err(error) => {
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: Limits,
    graceful: &GracefulShutdown,
) -> impl Future<Output = ()> + Send + 'static {
    // Answers are small and written at once: waiting to fill a segment only costs time.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| answer(router.clone(), peer, request));
    // HTTP/1.1 alone: finding out which version it is has no deadline, and proxies in front speak HTTP/1.1 to us.
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.header);
    let watcher = graceful.watcher();
    async move {
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        if let Err(error) = watcher.watch(connection).await {
            // The client's doing: it went away, was too slow, or does not speak HTTP.
            tracing::debug!(%peer, %error, "a connection broke");
        }
    }
}

async fn answer(
    router: Router,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    request.extensions_mut().insert(ConnectInfo(peer));
    router.oneshot(request.map(Body::new)).await
}

#[cfg(test)]
mod tests;
