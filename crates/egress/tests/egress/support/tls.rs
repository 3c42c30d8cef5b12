//! Servers that speak TLS, and the authorities of their certificates.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ravenpost_egress::TlsProfile;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Counter, raw_server};

static NUMBER: AtomicUsize = AtomicUsize::new(1);

/// A certificate authority.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        // Each has a name of its own, as in life.
        let name = format!("Authority {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        Self::with(&name, KeyPair::generate().unwrap())
    }

    /// The authority of that name and key.
    pub(crate) fn with(name: &str, key: KeyPair) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for a name or an address.
    pub(crate) fn issue(&self, name: &str) -> Identity {
        self.issue_as(&CertificateParams::new(vec![name.to_owned()]).unwrap())
    }

    pub(crate) fn issue_as(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }

    /// Of a destination that has this authority.
    pub(crate) fn profile(&self) -> Arc<TlsProfile> {
        Arc::new(TlsProfile::parse(Some(&self.pem), None, None, None).unwrap())
    }

    /// And shows it a certificate.
    pub(crate) fn profile_with(&self, identity: &Identity) -> Arc<TlsProfile> {
        let (certificate, key) = (Some(identity.certificate.as_str()), Some(identity.key.as_str()));
        Arc::new(TlsProfile::parse(Some(&self.pem), certificate, key, None).unwrap())
    }
}

/// What a server speaks.
pub(crate) struct Speaks<'a> {
    pub(crate) versions: &'a [&'static SupportedProtocolVersion],
    pub(crate) alpn: &'a [&'a str],
    /// Wants client certificates of this authority.
    pub(crate) clients: Option<&'a Authority>,
}

impl Default for Speaks<'_> {
    fn default() -> Self {
        Self { versions: rustls::ALL_VERSIONS, alpn: &["h2", "http/1.1"], clients: None }
    }
}

pub(crate) fn acceptor(identity: &Identity, speaks: &Speaks<'_>) -> TlsAcceptor {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(speaks.versions)
        .unwrap();
    let builder = match speaks.clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = speaks.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// A server that does with each TLS connection what it likes.
pub(crate) async fn raw_tls_server<F>(
    acceptor: TlsAcceptor,
    handle: impl Fn(TlsStream<TcpStream>) -> F + Send + Sync + 'static,
) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let handle = Arc::new(handle);
    raw_server(move |stream| {
        let (acceptor, handle) = (acceptor.clone(), Arc::clone(&handle));
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                handle(stream).await;
            }
        }
    })
    .await
}

/// An HTTP server by TLS that says what it was sent; it counts its connections.
pub(crate) async fn echo_server(acceptor: TlsAcceptor) -> (SocketAddr, Counter) {
    let connections = Counter::default();
    let counted = connections.clone();
    let address = raw_tls_server(acceptor, move |stream| {
        counted.add();
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        async move {
            let (io, echo) = (TokioIo::new(stream), service_fn(echo));
            if http2 {
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(io, echo)
                    .await;
            } else {
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, echo).await;
            }
        }
    })
    .await;
    (address, connections)
}

async fn echo(request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
    let head = format!(
        "{:?} {} {} host={:?} length={:?}\n",
        request.version(),
        request.method(),
        request.uri().path_and_query().unwrap(),
        request.headers().get("host").map(|host| host.to_str().unwrap()),
        request.headers().get("content-length").map(|length| length.to_str().unwrap()),
    );
    let body = request.into_body().collect().await?.to_bytes();
    Ok(Response::new(Full::new([head.into_bytes(), body.to_vec()].concat().into())))
}
