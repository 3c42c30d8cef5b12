//! An HMAC in a header, described by data: covers GitHub and most producers that sign with a shared secret.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Sha256, Sha512};

use super::{Rejection, fresh, required};
use crate::secret::Secret;

/// Where the signature is and how it is made. The key is the secret's text; the signed string is the body, or
/// `<timestamp>.<body>` where a timestamp is signed too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HmacScheme {
    /// The header that carries the signature.
    #[schema(example = "X-Signature")]
    pub header: String,
    /// The hash.
    pub algorithm: Algorithm,
    /// How the signature is written.
    pub encoding: Encoding,
    /// What stands before the signature in the header, such as `sha256=`.
    #[serde(default)]
    pub prefix: String,
    /// A timestamp that is signed with the body, and how old it may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<SignedTimestamp>,
}

/// A hash for an HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// HMAC-SHA-256.
    Sha256,
    /// HMAC-SHA-512.
    Sha512,
    /// HMAC-SHA-1: only for producers that have nothing better.
    Sha1,
}

/// How bytes are written in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Hexadecimal, either case.
    Hex,
    /// Base64 with padding (RFC 4648, section 4).
    Base64,
}

/// A timestamp in seconds since 1970, signed as `<timestamp>.<body>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedTimestamp {
    /// The header that carries it.
    #[schema(example = "X-Timestamp")]
    pub header: String,
    /// How far it may lie from now, either way; `5m` unless given, at most `1d`.
    #[serde(default = "default_tolerance", with = "crate::duration::text")]
    #[schema(value_type = String, example = "5m")]
    pub tolerance: Duration,
}

fn default_tolerance() -> Duration {
    Duration::from_mins(5)
}

/// Why a scheme is refused, and which field is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidScheme {
    /// The field, relative to the scheme.
    pub field: &'static str,
    /// What it should be.
    pub message: &'static str,
}

impl HmacScheme {
    /// GitHub, "Validating webhook deliveries".
    pub fn github() -> Self {
        Self {
            header: "X-Hub-Signature-256".to_owned(),
            algorithm: Algorithm::Sha256,
            encoding: Encoding::Hex,
            prefix: "sha256=".to_owned(),
            timestamp: None,
        }
    }

    /// Checks what deserializing can't.
    pub fn check(&self) -> Result<(), InvalidScheme> {
        let invalid = |field, message| Err(InvalidScheme { field, message });
        let is_header = |name: &str| name.len() <= 100 && HeaderName::from_bytes(name.as_bytes()).is_ok();
        if !is_header(&self.header) {
            return invalid("header", "not the name of an HTTP header");
        }
        if self.prefix.len() > 100 || !self.prefix.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return invalid("prefix", "at most 100 characters of visible ASCII");
        }
        match &self.timestamp {
            Some(timestamp) if !is_header(&timestamp.header) => {
                invalid("timestamp.header", "not the name of an HTTP header")
            }
            Some(timestamp) if timestamp.tolerance > Duration::from_hours(24) => {
                invalid("timestamp.tolerance", "at most 1d")
            }
            _ => Ok(()),
        }
    }

    /// Checks a request: the header's signature by any of `secrets`, compared in constant time.
    pub fn verify(
        &self,
        secrets: &[Secret],
        headers: &HeaderMap,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<(), Rejection> {
        let presented = self.presented(headers)?;
        let timestamp = self.fresh_timestamp(headers, now)?;
        let matches = |secret: &Secret| {
            let key = secret.reveal().as_bytes();
            match self.algorithm {
                Algorithm::Sha256 => {
                    mac::<Hmac<Sha256>>(key, timestamp, body).verify_slice(&presented).is_ok()
                }
                Algorithm::Sha512 => {
                    mac::<Hmac<Sha512>>(key, timestamp, body).verify_slice(&presented).is_ok()
                }
                Algorithm::Sha1 => mac::<Hmac<Sha1>>(key, timestamp, body).verify_slice(&presented).is_ok(),
            }
        };
        if secrets.iter().any(matches) { Ok(()) } else { Err(Rejection::WrongSignature) }
    }

    fn presented(&self, headers: &HeaderMap) -> Result<Vec<u8>, Rejection> {
        let malformed = |what| Rejection::MalformedHeader(self.header.to_ascii_lowercase(), what);
        let name = name(&self.header)?;
        let text = required(headers, &name)?;
        let encoded =
            text.strip_prefix(self.prefix.as_str()).ok_or_else(|| malformed("the prefix is missing"))?;
        match self.encoding {
            Encoding::Hex => hex::decode(encoded).map_err(|_| malformed("not hexadecimal")),
            Encoding::Base64 => STANDARD.decode(encoded).map_err(|_| malformed("not base64")),
        }
    }

    fn fresh_timestamp<'a>(
        &self,
        headers: &'a HeaderMap,
        now: DateTime<Utc>,
    ) -> Result<Option<&'a str>, Rejection> {
        let Some(timestamp) = &self.timestamp else { return Ok(None) };
        let name = name(&timestamp.header)?;
        fresh(headers, &name, timestamp.tolerance.as_secs(), now)?;
        required(headers, &name).map(Some)
    }
}

