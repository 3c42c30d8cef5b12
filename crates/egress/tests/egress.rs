//! The client against real servers of every manner, good and bad.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::routing::any;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use ravenpost_core::delivery::{Answer, Failure, FailureKind, Response};
use ravenpost_egress::{Client, Request, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn settings(allowed: &[&str]) -> Settings {
    Settings {
        egress_allowed_networks: allowed.iter().map(|network| network.parse().unwrap()).collect(),
        egress_connect_timeout: Duration::from_secs(5),
        egress_max_response_bytes: 1_000,
    }
}

fn client() -> Client {
    Client::new(&settings(&["127.0.0.0/8", "::1/128"])).unwrap()
}

fn post(url: &str) -> Request {
    Request {
        url: url.parse().unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"{\"hello\": 1}"),
        timeout: Duration::from_secs(10),
        first_byte_timeout: None,
        tls: None,
    }
}

fn failure(answer: Answer) -> Failure {
    answer.result.expect_err("a failure")
}

fn response(answer: Answer) -> Response {
    answer.result.expect("a response")
}

/// An HTTP server; its base URL.
async fn http_server(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// A server that does with each connection what it likes.
async fn raw_server<F>(handle: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
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

async fn read_head(stream: &mut TcpStream) {
    let mut bytes = [0; 4_096];
    let _ = stream.read(&mut bytes).await;
}

#[tokio::test]
async fn sends_what_it_is_given() {
    let echo = any(async |method: Method, headers: HeaderMap, body: Bytes| {
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let seen = format!(
            "{method} {} agent={:?} type={:?} te={:?} encoding={:?} referer={:?}",
            String::from_utf8_lossy(&body),
            header("user-agent"),
            header("content-type"),
            header("te"),
            header("accept-encoding"),
            header("referer"),
        );
        (StatusCode::ACCEPTED, [("retry-after", "7")], seen)
    });
    let mut request = post(&http_server(Router::new().route("/hook", echo)).await);
    request.url.set_path("/hook");
    request.headers.insert("content-type", HeaderValue::from_static("application/json"));
    request.headers.insert(HeaderName::from_static("te"), HeaderValue::from_static("trailers"));
    request.headers.insert("host", HeaderValue::from_static("elsewhere.example"));
    let response = response(client().send(request).await);
    assert_eq!((response.status, response.retry_after.as_deref()), (202, Some("7")));
    let agent = concat!("Ravenpost/", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        String::from_utf8(response.body).unwrap(),
        format!(
            "POST {{\"hello\": 1}} agent=Some(\"{agent}\") type=Some(\"application/json\") te=None encoding=None referer=None"
        ),
    );
}

#[tokio::test]
async fn loopback_in_any_spelling_is_refused_before_a_byte_is_sent() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let address = raw_server(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        std::future::ready(())
    })
    .await;
    let client = Client::new(&settings(&[])).unwrap();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.0.0.1.",
        "0",
        "localhost",
        "LOCALHOST",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "①②⑦.0.0.1",
    ] {
        let failure = failure(client.send(post(&format!("http://{host}:{}/", address.port()))).await);
        assert_eq!(failure.kind, FailureKind::BlockedAddress, "{host}: {}", failure.message);
        assert!(!failure.message.contains("127.0.0.1"), "{}", failure.message);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn only_web_urls_without_credentials() {
    for url in
        ["ftp://example.com/", "file:///etc/passwd", "http://user@1.1.1.1/", "https://:s3cret@1.1.1.1/"]
    {
        let failure = failure(client().send(post(url)).await);
        assert_eq!(failure.kind, FailureKind::InvalidUrl, "{url}");
        assert!(!failure.message.contains("s3cret"));
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let hits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&hits);
    let router = Router::new()
        .route("/", any(async || (StatusCode::TEMPORARY_REDIRECT, [("location", "/secret")])))
        .route("/secret", any(async move || counted.fetch_add(1, Ordering::SeqCst).to_string()));
    let base = http_server(router).await;
    assert_eq!(response(client().send(post(&base)).await).status, 307);
    assert_eq!(hits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_endless_body_is_read_to_the_bound() {
    let endless =
        any(async || Body::from_stream(futures::stream::repeat_with(|| Ok::<_, String>("x".repeat(300)))));
    let base = http_server(Router::new().route("/", endless)).await;
    let response = response(client().send(post(&base)).await);
    assert_eq!((response.status, response.body.len()), (200, 1_000));
}

#[tokio::test]
async fn a_dripping_body_and_a_silent_server_are_cut_by_the_timeout() {
    let dripping = raw_server(async |mut stream| {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n").await;
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let silent = raw_server(async |mut stream| {
        read_head(&mut stream).await;
        tokio::time::sleep(Duration::from_mins(1)).await;
    })
    .await;
    for address in [dripping, silent] {
        let mut request = post(&format!("http://{address}/"));
        request.timeout = Duration::from_millis(300);
        let answer = client().send(request).await;
        assert!(answer.duration >= Duration::from_millis(300) && answer.duration < Duration::from_secs(5));
        let expected =
            Failure { kind: FailureKind::Timeout, message: "no complete answer within 300ms".to_owned() };
        assert_eq!(failure(answer), expected);
    }
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let failure = failure(client().send(post(&format!("http://{address}/?key=s3cret"))).await);
    assert_eq!(failure.kind, FailureKind::Connect);
    assert_eq!(failure.message, "no connection: Connection refused (os error 111)");
}

#[tokio::test]
async fn a_name_that_does_not_exist() {
    // RFC 6761 reserves `.invalid`.
    let failure = failure(client().send(post("http://nowhere.invalid/?key=s3cret")).await);
    assert_eq!(failure.kind, FailureKind::Dns, "{}", failure.message);
    assert!(!failure.message.contains("s3cret"), "{}", failure.message);
}

#[tokio::test]
async fn what_is_not_http_is_a_protocol_failure() {
    let garbage = raw_server(async |mut stream| {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"220 mail.example ESMTP\r\n\r\n").await;
    })
    .await;
    let hangs_up = raw_server(async |mut stream| read_head(&mut stream).await).await;
    let broken_body = raw_server(async |mut stream| {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\nshort").await;
    })
    .await;
    for address in [garbage, hangs_up, broken_body] {
        let failure = failure(client().send(post(&format!("http://{address}/?key=s3cret"))).await);
        assert_eq!(failure.kind, FailureKind::Protocol, "{}", failure.message);
        assert!(!failure.message.contains("s3cret"), "{}", failure.message);
    }
}

#[tokio::test]
async fn what_is_not_tls_is_a_tls_failure() {
    let plain = http_server(Router::new().route("/", any(async || "hello"))).await.replace("http:", "https:");
    let hangs_up = raw_server(async |mut stream| read_head(&mut stream).await).await;
    for url in [plain, format!("https://{hangs_up}/")] {
        let failure = failure(client().send(post(&url)).await);
        assert_eq!(failure.kind, FailureKind::Tls, "{}", failure.message);
    }
}
