//! Certificates, versions and profiles.

use std::sync::Arc;

use axum::Router;
use axum::routing::any;
use ravenpost_core::delivery::FailureKind;
use ravenpost_egress::{Client, TlsProfile};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};
use rustls::{SupportedProtocolVersion, version};

use crate::support::tls::{Authority, Identity, Speaks, acceptor, echo_server};
use crate::support::{assert_failed, client, failure, http_server, post, raw_server, read_request, response};

/// A request to an echo server with this certificate that speaks so.
async fn to_echo(identity: &Identity, speaks: &Speaks<'_>) -> ravenpost_egress::Request {
    let (address, _) = echo_server(acceptor(identity, speaks)).await;
    post(&format!("https://{address}/hook?key=s3cret"))
}

#[tokio::test]
async fn http2_and_http1_as_the_destination_speaks() {
    let authority = Authority::new();
    let identity = authority.issue("127.0.0.1");
    for (alpn, expected) in [
        (
            &["h2", "http/1.1"][..],
            "HTTP/2.0 POST /hook?key=s3cret host=None length=Some(\"12\")\n{\"hello\": 1}",
        ),
        (
            &["http/1.1"],
            "HTTP/1.1 POST /hook?key=s3cret host=Some(\"H\") length=Some(\"12\")\n{\"hello\": 1}",
        ),
        (&[], "HTTP/1.1 POST /hook?key=s3cret host=Some(\"H\") length=Some(\"12\")\n{\"hello\": 1}"),
    ] {
        let mut request = to_echo(&identity, &Speaks { alpn, ..Speaks::default() }).await;
        let host = format!("127.0.0.1:{}", request.url.port().unwrap());
        request.tls = Some(authority.profile());
        let body = String::from_utf8(response(client().send(request).await).body).unwrap();
        assert_eq!(body.replace(&host, "H"), expected);
    }
}

#[tokio::test]
async fn a_name_is_checked_against_the_certificate() {
    let authority = Authority::new();
    for (host, name) in
        [("localhost", "localhost"), ("localhost.", "localhost"), ("a.b.localhost", "*.b.localhost")]
    {
        let mut request = to_echo(&authority.issue(name), &Speaks::default()).await;
        request.url.set_host(Some(host)).unwrap();
        request.tls = Some(authority.profile());
        assert_eq!(response(client().send(request).await).status, 200, "{host}");
    }
    let mut request = to_echo(&authority.issue("example.com"), &Speaks::default()).await;
    request.tls = Some(authority.profile());
    let message = "the destination's certificate is not accepted: it is for another name";
    assert_failed(client().send(request).await, FailureKind::Certificate, message);
}

