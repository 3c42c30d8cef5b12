//! Against servers that answer as they are told.

use std::net::Ipv4Addr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;

const HOOK: &str = "http://127.0.0.1:1/h/token";

/// Answers every request on every connection by `answer`, which gets the number of the request.
async fn server<F>(answer: F) -> SocketAddr
where
    F: Fn(usize) -> (Duration, String) + Clone + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream, answer.clone()));
        }
    });
    address
}

async fn converse(mut stream: TcpStream, answer: impl Fn(usize) -> (Duration, String)) {
    let mut request = vec![0; size_of_request()];
    let mut number = 0;
    while stream.read_exact(&mut request).await.is_ok() {
        let (after, text) = answer(number);
        number += 1;
        tokio::time::sleep(after).await;
        // In two parts, as a network may deliver it.
        let (first, second) = text.as_bytes().split_at(20);
        stream.write_all(first).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(second).await.unwrap();
    }
}

fn requests() -> Arc<Requests> {
    Arc::new(Requests::github(HOOK, "secret", 256).unwrap())
}

fn size_of_request() -> usize {
    let mut request = Vec::new();
    // The last digit of the body's number may be one more, but the size of the body is fixed.
    requests().write(&mut request);
    request.len()
}

fn accepted() -> String {
    let body = format!(r#"{{"id":"{}"}}"#, Uuid::from_u128(rand::random()));
    format!("HTTP/1.1 202 Accepted\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn refused(connection: &str) -> String {
    format!("HTTP/1.1 503 Service Unavailable\r\nconnection: {connection}\r\ncontent-length: 2\r\n\r\n{{}}")
}

fn load(address: SocketAddr, connections: usize, pace: Pace) -> Load {
    Load { address, requests: requests(), connections, pace, duration: Duration::from_millis(400) }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_ids_and_every_other_status_are_counted() {
    let address = server(|number| {
        let answer = match number % 3 {
            0 => accepted(),
            1 => refused("keep-alive"),
            _ => refused("close"),
        };
        (Duration::ZERO, answer)
    })
    .await;
    let outcome = run(load(address, 4, Pace::Closed)).await.unwrap();
    let acknowledged = outcome.acknowledged.len() as u64;
    assert!(acknowledged > 4);
    assert_eq!(outcome.statuses[&202], acknowledged);
    assert_eq!(outcome.latency.len(), acknowledged);
    assert!(outcome.statuses[&503] >= acknowledged, "{:?}", outcome.statuses);
    assert_eq!(outcome.broken, 0);
    let mut ids = outcome.acknowledged.clone();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), outcome.acknowledged.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_is_sent_and_no_more() {
    let address = server(|_| (Duration::ZERO, accepted())).await;
    let outcome = run(load(address, 4, Pace::Count(50))).await.unwrap();
    assert_eq!((outcome.acknowledged.len(), outcome.since.len()), (50, 50));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_loop_counts_from_when_a_request_was_due() {
    // One stall of 200 ms while 100 requests a second are due on one connection: some twenty requests are late, not
    // the stalled one alone.
    let address =
        server(|number| (Duration::from_millis(if number == 5 { 200 } else { 0 }), accepted())).await;
    let outcome = run(load(address, 1, Pace::Open { per_second: 100 })).await.unwrap();
    assert_eq!(outcome.acknowledged.len(), 40);
    assert_eq!(outcome.unsent, 0);
    let late = outcome.latency.len() - outcome.latency.count_between(0, 50_000);
    assert!(late >= 10, "only {late} requests show the stall");
    assert!(outcome.quantile(1.0) >= Duration::from_millis(190));
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_connections_are_counted_and_replaced() {
    let address = server(|number| {
        let nonsense = "HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}".to_owned();
        (Duration::ZERO, if number == 1 { nonsense } else { accepted() })
    })
    .await;
    let outcome = run(load(address, 1, Pace::Closed)).await.unwrap();
    assert!(outcome.broken >= 1);
    assert!(
        outcome.acknowledged.len() as u64 >= outcome.broken,
        "each new connection begins with an accepted one"
    );
}
