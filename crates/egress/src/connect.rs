//! From a target to a stream that HTTP is spoken on: name, TCP (by the proxy, if there is one), TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use ravenpost_core::delivery::{Failure, FailureKind};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use url::Host;

use crate::classify::{self, Stage, failure};
use crate::metered::{Allowance, Metered};
use crate::proxy::Proxy;
use crate::resolve::{Refused, Resolver};
use crate::seen::Seen;
use crate::target::Target;
use crate::tls::{Tls, TlsProfile};

/// How long an address has before the next one is tried beside it (RFC 8305, section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// What a TLS handshake may read: a chain of certificates above all.
const HANDSHAKE_BYTES: u64 = 128 * 1024;

/// What bytes flow through.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Transport for S {}

/// Plain TCP or TLS, directly or through a proxy.
pub(crate) type Stream = Box<dyn Transport>;

/// A connection that is there.
pub(crate) struct Connected {
    pub(crate) stream: Stream,
    pub(crate) address: SocketAddr,
    /// What TLS has agreed on (ALPN); HTTP/1.1 otherwise.
    pub(crate) http2: bool,
    /// What it may read from now on.
    pub(crate) allowance: Allowance,
}

/// Opens connections.
pub(crate) struct Connector {
    pub(crate) resolver: Resolver,
    pub(crate) tls: Tls,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) timeout: Duration,
}

impl Connector {
    /// Opens a connection to a vetted address of the target, and notes in `seen` how it goes.
    pub(crate) async fn connect(
        &self,
        target: &Target,
        profile: Option<&TlsProfile>,
        seen: &mut Seen,
    ) -> Result<Connected, Failure> {
        match tokio::time::timeout(self.timeout, self.phases(target, profile, seen)).await {
            Ok(result) => result,
            Err(_) => Err(classify::connect_timed_out(self.timeout, seen.stage)),
        }
    }

    async fn phases(
        &self,
        target: &Target,
        profile: Option<&TlsProfile>,
        seen: &mut Seen,
    ) -> Result<Connected, Failure> {
        let addresses = self.addresses(target, seen).await?;
        seen.stage = Stage::Connect;
        let started = Instant::now();
        let (stream, address) = match &self.proxy {
            Some(proxy) => self.by_proxy(proxy, &addresses, seen).await?,
            None => tcp(&addresses, &mut seen.address)
                .await
                .map(|(stream, address)| (Box::new(stream) as Stream, address))
                .map_err(|error| classify::tcp(&error))?,
        };
        seen.phases.connect = Some(started.elapsed());
        // Beneath TLS, so that nothing is read uncounted.
        let allowance = Allowance::default();
        let stream: Stream = Box::new(Metered::new(stream, allowance.clone()));
        if !target.https {
            return Ok(Connected { stream, address, http2: false, allowance });
        }
        seen.stage = Stage::Tls;
        let started = Instant::now();
        allowance.grant(HANDSHAKE_BYTES, HANDSHAKE_BYTES);
        let (stream, http2) = self.secured(stream, target, profile).await?;
        seen.phases.tls = Some(started.elapsed());
        Ok(Connected { stream, address, http2, allowance })
    }

