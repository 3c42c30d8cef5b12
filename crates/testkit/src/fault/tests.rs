use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, timeout},
};

use super::*;
use crate::{receiver::Receiver, wait};

const BOUND: Duration = Duration::from_secs(5);
/// Nothing comes for so long.
const SILENCE: Duration = Duration::from_millis(300);

/// A peer that sends back what it gets, behind a proxy.
async fn behind_proxy() -> (FaultProxy, TcpListener) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let proxy = FaultProxy::start(&listener.local_addr().unwrap().to_string()).await.unwrap();
    (proxy, listener)
}

/// Both ends of a connection through the proxy: the client's and the target's.
async fn connected(proxy: &FaultProxy, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(proxy.address()).await.unwrap();
    let (server, _) = timeout(BOUND, listener.accept()).await.unwrap().unwrap();
    (client, server)
}

async fn passes(from: &mut TcpStream, to: &mut TcpStream) -> bool {
    from.write_all(b"x").await.unwrap();
    timeout(SILENCE, to.read_u8()).await.is_ok_and(|byte| byte.unwrap() == b'x')
}

async fn is_reset(stream: &mut TcpStream) -> bool {
    let read = timeout(BOUND, stream.read_u8()).await.unwrap();
    read.unwrap_err().kind() == ErrorKind::ConnectionReset
}

#[tokio::test]
async fn each_mode_does_what_it_says() {
    let receiver = Receiver::start().await.unwrap();
    let proxy = FaultProxy::start(&format!("127.0.0.1:{}", receiver.port())).await.unwrap();
    let client = crate::http_client().unwrap();
    let url = format!("http://{}/", proxy.address());
    let ask = || client.get(&url).timeout(SILENCE).send();

    assert!(ask().await.unwrap().status().is_success());

    for silent in [Silent::Both, Silent::ToTarget, Silent::FromTarget] {
        proxy.set(Mode::HalfOpen(silent));
        assert!(ask().await.unwrap_err().is_timeout());
    }

    proxy.set(Mode::Cut);
    assert!(!ask().await.unwrap_err().is_timeout());

    proxy.set(Mode::Delay(Duration::from_millis(100)));
    let asked = Instant::now();
    assert!(ask().await.unwrap().status().is_success());
    assert!(asked.elapsed() >= Duration::from_millis(200), "both directions wait");

    proxy.set(Mode::Pass);
    assert!(ask().await.unwrap().status().is_success());
}

#[tokio::test]
async fn half_open_silences_one_direction_and_loses_nothing() {
    let (proxy, listener) = behind_proxy().await;
    let (mut client, mut server) = connected(&proxy, &listener).await;

    proxy.set(Mode::HalfOpen(Silent::ToTarget));
    assert!(passes(&mut server, &mut client).await);
    assert!(!passes(&mut client, &mut server).await);
    client.shutdown().await.unwrap();
    proxy.set(Mode::Pass);
    let mut late = Vec::new();
    timeout(BOUND, server.read_to_end(&mut late)).await.unwrap().unwrap();
    assert_eq!(late, b"x", "what was sent meanwhile, and its end, follow");

    let (mut client, mut server) = connected(&proxy, &listener).await;
    proxy.set(Mode::HalfOpen(Silent::FromTarget));
    assert!(passes(&mut client, &mut server).await);
    assert!(!passes(&mut server, &mut client).await);
}

#[tokio::test]
async fn refused_until_it_listens_again_on_the_same_port() {
    let (proxy, listener) = behind_proxy().await;
    let (mut client, _server) = connected(&proxy, &listener).await;
    for _ in 0..3 {
        proxy.set(Mode::Refuse);
        wait::until_true("the proxy to refuse", BOUND, || async {
            let connected = TcpStream::connect(proxy.address()).await;
            Ok(connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused))
        })
        .await
        .unwrap();
        proxy.set(Mode::Pass);
        wait::until_true("the proxy to listen", BOUND, || async {
            Ok(TcpStream::connect(proxy.address()).await.is_ok())
        })
        .await
        .unwrap();
    }
    assert!(is_reset(&mut client).await);
}

#[tokio::test]
async fn reset_takes_connections_now_and_later() {
    let (proxy, listener) = behind_proxy().await;
    let (mut before, _server) = connected(&proxy, &listener).await;
    proxy.set(Mode::Reset(SILENCE));
    assert!(is_reset(&mut before).await);
    let (mut client, mut server) = connected(&proxy, &listener).await;
    assert!(passes(&mut client, &mut server).await, "a new one lives for a while");
    assert!(is_reset(&mut client).await);

    // One that was made meanwhile is reset although all is well again.
    let (mut client, _server) = connected(&proxy, &listener).await;
    proxy.set(Mode::Pass);
    assert!(is_reset(&mut client).await);
}

#[tokio::test]
async fn a_target_that_is_away_resets() {
    let (proxy, listener) = behind_proxy().await;
    drop(listener);
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(is_reset(&mut client).await);
}
