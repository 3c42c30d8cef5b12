//! A JSON Web Key Set (RFC 7517), as far as access tokens may be signed with its keys.

use std::collections::HashMap;
use std::sync::Arc;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// Most keys of a set that are looked at: an issuer has a few.
const MOST: usize = 100;

/// A public key, and what may be signed with it.
#[derive(Debug)]
pub(in crate::auth) struct Key {
    pub(in crate::auth) key: DecodingKey,
    /// Asymmetric ones alone, at least one.
    pub(in crate::auth) algorithms: Vec<Algorithm>,
}

/// A set as it is fetched: a key that is none of ours to understand must not hide the others.
#[derive(Deserialize)]
pub(super) struct KeySet {
    keys: Vec<Value>,
}

impl KeySet {
    /// The keys by their ids, without those that are not for signatures, are not public, or have no id.
    pub(super) fn usable(self) -> HashMap<String, Arc<Key>> {
        self.keys.into_iter().take(MOST).filter_map(usable).collect()
    }
}

fn usable(value: Value) -> Option<(String, Arc<Key>)> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let id = jwk.common.key_id.clone().filter(|id| !id.is_empty())?;
    let for_signatures = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let algorithms = algorithms(&jwk);
    if !for_signatures || algorithms.is_empty() {
        return None;
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    Some((id, Arc::new(Key { key, algorithms })))
}

/// What the key may be used with: what it says, if that fits its type, else whatever fits.
fn algorithms(jwk: &Jwk) -> Vec<Algorithm> {
    let fitting = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => AlgorithmFamily::Rsa.algorithms(),
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
            &[Algorithm::ES256]
        }
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P384 => {
            &[Algorithm::ES384]
        }
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            &[Algorithm::EdDSA]
        }
        // A secret, which whoever verifies could sign with, or a curve that nobody here computes.
        _ => return Vec::new(),
    };
    match jwk.common.key_algorithm {
        None => fitting.to_vec(),
        Some(said) => Algorithm::try_from(said).into_iter().filter(|said| fitting.contains(said)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(keys: &Value) -> Vec<(String, Vec<Algorithm>)> {
        let set: KeySet = serde_json::from_value(json!({ "keys": keys })).unwrap();
        let usable = set.usable();
        let mut told: Vec<_> = usable.into_iter().map(|(id, key)| (id, key.algorithms.clone())).collect();
        told.sort_by(|a, b| a.0.cmp(&b.0));
        told
    }

    #[test]
    fn only_public_keys_for_signatures_count_each_for_its_own_algorithms() {
        let rsa = |id: &str, more: Value| {
            let mut key = json!({ "kty": "RSA", "kid": id, "n": "AQAB", "e": "AQAB" });
            key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            key
        };
        let told = told(&json!([
            rsa("any", json!({})),
            rsa("one", json!({ "alg": "RS256", "use": "sig" })),
            rsa("encrypts", json!({ "alg": "RSA-OAEP", "use": "enc" })),
            rsa("lies", json!({ "alg": "HS256" })),
            rsa("wrong", json!({ "alg": "ES256" })),
            json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" }),
            json!({ "kty": "oct", "kid": "secret", "k": "AQAB", "alg": "HS256" }),
            json!({ "kty": "EC", "kid": "curve", "crv": "P-256", "x": "AQAB", "y": "AQAB" }),
            json!({ "kty": "EC", "kid": "large", "crv": "P-521", "x": "AQAB", "y": "AQAB" }),
            json!({ "kty": "OKP", "kid": "edwards", "crv": "Ed25519", "x": "AQAB" }),
            json!({ "kty": "AKP", "kid": "of tomorrow", "alg": "ML-DSA-44", "pub": "AQAB" }),
            json!("nonsense"),
        ]));
        let ids: Vec<_> = told.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["any", "curve", "edwards", "one"]);
        assert_eq!(told[0].1.len(), 6);
        assert_eq!(told[1].1, [Algorithm::ES256]);
        assert_eq!(told[2].1, [Algorithm::EdDSA]);
        assert_eq!(told[3].1, [Algorithm::RS256]);
    }
}