    /// Vetted addresses with the target's port. An address in the URL needs no lookup; it was vetted with the URL.
    async fn addresses(&self, target: &Target, seen: &mut Seen) -> Result<Vec<SocketAddr>, Failure> {
        let ips: Vec<IpAddr> = match &target.host {
            Host::Ipv4(ip) => vec![(*ip).into()],
            Host::Ipv6(ip) => vec![(*ip).into()],
            Host::Domain(name) => {
                seen.stage = Stage::Name;
                let started = Instant::now();
                let ips = self.resolver.vetted(name).await;
                if !matches!(ips, Err(Refused::Unresolved(_))) {
                    seen.phases.dns = Some(started.elapsed());
                }
                ips.map_err(|refused| classify::name(&refused))?
            }
        };
        Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, target.port)).collect())
    }

    /// A tunnel to the first of the addresses that the proxy gets through to.
    async fn by_proxy(
        &self,
        proxy: &Proxy,
        addresses: &[SocketAddr],
        seen: &mut Seen,
    ) -> Result<(Stream, SocketAddr), Failure> {
        let mut last = failure(FailureKind::Connect, "no connection: there is no address");
        seen.stage = Stage::Proxy;
        for address in addresses {
            seen.address = Some(*address);
            let stream = self.to_proxy(proxy).await?;
            seen.stage = Stage::Connect;
            match proxy.tunnel(stream, *address).await {
                Ok(stream) => return Ok((stream, *address)),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    async fn to_proxy(&self, proxy: &Proxy) -> Result<Stream, Failure> {
        let away =
            |why: String| classify::ours(FailureKind::Connect, format!("no connection to the proxy: {why}"));
        let ips = match &proxy.host {
            Host::Ipv4(ip) => vec![(*ip).into()],
            Host::Ipv6(ip) => vec![(*ip).into()],
            Host::Domain(name) => {
                self.resolver.addresses(name).await.map_err(|refused| away(refused.to_string()))?
            }
        };
        let addresses: Vec<_> = ips.into_iter().map(|ip| SocketAddr::new(ip, proxy.port)).collect();
        let (stream, _) = tcp(&addresses, &mut None).await.map_err(|error| away(error.kind().to_string()))?;
        if !proxy.tls {
            return Ok(Box::new(stream));
        }
        let config = self.tls.of(None).map_err(|error| away(error.to_string()))?;
        let name = server_name(&proxy.host).map_err(|failure| away(failure.message))?;
        let connector = TlsConnector::from(config);
        let stream = connector.with_alpn(vec![b"http/1.1".to_vec()]).connect(name, stream).await;
        Ok(Box::new(stream.map_err(|error| away(classify::proxy_tls(&error)))?))
    }

    /// TLS on a stream, and whether HTTP/2 is spoken there.
    async fn secured(
        &self,
        stream: Stream,
        target: &Target,
        profile: Option<&TlsProfile>,
    ) -> Result<(Stream, bool), Failure> {
        let config: Arc<ClientConfig> = self.tls.of(profile).map_err(|error| classify::tls(&error))?;
        let name = server_name(&target.host)?;
        let stream =
            TlsConnector::from(config).connect(name, stream).await.map_err(|error| classify::tls(&error))?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((Box::new(stream), http2))
    }
}

/// The name or address that a certificate has to be for.
fn server_name(host: &Host) -> Result<ServerName<'static>, Failure> {
    match host {
        Host::Ipv4(ip) => Ok(ServerName::IpAddress(IpAddr::from(*ip).into())),
        Host::Ipv6(ip) => Ok(ServerName::IpAddress(IpAddr::from(*ip).into())),
        Host::Domain(name) => ServerName::try_from(name.clone()).map_err(|_| {
            failure(FailureKind::InvalidUrl, "the URL's host is no name that a certificate could be for")
        }),
    }
}

/// The first connection that comes about. Each address has a moment for itself before the next is tried beside it.
/// `tried` is the one that was tried last, or the one that is connected.
async fn tcp(
    addresses: &[SocketAddr],
    tried: &mut Option<SocketAddr>,
) -> io::Result<(TcpStream, SocketAddr)> {
    let mut rest = addresses.iter();
    let mut trying = FuturesUnordered::new();
    let mut first_error = None;
    loop {
        if let Some(address) = rest.next() {
            *tried = Some(*address);
            trying.push(one(*address));
        }
        tokio::select! {
            result = trying.next() => match result {
                Some(Ok((stream, address))) => {
                    *tried = Some(address);
                    return Ok((stream, address));
                }
                Some(Err(error)) => first_error = first_error.or(Some(error)),
                None => return Err(first_error.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into())),
            },
            () = tokio::time::sleep(NEXT_ADDRESS), if rest.len() > 0 => {}
        }
    }
}

async fn one(address: SocketAddr) -> io::Result<(TcpStream, SocketAddr)> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok((stream, address))
}

#[cfg(test)]
mod tests;
