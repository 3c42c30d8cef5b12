//! The operator's forward proxy, spoken to by TLS. Its certificate is judged by the system's authorities alone, so each
//! test runs once more in a process whose system knows one authority: ours.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::any;
use ravenpost_core::delivery::FailureKind;
use ravenpost_egress::{Client, Proxy, Settings};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::version;
use tokio::net::TcpStream;

use crate::proxy::{Asked, tunnel};
use crate::support::tls::{Authority, Identity, Speaks, acceptor, echo_server, raw_tls_server};
use crate::support::{assert_failed, failure, http_server, post, raw_server, response, settings};

/// The file with the key of the authority that the process believes.
const KEY: &str = "EGRESS_TEST_AUTHORITY_KEY";
const NAME: &str = "The system's";

/// `Proxy-Authorization` of a user `us er` with the password `s3:cr@t`.
const CREDENTIALS: &str = "Basic dXMgZXI6czM6Y3JAdA==";

/// In a process that was started for `test`: the authority that its system knows. Else starts that process, and gives
/// nothing when the test has passed there.
fn the_systems(test: &str) -> Option<Authority> {
    if let Some(key) = env::var_os(KEY) {
        let key = KeyPair::from_pem(&fs::read_to_string(key).unwrap()).unwrap();
        return Some(Authority::with(NAME, key));
    }
    let (folder, key) = (tempfile::tempdir().unwrap(), KeyPair::generate().unwrap());
    let (roots, key_file) = (folder.path().join("roots.pem"), folder.path().join("key.pem"));
    fs::write(&key_file, key.serialize_pem()).unwrap();
    fs::write(&roots, Authority::with(NAME, key).pem).unwrap();
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("SSL_CERT_FILE", roots)
        .env_remove("SSL_CERT_DIR")
        .env(KEY, key_file)
        .output()
        .unwrap();
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
    None
}