#[tokio::test]
async fn certificates_that_are_not_accepted() {
    let authority = Authority::new();
    let mut request = to_echo(&authority.issue("127.0.0.1"), &Speaks::default()).await;
    let unknown = "the destination's certificate is not accepted: its authority is not known";
    assert_failed(client().send(request.clone()).await, FailureKind::Certificate, unknown);
    request.tls = Some(Authority::new().profile());
    assert_failed(client().send(request).await, FailureKind::Certificate, unknown);

    let params = || CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let mut expired = params();
    expired.not_after = date_time_ymd(2001, 1, 1);
    let mut early = params();
    early.not_before = date_time_ymd(4000, 1, 1);
    let mut for_clients = params();
    for_clients.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    for (params, why) in
        [(expired, "it has expired"), (early, "it is not valid yet"), (for_clients, "it is not for servers")]
    {
        let mut request = to_echo(&authority.issue_as(&params), &Speaks::default()).await;
        request.tls = Some(authority.profile());
        let message = format!("the destination's certificate is not accepted: {why}");
        assert_failed(client().send(request).await, FailureKind::Certificate, &message);
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_the_profile_has_one() {
    let authority = Authority::new();
    let clients = Authority::new();
    let ours = clients.issue("ravenpost");
    let strangers = Authority::new().issue("ravenpost");
    for versions in [&[&version::TLS13][..], &[&version::TLS12]] {
        for alpn in [&["h2"][..], &["http/1.1"]] {
            let speaks = Speaks { versions, alpn, clients: Some(&clients) };
            let mut request = to_echo(&authority.issue("127.0.0.1"), &speaks).await;
            request.tls = Some(authority.profile_with(&ours));
            assert_eq!(response(client().send(request.clone()).await).status, 200);
            for (profile, what) in
                [(authority.profile(), "without"), (authority.profile_with(&strangers), "a stranger's")]
            {
                request.tls = Some(profile);
                let failure = failure(client().send(request.clone()).await);
                let told = format!("{what} {versions:?} {alpn:?}: {}", failure.message);
                assert_eq!(failure.kind, FailureKind::Certificate, "{told}");
                assert!(failure.message.contains("client certificate"), "{told}");
            }
        }
    }
}

#[tokio::test]
async fn profiles_do_not_share_connections() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let (address, connections) =
        echo_server(acceptor(&authority.issue("127.0.0.1"), &Speaks::default())).await;
    let mut request = post(&format!("https://{address}/"));
    let client = client();
    let with_identity = authority.profile_with(&clients.issue("ravenpost"));
    for (profile, expected) in [
        (authority.profile(), 1),
        (authority.profile(), 1),
        (with_identity.clone(), 2),
        (with_identity, 2),
        (authority.profile(), 2),
    ] {
        request.tls = Some(profile);
        assert_eq!(response(client.send(request.clone()).await).status, 200);
        assert_eq!(connections.get(), expected);
    }
    request.tls = None;
    assert_eq!(failure(client.send(request).await).kind, FailureKind::Certificate);
}

#[tokio::test]
async fn versions_have_to_meet() {
    let authority = Authority::new();
    let speaks = Speaks { versions: &[&version::TLS12], ..Speaks::default() };
    let mut request = to_echo(&authority.issue("127.0.0.1"), &speaks).await;
    request.tls = Some(authority.profile());
    assert_eq!(response(client().send(request.clone()).await).status, 200);
    let newest = TlsProfile::parse(Some(&authority.pem), None, None, Some("1.3")).unwrap();
    request.tls = Some(Arc::new(newest));
    let failure = failure(client().send(request).await);
    assert_eq!(failure.kind, FailureKind::Tls, "{}", failure.message);
    assert!(failure.message.starts_with("TLS failed: "), "{}", failure.message);
}

#[tokio::test]
async fn many_profiles_are_borne() {
    let authority = Authority::new();
    let mut request = to_echo(&authority.issue("127.0.0.1"), &Speaks::default()).await;
    let client = Client::new(&crate::support::settings()).unwrap();
    for _ in 0..20 {
        let identity = authority.issue("ravenpost");
        request.tls = Some(authority.profile_with(&identity));
        assert_eq!(response(client.send(request.clone()).await).status, 200);
    }
}

#[tokio::test]
async fn what_is_not_tls_is_a_tls_failure() {
    let plain = http_server(Router::new().route("/", any(async || "hello"))).await.replace("http:", "https:");
    let hangs_up = raw_server(async |mut stream| {
        read_request(&mut tokio::io::AsyncReadExt::take(&mut stream, 10)).await;
    })
    .await;
    for url in [plain, format!("https://{hangs_up}/")] {
        let failure = failure(client().send(post(&url)).await);
        assert_eq!(failure.kind, FailureKind::Tls, "{}", failure.message);
    }
}

/// As people make one for a host of their own: it has signed itself, and whoever believes it names it. The second is of
/// the kind that `openssl req -x509` makes.
#[tokio::test]
async fn a_certificate_that_is_its_own_authority() {
    const VERSIONS: [&[&SupportedProtocolVersion]; 2] = [&[&version::TLS13], &[&version::TLS12]];
    let unknown = "its authority is not known";
    let no_servers = "it is an authority's own, and no server's";
    for (is_ca, why) in [(IsCa::NoCa, unknown), (IsCa::Ca(BasicConstraints::Unconstrained), no_servers)] {
        let alone = |name: &str, until| {
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            (params.is_ca, params.not_after) = (is_ca, date_time_ymd(until, 1, 1));
            params.distinguished_name.push(DnType::CommonName, format!("{name} until {until}"));
            let key = KeyPair::generate().unwrap();
            Identity { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
        };
        let asked = async |identity: &Identity, named: Option<&Identity>, versions| {
            let mut request = to_echo(identity, &Speaks { versions, ..Speaks::default() }).await;
            let profile =
                |named: &Identity| TlsProfile::parse(Some(&named.certificate), None, None, None).unwrap();
            request.tls = named.map(profile).map(Arc::new);
            client().send(request).await
        };
        let refused = async |identity: &Identity, named: Option<&Identity>, why: &str| {
            let message = format!("the destination's certificate is not accepted: {why}");
            let answer = asked(identity, named, rustls::ALL_VERSIONS).await;
            assert_failed(answer, FailureKind::Certificate, &message);
        };
        let right = alone("127.0.0.1", 4000);
        for versions in VERSIONS {
            assert_eq!(response(asked(&right, Some(&right), versions).await).status, 200);
        }
        refused(&right, None, why).await;
        refused(&right, Some(&alone("127.0.0.1", 3000)), why).await;
        let (elsewhere, expired) = (alone("192.0.2.1", 4000), alone("127.0.0.1", 2001));
        refused(&elsewhere, Some(&elsewhere), "it is for another name").await;
        refused(&expired, Some(&expired), "it has expired").await;
    }
}
