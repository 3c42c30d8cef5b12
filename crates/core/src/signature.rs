//! Is it really from the producer: each scheme's rules, and one door to all of them.
//!
//! ```text
//! Verification ──▶ verify ──┬─▶ rule: signature over parts of the request  ◀── provider rows, standard_webhooks, generic
//!                           ├─▶ credentials: the secret itself is shown
//!                           ├─▶ network: who may send
//!                           └─▶ odd: schemes that no row can describe
//! ```

pub mod request;

pub mod encoding;
pub mod json;
pub mod template;
pub mod timestamp;

mod macs;
pub mod public_key;
pub mod rule;

pub mod generic;
pub mod hub;
pub mod inbound;
pub mod sample;
pub mod signing_key;
pub mod standard_webhooks;

mod credentials;
mod network;
pub(crate) mod odd;

use std::net::IpAddr;

pub use network::{InvalidNetwork, Network};
pub use odd::Odd;
pub use request::{Place, Request, Url};

use crate::endpoint::Verification;
use crate::provider::Scheme;
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
    /// A field of the body, or a parameter of the query, that the scheme needs is absent.
    #[error("field `{0}` is missing")]
    MissingField(String),
    /// A field of the body, or a parameter of the query, does not read.
    #[error("field `{0}` is malformed: {1}")]
    MalformedField(String, &'static str),
    /// The signed timestamp is too far from now.
    #[error("the timestamp is {0} the tolerance of {1} s")]
    Stale(Staleness, u64),
    /// None of the signatures was made with the endpoint's secret over this body.
    #[error("the signature does not match: another secret, or the body was changed on its way")]
    WrongSignature,
    /// A password, token or key that the endpoint does not have.
    #[error("the credentials are not the endpoint's")]
    WrongCredentials,
    /// It comes from an address that is not on the endpoint's list.
    #[error("{}", not_allowed(*.0))]
    AddressNotAllowed(Option<IpAddr>),
    /// The endpoint has no secret yet, or none that is still valid.
    #[error("the endpoint has no secret to verify with; add the one that the producer shows")]
    NoSecret,
    /// The key or certificate that the request names can't be had or does not read.
    #[error("the signing certificate that the request names can't be used: {0}")]
    Certificate(&'static str),
    /// The certificate can't be fetched just now: neither right nor wrong, and worth another attempt.
    #[error("the signing certificate can't be fetched just now; send the request again")]
    CertificateUnavailable,
}

fn not_allowed(peer: Option<IpAddr>) -> String {
    match peer {
        Some(peer) => format!("the sender's address {peer} is not among those that are allowed"),
        None => "the sender's address is not known, and only some are allowed".to_owned(),
    }
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
    /// One word, for a metric's label and for what is stored; never changes its meaning.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::MissingHeader(_) => "missing_header",
            Self::MalformedHeader(..) => "malformed_header",
            Self::MissingField(_) => "missing_field",
            Self::MalformedField(..) => "malformed_field",
            Self::Stale(..) => "stale",
            Self::WrongSignature => "wrong_signature",
            Self::WrongCredentials => "wrong_credentials",
            Self::AddressNotAllowed(_) => "address_not_allowed",
            Self::NoSecret => "no_secret",
            Self::Certificate(_) => "certificate",
            Self::CertificateUnavailable => "certificate_unavailable",
        }
    }
}

/// Checks a request as its endpoint demands. Any one of `secrets` suffices (rotation). Pure: what a scheme needs from
/// elsewhere ([`to_fetch`]) comes with the request.
pub fn verify(
    verification: &Verification,
    secrets: &[Secret],
    request: &Request<'_>,
) -> Result<(), Rejection> {
    match verification {
        Verification::None {} => Ok(()),
        Verification::StandardWebhooks {} => rule::verify_any(standard_webhooks::RULES, secrets, request),
        Verification::Provider { provider } => {
            verify_scheme(&provider.profile().scheme, secrets, request)?;
            provider.profile().handshake.check_body(request.body)
        }
        Verification::Hmac(scheme) => scheme.verify(secrets, request),
        Verification::BasicAuth { username } => {
            credentials::verify_basic(Some(username), secrets, request.headers)
        }
        Verification::Bearer {} => {
            credentials::verify_token(Place::Header("authorization"), "Bearer ", secrets, request)
        }
        Verification::ApiKey { header } => {
            credentials::verify_token(Place::Header(header), "", secrets, request)
        }
        Verification::IpAllowList { networks } => network::verify(networks, request.peer),
        Verification::All { of } => of.iter().try_for_each(|one| verify(one, secrets, request)),
    }
}

fn verify_scheme(scheme: &Scheme, secrets: &[Secret], request: &Request<'_>) -> Result<(), Rejection> {
    match scheme {
        Scheme::Rules(rules) => rule::verify_any(rules, secrets, request),
        Scheme::Token { place, prefix } => credentials::verify_token(*place, prefix, secrets, request),
        Scheme::BasicAuth => credentials::verify_basic(None, secrets, request.headers),
        Scheme::Odd(odd) => odd.verify(secrets, request),
        Scheme::ByHeader { header, with, without } => {
            let rules = if request.headers.contains_key(*header) { with } else { without };
            rule::verify_any(rules, secrets, request)
        }
        Scheme::Any(schemes) => rule::first_success(schemes.iter().map(|scheme| {
            let result = verify_scheme(scheme, secrets, request);
            result.map_err(|rejection| (rule::progress(&rejection), rejection))
        })),
    }
}

/// What has to be fetched before [`verify`] can decide: a certificate that the request names, at a host that is known
/// to be its provider's. A rejection when the request names one anywhere else, or is not believed whatever the
/// certificate: nobody has us fetch for that.
pub fn to_fetch(
    verification: &Verification,
    secrets: &[Secret],
    request: &Request<'_>,
) -> Result<Option<url::Url>, Rejection> {
    match verification {
        Verification::Provider { provider } => match &provider.profile().scheme {
            Scheme::Odd(odd) => odd.to_fetch(secrets, request),
            _ => Ok(None),
        },
        Verification::All { of } => {
            for one in of {
                if let Some(url) = to_fetch(one, secrets, request)? {
                    return Ok(Some(url));
                }
            }
            Ok(None)
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use chrono::{DateTime, Utc};
    use http::{HeaderMap, Method};

    use super::{Request, Url};

    /// A POST to an endpoint of `https://hooks.example.com`.
    pub(crate) fn request<'a>(
        headers: &'a HeaderMap,
        body: &'a [u8],
        received_at: DateTime<Utc>,
    ) -> Request<'a> {
        Request {
            method: &Method::POST,
            url: Url { base: "https://hooks.example.com", path_and_query: "/h/abc?x=1" },
            headers,
            body,
            peer: None,
            received_at,
            fetched: None,
        }
    }
}