/// A proxy with this certificate that speaks HTTP/1.1, and lets in whoever has the credentials.
async fn proxy(
    identity: &Identity,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> (SocketAddr, Asked) {
    let asked = Asked::default();
    let seen = Arc::clone(&asked);
    let acceptor = acceptor(identity, &Speaks { versions, ..Speaks::default() });
    let address = raw_tls_server(acceptor, move |stream| {
        let seen = Arc::clone(&seen);
        async move {
            assert_eq!(
                stream.get_ref().1.alpn_protocol(),
                Some(&b"http/1.1"[..]),
                "CONNECT is of HTTP/1.1 here"
            );
            let status = |head: &str| {
                let authorized = head.contains(&format!("\r\nProxy-Authorization: {CREDENTIALS}\r\n"));
                if authorized { "200 Connection established" } else { "407 Proxy Authentication Required" }
            };
            tunnel(stream, &seen, status).await;
        }
    })
    .await;
    (address, asked)
}

/// A client that goes by the proxy at this URL.
fn by(url: &str) -> Client {
    within(url, settings().egress_connect_timeout)
}

fn within(url: &str, connect_timeout: Duration) -> Client {
    let proxy = Some(Proxy::parse(url).unwrap());
    let settings = Settings { egress_proxy: proxy, egress_connect_timeout: connect_timeout, ..settings() };
    Client::new(&settings).unwrap()
}

fn url(proxy: SocketAddr) -> String {
    format!("https://us%20er:s3%3Acr%40t@localhost:{}", proxy.port())
}

/// The destination's own TLS goes through the proxy's, and each is judged by its own authorities.
#[tokio::test]
async fn both_tls_go_through_one_another() {
    let Some(system) = the_systems("secure_proxy::both_tls_go_through_one_another") else { return };
    let base = http_server(Router::new().route("/", any(async || "hello"))).await;
    let plain: SocketAddr = base.trim_start_matches("http://").parse().unwrap();
    let authority = Authority::new();
    for versions in [&[&version::TLS13], &[&version::TLS12]] {
        let (proxy, asked) = proxy(&system.issue("localhost"), versions).await;
        let client = by(&url(proxy));
        let answer = client.send(post(&base)).await;
        assert_eq!(
            (answer.address, answer.phases.tls),
            (Some(plain), None),
            "the destination's, not the proxy's"
        );
        assert_eq!(response(answer).body, b"hello");

        let (secure, connections) =
            echo_server(acceptor(&authority.issue("127.0.0.1"), &Speaks::default())).await;
        let mut request = post(&format!("https://{secure}/"));
        request.tls = Some(authority.profile());
        for _ in 0..2 {
            let body = response(client.send(request.clone()).await).body;
            assert!(body.starts_with(b"HTTP/2.0 POST / "), "{}", String::from_utf8_lossy(&body));
        }
        assert_eq!(connections.get(), 1, "a tunnel is used again");
        let expected = [plain, secure].map(|address| {
            format!(
                "CONNECT {address} HTTP/1.1\r\nHost: {address}\r\nProxy-Authorization: {CREDENTIALS}\r\n\r\n"
            )
        });
        assert_eq!(*asked.lock().unwrap(), expected);
    }
}

#[tokio::test]
async fn credentials_that_the_proxy_does_not_know_are_told() {
    let Some(system) = the_systems("secure_proxy::credentials_that_the_proxy_does_not_know_are_told") else {
        return;
    };
    let (proxy, asked) = proxy(&system.issue("localhost"), rustls::ALL_VERSIONS).await;
    for credentials in ["", "us%20er:wrong@", "us%20er@", "s3%3Acr%40t:us%20er@"] {
        let client = by(&format!("https://{credentials}localhost:{}", proxy.port()));
        let message = "no connection: the proxy wants other credentials (407)";
        assert_failed(client.send(post("http://127.0.0.1:9/")).await, FailureKind::Connect, message);
        let asked = asked.lock().unwrap().pop().unwrap();
        assert_eq!(asked.contains("Proxy-Authorization"), !credentials.is_empty(), "{asked}");
    }
}

/// A certificate of the proxy's is the operator's affair: the destination's deliveries go on being tried.
#[tokio::test]
async fn a_proxy_that_is_not_believed_is_not_asked() {
    let Some(system) = the_systems("secure_proxy::a_proxy_that_is_not_believed_is_not_asked") else { return };
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = date_time_ymd(2001, 1, 1);
    let destinations = Authority::new();
    for (identity, why) in [
        (destinations.issue("localhost"), "its authority is not known"),
        (system.issue_as(&params), "it has expired"),
        (system.issue("proxy.example.com"), "it is for another name"),
    ] {
        let (proxy, asked) = proxy(&identity, rustls::ALL_VERSIONS).await;
        let mut request = post("https://127.0.0.1:9/");
        // Whom the destination believes says nothing of the proxy.
        request.tls = Some(destinations.profile());
        let message = format!("no connection to the proxy: its certificate is not accepted: {why}");
        assert_failed(by(&url(proxy)).send(request).await, FailureKind::Connect, &message);
        assert!(asked.lock().unwrap().is_empty(), "credentials are for the proxy alone");
    }
}

#[tokio::test]
async fn a_proxy_without_tls_or_answer_is_told() {
    let plain = http_server(Router::new()).await.replace("http://", "https://us%20er:s3cret@");
    let failed = failure(by(&plain).send(post("http://127.0.0.1:9/")).await);
    assert_eq!(failed.kind, FailureKind::Connect);
    assert!(failed.message.starts_with("no connection to the proxy: TLS failed: "), "{}", failed.message);

    let hangs = raw_server(async |_stream: TcpStream| tokio::time::sleep(Duration::from_mins(1)).await).await;
    let client = within(&format!("https://{hangs}"), Duration::from_millis(300));
    let answer = client.send(post("http://127.0.0.1:9/")).await;
    assert_failed(answer, FailureKind::Timeout, "no connection within 300ms: the proxy did not take it");
}
