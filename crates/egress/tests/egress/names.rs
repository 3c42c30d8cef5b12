//! Names: resolved here, vetted, pinned; whatever the name server says.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::any;
use hickory_resolver::proto::rr::RecordType;
use ravenpost_core::delivery::FailureKind;
use ravenpost_egress::{Client, Request, Settings};

use crate::support::names::{Reply, addresses, asking, name_server};
use crate::support::{Counter, assert_failed, failure, http_server, post, response, settings, strict};

/// A server on loopback, and a request to it by a name.
async fn by_name(name: &str) -> Request {
    let base = http_server(Router::new().route("/", any(async || "hello"))).await;
    post(&base.replace("127.0.0.1", name))
}

#[tokio::test]
async fn a_name_is_resolved_and_its_address_connected_to() {
    let server = name_server(|name, _| match name {
        "hooks.example.com" => addresses(&["127.0.0.1"]),
        _ => Reply::NoName,
    })
    .await;
    let client = Client::new(&asking(server, settings())).unwrap();
    for name in ["hooks.example.com", "HOOKS.example.com", "hooks.example.com."] {
        let answer = client.send(by_name(name).await).await;
        assert_eq!(answer.address.unwrap().ip().to_string(), "127.0.0.1");
        assert!(answer.phases.dns.is_some());
        assert_eq!(response(answer).body, b"hello");
    }
}

#[tokio::test]
async fn names_of_what_is_not_public_are_refused() {
    let server = name_server(|name, _| match name {
        "loopback.example.com" => addresses(&["127.0.0.1", "::1"]),
        "metadata.example.com" => addresses(&["169.254.169.254"]),
        "private.example.com" => addresses(&["10.0.0.1"]),
        "mapped.example.com" => addresses(&["::ffff:127.0.0.1"]),
        "nat64.example.com" => addresses(&["64:ff9b::7f00:1"]),
        "6to4.example.com" => addresses(&["2002:7f00:1::1"]),
        "unspecified.example.com" => addresses(&["0.0.0.0", "::"]),
        _ => Reply::NoName,
    })
    .await;
    let client = Client::new(&asking(server, strict())).unwrap();
    for (name, reason) in [
        ("loopback", "loopback"),
        ("metadata", "cloud metadata"),
        ("private", "private"),
        ("mapped", "IPv4-mapped"),
        ("nat64", "NAT64"),
        ("6to4", "6to4"),
        ("unspecified", "this network"),
    ] {
        let answer = client.send(by_name(&format!("{name}.example.com")).await).await;
        assert_eq!(answer.address, None, "nothing was connected to");
        let message = format!("the destination's address is not public: {reason}");
        assert_failed(answer, FailureKind::BlockedAddress, &message);
    }
}

