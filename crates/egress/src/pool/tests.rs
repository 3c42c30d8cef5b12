use tokio::io::DuplexStream;

use super::*;
use crate::connect::Connected;
use crate::metered::Allowance;

fn key(host: &str) -> Key {
    let url = format!("http://{host}/").parse().unwrap();
    Key::new(&Target::of(&url, &[]).unwrap(), None)
}

/// An open connection of HTTP/1.1, and the destination's end of it.
async fn connection() -> (Connection, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(64);
    let (stream, address) = (Box::new(ours), "192.0.2.1:80".parse().unwrap());
    let connected = Connected { stream, address, http2: false, allowance: Allowance::default() };
    let mut connection = Connection::open(connected).await.unwrap();
    let Connection::Http1(http1) = &mut connection else { panic!("not HTTP/1.1") };
    assert!(http1.is_usable());
    (connection, theirs)
}

/// A pool's inside with a connection to each host; keep the ends, or they are closed.
async fn filled(hosts: &[&str], limit: usize, now: Instant) -> (Waiting, Vec<DuplexStream>) {
    let (mut waiting, mut ends) = (Waiting::default(), Vec::new());
    for host in hosts {
        let (connection, end) = connection().await;
        waiting.put(key(host), connection, limit, now);
        ends.push(end);
    }
    (waiting, ends)
}

#[tokio::test]
async fn a_connection_serves_its_own_target_only() {
    let now = Instant::now();
    let (mut waiting, _ends) = filled(&["a.example", "b.example"], 9, now).await;
    assert!(waiting.take(&key("c.example"), now).is_none());
    assert!(waiting.take(&key("a.example"), now).is_some());
    assert!(waiting.take(&key("a.example"), now).is_none());
    let other_port = Target::of(&"http://b.example:81/".parse().unwrap(), &[]).unwrap();
    assert!(waiting.take(&Key::new(&other_port, None), now).is_none());
    let by_tls = Target::of(&"https://b.example:80/".parse().unwrap(), &[]).unwrap();
    assert!(waiting.take(&Key::new(&by_tls, None), now).is_none());
    assert!(waiting.take(&key("b.example"), now).is_some());
    assert!(waiting.connections.is_empty() && waiting.by_key.is_empty());
}

#[tokio::test]
async fn the_longest_idle_makes_room() {
    let now = Instant::now();
    let (mut waiting, _ends) = filled(&["a.example", "b.example", "c.example"], 2, now).await;
    assert!(waiting.take(&key("a.example"), now).is_none());
    assert!(waiting.take(&key("b.example"), now).is_some() && waiting.take(&key("c.example"), now).is_some());
    let (mut waiting, _ends) = filled(&["a.example"; IDLE_PER_TARGET + 5], 1_000, now).await;
    assert_eq!(waiting.connections.len(), IDLE_PER_TARGET);
    while waiting.take(&key("a.example"), now).is_some() {}
    assert!(waiting.connections.is_empty() && waiting.by_key.is_empty());
}

#[tokio::test]
async fn too_old_and_closed_connections_are_not_used() {
    let now = Instant::now();
    let (mut waiting, ends) = filled(&["a.example", "b.example"], 9, now).await;
    assert!(waiting.take(&key("a.example"), Instant::now() + LIFETIME).is_none());
    drop(ends);
    assert!(waiting.take(&key("b.example"), now).is_none());
    assert!(waiting.connections.is_empty());
}

#[tokio::test]
async fn nothing_waits_for_long() {
    let now = Instant::now();
    let (mut waiting, ends) = filled(&["a.example"], 9, now).await;
    waiting.sweep(now + IDLE_FOR - Duration::from_secs(1));
    assert_eq!(waiting.connections.len(), 1);
    waiting.sweep(now + IDLE_FOR);
    assert!(waiting.connections.is_empty() && waiting.by_key.is_empty());
    drop(ends);
    let (mut waiting, ends) = filled(&["a.example", "b.example"], 9, now).await;
    drop(ends);
    waiting.sweep(now);
    assert!(waiting.connections.is_empty());
}
