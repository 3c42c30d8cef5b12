//! Where the time went and what was connected to.

use std::time::Duration;

use axum::Router;
use axum::routing::any;
use ravenpost_core::delivery::{FailureKind, Phases};
use ravenpost_egress::Client;

use crate::support::tls::{Authority, Speaks, acceptor, echo_server};
use crate::support::{assert_failed, client, http_server, post, raw_server, response, settings};

#[tokio::test]
async fn each_phase_is_told_and_a_connection_used_again_has_none() {
    let authority = Authority::new();
    for alpn in [&["h2"][..], &["http/1.1"]] {
        let speaks = Speaks { alpn, ..Speaks::default() };
        let (address, _) = echo_server(acceptor(&authority.issue("localhost"), &speaks)).await;
        let mut request = post(&format!("https://localhost:{}/", address.port()));
        request.tls = Some(authority.profile());
        let client = client();
        let answer = client.send(request.clone()).await;
        assert_eq!(answer.address, Some(address));
        let Phases { dns, connect, tls, first_byte } = answer.phases;
        let known = [dns, connect, tls, first_byte].map(Option::unwrap).iter().sum::<Duration>();
        assert!(known <= answer.duration, "{:?} in {:?}", answer.phases, answer.duration);
        let again = client.send(request).await;
        assert_eq!(again.address, Some(address));
        let Phases { dns, connect, tls, first_byte } = again.phases;
        assert_eq!((dns, connect, tls), (None, None, None), "{alpn:?}");
        assert!(first_byte.is_some());
    }
}

#[tokio::test]
async fn an_address_needs_no_lookup_and_http_no_tls() {
    let url = http_server(Router::new().route("/", any(async || "hello"))).await;
    let answer = client().send(post(&url)).await;
    assert!(answer.phases.dns.is_none() && answer.phases.tls.is_none());
    assert!(answer.phases.connect.is_some() && answer.phases.first_byte.is_some());
    assert_eq!(response(answer).status, 200);
}

#[tokio::test]
async fn waiting_is_counted_where_it_happens() {
    let slow = any(async || tokio::time::sleep(Duration::from_millis(200)).await);
    let answer = client().send(post(&http_server(Router::new().route("/", slow)).await)).await;
    assert!(answer.phases.first_byte.unwrap() >= Duration::from_millis(200));
    assert!(answer.duration >= answer.phases.first_byte.unwrap());
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_told() {
    let address = raw_server(async |_stream| tokio::time::sleep(Duration::from_mins(1)).await).await;
    let mut settings = settings();
    settings.egress_connect_timeout = Duration::from_millis(300);
    let mut request = post(&format!("https://{address}/"));
    let answer = Client::new(&settings).unwrap().send(request.clone()).await;
    assert_eq!(answer.address, Some(address));
    assert!(answer.phases.connect.is_some() && answer.phases.tls.is_none());
    assert_failed(answer, FailureKind::Timeout, "no connection within 300ms: the TLS handshake did not end");
    request.timeout = Duration::from_millis(200);
    let answer = client().send(request).await;
    let message = "no complete answer within 200ms: the TLS handshake had not ended";
    assert_failed(answer, FailureKind::Timeout, message);
}
