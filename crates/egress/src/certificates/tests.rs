//! The real client, over TLS, against a server that stands for the providers' hosts: the same names, resolved to loopback, which
//! the operator has allowed, and a root certificate of its own. It is reached as an operator's proxy, since it can't have the
//! providers' port.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use chrono::DateTime;
use futures::future::join_all;
use http::{HeaderMap, Method};
use ravenpost_core::provider::Provider;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::Settings;
use crate::proxy::Proxy;
use crate::resolve::Resolver;
use crate::tls::Tls;

const SNS: &str = "sns.us-east-1.amazonaws.com";
const PAYPAL: &str = "api.paypal.com";
/// Another host of SNS, whose server shows a certificate for the first one.
const MISNAMED: &str = "sns.eu-west-1.amazonaws.com";

/// What the server does with a path, and which ones it was asked for.
struct Server {
    address: SocketAddr,
    roots: RootCertStore,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves `certificate` where a path ends in `.pem` or begins as PayPal's do; what else, its path says.
    async fn start(certificate: String) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new([SNS.to_owned(), PAYPAL.to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &authority).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    vec![leaf.der().clone()],
                    PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
                )
                .unwrap();
        let (acceptor, listener) =
            (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let (seen, certificate) = (Arc::clone(&asked), Arc::new(certificate));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, seen, certificate) =
                    (acceptor.clone(), Arc::clone(&seen), Arc::clone(&certificate));
                tokio::spawn(async move {
                    let Some(stream) = tunnelled(stream).await else { return };
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    serve(stream, &seen, &certificate).await;
                });
            }
        });
        Self { address, roots, asked }
    }

    fn certificates(&self, allowed: &[&str]) -> Certificates {
        let allowed: Vec<ipnet::IpNet> = allowed.iter().map(|network| network.parse().unwrap()).collect();
        let settings = Settings {
            egress_proxy: Some(Proxy::parse(&format!("http://{}", self.address)).unwrap()),
            egress_connect_timeout: Duration::from_secs(5),
            ..Settings::default()
        };
        let resolver = Resolver::at_home(&[SNS, PAYPAL, MISNAMED], &allowed);
        Certificates::new(Client::with(&settings, resolver, Tls::trusting(self.roots.clone()).unwrap()))
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// What is said to a proxy, until it has a connection to pass on.
async fn tunnelled(mut stream: tokio::net::TcpStream) -> Option<tokio::net::TcpStream> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    assert!(head.starts_with(b"CONNECT 127.0.0.1:443 "), "{}", String::from_utf8_lossy(&head));
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
    Some(stream)
}

async fn serve(
    mut stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    asked: &Mutex<Vec<String>>,
    certificate: &str,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    asked.lock().unwrap().push(path.clone());
    let answer = |status: &str, extra: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{extra}\r\n{body}",
            body.len()
        )
    };
    let answer = match path.as_str() {
        "/redirect" => answer("302 Found", "location: /elsewhere.pem\r\n", ""),
        "/huge" => answer("200 OK", "", &"x".repeat(1 << 20)),
        path if path.starts_with("/missing") => answer("404 Not Found", "", ""),
        path if path.starts_with("/hang") => return std::future::pending().await,
        "/drip" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n").await;
            while stream.write_all(b"x").await.is_ok() && stream.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            return;
        }
        _ => answer("200 OK", "", certificate),
    };
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn endpoint(number: u8) -> EndpointId {
    uuid::Uuid::from_bytes([number; 16]).into()
}

fn at(host: &str, path: &str) -> Url {
    format!("https://{host}{path}").parse().unwrap()
}

/// A request of the vectors that core is tested with.
struct Vector {
    provider: Provider,
    secrets: Vec<Secret>,
    headers: HeaderMap,
    body: String,
    now: i64,
    certificate: String,
}

