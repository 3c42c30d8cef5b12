//! What the tests stand on: clients, and servers of every manner.

pub(crate) mod names;
pub(crate) mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http::HeaderMap;
use ravenpost_core::delivery::{Answer, Failure, FailureKind, Response};
use ravenpost_egress::{Client, Request, Settings};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What of a body is kept.
pub(crate) const BODY_BYTES: usize = 1_000;

/// Nothing but public addresses.
pub(crate) fn strict() -> Settings {
    Settings { egress_max_response_bytes: BODY_BYTES, ..Settings::default() }
}

/// This machine as well.
pub(crate) fn settings() -> Settings {
    let allowed = ["127.0.0.0/8", "::1/128"].map(|network| network.parse().unwrap()).to_vec();
    Settings { egress_allowed_networks: allowed, ..strict() }
}

pub(crate) fn client() -> Client {
    Client::new(&settings()).unwrap()
}

pub(crate) fn post(url: &str) -> Request {
    Request {
        url: url.parse().unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"{\"hello\": 1}"),
        timeout: Duration::from_secs(20),
        first_byte_timeout: None,
        tls: None,
    }
}

pub(crate) fn failure(answer: Answer) -> Failure {
    answer.result.expect_err("a failure")
}

pub(crate) fn response(answer: Answer) -> Response {
    answer.result.expect("a response")
}

/// The answer is a failure of that kind, and its message says so.
pub(crate) fn assert_failed(answer: Answer, kind: FailureKind, message: &str) {
    let failure = failure(answer);
    assert_eq!((failure.kind, failure.message.as_str()), (kind, message));
}

/// An HTTP server; its base URL.
pub(crate) async fn http_server(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// Counts what happens.
#[derive(Clone, Default)]
pub(crate) struct Counter(Arc<AtomicUsize>);

impl Counter {
    pub(crate) fn add(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A server that does with each connection what it likes.
pub(crate) async fn raw_server<F>(handle: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(handle(stream));
        }
    });
    address
}

/// Reads a request: its headers and the body of [`post`].
pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"{\"hello\": 1}") {
        match stream.read_u8().await {
            Ok(byte) => bytes.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// Writes the same over and over until the other side has gone.
pub(crate) async fn flood(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    let many = bytes.repeat(16_384_usize.div_ceil(bytes.len()));
    while stream.write_all(&many).await.is_ok() {}
}

/// Waits until `condition` holds, and fails when it never does.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), waiting).await.is_ok(), "never: {what}");
}