#[tokio::test]
async fn a_name_that_is_public_once_and_loopback_then_gains_nothing() {
    // Every question gets another answer than the one before; only an answer that was vetted is ever used.
    let asked = Counter::default();
    let counted = asked.clone();
    let server = name_server(move |_, kind| match kind {
        RecordType::A if counted.add() % 2 == 1 => addresses(&["192.0.2.1"]),
        RecordType::A => addresses(&["127.0.0.1"]),
        _ => addresses(&[]),
    })
    .await;
    // 192.0.2.0/24 (documentation) is allowed here, so that it stands for a public address that nobody has.
    let allowed = vec!["192.0.2.0/24".parse().unwrap()];
    let settings = Settings { egress_allowed_networks: allowed, ..asking(server, strict()) };
    let client = Client::new(&settings).unwrap();
    let mut request = by_name("rebind.example.com").await;
    request.timeout = Duration::from_millis(700);
    for _ in 0..4 {
        let answer = client.send(request.clone()).await;
        let address = answer.address.map(|address| address.ip().to_string());
        let kind = failure(answer).kind;
        match address.as_deref() {
            None => assert_eq!(kind, FailureKind::BlockedAddress),
            Some("192.0.2.1") => assert!(matches!(kind, FailureKind::Timeout | FailureKind::Connect)),
            other => panic!("connected to {other:?}"),
        }
        // Answers are fresh for a second; the next attempt asks again.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
    assert!(asked.get() >= 2, "the name was looked up again");
}

#[tokio::test]
async fn of_mixed_addresses_only_the_public_ones_are_used() {
    let server = name_server(|_, _| addresses(&["10.0.0.1", "127.0.0.1", "169.254.169.254", "::1"])).await;
    let client = Client::new(&asking(server, settings())).unwrap();
    let answer = client.send(by_name("mixed.example.com").await).await;
    assert_eq!(answer.address.unwrap().ip().to_string(), "127.0.0.1");
    assert_eq!(response(answer).status, 200);
}

#[tokio::test]
async fn what_the_name_server_says_is_told_apart() {
    let server = name_server(|name, _| match name {
        "empty.example.com" => addresses(&[]),
        "broken.example.com" => Reply::Broken,
        _ => Reply::NoName,
    })
    .await;
    let client = Client::new(&asking(server, settings())).unwrap();
    for (name, message) in [
        ("nowhere.example.com", "the destination's name does not exist"),
        // RFC 6761 reserves it.
        ("nowhere.invalid", "the destination's name does not exist"),
        ("empty.example.com", "the destination's name has no address"),
    ] {
        let answer = client.send(post(&format!("http://{name}/?key=s3cret"))).await;
        assert_eq!((answer.address, answer.phases.connect), (None, None));
        assert_failed(answer, FailureKind::Dns, message);
    }
    let failure = failure(client.send(post("http://broken.example.com/?key=s3cret")).await);
    assert_eq!(failure.kind, FailureKind::Dns);
    let beginning = "the destination's name can't be resolved just now: ";
    assert!(failure.message.starts_with(beginning), "{}", failure.message);
    assert!(!failure.message.contains("s3cret"), "{}", failure.message);
    assert!(!failure.ours, "the name's own servers are broken");
}

/// Has an answer of its own, and for this name waits for others.
async fn waiting_name_server() -> SocketAddr {
    name_server(|name, _| if name.is_empty() { Reply::Broken } else { Reply::Silence }).await
}

#[tokio::test]
async fn a_name_server_that_is_away_is_told_from_a_name_whose_servers_are() {
    const AWAY: &str = "no name can be resolved just now: the name server does not answer";
    const SILENT: &str =
        "the destination's name can't be resolved just now: its own name servers do not answer";
    let silent = name_server(|_, _| Reply::Silence).await;
    // Discard (RFC 863), which nobody serves.
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let waiting = waiting_name_server().await;
    for (server, message, ours) in [(silent, AWAY, true), (nobody, AWAY, true), (waiting, SILENT, false)] {
        let client = Client::new(&asking(server, settings())).unwrap();
        let started = Instant::now();
        let answer = client.send(post("http://silent.example.com/")).await;
        assert_eq!(answer.result.as_ref().unwrap_err().ours, ours, "{message}");
        assert_failed(answer, FailureKind::Dns, message);
        assert!(started.elapsed() < Duration::from_secs(12));
    }
}

#[tokio::test]
async fn the_deadlines_hold_while_a_name_is_looked_up() {
    const AWAY: &str = "no name can be resolved just now: the name server does not answer";
    let (waiting, silent) = (waiting_name_server().await, name_server(|_, _| Reply::Silence).await);
    let mut request = post("http://silent.example.com/");
    for (server, kind, total, connect) in [
        (
            waiting,
            FailureKind::Timeout,
            "no complete answer within 300ms: its name had not been resolved",
            "no connection within 200ms: the name was not resolved",
        ),
        (silent, FailureKind::Dns, AWAY, AWAY),
    ] {
        let mut settings = asking(server, settings());
        request.timeout = Duration::from_millis(300);
        let started = Instant::now();
        assert_failed(Client::new(&settings).unwrap().send(request.clone()).await, kind, total);
        request.timeout = Duration::from_secs(20);
        settings.egress_connect_timeout = Duration::from_millis(200);
        assert_failed(Client::new(&settings).unwrap().send(request.clone()).await, kind, connect);
        assert!(started.elapsed() < Duration::from_secs(6), "{connect}");
    }
}

#[tokio::test]
async fn one_family_that_is_silent_does_not_keep_the_other_waiting() {
    let server = name_server(|_, kind| match kind {
        RecordType::A => addresses(&["127.0.0.1"]),
        _ => Reply::Silence,
    })
    .await;
    let client = Client::new(&asking(server, settings())).unwrap();
    let answer = client.send(by_name("half.example.com").await).await;
    assert!(answer.phases.dns.unwrap() < Duration::from_secs(2), "{:?}", answer.phases);
    assert_eq!(response(answer).status, 200);
}

#[tokio::test]
async fn one_family_that_is_not_public_does_not_cut_the_other_short() {
    // The first question gets lost. It is asked again later than a family has beside one that will do.
    let asked = Counter::default();
    let counted = asked.clone();
    let server = name_server(move |_, kind| match kind {
        RecordType::A if counted.add() == 1 => Reply::Silence,
        RecordType::A => addresses(&["127.0.0.1"]),
        _ => addresses(&["fd00::1"]),
    })
    .await;
    let client = Client::new(&asking(server, settings())).unwrap();
    assert_eq!(response(client.send(by_name("slow.example.com").await).await).status, 200);
    assert!(asked.get() > 1, "the name server was asked again");
}

#[tokio::test]
async fn names_are_complete_and_their_servers_are_asked_once_while_fresh() {
    let asked = std::sync::Arc::new(Mutex::new(Vec::new()));
    let seen = std::sync::Arc::clone(&asked);
    let server = name_server(move |name, kind| {
        seen.lock().unwrap().push((name.to_owned(), kind));
        addresses(&["127.0.0.1"])
    })
    .await;
    // No connection is kept, so that each request looks the name up.
    let settings = Settings { egress_idle_connections: 0, ..asking(server, settings()) };
    let client = Client::new(&settings).unwrap();
    let request = by_name("short").await;
    for _ in 0..2 {
        assert!(client.send(request.clone()).await.phases.dns.is_some());
    }
    let asked = asked.lock().unwrap();
    assert!(asked.iter().all(|(name, _)| name == "short"), "no search domain: {asked:?}");
}