impl Vector {
    fn of(provider: Provider, name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/vectors");
        let text = std::fs::read(folder.join(format!("{}.json", provider.slug()))).unwrap();
        let file: Value = serde_json::from_slice(&text).unwrap();
        let named = |vector: &&Value| vector["name"] == name;
        let vector = file["vectors"].as_array().unwrap().iter().find(named).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let header = |pair: &Value| {
            (text(&pair[0]).parse::<http::HeaderName>().unwrap(), text(&pair[1]).parse().unwrap())
        };
        let served = &vector["certificates"];
        let served =
            served.as_object().and_then(|served| served.values().next()).unwrap_or(&vector["certificate"]);
        Self {
            provider,
            secrets: vector["secrets"].as_array().unwrap().iter().map(|one| Secret::new(text(one))).collect(),
            headers: vector["headers"].as_array().unwrap().iter().map(header).collect(),
            body: text(&vector["body"]),
            now: vector["now"].as_i64().unwrap(),
            certificate: text(served),
        }
    }

    async fn verify(&self, certificates: &Certificates) -> Result<(), Rejection> {
        let request = Request {
            method: &Method::POST,
            url: signature::Url { base: "https://hooks.example.com", path_and_query: "/h/x" },
            headers: &self.headers,
            body: self.body.as_bytes(),
            peer: None,
            received_at: DateTime::from_timestamp(self.now, 0).unwrap(),
            fetched: None,
        };
        let verification = Verification::Provider { provider: self.provider };
        certificates.verify(endpoint(1), &verification, &self.secrets, request).await
    }
}

const LOOPBACK: &[&str] = &["127.0.0.0/8"];

#[tokio::test]
async fn a_certificate_is_fetched_once_and_believed() {
    for provider in [Provider::AwsSns, Provider::Paypal] {
        let good = Vector::of(provider, "good");
        let server = Server::start(good.certificate.clone()).await;
        let certificates = server.certificates(LOOPBACK);
        assert_eq!(good.verify(&certificates).await, Ok(()));
        assert_eq!(good.verify(&certificates).await, Ok(()));
        assert_eq!(
            Vector::of(provider, "tampered").verify(&certificates).await,
            Err(Rejection::WrongSignature)
        );
        assert_eq!(server.asked().len(), 1, "{}: {:?}", provider.slug(), server.asked());
    }
}

