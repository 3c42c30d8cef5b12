//! Standard Webhooks 1.0, symmetric signatures (`v1`): how producers sign to us, and how we sign to destinations.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderName;
use sha2::Sha256;

use super::encoding::Encoding;
use super::public_key::PublicKey;
use super::request::Place;
use super::rule::{Algorithm, Form, KeyForm, Primitive, Rule};
use super::template::Part;
use super::timestamp::{Timestamp, TimestampFormat};
use crate::secret::Secret;

/// `webhook-id`.
pub const ID: HeaderName = HeaderName::from_static("webhook-id");
/// `webhook-timestamp`, in seconds since 1970.
pub const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// `webhook-signature`: space separated `v1,<base64>`.
pub const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// How far a producer's timestamp may lie from ours, in seconds; the specification's libraries use the same.
const TOLERANCE: u64 = 300;
const SECRET_PREFIX: &str = "whsec_";
/// Bounds of the key's length in bytes (specification, "Signature scheme").
const KEY_LENGTH: std::ops::RangeInclusive<usize> = 24..=64;

/// A secret that is not of the specification's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected whsec_ followed by 24 to 64 bytes in base64")]
pub struct InvalidSecret;

/// The key in a `whsec_…` secret.
pub fn key(secret: &Secret) -> Result<Vec<u8>, InvalidSecret> {
    let encoded = secret.reveal().strip_prefix(SECRET_PREFIX).ok_or(InvalidSecret)?;
    let key = STANDARD.decode(encoded).map_err(|_| InvalidSecret)?;
    if KEY_LENGTH.contains(&key.len()) { Ok(key) } else { Err(InvalidSecret) }
}

fn mac(key: &[u8], id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    mac
}

/// The value of `webhook-signature` for a message that we send.
pub fn sign(secret: &Secret, id: &str, timestamp: i64, body: &[u8]) -> Result<String, InvalidSecret> {
    let signature = mac(&key(secret)?, id, &timestamp.to_string(), body).finalize().into_bytes();
    Ok(format!("v1,{}", STANDARD.encode(signature)))
}

/// How producers sign by Standard Webhooks: with a shared secret, or with a private key.
pub const RULES: &[Rule<'static>] = &rules(SIGNED, "webhook-timestamp", "webhook-signature");

const SIGNED: &[Part<'static>] =
    &[Part::Header("webhook-id"), Part::Literal("."), Part::Timestamp, Part::Literal("."), Part::Body];

/// The same scheme under other names of its headers.
pub const fn rules(
    signed: &'static [Part<'static>],
    timestamp: &'static str,
    signature: &'static str,
) -> [Rule<'static>; 2] {
    let symmetric = Rule {
        signature: Place::Header(signature),
        form: Form::list(&[' '], "v1,"),
        encoding: Encoding::Base64,
        primitive: Primitive::Hmac(Algorithm::Sha256),
        key: KeyForm::Whsec,
        timestamp: Some(Timestamp {
            place: Place::Header(timestamp),
            format: TimestampFormat::Seconds,
            tolerance: Some(TOLERANCE),
        }),
        signed,
    };
    let asymmetric = Rule {
        form: Form::list(&[' '], "v1a,"),
        primitive: Primitive::PublicKey(PublicKey::Ed25519),
        key: KeyForm::Whpk,
        ..symmetric
    };
    [symmetric, asymmetric]
}

#[cfg(test)]
mod tests {
    use super::super::rule::verify_any;
    use super::super::{Rejection, Staleness, testing};
    use super::*;
    use chrono::{DateTime, Utc};
    use http::HeaderMap;

    fn verify(
        secrets: &[Secret],
        headers: &HeaderMap,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<(), Rejection> {
        verify_any(RULES, secrets, &testing::request(headers, body, now))
    }

    fn secret() -> Secret {
        Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    }

    fn request(id: &'static str, timestamp: &'static str, signature: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ID, id.parse().unwrap());
        headers.insert(TIMESTAMP, timestamp.parse().unwrap());
        headers.insert(SIGNATURE, signature.parse().unwrap());
        headers
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    // The example of the specification's reference libraries.
    const ID_EXAMPLE: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const GOOD: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn agrees_with_the_reference_example() {
        assert_eq!(sign(&secret(), ID_EXAMPLE, 1_614_265_330, BODY).unwrap(), GOOD);
        let headers = request(ID_EXAMPLE, "1614265330", GOOD);
        assert_eq!(verify(&[secret()], &headers, BODY, at(1_614_265_330)), Ok(()));
    }

    #[test]
    fn one_right_signature_among_others_and_one_right_secret_suffice() {
        let headers = request(ID_EXAMPLE, "1614265330", &format!("v1a,AAAA v1,AAAA {GOOD}"));
        let secrets = [Secret::standard_webhooks([1; 32]), secret()];
        assert_eq!(verify(&secrets, &headers, BODY, at(1_614_265_330)), Ok(()));
    }

    #[test]
    fn says_what_is_wrong() {
        let now = at(1_614_265_330);
        let good = request(ID_EXAMPLE, "1614265330", GOOD);
        let check =
            |headers: &HeaderMap, body: &[u8], now| verify(&[secret()], headers, body, now).unwrap_err();

        assert_eq!(check(&good, b"{}", now), Rejection::WrongSignature);
        assert_eq!(check(&good, BODY, at(1_614_265_331 + 300)), Rejection::Stale(Staleness::Old, 300));
        assert_eq!(check(&good, BODY, at(1_614_265_329 - 300)), Rejection::Stale(Staleness::Future, 300));
        let mut without = good.clone();
        without.remove(ID);
        assert_eq!(check(&without, BODY, now), Rejection::MissingHeader("webhook-id".to_owned()));
        for (timestamp, signature) in
            [("soon", GOOD), ("-1", GOOD), ("1614265330", "g0hM9SsE"), ("1614265330", "v1,*")]
        {
            let error = check(&request(ID_EXAMPLE, timestamp, signature), BODY, now);
            assert!(matches!(error, Rejection::MalformedHeader(..)), "{timestamp} {signature}: {error}");
        }
    }

    #[test]
    fn a_secret_has_a_prefix_and_enough_bytes() {
        for text in ["", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_not base64"] {
            assert_eq!(key(&Secret::new(text)), Err(InvalidSecret), "{text}");
        }
    }
}
