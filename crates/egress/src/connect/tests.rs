use tokio::net::TcpListener;

use super::*;

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address where nobody listens.
async fn closed() -> SocketAddr {
    listener().await.1
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_refuses() {
    let (_listening, open) = listener().await;
    let mut tried = None;
    let (_, connected) = tcp(&[closed().await, closed().await, open], &mut tried).await.unwrap();
    assert_eq!((connected, tried), (open, Some(open)));
}

#[tokio::test]
async fn a_silent_address_does_not_keep_the_next_one_waiting() {
    let (_listening, open) = listener().await;
    // A backlog of one that is full: the system answers no further SYN.
    let silent = tokio::net::TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let silent = silent.listen(1).unwrap();
    let address = silent.local_addr().unwrap();
    let mut filling = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(NEXT_ADDRESS, TcpStream::connect(address)).await {
        filling.push(stream);
        assert!(filling.len() < 64, "the backlog is bounded");
    }
    let mut tried = None;
    let addresses = [address, open];
    let connecting = tcp(&addresses, &mut tried);
    let (_, connected) = tokio::time::timeout(Duration::from_secs(10), connecting).await.unwrap().unwrap();
    assert_eq!((connected, tried), (open, Some(open)));
}

#[tokio::test]
async fn the_first_error_is_told_when_all_fail() {
    let address = closed().await;
    let mut tried = None;
    let error = tcp(&[address, closed().await], &mut tried).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(tried.is_some_and(|tried| tried != address));
    assert!(tcp(&[], &mut None).await.is_err());
}

#[test]
fn a_certificate_is_for_a_name_or_an_address() {
    let name = |text: &str| server_name(&Host::parse(text).unwrap());
    assert!(matches!(name("example.com").unwrap(), ServerName::DnsName(_)));
    assert!(matches!(name("[2001:db8::1]").unwrap(), ServerName::IpAddress(_)));
    assert_eq!(name("exa_mple..com").unwrap_err().kind, FailureKind::InvalidUrl);
}