#[tokio::test]
async fn nothing_is_fetched_from_a_host_that_is_not_the_providers() {
    let foreign = Vector::of(Provider::AwsSns, "foreign_certificate_url");
    let server = Server::start(foreign.certificate.clone()).await;
    let rejection = foreign.verify(&server.certificates(LOOPBACK)).await.unwrap_err();
    assert!(matches!(rejection, Rejection::Certificate(_)), "{rejection:?}");
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn the_host_has_to_prove_its_name_and_to_be_where_we_may_connect() {
    let server = Server::start("served".to_owned()).await;
    let certificates = server.certificates(LOOPBACK);
    let url = |host| at(host, "/x.pem");
    assert_eq!(certificates.get(endpoint(1), &url(MISNAMED)).await, Err(Rejection::CertificateUnavailable));
    assert_eq!(certificates.get(endpoint(1), &url(SNS)).await.unwrap(), "served");
    let guarded = server.certificates(&[]);
    assert_eq!(guarded.get(endpoint(1), &url(SNS)).await, Err(Rejection::CertificateUnavailable));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = Server::start("served".to_owned()).await;
    let certificates = server.certificates(LOOPBACK);
    let fetched = certificates.get(endpoint(1), &at(SNS, "/redirect")).await;
    assert_eq!(fetched, Err(Rejection::CertificateUnavailable));
    assert_eq!(server.asked(), ["/redirect"]);
}

#[tokio::test]
async fn what_is_huge_is_read_to_the_bound() {
    let server = Server::start(String::new()).await;
    let fetched = server.certificates(LOOPBACK).get(endpoint(1), &at(SNS, "/huge")).await.unwrap();
    assert_eq!(fetched.len(), 16_384);
}

#[tokio::test]
async fn what_drips_is_cut() {
    let server = Server::start(String::new()).await;
    let certificates = Certificates { timeout: Duration::from_millis(300), ..server.certificates(LOOPBACK) };
    let started = Instant::now();
    let fetched = certificates.get(endpoint(1), &at(SNS, "/drip")).await;
    assert_eq!(fetched, Err(Rejection::CertificateUnavailable));
    assert!(started.elapsed() < Duration::from_secs(4));
    // A moment later nobody asks again.
    assert_eq!(
        certificates.get(endpoint(2), &at(SNS, "/drip")).await,
        Err(Rejection::CertificateUnavailable)
    );
    assert_eq!(server.asked(), ["/drip"]);
}

#[tokio::test]
async fn an_endpoint_that_names_many_urls_keeps_no_other_waiting() {
    let server = Server::start("served".to_owned()).await;
    let certificates = Arc::new(server.certificates(LOOPBACK));
    let flood: Vec<_> = (0..200)
        .map(|number| {
            let certificates = Arc::clone(&certificates);
            let url = at(SNS, &format!("/hang/{number}"));
            tokio::spawn(async move { certificates.get(endpoint(1), &url).await })
        })
        .collect();
    // Its share is out.
    let bound = Instant::now() + Duration::from_secs(5);
    while server.asked().len() < AT_ONCE_OF_ENDPOINT {
        assert!(Instant::now() < bound);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let fetched = join_all((2..=20).map(|number| {
        let certificates = Arc::clone(&certificates);
        async move { certificates.get(endpoint(number), &at(SNS, &format!("/{number}.pem"))).await }
    }));
    for fetched in fetched.await {
        assert_eq!(fetched.unwrap(), "served");
    }
    let hanging = server.asked().iter().filter(|path| path.starts_with("/hang")).count();
    assert_eq!(hanging, AT_ONCE_OF_ENDPOINT);
    flood.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn an_endpoint_that_names_what_is_not_there_has_it_asked_for_a_few_times() {
    let server = Server::start("served".to_owned()).await;
    let certificates = server.certificates(LOOPBACK);
    for number in 0..50 {
        let url = at(SNS, &format!("/missing/{number}"));
        assert!(certificates.get(endpoint(1), &url).await.is_err());
    }
    assert_eq!(server.asked().len(), usize::try_from(MISSES).unwrap());
    // Neither another endpoint nor another host is meant.
    assert_eq!(certificates.get(endpoint(2), &at(SNS, "/x.pem")).await.unwrap(), "served");
    assert_eq!(certificates.get(endpoint(1), &at(PAYPAL, "/x.pem")).await.unwrap(), "served");
    // What is known already is known to all.
    assert_eq!(certificates.get(endpoint(1), &at(SNS, "/x.pem")).await.unwrap(), "served");
}

#[tokio::test]
async fn many_requests_at_once_fetch_once() {
    let server = Server::start("served".to_owned()).await;
    let certificates = server.certificates(LOOPBACK);
    let url = at(SNS, "/x.pem");
    for fetched in join_all((0..50).map(|number| certificates.get(endpoint(number % 3), &url))).await {
        assert_eq!(fetched.unwrap(), "served");
    }
    assert_eq!(server.asked(), ["/x.pem"]);
}

#[tokio::test]
async fn a_subscription_is_confirmed_when_its_host_says_so_itself() {
    let server = Server::start("confirmed".to_owned()).await;
    let certificates = server.certificates(LOOPBACK);
    let path = "/?Action=ConfirmSubscription&TopicArn=arn&Token=t";
    assert!(certificates.confirm(endpoint(1), &at(SNS, path)).await);
    assert_eq!(server.asked(), [path]);
    for refused in [at(SNS, "/missing"), at(SNS, "/redirect"), at(MISNAMED, path)] {
        assert!(!certificates.confirm(endpoint(1), &refused).await, "{refused}");
    }
    assert_eq!(server.asked(), [path, "/missing", "/redirect"], "and no redirect was followed");
    assert!(
        !server.certificates(&[]).confirm(endpoint(1), &at(SNS, path)).await,
        "nobody has allowed loopback"
    );
}
