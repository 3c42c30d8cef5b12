//! What is sent, where it may go, and what is made of ordinary answers.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::routing::any;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use ravenpost_core::delivery::FailureKind;
use ravenpost_egress::Client;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::support::{
    BODY_BYTES, Counter, assert_failed, client, failure, http_server, post, raw_server, read_request,
    response, strict,
};

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
async fn the_request_on_the_wire() {
    let address = raw_server(async |mut stream| {
        let request = read_request(&mut stream).await;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{request}", request.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let request = post(&format!("http://{address}/a%20b/c?key=%C3%BC#part"));
    let sent = String::from_utf8(response(client().send(request).await).body).unwrap();
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.split("\r\n").collect();
    lines.sort_unstable();
    let host = format!("host: {address}");
    let agent = concat!("user-agent: Ravenpost/", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        lines,
        ["POST /a%20b/c?key=%C3%BC HTTP/1.1", "accept: */*", "content-length: 12", &host, agent]
    );
    assert_eq!(body, "{\"hello\": 1}");
}

#[tokio::test]
async fn an_empty_body_has_a_length() {
    let length = any(async |headers: HeaderMap| {
        headers.get("content-length").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    });
    let mut request = post(&http_server(Router::new().route("/", length)).await);
    request.body = Bytes::new();
    assert_eq!(response(client().send(request).await).body, b"0");
}

#[tokio::test]
async fn loopback_in_any_spelling_is_refused_before_a_byte_is_sent() {
    let connections = Counter::default();
    let counted = connections.clone();
    let address = raw_server(move |_| {
        counted.add();
        std::future::ready(())
    })
    .await;
    let client = Client::new(&strict()).unwrap();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.0.0.1.",
        "0",
        "0.0.0.0",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "anything.localhost",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "①②⑦.0.0.1",
        "127。0。0。1",
        "%31%32%37.0.0.1",
    ] {
        let answer = client.send(post(&format!("http://{host}:{}/", address.port()))).await;
        assert_eq!(answer.address, None, "{host}");
        let failure = failure(answer);
        assert_eq!(failure.kind, FailureKind::BlockedAddress, "{host}: {}", failure.message);
        assert!(!failure.message.contains("127.0.0.1"), "{}", failure.message);
    }
    assert_eq!(connections.get(), 0);
}

#[tokio::test]
async fn only_web_urls_without_credentials() {
    for url in
        ["ftp://example.com/", "file:///etc/passwd", "http://user@1.1.1.1/", "https://:s3cret@1.1.1.1/"]
    {
        let failure = failure(client().send(post(url)).await);
        assert_eq!(failure.kind, FailureKind::InvalidUrl, "{url}");
        assert!(!failure.message.contains("s3cret"));
        assert!(client().check(&url.parse().unwrap()).is_err());
    }
    assert!(client().check(&"https://example.com/".parse().unwrap()).is_ok());
}

#[tokio::test]
async fn a_url_that_is_too_long_for_a_request() {
    let url = format!("http://127.0.0.1:9/{}", "a".repeat(20_000));
    assert_failed(client().send(post(&url)).await, FailureKind::InvalidUrl, "the URL is too long");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let hits = Counter::default();
    let counted = hits.clone();
    let router = Router::new()
        .route("/", any(async || (StatusCode::TEMPORARY_REDIRECT, [("location", "/secret")])))
        .route("/secret", any(async move || counted.add().to_string()));
    let base = http_server(router).await;
    assert_eq!(response(client().send(post(&base)).await).status, 307);
    assert_eq!(hits.get(), 0);
}

#[tokio::test]
async fn a_get_is_guarded_and_bounded_alike() {
    let router =
        Router::new().route("/", any(async |method: Method| format!("{method} {}", "x".repeat(5_000))));
    let url: url::Url = http_server(router).await.parse().unwrap();
    let answer = client().get(url.clone(), Duration::from_secs(10)).await;
    let body = response(answer).body;
    assert_eq!((body.len(), &body[..5]), (BODY_BYTES, &b"GET x"[..]));
    let answer = Client::new(&strict()).unwrap().get(url, Duration::from_secs(10)).await;
    assert_eq!(failure(answer).kind, FailureKind::BlockedAddress);
}

#[tokio::test]
async fn an_endless_body_is_read_to_the_bound() {
    let endless =
        any(async || Body::from_stream(futures::stream::repeat_with(|| Ok::<_, String>("x".repeat(300)))));
    let base = http_server(Router::new().route("/", endless)).await;
    let response = response(client().send(post(&base)).await);
    assert_eq!((response.status, response.body.len()), (200, BODY_BYTES));
}

#[tokio::test]
async fn a_body_of_exactly_the_bound_leaves_the_connection_open() {
    let base = http_server(Router::new().route("/", any(async || "x".repeat(BODY_BYTES)))).await;
    let client = client();
    for reused in [false, true] {
        let answer = client.send(post(&base)).await;
        assert_eq!(answer.phases.connect.is_none(), reused);
        assert_eq!(response(answer).body.len(), BODY_BYTES);
    }
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let answer = client().send(post(&format!("http://{address}/?key=s3cret"))).await;
    assert_eq!(answer.address, Some(address));
    assert_failed(answer, FailureKind::Connect, "no connection: refused, nothing listens at this port");
}
