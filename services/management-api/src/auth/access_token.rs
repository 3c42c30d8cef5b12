//! Access tokens: a JWT (RFC 7519, RFC 9068) of the issuer, for us, at its time. What is wrong with one is told to whoever
//! sent it, and nothing that helps to make one.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use ravenpost_chassis::problem::{Kind, Problem};
use serde::Deserialize;

use super::OidcSettings;
use super::issuer::{Issuer, Key, NoKey};
use crate::api::Failure;

/// The longest token that is looked at.
const MAX_BYTES: usize = 16 * 1_024;
/// The longest subject (OpenID Connect Core, section 2).
const MAX_SUBJECT: usize = 255;
/// When to come again while the issuer can't be asked for its keys.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// What an access token says of a person, once it is believed.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Claims {
    #[serde(rename = "sub")]
    pub(super) subject: String,
    iss: String,
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
    email: Option<String>,
    #[serde(default)]
    email_verified: Option<bool>,
    name: Option<String>,
    preferred_username: Option<String>,
}

impl Claims {
    /// The e-mail address, if the issuer has verified it.
    pub(super) fn verified_email(&self) -> Option<&str> {
        self.email.as_deref().filter(|_| self.email_verified == Some(true))
    }

    /// What the person is called.
    pub(super) fn display_name(&self) -> Option<&str> {
        self.name.as_deref().or(self.preferred_username.as_deref())
    }
}

/// Why a token is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is no JWT, or lacks something.
    Malformed(&'static str),
    /// Its key is none of the issuer's.
    UnknownKey,
    /// The key is not for that algorithm.
    Algorithm,
    /// The signature is wrong.
    Signature,
    /// It is of somebody else.
    Issuer,
    /// It is for somebody else.
    Audience,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    TooEarly,
    /// The issuer can't be asked for the key.
    Unreachable,
}

impl Refusal {
    /// For metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::UnknownKey => "unknown_key",
            Self::Algorithm => "algorithm",
            Self::Signature => "signature",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::TooEarly => "too_early",
            Self::Unreachable => "issuer_unreachable",
        }
    }

    fn detail(self) -> &'static str {
        match self {
            Self::Malformed(detail) => detail,
            Self::UnknownKey => "the access token is signed with a key that the issuer does not have",
            Self::Algorithm => "the access token is signed by an algorithm that is not accepted",
            Self::Signature => "the signature of the access token is wrong",
            Self::Issuer => "the access token is of another issuer",
            Self::Audience => "the access token is for another audience",
            Self::Expired => "the access token has expired",
            Self::TooEarly => "the access token is not valid yet",
            Self::Unreachable => "the issuer of the access token can't be asked for its keys just now",
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unreachable => Problem::unavailable(refusal.detail(), RETRY_AFTER),
            _ => Problem::new(Kind::AccessTokenInvalid, refusal.detail()),
        }
        .into()
    }
}

/// What tokens have to be like.
pub(super) struct Verifier {
    issuer: Issuer,
    audience: String,
    skew: Duration,
}

impl Verifier {
    pub(super) fn new(issuer: Issuer, settings: &OidcSettings) -> Self {
        Self { issuer, audience: settings.oidc_audience.clone(), skew: settings.oidc_skew }
    }

    pub(super) fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The claims of a token that is right at `now`.
    pub(super) async fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Claims, Refusal> {
        let id = key_id(token)?;
        let key = self.issuer.key(&id).await.map_err(|absence| match absence {
            NoKey::Unknown => Refusal::UnknownKey,
            NoKey::Unreachable => Refusal::Unreachable,
        })?;
        let claims = signed(token, &key, self.issuer.name(), &self.audience)?;
        timely(&claims, self.skew, now)?;
        Ok(claims)
    }
}

/// Which key a token says to be signed with.
fn key_id(token: &str) -> Result<String, Refusal> {
    if token.len() > MAX_BYTES {
        return Err(Refusal::Malformed("the access token is too long"));
    }
    // `none` is not among the algorithms of the library, and does not read.
    let header =
        decode_header(token).map_err(|_| Refusal::Malformed("the access token is no JWT of a known form"))?;
    // Extensions that have to be understood (RFC 7515, section 4.1.11): none are.
    if header.crit.is_some() {
        return Err(Refusal::Malformed("the access token demands an extension that is not known here"));
    }
    header.kid.ok_or(Refusal::Malformed("the access token does not name its key"))
}

