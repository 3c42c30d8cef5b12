//! Is it really from the producer: each scheme's rules, and one door to all of them.

pub mod generic;
pub mod hub;
pub mod standard_webhooks;

use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName};

use crate::endpoint::Verification;
use crate::secret::Secret;

/// Why a request is not believed. Says what is wrong, never what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// A header that the scheme needs is absent.
    #[error("header `{0}` is missing")]
    MissingHeader(String),
    /// A header of the scheme does not read.
    #[error("header `{0}` is malformed: {1}")]
    MalformedHeader(String, &'static str),
    /// The signed timestamp is too far from now.
    #[error("the timestamp is {0} the tolerance of {1} s")]
    Stale(Staleness, u64),
    /// None of the signatures was made with the endpoint's secret over this body.
    #[error("the signature does not match: another secret, or the body was changed on its way")]
    WrongSignature,
}

/// On which side of the tolerance a timestamp lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staleness {
    /// Too long ago.
    Old,
    /// Too far ahead.
    Future,
}

impl std::fmt::Display for Staleness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Old => "older than",
            Self::Future => "in the future by more than",
        })
    }
}

impl Rejection {
    /// One word for a metric's label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::MissingHeader(_) => "missing_header",
            Self::MalformedHeader(..) => "malformed_header",
            Self::Stale(..) => "stale",
            Self::WrongSignature => "wrong_signature",
        }
    }
}

/// Checks a request as its endpoint demands. Any one of `secrets` suffices (rotation).
pub fn verify(
    verification: &Verification,
    secrets: &[Secret],
    headers: &HeaderMap,
    body: &[u8],
    now: DateTime<Utc>,
) -> Result<(), Rejection> {
    match verification {
        Verification::None {} => Ok(()),
        Verification::StandardWebhooks {} => standard_webhooks::verify(secrets, headers, body, now),
        Verification::Provider { provider } => provider.scheme().verify(secrets, headers, body, now),
        Verification::Hmac(scheme) => scheme.verify(secrets, headers, body, now),
    }
}

fn required<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, Rejection> {
    let value = headers.get(name).ok_or_else(|| Rejection::MissingHeader(name.to_string()))?;
    value.to_str().map_err(|_| Rejection::MalformedHeader(name.to_string(), "not visible ASCII"))
}

/// Reads a timestamp in seconds since 1970 and checks that it lies within `tolerance` seconds of `now`.
fn fresh(
    headers: &HeaderMap,
    name: &HeaderName,
    tolerance: u64,
    now: DateTime<Utc>,
) -> Result<(), Rejection> {
    let text = required(headers, name)?;
    let malformed = || Rejection::MalformedHeader(name.to_string(), "not a number of seconds since 1970");
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed());
    }
    let at: i64 = text.parse().map_err(|_| malformed())?;
    let staleness = if at < now.timestamp() { Staleness::Old } else { Staleness::Future };
    if now.timestamp().abs_diff(at) > tolerance {
        return Err(Rejection::Stale(staleness, tolerance));
    }
    Ok(())
}
