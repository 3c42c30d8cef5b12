//! The operator's forward proxy.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::any;
use ravenpost_core::delivery::FailureKind;
use ravenpost_egress::{Client, Proxy, Settings};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;

use crate::support::names::{addresses, asking, name_server};
use crate::support::tls::{Authority, Speaks, acceptor, echo_server};
use crate::support::{assert_failed, failure, http_server, post, raw_server, response, settings, strict};

/// What a proxy was asked.
pub(crate) type Asked = Arc<Mutex<Vec<String>>>;

/// A proxy that connects to whatever it is asked for, and answers so.
async fn proxy(status: &'static str) -> (SocketAddr, Asked) {
    let asked = Asked::default();
    let seen = Arc::clone(&asked);
    let address = raw_server(move |stream| {
        let seen = Arc::clone(&seen);
        async move { tunnel(stream, &seen, |_| status).await }
    })
    .await;
    (address, asked)
}

/// What a proxy does with one connection: reads what it is asked for, answers what `status` says to that, and where it is
/// a success, connects.
pub(crate) async fn tunnel(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    asked: &Asked,
    status: impl FnOnce(&str) -> &'static str,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let (target, status) = (head.split(' ').nth(1).unwrap().to_owned(), status(&head));
    asked.lock().unwrap().push(head);
    stream.write_all(format!("HTTP/1.1 {status}\r\nVia: test\r\n\r\n").as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    if status.starts_with("200") {
        let mut destination = TcpStream::connect(target).await.unwrap();
        let _ = copy_bidirectional(&mut stream, &mut destination).await;
    }
}

fn by(proxy: SocketAddr, settings: Settings) -> Client {
    let proxy = Proxy::parse(&format!("http://user:s3cret@{proxy}")).unwrap();
    Client::new(&Settings { egress_proxy: Some(proxy), ..settings }).unwrap()
}

#[tokio::test]
async fn everything_goes_through_the_proxy_to_vetted_addresses() {
    let (proxy, asked) = proxy("200 Connection established").await;
    let names = name_server(|_, _| addresses(&["127.0.0.1"])).await;
    let client = by(proxy, asking(names, settings()));
    let base = http_server(Router::new().route("/", any(async || "hello"))).await;
    let plain: SocketAddr = base.trim_start_matches("http://").parse().unwrap();
    let url = format!("http://hooks.example.com:{}/", plain.port());
    let answer = client.send(post(&url)).await;
    assert_eq!(answer.address, Some(plain), "the destination's, not the proxy's");
    assert!(answer.phases.dns.is_some() && answer.phases.connect.is_some());
    assert_eq!(response(answer).body, b"hello");

    let authority = Authority::new();
    let (secure, _) = echo_server(acceptor(&authority.issue("hooks.example.com"), &Speaks::default())).await;
    let mut request = post(&format!("https://hooks.example.com:{}/", secure.port()));
    request.tls = Some(authority.profile());
    let answer = client.send(request).await;
    assert!(answer.phases.tls.is_some());
    assert_eq!(response(answer).status, 200);

    let asked = asked.lock().unwrap();
    let expected = [plain, secure].map(|address| {
        format!(
            "CONNECT {address} HTTP/1.1\r\nHost: {address}\r\nProxy-Authorization: Basic dXNlcjpzM2NyZXQ=\r\n\r\n"
        )
    });
    assert_eq!(*asked, expected);
}

#[tokio::test]
async fn a_proxy_is_no_way_around_the_verdict() {
    let (proxy, asked) = proxy("200 OK").await;
    let names = name_server(|_, _| addresses(&["127.0.0.1"])).await;
    let client = by(proxy, asking(names, strict()));
    for url in ["http://hooks.example.com/", "http://127.0.0.1/", "http://169.254.169.254/"] {
        assert_eq!(failure(client.send(post(url)).await).kind, FailureKind::BlockedAddress);
    }
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_a_proxy_refuses_is_told_without_its_credentials() {
    for (status, message, ours) in [
        ("407 Proxy Authentication Required", "no connection: the proxy wants other credentials (407)", true),
        ("502 Bad Gateway", "no connection: the proxy does not connect to the destination (502)", false),
        ("nonsense", "no connection: the proxy does not speak HTTP", true),
    ] {
        let (proxy, _) = proxy(status).await;
        let client = by(proxy, settings());
        let answer = client.send(post("http://127.0.0.1:9/")).await;
        assert_eq!(answer.result.as_ref().unwrap_err().ours, ours, "{status}");
        assert_failed(answer, FailureKind::Connect, message);
        assert!(!format!("{client:?}").contains("s3cret"));
    }
}

#[tokio::test]
async fn a_proxy_that_is_away_or_floods_is_told_and_is_no_fault_of_the_destinations() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let flooding = raw_server(async |mut stream| crate::support::flood(&mut stream, b"x").await).await;
    let resetting = raw_server(async |mut stream| drop(stream.read_u8().await)).await;
    for (proxy, message) in [
        (closed, "no connection to the proxy: connection refused"),
        (flooding, "no connection: the proxy's answer is too long"),
        (resetting, "no connection: the proxy broke off: connection reset"),
    ] {
        let answer = by(proxy, settings()).send(post("http://127.0.0.1:9/")).await;
        assert!(answer.result.as_ref().unwrap_err().ours, "{message}");
        assert_failed(answer, FailureKind::Connect, message);
    }
}