/// The claims of a token that this key has signed, of this issuer for this audience.
fn signed(token: &str, key: &Key, issuer: &str, audience: &str) -> Result<Claims, Refusal> {
    let mut validation = Validation::new(key.algorithms[0]);
    validation.algorithms.clone_from(&key.algorithms);
    validation.required_spec_claims = HashSet::from(["exp", "iss", "aud", "sub"].map(str::to_owned));
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[audience]);
    // By our clock, and by us, since time is an argument.
    (validation.validate_exp, validation.validate_nbf) = (false, false);
    let claims: Claims = decode(token, &key.key, &validation).map_err(|error| refusal(error.kind()))?.claims;
    // The library takes a list of issuers as well.
    if claims.iss != issuer {
        return Err(Refusal::Issuer);
    }
    if claims.subject.is_empty() || claims.subject.len() > MAX_SUBJECT {
        return Err(Refusal::Malformed("the subject of the access token is empty or too long"));
    }
    Ok(claims)
}

fn refusal(kind: &ErrorKind) -> Refusal {
    match kind {
        ErrorKind::InvalidSignature => Refusal::Signature,
        ErrorKind::InvalidAlgorithm | ErrorKind::MissingAlgorithm => Refusal::Algorithm,
        ErrorKind::InvalidIssuer => Refusal::Issuer,
        ErrorKind::InvalidAudience => Refusal::Audience,
        ErrorKind::MissingRequiredClaim(_) => {
            Refusal::Malformed("the access token lacks exp, iss, aud or sub")
        }
        _ => Refusal::Malformed("the access token is malformed"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are exact for millions of years")]
fn timely(claims: &Claims, skew: Duration, now: DateTime<Utc>) -> Result<(), Refusal> {
    let (now, skew) = (now.timestamp_millis() as f64 / 1_000.0, skew.as_secs_f64());
    // What does not compare (there is no such number in JSON) is over.
    let lasts = claims.exp > now - skew;
    if !lasts {
        return Err(Refusal::Expired);
    }
    let begun = |moment: Option<f64>| moment.is_none_or(|moment| moment <= now + skew);
    if begun(claims.nbf) && begun(claims.iat) { Ok(()) } else { Err(Refusal::TooEarly) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(exp: f64, nbf: Option<f64>, iat: Option<f64>) -> Claims {
        let value = serde_json::json!({ "sub": "a", "iss": "i", "exp": exp, "nbf": nbf, "iat": iat });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_token_is_good_at_its_time_and_a_little_beside_it() {
        let now = DateTime::from_timestamp(1_000, 0).unwrap();
        let skew = Duration::from_secs(30);
        for (exp, nbf, iat, expected) in [
            (1_001.0, None, None, Ok(())),
            (970.5, None, None, Ok(())),
            (970.0, None, None, Err(Refusal::Expired)),
            (1_100.0, Some(1_030.0), Some(1_030.0), Ok(())),
            (1_100.0, Some(1_031.0), None, Err(Refusal::TooEarly)),
            (1_100.0, None, Some(1_031.0), Err(Refusal::TooEarly)),
            (-1e300, None, None, Err(Refusal::Expired)),
        ] {
            assert_eq!(timely(&claims(exp, nbf, iat), skew, now), expected, "{exp} {nbf:?} {iat:?}");
        }
    }

    #[test]
    fn an_address_counts_only_when_it_is_verified() {
        let of = |text: &str| serde_json::from_str::<Claims>(text).unwrap();
        let start = r#"{"sub": "a", "iss": "i", "exp": 1, "email": "a@example.com""#;
        assert_eq!(of(&format!("{start}}}")).verified_email(), None);
        assert_eq!(of(&format!(r#"{start}, "email_verified": false}}"#)).verified_email(), None);
        let verified = of(&format!(r#"{start}, "email_verified": true}}"#));
        assert_eq!(verified.verified_email(), Some("a@example.com"));
        // A word where a number or a truth belongs is no claim at all.
        for broken in [r#"{"sub": "a", "iss": "i", "exp": "1"}"#, r#"{"sub": "a", "iss": ["i"], "exp": 1}"#] {
            assert!(serde_json::from_str::<Claims>(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn what_is_no_jwt_names_no_key() {
        for text in ["", "a", "a.b", "a.b.c", "e30.e30.e30"] {
            assert!(matches!(key_id(text), Err(Refusal::Malformed(_))), "{text}");
        }
        assert_eq!(
            key_id(&"a".repeat(MAX_BYTES + 1)),
            Err(Refusal::Malformed("the access token is too long"))
        );
    }
}
