//! Sends one request and brings back an answer, bounded in time and size.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http_body_util::Full;
use ravenpost_core::delivery::{Answer, Failure, Response};
use url::Url;

use crate::classify::{no_name_server, timed_out};
use crate::connect::Connector;
use crate::connection::{Bounds, Connection, Outgoing};
use crate::pool::{Key, Pool};
use crate::resolve::Resolver;
use crate::seen::Seen;
use crate::settings::Settings;
use crate::target::Target;
use crate::tls::{Tls, TlsProfile};

const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("Ravenpost/", env!("CARGO_PKG_VERSION")));
/// Headers that belong to one connection or to the message's framing (RFC 9110, section 7.6.1): ours to set.
const FRAMING: [HeaderName; 10] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// The guarded HTTP client. Cloning shares its connections; a process needs one.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    connector: Connector,
    pool: Pool,
    first_byte_timeout: Duration,
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
    /// From the connection to the end of the response's headers, within `timeout`; `None`: as the operator has set it.
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
    /// The system has no configuration of the DNS that can be read.
    #[error("names can't be resolved: see /etc/resolv.conf, or set RAVENPOST_EGRESS_NAME_SERVERS")]
    Resolver(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Client {
    /// A client by the operator's settings, trusting the system's root certificates.
    pub fn new(settings: &Settings) -> Result<Self, BuildError> {
        let resolver = Resolver::new(&settings.egress_name_servers, &settings.egress_allowed_networks)
            .map_err(|error| BuildError::Resolver(Box::new(error)))?;
        Ok(Self::with(settings, resolver, Tls::new().ok_or(BuildError::NoRoots)??))
    }

    /// With names looked up so, trusting these root certificates.
    pub(crate) fn with(settings: &Settings, resolver: Resolver, tls: Tls) -> Self {
        let connector = Connector {
            resolver,
            tls,
            proxy: settings.egress_proxy.clone(),
            timeout: settings.egress_connect_timeout,
        };
        let inner = Inner {
            connector,
            pool: Pool::new(settings.egress_idle_connections),
            first_byte_timeout: settings.egress_first_byte_timeout,
            max_response_bytes: settings.egress_max_response_bytes,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Whether the URL is fit to be sent to, as far as can be told without a name lookup: http or https, no user or
    /// password, and if it names an address, one that may be connected to.
    pub fn check(&self, url: &Url) -> Result<(), Failure> {
        Target::of(url, self.inner.connector.resolver.allowed()).map(drop)
    }

    /// Sends a request. Never fails: what went wrong is the answer. It takes a second longer than the request may when a name
    /// was not resolved and it is found that the name server is away.
    pub async fn send(&self, request: Request) -> Answer {
        let mut headers = request.headers;
        for name in &FRAMING {
            headers.remove(name);
        }
        if request.body.is_empty() {
            // Said for us where there is a body; a POST says it without one as well (RFC 9110, section 8.6).
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let bounds = self.bounds(request.first_byte_timeout);
        let message = Message { method: Method::POST, headers: with_ours(headers), body: request.body };
        self.answered(&request.url, message, request.tls.as_deref(), bounds, request.timeout).await
    }

    /// Fetches what a URL serves, as [`Client::send`] sends: guarded, bounded, without redirects.
    pub async fn get(&self, url: Url, timeout: Duration) -> Answer {
        let message =
            Message { method: Method::GET, headers: with_ours(HeaderMap::new()), body: Bytes::new() };
        self.answered(&url, message, None, self.bounds(None), timeout).await
    }

    fn bounds(&self, first_byte: Option<Duration>) -> Bounds {
        let first_byte = first_byte.unwrap_or(self.inner.first_byte_timeout);
        Bounds { first_byte, body_bytes: self.inner.max_response_bytes }
    }

    async fn answered(
        &self,
        url: &Url,
        message: Message,
        tls: Option<&TlsProfile>,
        bounds: Bounds,
        timeout: Duration,
    ) -> Answer {
        let (started, mut seen) = (Instant::now(), Seen::default());
        let exchange = self.exchange(url, &message, tls, bounds, &mut seen);
        let result = tokio::time::timeout(timeout, exchange).await;
        let result = result.unwrap_or_else(|_| Err(timed_out(timeout, seen.stage)));
        let resolver = &self.inner.connector.resolver;
        let result = match result.or_else(|failure| seen.refusal().ok_or(failure)) {
            Err(failure) if seen.is_unresolved(&failure) && !resolver.is_answered().await => {
                Err(no_name_server())
            }
            result => result,
        };
        Answer { result, duration: started.elapsed(), phases: seen.phases, address: seen.address }
    }

    /// One exchange, on a connection that waits for it or on a new one. When one that had waited turns out to be
    /// closed, or to be going away, the request is sent once more on a new one: the destination has not taken it.
    async fn exchange(
        &self,
        url: &Url,
        message: &Message,
        tls: Option<&TlsProfile>,
        bounds: Bounds,
        seen: &mut Seen,
    ) -> Result<Response, Failure> {
        let target = Target::of(url, self.inner.connector.resolver.allowed())?;
        let key = Key::new(&target, tls);
        if let Some(connection) = self.inner.pool.take(&key) {
            let (result, again) = connection.exchange(&target, message.request(), bounds, seen).await;
            self.keep(&key, again);
            match result {
                Err(broken) if broken.untaken => *seen = Seen::default(),
                result => return result.map_err(|broken| broken.failure),
            }
        }
        let connected = self.inner.connector.connect(&target, tls, seen).await?;
        let connection = Connection::open(connected).await?;
        if let Connection::Http2(connection) = &connection {
            // At once: others can share it while this exchange lasts.
            self.keep(&key, Some(Connection::Http2(connection.clone())));
        }
        let (result, again) = connection.exchange(&target, message.request(), bounds, seen).await;
        self.keep(&key, again);
        result.map_err(|broken| broken.failure)
    }

    fn keep(&self, key: &Key, connection: Option<Connection>) {
        if let Some(connection) = connection {
            self.inner.pool.put(key.clone(), connection);
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("allowed", &self.inner.connector.resolver.allowed())
            .finish_non_exhaustive()
    }
}

/// What is sent, without where to. It can be sent twice.
struct Message {
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

impl Message {
    fn request(&self) -> Outgoing {
        let mut request = Outgoing::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        request.headers_mut().clone_from(&self.headers);
        request
    }
}

/// Who we are, unless somebody has said so, and that any answer will do. No `Accept-Encoding`: what comes is shown, and
/// nothing decodes it.
fn with_ours(mut headers: HeaderMap) -> HeaderMap {
    headers.entry(header::USER_AGENT).or_insert(USER_AGENT);
    headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    headers
}