fn name(text: &str) -> Result<HeaderName, Rejection> {
    HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| Rejection::MalformedHeader(text.to_owned(), "not the name of an HTTP header"))
}

fn mac<M: Mac + KeyInit>(key: &[u8], timestamp: Option<&str>, body: &[u8]) -> M {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    if let Some(timestamp) = timestamp {
        mac.update(timestamp.as_bytes());
        mac.update(b".");
    }
    mac.update(body);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_700_000_000;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(NOW, 0).unwrap()
    }

    fn sign(scheme: &HmacScheme, secret: &str, timestamp: Option<&str>, body: &[u8]) -> String {
        let key = secret.as_bytes();
        let bytes = match scheme.algorithm {
            Algorithm::Sha256 => mac::<Hmac<Sha256>>(key, timestamp, body).finalize().into_bytes().to_vec(),
            Algorithm::Sha512 => mac::<Hmac<Sha512>>(key, timestamp, body).finalize().into_bytes().to_vec(),
            Algorithm::Sha1 => mac::<Hmac<Sha1>>(key, timestamp, body).finalize().into_bytes().to_vec(),
        };
        let encoded = match scheme.encoding {
            Encoding::Hex => hex::encode(bytes),
            Encoding::Base64 => STANDARD.encode(bytes),
        };
        format!("{}{encoded}", scheme.prefix)
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn githubs_documented_example() {
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let request = headers(&[("x-hub-signature-256", signature)]);
        let secrets = [Secret::new("It's a Secret to Everybody")];
        let scheme = HmacScheme::github();
        assert_eq!(scheme.verify(&secrets, &request, b"Hello, World!", now()), Ok(()));
        assert_eq!(
            scheme.verify(&secrets, &request, b"Hello, World?", now()),
            Err(Rejection::WrongSignature)
        );
        let bare = headers(&[("x-hub-signature-256", &signature[7..])]);
        assert!(matches!(scheme.verify(&secrets, &bare, b"", now()), Err(Rejection::MalformedHeader(..))));
        let none = scheme.verify(&secrets, &HeaderMap::new(), b"", now());
        assert_eq!(none, Err(Rejection::MissingHeader("x-hub-signature-256".to_owned())));
    }

    #[test]
    fn every_algorithm_and_encoding_with_and_without_timestamp() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512, Algorithm::Sha1] {
            for encoding in [Encoding::Hex, Encoding::Base64] {
                for timestamp in
                    [None, Some(SignedTimestamp { header: "X-Time".into(), tolerance: default_tolerance() })]
                {
                    let scheme = HmacScheme {
                        header: "X-Sig".into(),
                        algorithm,
                        encoding,
                        prefix: "v=".into(),
                        timestamp,
                    };
                    let time = scheme.timestamp.as_ref().map(|_| NOW.to_string());
                    let signature = sign(&scheme, "secret", time.as_deref(), b"body");
                    let request = headers(&[("x-sig", &signature), ("x-time", &NOW.to_string())]);
                    let verify = |secret: &str, body: &[u8], at: DateTime<Utc>| {
                        scheme.verify(&[Secret::new("old"), Secret::new(secret)], &request, body, at)
                    };
                    assert_eq!(verify("secret", b"body", now()), Ok(()));
                    assert_eq!(verify("other", b"body", now()), Err(Rejection::WrongSignature));
                    assert_eq!(verify("secret", b"bodx", now()), Err(Rejection::WrongSignature));
                    let late = verify("secret", b"body", now() + chrono::TimeDelta::seconds(301));
                    assert_eq!(late.is_err(), scheme.timestamp.is_some());
                }
            }
        }
    }

    #[test]
    fn names_the_field_that_is_wrong() {
        let field = |scheme: HmacScheme| scheme.check().unwrap_err().field;
        let good = HmacScheme::github();
        assert_eq!(good.check(), Ok(()));
        assert_eq!(field(HmacScheme { header: "two words".into(), ..good.clone() }), "header");
        assert_eq!(field(HmacScheme { prefix: "\n".into(), ..good.clone() }), "prefix");
        let timestamp = SignedTimestamp { header: "X-Time".into(), tolerance: Duration::from_secs(86_401) };
        assert_eq!(field(HmacScheme { timestamp: Some(timestamp), ..good }), "timestamp.tolerance");
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic_or_pass(value in "[ -~]{0,120}", hex in any::<bool>()) {
            let encoding = if hex { Encoding::Hex } else { Encoding::Base64 };
            let scheme = HmacScheme { encoding, ..HmacScheme::github() };
            let request = headers(&[("x-hub-signature-256", value.trim())]);
            prop_assert!(scheme.verify(&[Secret::new("s")], &request, b"body", now()).is_err());
        }
    }
}
