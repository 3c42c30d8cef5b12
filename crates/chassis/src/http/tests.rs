use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::*;

async fn start(
    router: Router,
    limits: Limits,
) -> (Context, SocketAddr, tokio::task::JoinHandle<anyhow::Result<()>>) {
    let ctx = Context::detached();
    let listener = bind("RAVENPOST_TEST_ADDR", "127.0.0.1:0".parse().unwrap()).await.unwrap();
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
    let (ctx, address, server) = start(Router::new().route("/", get(handler)), Limits::default()).await;
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
    let (ctx, address, server) = start(Router::new().route("/", get(handler)), Limits::default()).await;
    let request = tokio::spawn(ask(address));
    arrived.await.unwrap();
    ctx.stopping.cancel();
    ctx.cut.cancel();
    server.await.unwrap().unwrap();
    assert_eq!(request.await.unwrap(), "");
}

#[tokio::test]
async fn connections_are_bounded() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let (_ctx, address, _server) = start(Router::new().route("/", get(async || "ok")), limits).await;
    let holder = TcpStream::connect(address).await.unwrap();
    let second = tokio::spawn(ask(address));
    let mut byte = [0];
    // The first is accepted (it can be idle for long); the second has to wait for its slot.
    assert!(tokio::time::timeout(Duration::from_millis(100), holder.peek(&mut byte)).await.is_err());
    assert!(!second.is_finished());
    drop(holder);
    assert!(second.await.unwrap().starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn an_address_in_use_names_its_variable() {
    let taken = bind("RAVENPOST_TEST_ADDR", "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = bind("RAVENPOST_TEST_ADDR", address).await.unwrap_err().to_string();
    assert_eq!(error, format!("RAVENPOST_TEST_ADDR: can't listen on {address}"));
}
