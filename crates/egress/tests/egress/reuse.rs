//! Connections that serve more than one request, and those that must not.

use std::time::Duration;

use axum::Router;
use axum::routing::any;
use futures::future::join_all;
use ravenpost_core::delivery::FailureKind;
use ravenpost_egress::{Client, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::tls::{Authority, Speaks, acceptor, echo_server};
use crate::support::{
    Counter, assert_failed, client, post, raw_server, read_request, response, settings, until,
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A server that counts its connections, and what it does with each by the connection's number.
async fn counting<F>(handle: impl Fn(TcpStream, usize) -> F + Send + 'static) -> (String, Counter)
where
    F: Future<Output = ()> + Send + 'static,
{
    let connections = Counter::default();
    let counted = connections.clone();
    let address = raw_server(move |stream| handle(stream, counted.add())).await;
    (format!("http://{address}/"), connections)
}

async fn answer(stream: &mut TcpStream) {
    read_request(stream).await;
    let _ = stream.write_all(OK).await;
}

#[tokio::test]
async fn one_after_the_other_by_one_connection() {
    let (url, connections) = counting(async |mut stream, _| {
        loop {
            answer(&mut stream).await;
        }
    })
    .await;
    let client = client();
    for _ in 0..20 {
        assert_eq!(response(client.send(post(&url)).await).body, b"ok");
    }
    assert_eq!(connections.get(), 1);
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_not_used() {
    let (url, connections) = counting(async |mut stream, _| answer(&mut stream).await).await;
    let client = client();
    for expected in 1..=5 {
        assert_eq!(response(client.send(post(&url)).await).status, 200);
        assert_eq!(connections.get(), expected);
    }
}

#[tokio::test]
async fn a_connection_that_is_closed_on_the_next_request_costs_nothing_but_time() {
    // What a server's keep-alive time looks like when it is over at the wrong moment.
    let (url, connections) = counting(async |mut stream, _| {
        answer(&mut stream).await;
        read_request(&mut stream).await;
    })
    .await;
    let client = client();
    for expected in 1..=5 {
        let answer = client.send(post(&url)).await;
        assert!(answer.phases.connect.is_some(), "a new connection was opened");
        assert_eq!(response(answer).status, 200);
        assert_eq!(connections.get(), expected);
    }
}

#[tokio::test]
async fn a_new_connection_that_is_closed_is_a_failure_and_not_tried_again() {
    let (url, connections) = counting(async |mut stream, _| drop(read_request(&mut stream).await)).await;
    let answer = client().send(post(&url)).await;
    let message = "the destination broke off: connection closed before message completed";
    assert_failed(answer, FailureKind::Protocol, message);
    assert_eq!(connections.get(), 1);
}

#[tokio::test]
async fn an_answer_that_is_broken_is_not_asked_for_again() {
    for broken in [
        "nonsense\r\n\r\n",
        "H",
        "HTTP/1.1 103 Early Hints\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n",
    ] {
        let requests = Counter::default();
        let counted = requests.clone();
        let (url, _) = counting(move |mut stream, _| {
            let counted = counted.clone();
            async move {
                answer(&mut stream).await;
                counted.add();
                read_request(&mut stream).await;
                counted.add();
                let _ = stream.write_all(broken.as_bytes()).await;
            }
        })
        .await;
        let client = client();
        assert_eq!(response(client.send(post(&url)).await).status, 200);
        assert!(client.send(post(&url)).await.result.is_err(), "{broken}");
        assert_eq!(requests.get(), 2, "{broken}");
    }
}

#[tokio::test]
async fn what_comes_unasked_closes_the_connection() {
    let (url, connections) = counting(async |mut stream, _| {
        answer(&mut stream).await;
        let _ = stream.write_all(OK).await;
        let _ = stream.read_u8().await;
    })
    .await;
    let client = client();
    for expected in 1..=3 {
        assert_eq!(response(client.send(post(&url)).await).body, b"ok");
        assert_eq!(connections.get(), expected);
        // On loopback it has come once the system has had a moment.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_unread_rest_closes_the_connection() {
    let body = any(async || "x".repeat(100_000));
    let url = crate::support::http_server(Router::new().route("/", body)).await;
    let client = client();
    for _ in 0..3 {
        let answer = client.send(post(&url)).await;
        assert!(answer.phases.connect.is_some());
        assert_eq!(response(answer).status, 200);
    }
}

#[tokio::test]
async fn idle_connections_are_bounded_over_all_destinations() {
    let open = Counter::default();
    let closed = Counter::default();
    let client = Client::new(&Settings { egress_idle_connections: 3, ..settings() }).unwrap();
    for _ in 0..10 {
        let (opened, gone) = (open.clone(), closed.clone());
        let (url, _) = counting(move |mut stream, _| {
            let (opened, gone) = (opened.clone(), gone.clone());
            async move {
                opened.add();
                answer(&mut stream).await;
                let _ = stream.read_u8().await;
                gone.add();
            }
        })
        .await;
        assert_eq!(response(client.send(post(&url)).await).status, 200);
    }
    until("all but three are closed", || closed.get() == 7).await;
    assert_eq!(open.get(), 10);
    drop(client);
    until("with the client all are closed", || closed.get() == 10).await;
}

#[tokio::test]
async fn requests_at_once_share_a_connection_of_http2() {
    let authority = Authority::new();
    let (address, connections) =
        echo_server(acceptor(&authority.issue("127.0.0.1"), &Speaks::default())).await;
    let mut request = post(&format!("https://{address}/"));
    request.tls = Some(authority.profile());
    let client = client();
    assert_eq!(response(client.send(request.clone()).await).status, 200);
    let answers = join_all((0..50).map(|_| client.send(request.clone()))).await;
    assert!(answers.into_iter().all(|answer| response(answer).status == 200));
    assert_eq!(connections.get(), 1);
}
