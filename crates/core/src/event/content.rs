//! From a request that is believed to the event that it becomes, whether it is believed at once or after a second look.

use http::HeaderMap;
use sha2::{Digest, Sha256};

use crate::deduplication::{DeduplicationKey, InvalidKey};
use crate::endpoint::{Verification, event_type};
use crate::headers;

/// What a request says of its event, beside its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// SHA-256 of the payload.
    pub body_sha256: [u8; 32],
    /// The producer's headers that travel on, encoded ([`headers::encode`]).
    pub headers: Vec<u8>,
    /// What its producer calls it.
    pub event_type: Option<String>,
    /// The payload's content type.
    pub content_type: Option<String>,
    /// What its producer's retries have in common with it, if they have. An `Idempotency-Key` that can't be used is
    /// told to a producer who is still there; otherwise it is as good as none.
    pub deduplication: Result<Option<DeduplicationKey>, InvalidKey>,
}

/// SHA-256 of a payload (FIPS 180-4), by which it is known to be as it was received.
pub fn digest(payload: &[u8]) -> [u8; 32] {
    Sha256::digest(payload).into()
}

impl Content {
    /// Of a request to an endpoint that verifies so.
    pub fn of(verification: &Verification, received: &HeaderMap, body: &[u8]) -> Self {
        let credential = verification.credential_header();
        let content_type = received.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Self {
            body_sha256: digest(body),
            headers: headers::encode(&headers::to_forward(received, credential)),
            event_type: event_type(verification, received, body),
            content_type: content_type.map(str::to_owned),
            deduplication: DeduplicationKey::of(verification, received, body),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::provider::Provider;

    fn received(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(header).collect()
    }

    #[test]
    fn a_request_says_what_its_event_is() {
        let github = Verification::Provider { provider: Provider::Github };
        let received = received(&[
            ("host", "hooks.example.com"),
            ("content-type", "application/json; charset=utf-8"),
            ("x-github-event", "push"),
            ("x-github-delivery", "d1"),
        ]);
        let content = Content::of(&github, &received, b"{}");
        assert_eq!(content.body_sha256.as_slice(), Sha256::digest(b"{}").as_slice());
        let travelling = headers::decode(&content.headers).unwrap();
        assert!(travelling.contains_key("x-github-event") && !travelling.contains_key("host"));
        assert_eq!(content.event_type.as_deref(), Some("push"));
        assert_eq!(content.content_type.as_deref(), Some("application/json; charset=utf-8"));
        assert_eq!(content.deduplication, DeduplicationKey::of(&github, &received, b"{}"));
        assert!(content.deduplication.is_ok_and(|key| key.is_some()));
    }

    #[test]
    fn what_showed_the_secret_ends_here() {
        let api_key = Verification::ApiKey { header: "X-Api-Key".to_owned() };
        let received = received(&[("x-api-key", "hush"), ("x-other", "1")]);
        let content = Content::of(&api_key, &received, b"");
        assert_eq!(headers::decode(&content.headers).unwrap().len(), 1);
        assert_eq!((content.event_type, content.content_type), (None, None));
    }

    #[test]
    fn a_key_that_cannot_be_used_spoils_nothing_else() {
        let received = received(&[("idempotency-key", ""), ("content-type", "text/plain")]);
        let content = Content::of(&Verification::None {}, &received, b"x");
        assert_eq!(content.deduplication, Err(InvalidKey));
        assert_eq!(content.content_type.as_deref(), Some("text/plain"));
    }
}
