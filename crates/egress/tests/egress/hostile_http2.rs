//! Servers of HTTP/2 that play tricks with frames (RFC 9113).

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use ravenpost_core::delivery::{Failure, FailureKind};
use ravenpost_egress::{Client, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::support::tls::{Authority, Speaks, acceptor, raw_tls_server};
use crate::support::{BODY_BYTES, Counter, assert_failed, client, failure, flood, post, response, until};

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(15);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:status: 200`, by the static table of HPACK.
const STATUS_200: &[u8] = &[0x88];

/// A connection as the server has it.
struct Peer(TlsStream<TcpStream>);

impl Peer {
    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let _ = self.0.write_all(&frame(kind, flags, stream, payload)).await;
        let _ = self.0.flush().await;
    }

    async fn flood(&mut self, frames: &[u8]) {
        flood(&mut self.0, frames).await;
    }

    /// Reads up to the end of a request's headers; its stream. `None` when the client has gone.
    async fn request(&mut self) -> Option<u32> {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.0.read_exact(&mut payload).await.ok()?;
            if head[3] == HEADERS {
                return Some(u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
            }
        }
    }

    /// A response with a body of `ok`.
    async fn answer(&mut self, stream: u32) {
        self.send(HEADERS, END_HEADERS, stream, STATUS_200).await;
        self.send(DATA, END_STREAM, stream, b"ok").await;
    }

    /// Waits until the client has gone.
    async fn gone(&mut self) {
        while self.request().await.is_some() {}
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A server that has said its settings and does what it likes with each connection, by its number; a request to it.
async fn server<F>(
    settings: &'static [u8],
    then: impl Fn(Peer, usize) -> F + Send + Sync + 'static,
) -> (Request, Counter)
where
    F: Future<Output = ()> + Send + 'static,
{
    let authority = Authority::new();
    let speaks = Speaks { alpn: &["h2"], ..Speaks::default() };
    let connections = Counter::default();
    let (counted, then) = (connections.clone(), Arc::new(then));
    let address = raw_tls_server(acceptor(&authority.issue("127.0.0.1"), &speaks), move |mut stream| {
        let (number, then) = (counted.add(), Arc::clone(&then));
        async move {
            // The client's preface comes before its frames.
            if stream.read_exact(&mut [0; 24]).await.is_ok() {
                let mut peer = Peer(stream);
                peer.send(SETTINGS, 0, 0, settings).await;
                then(peer, number).await;
            }
        }
    })
    .await;
    let mut request = post(&format!("https://{address}/?key=s3cret"));
    request.tls = Some(authority.profile());
    (request, connections)
}

/// What comes of one request to a server that then does what it likes with the request's stream.
async fn failure_of<F>(then: impl Fn(Peer, u32) -> F + Clone + Send + Sync + 'static) -> Failure
where
    F: Future<Output = ()> + Send + 'static,
{
    let (request, _) = server(&[], move |mut peer, _| {
        let then = then.clone();
        async move {
            if let Some(stream) = peer.request().await {
                then(peer, stream).await;
            }
        }
    })
    .await;
    let started = Instant::now();
    let failure = failure(client().send(request).await);
    assert!(started.elapsed() < LONG, "bounded by what it reads, not by its time");
    assert!(!failure.message.contains("s3cret"), "{}", failure.message);
    failure
}

#[tokio::test]
async fn a_polite_server() {
    let (request, connections) = server(&[], async |mut peer, _| {
        while let Some(stream) = peer.request().await {
            peer.answer(stream).await;
        }
    })
    .await;
    let client = client();
    for _ in 0..10 {
        assert_eq!(response(client.send(request.clone()).await).body, b"ok");
    }
    assert_eq!(connections.get(), 1);
}

#[tokio::test]
async fn floods_of_frames_that_say_nothing_are_too_much() {
    let interim = frame(HEADERS, END_HEADERS, 1, &[0x08, 3, b'1', b'0', b'3']);
    for (what, bytes) in [
        ("settings", frame(SETTINGS, 0, 0, &[])),
        ("pings", frame(PING, 0, 0, &[0; 8])),
        ("window updates", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("unknown frames", frame(0xfa, 0, 0, &[0; 100])),
        ("interim responses", interim),
    ] {
        let failure = failure_of(move |mut peer, _| {
            let bytes = bytes.clone();
            async move { peer.flood(&bytes).await }
        })
        .await;
        assert_eq!(failure.kind, FailureKind::Protocol, "{what}: {}", failure.message);
    }
}

#[tokio::test]
async fn headers_without_end_are_refused() {
    let continued = failure_of(async |mut peer, stream| {
        peer.send(HEADERS, 0, stream, STATUS_200).await;
        // A literal header field that is not indexed: `x: 1`.
        peer.flood(&frame(CONTINUATION, 0, stream, &[0, 1, b'x', 1, b'1'])).await;
    })
    .await;
    assert_eq!(continued.kind, FailureKind::Protocol, "{}", continued.message);
    let empty = failure_of(async |mut peer, stream| {
        peer.send(HEADERS, 0, stream, STATUS_200).await;
        peer.flood(&frame(CONTINUATION, 0, stream, &[])).await;
    })
    .await;
    assert_eq!(empty.kind, FailureKind::Protocol, "{}", empty.message);
}

#[tokio::test]
async fn headers_that_unpack_to_much_are_refused() {
    // One large field goes to the dynamic table, and is then named a thousand times by a byte each.
    let bomb = failure_of(async |mut peer, stream| {
        let mut block = STATUS_200.to_vec();
        block.extend([0x40, 1, b'x', 0x7f, 0x81, 0x1d]);
        block.extend([b'a'; 3_840]);
        block.extend([0xbe; 1_000]);
        peer.send(HEADERS, END_HEADERS, stream, &block).await;
        peer.gone().await;
    })
    .await;
    assert_eq!(bomb.kind, FailureKind::Protocol, "{}", bomb.message);
}

#[tokio::test]
async fn a_stream_that_is_reset_is_told() {
    // REFUSED_STREAM, CANCEL, INTERNAL_ERROR, HTTP_1_1_REQUIRED
    for code in [7_u8, 8, 2, 13] {
        let reset = failure_of(move |mut peer, stream| async move {
            peer.send(RST_STREAM, 0, stream, &[0, 0, 0, code]).await;
            peer.gone().await;
        })
        .await;
        assert_eq!(reset.kind, FailureKind::Protocol);
        assert!(reset.message.starts_with("the destination broke off: "), "{}", reset.message);
    }
}

#[tokio::test]
async fn a_server_that_resets_whatever_comes_gets_every_request_once() {
    let requests = Counter::default();
    let counted = requests.clone();
    let (request, _) = server(&[], move |mut peer, _| {
        let counted = counted.clone();
        async move {
            while let Some(stream) = peer.request().await {
                counted.add();
                peer.send(RST_STREAM, 0, stream, &[0, 0, 0, 7]).await;
            }
        }
    })
    .await;
    let client = client();
    let answers = join_all((0..30).map(|_| client.send(request.clone()))).await;
    for answer in answers {
        assert_eq!(failure(answer).kind, FailureKind::Protocol);
    }
    assert!((30..=60).contains(&requests.get()), "{} requests", requests.get());
}

/// What comes of a client's second request to a server that answers the first one of each connection and does to the next
/// what it likes: whether it was answered, and how many requests there were.
async fn second<F>(then: impl Fn(Peer, u32) -> F + Clone + Send + Sync + 'static) -> (bool, usize)
where
    F: Future<Output = ()> + Send + 'static,
{
    let requests = Counter::default();
    let counted = requests.clone();
    let (request, _) = server(&[], move |mut peer, _| {
        let (counted, then) = (counted.clone(), then.clone());
        async move {
            let Some(stream) = peer.request().await else { return };
            counted.add();
            peer.answer(stream).await;
            if let Some(stream) = peer.request().await {
                counted.add();
                then(peer, stream).await;
            }
        }
    })
    .await;
    let client = client();
    assert_eq!(response(client.send(request.clone()).await).status, 200);
    let answer = client.send(request).await;
    (answer.result.is_ok(), requests.get())
}

#[tokio::test]
async fn a_request_is_sent_again_when_it_was_refused() {
    let refused = second(async |mut peer, stream| {
        peer.send(RST_STREAM, 0, stream, &[0, 0, 0, 7]).await;
        peer.gone().await;
    });
    assert_eq!(refused.await, (true, 3), "REFUSED_STREAM");
    let gone = second(async |mut peer, stream| {
        let last = [&(stream - 2).to_be_bytes()[..], &[0; 4]].concat();
        peer.send(GOAWAY, 0, 0, &last).await;
        peer.gone().await;
    });
    assert_eq!(gone.await, (true, 3), "a last stream before it");
    assert_eq!(second(async |peer, _| drop(peer)).await, (true, 3), "the connection ends");
}

#[tokio::test]
async fn a_request_is_not_sent_again_when_it_may_have_been_taken() {
    // CANCEL, INTERNAL_ERROR
    for code in [8_u8, 2] {
        let reset = second(move |mut peer, stream| async move {
            peer.send(RST_STREAM, 0, stream, &[0, 0, 0, code]).await;
            peer.gone().await;
        });
        assert_eq!(reset.await, (false, 2), "code {code}");
    }
    let too_much = second(async |mut peer, stream| {
        let interim = frame(HEADERS, END_HEADERS, stream, &[0x08, 3, b'1', b'0', b'3']);
        peer.flood(&interim).await;
    });
    assert_eq!(too_much.await, (false, 2), "too long an answer");
}

#[tokio::test]
async fn going_away_is_no_failure_for_the_next_request() {
    let (request, connections) = server(&[], async |mut peer, _| {
        if let Some(stream) = peer.request().await {
            peer.answer(stream).await;
            let last = [&stream.to_be_bytes()[..], &[0; 4]].concat();
            peer.send(GOAWAY, 0, 0, &last).await;
            peer.gone().await;
        }
    })
    .await;
    let client = client();
    for expected in 1..=5 {
        assert_eq!(response(client.send(request.clone()).await).body, b"ok");
        assert_eq!(connections.get(), expected);
    }
}

#[tokio::test]
async fn going_away_without_an_answer_is_told() {
    let told = failure_of(async |mut peer, _| {
        // The last stream is 0: nothing was taken. ENHANCE_YOUR_CALM
        peer.send(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 11]).await;
        peer.gone().await;
    })
    .await;
    assert_eq!(told.kind, FailureKind::Protocol);
    assert!(told.message.starts_with("the destination broke off: "), "{}", told.message);
}

#[tokio::test]
async fn what_breaks_the_rules_is_a_protocol_failure() {
    for (what, bytes) in [
        ("a frame that is too large", frame(DATA, 0, 1, &vec![0; 20_000])),
        ("data before headers", frame(DATA, 0, 1, b"x")),
        ("headers of no stream", frame(HEADERS, END_HEADERS, 0, STATUS_200)),
        ("headers that don't unpack", frame(HEADERS, END_HEADERS, 1, &[0xff; 8])),
        ("a pushed stream", frame(5, END_HEADERS, 1, &[0, 0, 0, 2, 0x82])),
        ("nonsense", vec![0xff; 64]),
        ("HTTP/1.1", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
    ] {
        let failure = failure_of(move |mut peer, _| {
            let bytes = bytes.clone();
            async move {
                let _ = peer.0.write_all(&bytes).await;
                let _ = peer.0.flush().await;
                peer.gone().await;
            }
        })
        .await;
        assert_eq!(failure.kind, FailureKind::Protocol, "{what}: {}", failure.message);
    }
}

#[tokio::test]
async fn an_endless_body_is_read_to_the_bound() {
    let (request, _) = server(&[], async |mut peer, _| {
        while let Some(stream) = peer.request().await {
            peer.send(HEADERS, END_HEADERS, stream, STATUS_200).await;
            for _ in 0..60 {
                peer.send(DATA, 0, stream, &[b'x'; 1_000]).await;
            }
        }
    })
    .await;
    let client = client();
    for _ in 0..20 {
        assert_eq!(response(client.send(request.clone()).await).body, vec![b'x'; BODY_BYTES]);
    }
}

#[tokio::test]
async fn a_window_that_stays_shut_is_cut() {
    // SETTINGS_INITIAL_WINDOW_SIZE of 0: no byte of the body may be sent.
    let (mut request, _) = server(&[0, 4, 0, 0, 0, 0], async |mut peer, _| peer.gone().await).await;
    request.first_byte_timeout = Some(SHORT);
    assert_failed(client().send(request).await, FailureKind::Timeout, "no response began within 300ms");
}

#[tokio::test]
async fn a_connection_that_has_gone_silent_is_given_up() {
    let closed = Counter::default();
    let counted = closed.clone();
    let (mut request, connections) = server(&[], move |mut peer, number| {
        let counted = counted.clone();
        async move {
            let mut answered = 0;
            while let Some(stream) = peer.request().await {
                if number > 1 || answered == 0 {
                    peer.answer(stream).await;
                }
                answered += 1;
            }
            counted.add();
        }
    })
    .await;
    let client = client();
    assert_eq!(response(client.send(request.clone()).await).status, 200);
    let whole = request.timeout;
    request.timeout = SHORT;
    assert_eq!(failure(client.send(request.clone()).await).kind, FailureKind::Timeout);
    request.timeout = whole;
    assert_eq!(response(client.send(request).await).status, 200);
    assert_eq!(connections.get(), 2);
    until("the silent one is closed", || closed.get() == 1).await;
}

#[tokio::test]
async fn no_more_streams_than_the_server_takes() {
    // SETTINGS_MAX_CONCURRENT_STREAMS of 1.
    let (request, connections) = server(&[0, 3, 0, 0, 0, 1], async |mut peer, _| {
        while let Some(stream) = peer.request().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
            peer.answer(stream).await;
        }
    })
    .await;
    let client = Client::new(&crate::support::settings()).unwrap();
    assert_eq!(response(client.send(request.clone()).await).status, 200);
    let answers = join_all((0..5).map(|_| client.send(request.clone()))).await;
    assert!(answers.into_iter().all(|answer| response(answer).status == 200));
    assert!((2..=6).contains(&connections.get()), "{} connections", connections.get());
}
