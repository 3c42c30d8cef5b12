//! The operator's forward proxy: a tunnel (`CONNECT`, RFC 9110 section 9.3.6) to an address that was vetted here.
//!
//! The proxy is told the address and not the name, so that no second lookup can lead elsewhere.

use std::fmt;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ravenpost_core::delivery::{Failure, FailureKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use url::{Host, Url};

use crate::classify::failure;
use crate::connect::Stream;

/// A proxy's answer to `CONNECT` is a line and a few headers.
const ANSWER_LIMIT: usize = 8 * 1024;
const HEADERS_LIMIT: usize = 64;

/// Where the proxy is and how it knows us.
#[derive(Clone)]
pub struct Proxy {
    /// TLS to the proxy itself.
    pub(crate) tls: bool,
    pub(crate) host: Host,
    pub(crate) port: u16,
    /// The value of `Proxy-Authorization`.
    authorization: Option<String>,
}

impl Proxy {
    /// Reads `http://user:password@host:port` or `https://…`; the errors repeat nothing of it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "write a URL such as http://user:password@proxy.internal:3128";
        let url = Url::parse(text).map_err(|_| FORM)?;
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err("a proxy is spoken to by http or https"),
        };
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err("a proxy's URL ends after host and port");
        }
        let host = url.host().ok_or(FORM)?.to_owned();
        let port = url.port_or_known_default().ok_or(FORM)?;
        Ok(Self { tls, host, port, authorization: authorization(&url) })
    }

    /// Has the proxy connect `stream` to `address`.
    pub(crate) async fn tunnel(&self, mut stream: Stream, address: SocketAddr) -> Result<Stream, Failure> {
        let broken = |error: std::io::Error| wrong(&format!("the proxy broke off: {}", error.kind()));
        stream.write_all(self.request(address).as_bytes()).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        let mut answer = Vec::with_capacity(512);
        // Byte by byte: what follows the headers is the destination's already.
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() == ANSWER_LIMIT {
                return Err(wrong("the proxy's answer is too long"));
            }
            answer.push(stream.read_u8().await.map_err(broken)?);
        }
        match status(&answer) {
            Some(200..=299) => Ok(stream),
            Some(407) => Err(wrong("the proxy wants other credentials (407)")),
            Some(status) => Err(failed(&format!("the proxy does not connect to the destination ({status})"))),
            None => Err(wrong("the proxy does not speak HTTP")),
        }
    }

    fn request(&self, address: SocketAddr) -> String {
        let authorization = self.authorization.as_deref();
        let authorization =
            authorization.map(|value| format!("Proxy-Authorization: {value}\r\n")).unwrap_or_default();
        format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n{authorization}\r\n")
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let credentials = if self.authorization.is_some() { "…@" } else { "" };
        write!(f, "{scheme}://{credentials}{}:{}", self.host, self.port)
    }
}

/// Basic credentials (RFC 7617) of a URL's user and password, which are percent-encoded there.
fn authorization(url: &Url) -> Option<String> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut credentials = decoded(url.username());
    credentials.push(b':');
    credentials.extend(decoded(url.password().unwrap_or_default()));
    Some(format!("Basic {}", STANDARD.encode(credentials)))
}

fn decoded(text: &str) -> Vec<u8> {
    percent_encoding::percent_decode_str(text).collect()
}

fn status(answer: &[u8]) -> Option<u16> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_LIMIT];
    let mut parsed = httparse::Response::new(&mut headers);
    parsed.parse(answer).ok().filter(httparse::Status::is_complete)?;
    parsed.code
}

/// With the proxy itself.
fn wrong(message: &str) -> Failure {
    Failure { ours: true, ..failed(message) }
}

fn failed(message: &str) -> Failure {
    failure(FailureKind::Connect, format!("no connection: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_shown_without_its_credentials() {
        let proxy = Proxy::parse("https://us%3Aer:s3cret@proxy.internal:3128").unwrap();
        assert_eq!(format!("{proxy:?}"), "https://…@proxy.internal:3128");
        assert_eq!(
            proxy.request("192.0.2.1:443".parse().unwrap()),
            "CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1:443\r\nProxy-Authorization: Basic dXM6ZXI6czNjcmV0\r\n\r\n"
        );
        let proxy = Proxy::parse("http://[::1]").unwrap();
        assert_eq!(format!("{proxy:?}"), "http://[::1]:80");
        assert!(!proxy.request("[2001:db8::1]:80".parse().unwrap()).contains("Authorization"));
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_repeating_it() {
        for text in
            ["socks5://user:s3cret@host:1", "proxy:3128", "http://user:s3cret@host/path", "http://", "s3cret"]
        {
            let error = Proxy::parse(text).unwrap_err();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn only_an_answer_of_http_has_a_status() {
        assert_eq!(status(b"HTTP/1.1 200 Connection established\r\n\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 407 No\r\nProxy-Authenticate: Basic\r\n\r\n"), Some(407));
        assert_eq!(status(b"220 mail.example\r\n\r\n"), None);
    }
}
