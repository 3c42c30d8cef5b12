//! One target URL of an endpoint, and what goes to it beside the event.

pub mod access_token;
pub mod authentication;
pub mod headers;
pub mod tls;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

/// Whether a destination is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DestinationStatus {
    /// Sent to.
    Active,
    /// Held by its owner.
    Paused,
    /// Held by us: it answered 410, or failed for too long.
    Disabled,
}

impl DestinationStatus {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
        }
    }

    /// The inverse of [`DestinationStatus::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Paused, Self::Disabled].into_iter().find(|status| status.as_str() == text)
    }
}

/// How deliveries are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Signing {
    /// With the destination's secret: `v1` of Standard Webhooks, and `X-Hub-Signature-256`.
    #[default]
    Hmac,
    /// With the organization's private key: `v1a` of Standard Webhooks.
    Ed25519,
    /// With both.
    Both,
}

impl Signing {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hmac => "hmac",
            Self::Ed25519 => "ed25519",
            Self::Both => "both",
        }
    }

    /// The inverse of [`Signing::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Hmac, Self::Ed25519, Self::Both].into_iter().find(|signing| signing.as_str() == text)
    }

    /// With the secret.
    pub fn by_secret(self) -> bool {
        matches!(self, Self::Hmac | Self::Both)
    }

    /// With the private key.
    pub fn by_key(self) -> bool {
        matches!(self, Self::Ed25519 | Self::Both)
    }
}

/// How long a destination has to answer, by default.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Bounds of the time a destination has to answer.
pub const TIMEOUT_BOUNDS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_mins(1));
/// The longest target URL, in bytes.
pub const MAX_URL: usize = 2_048;

/// Why a URL can't be a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// See [`MAX_URL`].
    #[error("at most {MAX_URL} bytes")]
    TooLong,
    /// It does not parse (WHATWG URL).
    #[error("not an absolute URL")]
    Malformed,
    /// Only HTTP is delivered to.
    #[error("the scheme must be http or https")]
    Scheme,
    /// Credentials in a URL end up in logs.
    #[error("must not contain a user name or password")]
    Credentials,
}

/// Reads a target URL.
pub fn target_url(text: &str) -> Result<Url, InvalidUrl> {
    if text.len() > MAX_URL {
        return Err(InvalidUrl::TooLong);
    }
    let mut url = Url::parse(text).map_err(|_| InvalidUrl::Malformed)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(InvalidUrl::Scheme);
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(InvalidUrl::Malformed);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(InvalidUrl::Credentials);
    }
    url.set_fragment(None);
    Ok(url)
}

/// Whether two URLs lead to the same scheme, host and port: whoever answers there may know what was given for the other.
pub fn same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let url = |text| target_url(text).unwrap();
        let one = url("https://api.example.com/a?b");
        for same in
            ["https://api.example.com", "https://API.example.com:443/c", "https://api.example.com/%61"]
        {
            assert!(same_origin(&one, &url(same)), "{same}");
        }
        for other in [
            "http://api.example.com/a",
            "https://api.example.com:8443/a",
            "https://example.com/a",
            "https://api.example.com.evil.example/a",
            "https://api.example.com./a",
            "https://evil.example/api.example.com",
        ] {
            assert!(!same_origin(&one, &url(other)), "{other}");
        }
        assert!(same_origin(&url("http://[::1]/a"), &url("http://[0:0::1]:80/b")));
    }

    #[test]
    fn only_http_urls_without_credentials() {
        assert_eq!(
            target_url("https://api.example.com/hook?a=1#x").unwrap().as_str(),
            "https://api.example.com/hook?a=1"
        );
        for (text, error) in [
            ("", InvalidUrl::Malformed),
            ("example.com/hook", InvalidUrl::Malformed),
            ("ftp://example.com", InvalidUrl::Scheme),
            ("file:///etc/passwd", InvalidUrl::Scheme),
            ("https://user:pass@example.com", InvalidUrl::Credentials),
            ("http://", InvalidUrl::Malformed),
        ] {
            assert_eq!(target_url(text), Err(error), "{text}");
        }
        assert_eq!(target_url(&format!("http://e.com/{}", "a".repeat(3000))), Err(InvalidUrl::TooLong));
    }
}
