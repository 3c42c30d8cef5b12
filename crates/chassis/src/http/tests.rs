use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::*;

fn start(
    router: Router,
    limits: Limits,
) -> (Context, SocketAddr, tokio::task::JoinHandle<anyhow::Result<()>>) {
    let ctx = Context::detached();
    let listener = bind("RAVENPOST_TEST_ADDR", "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let served = ctx.clone();
    (ctx, address, tokio::spawn(async move { serve(listener, router, limits, &served).await }))
}

async fn ask(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text).await;
    text
}

#[tokio::test]
async fn requests_in_flight_are_finished_and_no_more_are_taken() {
    let (arrived_tx, arrived) = oneshot::channel();
    let (release, released) = oneshot::channel::<()>();
    let once = Arc::new(std::sync::Mutex::new(Some((arrived_tx, released))));
    let handler = move |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move {
        let (arrived, released) = once.lock().unwrap().take().unwrap();
        arrived.send(()).unwrap();
        released.await.unwrap();
        format!("hello {}", peer.ip())
    };
    let (ctx, address, server) = start(Router::new().route("/", get(handler)), Limits::default());
    let request = tokio::spawn(ask(address));
    arrived.await.unwrap();
    ctx.stopping.cancel();
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!server.is_finished());
    release.send(()).unwrap();
    let text = request.await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("hello 127.0.0.1"), "{text}");
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_cut_drops_what_hangs() {
    let (arrived_tx, arrived) = oneshot::channel();
    let once = Arc::new(std::sync::Mutex::new(Some(arrived_tx)));
    let handler = move || async move {
        once.lock().unwrap().take().unwrap().send(()).unwrap();
        std::future::pending::<()>().await;
    };
    let (ctx, address, server) = start(Router::new().route("/", get(handler)), Limits::default());
    let request = tokio::spawn(ask(address));
    arrived.await.unwrap();
    ctx.stopping.cancel();
    ctx.cut.cancel();
    server.await.unwrap().unwrap();
    assert_eq!(request.await.unwrap(), "");
}

/// What a client gets that sends `request` whole before it reads, until the connection ends.
async fn exchange(address: SocketAddr, request: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

fn post(body: usize) -> Vec<u8> {
    let mut request = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {body}\r\n\r\n").into_bytes();
    request.resize(request.len() + body, b'x');
    request
}

#[tokio::test]
async fn beyond_the_bound_of_connections_one_is_told_so_at_once() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let (_ctx, address, _server) = start(Router::new().route("/", get(async || "ok")), limits);
    let holder = TcpStream::connect(address).await.unwrap();
    let text = ask(address).await;
    assert!(text.starts_with("HTTP/1.1 503") && text.contains("retry-after: 1\r\n"), "{text}");
    assert!(text.ends_with('}') && text.contains("urn:ravenpost:problem:unavailable"), "{text}");
    drop(holder);
    while !ask(address).await.starts_with("HTTP/1.1 200") {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_answer_arrives_although_its_body_was_not_read() {
    let (_ctx, address, _server) =
        start(Router::new().route("/", axum::routing::post(async || "no")), Limits::default());
    // Far more than the kernel buffers, and less than is read on.
    let text = exchange(address, &post(3 * 1024 * 1024)).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("connection: close\r\n"), "{text}");
    assert!(text.ends_with("no"), "{text}");
}

#[tokio::test]
async fn a_client_that_reads_sees_the_answer_however_much_it_sends() {
    let (_ctx, address, _server) =
        start(Router::new().route("/", axum::routing::post(async || "no")), Limits::default());
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    let sending = tokio::spawn(async move {
        write.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n").await.unwrap();
        let chunk = vec![0; 64 * 1024];
        while write.write_all(&chunk).await.is_ok() {}
    });
    let mut text = [0; 512];
    let length = read.read(&mut text).await.unwrap();
    let text = String::from_utf8_lossy(&text[..length]);
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("connection: close\r\n"), "{text}");
    // It is not read for ever.
    tokio::time::timeout(Duration::from_secs(20), sending).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_small_rest_costs_no_connection() {
    let (_ctx, address, _server) =
        start(Router::new().route("/", axum::routing::post(async || "no")), Limits::default());
    let mut stream = TcpStream::connect(address).await.unwrap();
    for _ in 0..3 {
        stream.write_all(&post(20_000)).await.unwrap();
        let mut text = Vec::new();
        while !text.ends_with(b"no") {
            assert!(stream.read_buf(&mut text).await.unwrap() > 0, "the connection ended");
        }
        assert!(!String::from_utf8_lossy(&text).contains("connection: close"));
    }
}

#[tokio::test]
async fn headers_are_bounded() {
    let router = Router::new().route("/", get(async || "ok"));
    let (_ctx, address, _server) = start(router, Limits::default());
    let many = |count: usize, value: &str| {
        let fields = (0..count).map(|number| format!("x-{number}: {value}\r\n")).collect::<Vec<_>>().concat();
        format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{fields}\r\n").into_bytes()
    };
    assert!(exchange(address, &many(70, "1")).await.unwrap().starts_with("HTTP/1.1 200"));
    for request in [many(90, "1"), many(1, &"1".repeat(20_000))] {
        let text = exchange(address, &request).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 431") && text.contains("problem:headers-too-large"), "{text}");
    }
    // Beyond hyper's own bounds the answer has no document.
    assert!(exchange(address, &many(200, "1")).await.unwrap().starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn a_slow_head_is_cut_and_an_idle_connection_is_not() {
    let limits = Limits { head: Duration::from_millis(150), ..Limits::default() };
    let (ctx, address, _server) = start(Router::new().route("/", get(async || "ok")), limits);
    let mut silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0, "it is closed");

    let mut stream = TcpStream::connect(address).await.unwrap();
    for _ in 0..2 {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut text = Vec::new();
        while !text.ends_with(b"ok") {
            assert!(stream.read_buf(&mut text).await.unwrap() > 0, "the connection ended");
        }
        // Idle for longer than a head may take.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // Each byte in time, all together not.
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: ").await.unwrap();
    let dripping = async {
        while stream.write_all(b"1").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), dripping).await.unwrap();
    let metrics = ctx.metrics.render().unwrap();
    assert!(metrics.contains(r#"http_refused_total{reason="slow_head"} 2"#), "{metrics}");
}

#[tokio::test]
async fn an_address_in_use_names_its_variable() {
    let taken = bind("RAVENPOST_TEST_ADDR", "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = taken.local_addr().unwrap();
    let error = bind("RAVENPOST_TEST_ADDR", address).unwrap_err().to_string();
    assert_eq!(error, format!("RAVENPOST_TEST_ADDR: can't listen on {address}"));
}

/// What is not accepted yet waits in the kernel.
#[tokio::test]
async fn a_burst_of_connections_waits_to_be_accepted() {
    let listener = bind("RAVENPOST_TEST_ADDR", "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
    let mut burst = Vec::new();
    for number in 1..=500.min(allowed) {
        let connecting = tokio::time::timeout(Duration::from_secs(20), TcpStream::connect(address)).await;
        burst.push(connecting.unwrap_or_else(|_| panic!("connection {number} is not taken")).unwrap());
    }
}
