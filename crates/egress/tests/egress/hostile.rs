//! Servers of HTTP/1.1 that do everything but answer.

use std::time::{Duration, Instant};

use ravenpost_core::delivery::FailureKind;
use ravenpost_egress::Request;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{
    BODY_BYTES, Counter, assert_failed, client, failure, flood, post, raw_server, read_request, response,
    until,
};

/// What is at least waited before a deadline is believed to have been in force, and what is too long.
const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(10);

/// A request to a server that reads it and then does what it likes.
async fn to_server<F>(then: impl Fn(TcpStream) -> F + Clone + Send + Sync + 'static) -> Request
where
    F: Future<Output = ()> + Send + 'static,
{
    let address = raw_server(move |mut stream| {
        let then = then.clone();
        async move {
            read_request(&mut stream).await;
            then(stream).await;
        }
    })
    .await;
    post(&format!("http://{address}/?key=s3cret"))
}

/// A server that writes this and closes.
async fn saying(bytes: &'static [u8]) -> Request {
    to_server(move |mut stream| async move {
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
    })
    .await
}

/// A server that writes a beginning, then the same without end.
async fn flooding(beginning: &'static str, with: &'static [u8]) -> Request {
    to_server(move |mut stream| async move {
        let _ = stream.write_all(beginning.as_bytes()).await;
        flood(&mut stream, with).await;
    })
    .await
}

/// A server that writes a beginning, then a byte now and then without end.
async fn dripping(beginning: &'static str) -> Request {
    to_server(move |mut stream| async move {
        let _ = stream.write_all(beginning.as_bytes()).await;
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_dripping_body_is_cut_by_the_total_deadline() {
    let mut request = dripping("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n").await;
    request.timeout = SHORT;
    let answer = client().send(request).await;
    assert!(answer.duration >= SHORT && answer.duration < LONG);
    assert!(answer.phases.first_byte.is_some());
    let message = "no complete answer within 300ms: the response's body had not ended";
    assert_failed(answer, FailureKind::Timeout, message);
}

#[tokio::test]
async fn what_is_no_success_counts_however_its_body_ends() {
    let mut gone = dripping("HTTP/1.1 410 Gone\r\ncontent-length: 500\r\n\r\ngone").await;
    gone.timeout = SHORT;
    let answer = client().send(gone).await;
    assert!(answer.duration >= SHORT && answer.duration < LONG);
    let response = answer.result.unwrap();
    assert!(response.status == 410 && response.body.starts_with(b"gonex"), "{response:?}");

    // It breaks off.
    let busy = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: 500\r\n\r\nlater";
    let response = client().send(saying(busy).await).await.result.unwrap();
    let said = (response.status, response.retry_after.as_deref(), response.body.as_slice());
    assert_eq!(said, (429, Some("7"), b"later".as_slice()));
    let taken = b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\ntaken";
    assert_eq!(failure(client().send(saying(taken).await).await).kind, FailureKind::Protocol);
}

#[tokio::test]
async fn headers_that_drip_are_cut_by_the_deadline_of_the_first_byte() {
    let mut request = to_server(async |mut stream| {
        while stream.write_all(b"H").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .await;
    request.first_byte_timeout = Some(SHORT);
    let answer = client().send(request).await;
    assert!(answer.duration >= SHORT && answer.duration < LONG);
    assert_failed(answer, FailureKind::Timeout, "no response began within 300ms");
}

#[tokio::test]
async fn silence_is_cut_by_either_deadline() {
    let silent = async |_stream: TcpStream| tokio::time::sleep(Duration::from_mins(1)).await;
    let mut request = to_server(silent).await;
    request.timeout = SHORT;
    let answer = client().send(request).await;
    assert_eq!(answer.phases.first_byte, None);
    let message = "no complete answer within 300ms: no response had begun";
    assert_failed(answer, FailureKind::Timeout, message);
    let mut request = to_server(silent).await;
    request.first_byte_timeout = Some(SHORT);
    assert_failed(client().send(request).await, FailureKind::Timeout, "no response began within 300ms");
}

#[tokio::test]
async fn a_destination_that_does_not_read_is_cut_as_well() {
    let address = raw_server(async |_stream| tokio::time::sleep(Duration::from_mins(1)).await).await;
    let mut request = post(&format!("http://{address}/"));
    request.body = vec![b'x'; 32 * 1024 * 1024].into();
    request.first_byte_timeout = Some(SHORT);
    assert_failed(client().send(request).await, FailureKind::Timeout, "no response began within 300ms");
}

#[tokio::test]
async fn a_cut_closes_the_connection() {
    let closed = Counter::default();
    let counted = closed.clone();
    let mut request = to_server(move |mut stream| {
        let counted = counted.clone();
        async move {
            // Ends when the other side has gone.
            read_request(&mut stream).await;
            counted.add();
        }
    })
    .await;
    request.timeout = SHORT;
    failure(client().send(request).await);
    until("the connection is closed", || closed.get() == 1).await;
}

#[tokio::test]
async fn what_is_not_http_is_a_protocol_failure() {
    for (bytes, expected) in [
        (&b"220 mail.example ESMTP\r\n\r\n"[..], "the destination does not speak HTTP: "),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", "the destination does not speak HTTP: "),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "the destination does not speak HTTP: "),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            "the destination does not speak HTTP: ",
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "the destination does not speak HTTP: "),
        (b"\x15\x03\x01\x00\x02\x02\x00\r\n\r\n", "the destination does not speak HTTP: "),
        (b"", "the destination broke off: "),
        (b"HTTP/1.1 200", "the destination broke off: "),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\nshort", "the destination broke off: "),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "the destination broke off: "),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc", "the destination broke off: "),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
            "the destination broke off: ",
        ),
    ] {
        let answer = client().send(saying(bytes).await).await;
        assert!(answer.address.is_some());
        let failure = failure(answer);
        let told = String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(failure.kind, FailureKind::Protocol, "{told:?}: {}", failure.message);
        assert!(failure.message.starts_with(expected), "{told:?}: {}", failure.message);
        assert!(!failure.message.contains("s3cret"), "{}", failure.message);
    }
}

#[tokio::test]
async fn headers_without_end_are_too_large() {
    let too_large = "the response's headers are too large";
    for with in [&b"x-header: 1\r\n"[..], b"x"] {
        let request = flooding("HTTP/1.1 200 OK\r\n", with).await;
        assert_failed(client().send(request).await, FailureKind::Protocol, too_large);
    }
    let request = flooding("HTTP/1.1 200 OK\r\nx: ", b"x").await;
    assert_failed(client().send(request).await, FailureKind::Protocol, too_large);
    let request = flooding("HTTP/1.1 200 ", b"x").await;
    assert_failed(client().send(request).await, FailureKind::Protocol, too_large);
}

#[tokio::test]
async fn many_headers_are_refused_though_they_are_short() {
    let request = to_server(async |mut stream| {
        let answer = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(300));
        let _ = stream.write_all(answer.as_bytes()).await;
    })
    .await;
    assert_failed(
        client().send(request).await,
        FailureKind::Protocol,
        "the response's headers are too large",
    );
}

#[tokio::test]
async fn interim_responses_without_end_are_too_much() {
    let started = Instant::now();
    let request = flooding("", b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n").await;
    let message = "the destination sends more than a response may be";
    assert_failed(client().send(request).await, FailureKind::Protocol, message);
    assert!(started.elapsed() < LONG, "the bytes are bounded, not only the time");
}

#[tokio::test]
async fn a_few_interim_responses_are_passed_over() {
    let request = saying(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    )
    .await;
    assert_eq!(response(client().send(request).await).status, 204);
}

#[tokio::test]
async fn endless_bodies_end_at_the_bound() {
    for (beginning, with) in [
        ("HTTP/1.1 200 OK\r\n\r\n", &b"x"[..]),
        ("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", b"x"),
        ("HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ] {
        let answer = client().send(flooding(beginning, with).await).await;
        assert_eq!(response(answer).body, vec![b'x'; BODY_BYTES], "{beginning}");
    }
}

#[tokio::test]
async fn chunks_that_are_all_extension_or_trailer_are_refused() {
    for (beginning, with) in [
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;", &b"x"[..]),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            b"1;extension-extension-extension=1\r\nx\r\n",
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"trailer: 1\r\n"),
    ] {
        let answer = client().send(flooding(beginning, with).await).await;
        // Either there is a bound on it, or the body's bound comes first.
        match answer.result {
            Ok(response) => assert_eq!(response.body.len(), BODY_BYTES, "{beginning}"),
            Err(failure) => {
                assert_eq!(failure.kind, FailureKind::Protocol, "{beginning}: {}", failure.message);
            }
        }
    }
}

#[tokio::test]
async fn nothing_is_unpacked() {
    // A megabyte of zeros, by gzip, 1,039 bytes long in full: its beginning.
    let bomb = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 12\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\x02\x03\xed\xc1";
    let answer = client().send(saying(bomb).await).await;
    assert_eq!(response(answer).body, b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\xed\xc1");
}

#[tokio::test]
async fn a_switch_of_protocols_that_nobody_asked_for_is_no_success() {
    let request =
        saying(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
            .await;
    match client().send(request).await.result {
        Ok(response) => assert_eq!(response.status, 101),
        Err(failure) => assert_eq!(failure.kind, FailureKind::Protocol),
    }
}

#[tokio::test]
async fn a_reset_is_told() {
    let request = to_server(async |stream| {
        // Closing with this set sends RST.
        stream.set_zero_linger().unwrap();
    })
    .await;
    let failure = failure(client().send(request).await);
    assert_eq!(failure.kind, FailureKind::Protocol, "{}", failure.message);
    assert!(failure.message.starts_with("the destination broke off: "), "{}", failure.message);
}
