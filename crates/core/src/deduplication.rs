//! How a producer's retry is recognised: by an id that it repeats (PROTOCOLS I7).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use http::HeaderMap;
use sha2::{Digest, Sha256};

use crate::endpoint::{Verification, event_id};

/// The header by which any producer can say that a request repeats another (the IETF's draft "The Idempotency-Key HTTP
/// Header Field").
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The longest id that is recognised, in bytes.
const MAX_LENGTH: usize = 255;

/// What a request and its retries have in common, within one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeduplicationKey {
    /// The first 16 bytes of SHA-256 over the id and where it stood.
    pub hash: [u8; 16],
    /// Another body under the same key is a mistake of the producer: so it is with an `Idempotency-Key`, while
    /// providers' own retries need not be the same byte for byte.
    pub same_body: bool,
}

/// An `Idempotency-Key` that can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("header `idempotency-key` must be 1 to {MAX_LENGTH} characters of visible ASCII")]
pub struct InvalidKey;

impl DeduplicationKey {
    fn new(source: &str, id: &str, same_body: bool) -> Self {
        let digest = Sha256::new().chain_update(source).chain_update([0]).chain_update(id).finalize();
        let mut hash = [0; 16];
        hash.copy_from_slice(&digest[..16]);
        Self { hash, same_body }
    }

    /// The key of a request, if it has one. The id that a provider gives its event goes before an `Idempotency-Key`:
    /// whoever repeats a captured request may add one, but can't forge what is signed.
    pub fn of(
        verification: &Verification,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Option<Self>, InvalidKey> {
        if let Some(id) = event_id(verification, headers, body).filter(|id| !id.is_empty()) {
            return Ok(Some(Self::new("event", &id, false)));
        }
        let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
        let text = value.to_str().map_err(|_| InvalidKey)?;
        if text.is_empty() || text.len() > MAX_LENGTH {
            return Err(InvalidKey);
        }
        Ok(Some(Self::new(IDEMPOTENCY_KEY, text, true)))
    }

    /// The keys that an event with this id of its producer may have: by what its provider says, or by an
    /// `Idempotency-Key`.
    pub fn of_id(id: &str) -> [Self; 2] {
        [Self::new("event", id, false), Self::new(IDEMPOTENCY_KEY, id, true)]
    }

    /// Whether a request with this key repeats the event that has the key, by SHA-256 of the bodies of both.
    pub fn is_repeated(self, request: &[u8; 32], event: &[u8; 32]) -> bool {
        !self.same_body || request == event
    }
}

/// What was received together, taken apart so that every key occurs once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met<T> {
    /// The first of each key, and what has none.
    pub firsts: Vec<T>,
    /// Those that have the key of an earlier one, with its place among the firsts.
    pub repeats: Vec<(usize, T)>,
}

/// Lets those with equal keys meet in memory, since one statement can't take a key twice. Order is kept.
pub fn meet<T, K: Hash + Eq>(together: Vec<T>, key: impl Fn(&T) -> Option<K>) -> Met<T> {
    let mut places = HashMap::new();
    let mut met = Met { firsts: Vec::with_capacity(together.len()), repeats: Vec::new() };
    for one in together {
        let Some(key) = key(&one) else {
            met.firsts.push(one);
            continue;
        };
        match places.entry(key) {
            Entry::Occupied(place) => met.repeats.push((*place.get(), one)),
            Entry::Vacant(place) => {
                place.insert(met.firsts.len());
                met.firsts.push(one);
            }
        }
    }
    met
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Provider;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn key(verification: &Verification, pairs: &[(&'static str, &str)]) -> Option<DeduplicationKey> {
        DeduplicationKey::of(verification, &headers(pairs), b"{}").unwrap()
    }

    #[test]
    fn a_providers_id_goes_before_an_idempotency_key() {
        let github = Verification::Provider { provider: Provider::Github };
        let by_id = key(&github, &[("x-github-delivery", "a")]).unwrap();
        assert!(!by_id.same_body);
        assert_eq!(key(&github, &[("x-github-delivery", "a"), ("idempotency-key", "b")]), Some(by_id));
        assert_ne!(key(&github, &[("x-github-delivery", "b")]), Some(by_id));
        let by_key = key(&github, &[("idempotency-key", "a")]).unwrap();
        assert!(by_key.same_body && by_key != by_id, "the same text elsewhere is another key");
        assert_eq!(key(&github, &[]), None);
        let standard = Verification::StandardWebhooks {};
        assert_eq!(key(&standard, &[("webhook-id", "a")]), Some(by_id));
        assert_eq!(key(&Verification::None {}, &[("webhook-id", "a")]), None, "nothing says whose id it is");
    }

    #[test]
    fn an_idempotency_key_that_cannot_be_used_is_told() {
        let long = "k".repeat(256);
        for text in ["", &long] {
            let headers = headers(&[("idempotency-key", text)]);
            assert_eq!(DeduplicationKey::of(&Verification::None {}, &headers, b""), Err(InvalidKey));
        }
    }

    #[test]
    fn only_an_idempotency_key_minds_another_body() {
        let key = |same_body| DeduplicationKey { hash: [1; 16], same_body };
        assert!(key(false).is_repeated(&[1; 32], &[2; 32]));
        assert!(key(true).is_repeated(&[1; 32], &[1; 32]));
        assert!(!key(true).is_repeated(&[1; 32], &[2; 32]));
    }

    #[test]
    fn equal_keys_meet() {
        let met = meet(vec!["a1", "b1", "-", "a2", "-", "b2", "a3"], |one| {
            one.chars().next().filter(|key| *key != '-')
        });
        assert_eq!(met.firsts, ["a1", "b1", "-", "-"]);
        assert_eq!(met.repeats, [(0, "a2"), (1, "b2"), (0, "a3")]);
    }
}
