//! Sends one request and brings back an answer, bounded in time and size.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ravenpost_core::delivery::{Answer, Failure, FailureKind, Phases, Response};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use url::{Host, Url};

use crate::classify::{blocked, classify, failure, timed_out};
use crate::resolve::Resolver;
use crate::settings::Settings;
use crate::tls::TlsProfile;

const USER_AGENT: &str = concat!("Ravenpost/", env!("CARGO_PKG_VERSION"));
/// Idle connections to one host, and for how long: enough to reuse under load, little when a host goes quiet.
const IDLE_PER_HOST: usize = 64;
const IDLE_FOR: Duration = Duration::from_secs(30);
/// A destination's answer is small; what it may have in flight to us on HTTP/2 is bounded alike.
const HTTP2_WINDOW: u32 = 65_535;
const HTTP2_MAX_HEADERS_BYTES: u32 = 16_384;
/// Headers that belong to one connection or to the message's framing (RFC 9110, section 7.6.1): ours to set.
const FRAMING: [HeaderName; 9] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
];

/// The guarded HTTP client. Cloning shares its connections; a process needs one.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    resolver: Resolver,
    max_response_bytes: usize,
}

/// One `POST`.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where to: http or https, without user and password.
    pub url: Url,
    /// What goes with it. Framing headers are ours and are dropped from here.
    pub headers: HeaderMap,
    /// The body, sent as it is.
    pub body: Bytes,
    /// For everything, from the name lookup to the end of the (bounded) response body.
    pub timeout: Duration,
    /// Until the response's headers are here, within `timeout`; `None`: as the operator has set it.
    pub first_byte_timeout: Option<Duration>,
    /// TLS with this destination; `None`: the system's certificate authorities, no certificate of ours.
    pub tls: Option<Arc<TlsProfile>>,
}

/// Why the client can't be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Without trusted roots every https destination would fail.
    #[error("no trusted root certificates were found: install ca-certificates or set SSL_CERT_FILE")]
    NoRoots,
    /// The cryptography does not offer what TLS needs.
    #[error("TLS can't be set up")]
    Tls(#[from] rustls::Error),
    /// The HTTP client refuses its configuration.
    #[error("the HTTP client can't be set up")]
    Http(#[from] reqwest::Error),
}

impl Client {
    /// A client by the operator's settings, trusting the system's root certificates.
    pub fn new(settings: &Settings) -> Result<Self, BuildError> {
        let resolver = Resolver::new(&settings.egress_allowed_networks);
        let http = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .dns_resolver(resolver.clone())
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(settings.egress_connect_timeout)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .pool_idle_timeout(IDLE_FOR)
            .tcp_nodelay(true)
            .http2_initial_stream_window_size(HTTP2_WINDOW)
            .http2_max_header_list_size(HTTP2_MAX_HEADERS_BYTES)
            .tls_backend_preconfigured(tls()?)
            .build()?;
        Ok(Self { http, resolver, max_response_bytes: settings.egress_max_response_bytes })
    }

    /// Whether the URL is fit to be sent to, as far as can be told without a name lookup: http or https, no user or
    /// password, and if it names an address, one that may be connected to.
    pub fn check(&self, url: &Url) -> Result<(), Failure> {
        let invalid = |message: &str| Err(failure(FailureKind::InvalidUrl, message));
        if !matches!(url.scheme(), "http" | "https") {
            return invalid("the URL is neither http nor https");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return invalid("the URL carries a user or password");
        }
        let literal: Option<IpAddr> = match url.host() {
            Some(Host::Ipv4(ip)) => Some(ip.into()),
            Some(Host::Ipv6(ip)) => Some(ip.into()),
            Some(Host::Domain(_)) => None,
            None => return invalid("the URL has no host"),
        };
        literal.map_or(Ok(()), |ip| self.resolver.vet(ip)).map_err(|refused| blocked(&refused))
    }

    /// Sends a request. Never fails: what went wrong is the answer.
    pub async fn send(&self, request: Request) -> Answer {
        let (started, timeout) = (Instant::now(), request.timeout);
        let result = match self.check(&request.url) {
            Ok(()) => tokio::time::timeout(timeout, self.exchange(request)).await,
            Err(failure) => Ok(Err(failure)),
        };
        let result = result.unwrap_or_else(|_| Err(timed_out(timeout)));
        Answer { result, duration: started.elapsed(), phases: Phases::default(), address: None }
    }

    /// Fetches what a URL serves, as [`Client::send`] sends: guarded, bounded, without redirects.
    pub async fn get(&self, url: Url, timeout: Duration) -> Answer {
        let started = Instant::now();
        let result = match self.check(&url) {
            Ok(()) => tokio::time::timeout(timeout, self.answered(self.http.get(url))).await,
            Err(failure) => Ok(Err(failure)),
        };
        let result = result.unwrap_or_else(|_| Err(timed_out(timeout)));
        Answer { result, duration: started.elapsed(), phases: Phases::default(), address: None }
    }

    async fn exchange(&self, mut request: Request) -> Result<Response, Failure> {
        for name in &FRAMING {
            request.headers.remove(name);
        }
        if request.body.is_empty() {
            // Said for us where there is a body; a POST says it without one as well (RFC 9110, section 8.6).
            request.headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        self.answered(self.http.post(request.url).headers(request.headers).body(request.body)).await
    }

    async fn answered(&self, request: reqwest::RequestBuilder) -> Result<Response, Failure> {
        let mut response = request.send().await.map_err(|error| classify(&error))?;
        let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let (status, retry_after) = (response.status().as_u16(), retry_after.map(str::to_owned));
        let body = self.read(&mut response).await.map_err(|error| classify(&error))?;
        Ok(Response { status, retry_after, body })
    }

    /// Reads up to the bound. What is left is never read: dropping the response closes its connection or stream.
    async fn read(&self, response: &mut reqwest::Response) -> Result<Vec<u8>, reqwest::Error> {
        let mut body = Vec::new();
        while body.len() < self.max_response_bytes {
            let Some(chunk) = response.chunk().await? else { break };
            let room = self.max_response_bytes - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
        Ok(body)
    }
}

/// TLS with ring, chosen here and not by a process-wide default.
fn tls() -> Result<ClientConfig, BuildError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some root certificates can't be read");
    }
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(BuildError::NoRoots);
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
