//! Who may do what: actors, API keys and their scopes.

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::ids::{ApiKeyId, UserId};

/// A right that an API key carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub enum Scope {
    /// See endpoints and destinations.
    #[serde(rename = "endpoints:read")]
    EndpointsRead,
    /// Create, change and delete endpoints and destinations.
    #[serde(rename = "endpoints:write")]
    EndpointsWrite,
    /// See events, payloads, deliveries and rejected requests.
    #[serde(rename = "events:read")]
    EventsRead,
    /// Replay events, one or many; accept and delete rejected requests.
    #[serde(rename = "events:replay")]
    EventsReplay,
    /// See channels and alerts.
    #[serde(rename = "alerts:read")]
    AlertsRead,
    /// Create and delete channels.
    #[serde(rename = "alerts:write")]
    AlertsWrite,
    /// See who changed what.
    #[serde(rename = "audit:read")]
    AuditRead,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 7] = [
        Self::EndpointsRead,
        Self::EndpointsWrite,
        Self::EventsRead,
        Self::EventsReplay,
        Self::AlertsRead,
        Self::AlertsWrite,
        Self::AuditRead,
    ];

    /// As it is stored and told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EndpointsRead => "endpoints:read",
            Self::EndpointsWrite => "endpoints:write",
            Self::EventsRead => "events:read",
            Self::EventsReplay => "events:replay",
            Self::AlertsRead => "alerts:read",
            Self::AlertsWrite => "alerts:write",
            Self::AuditRead => "audit:read",
        }
    }

    /// The inverse of [`Scope::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

/// Who does something: told by the audit log, and what a request's rights are looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", content = "id", rename_all = "snake_case")]
pub enum Actor {
    /// A program, by the key that it presented.
    ApiKey(ApiKeyId),
    /// A person who has logged in.
    User(UserId),
}

/// An API key: `rvp_<prefix>_<secret>`. The prefix finds its row, the SHA-256 of the whole key proves it.
#[derive(Clone)]
pub struct ApiKey {
    prefix: String,
    text: String,
}

impl ApiKey {
    /// A new key from random bytes: 8 for the prefix, 32 for the secret.
    pub fn new(random: [u8; 40]) -> Self {
        let prefix = hex::encode(&random[..8]);
        let secret = hex::encode(&random[8..]);
        Self { text: format!("rvp_{prefix}_{secret}"), prefix }
    }

    /// Reads a key as a caller presents it; `None` when it has not the form of one.
    pub fn parse(text: &str) -> Option<Self> {
        let (prefix, secret) = text.strip_prefix("rvp_")?.split_once('_')?;
        let is_hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let well_formed = prefix.len() == 16 && secret.len() == 64 && is_hex(prefix) && is_hex(secret);
        well_formed.then(|| Self { prefix: prefix.to_owned(), text: text.to_owned() })
    }

    /// What finds the key's row. Not secret.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What is stored.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.text.as_bytes()).into()
    }

    /// Whether this key is the one whose hash was stored; in constant time.
    pub fn matches(&self, stored: &[u8]) -> bool {
        self.hash().ct_eq(stored).into()
    }

    /// The whole key, to be shown once.
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiKey(rvp_{}_…)", self.prefix)
    }
}

/// An opaque cursor over a list: the id after which the next page begins.
pub fn encode_cursor(id: uuid::Uuid) -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(id.as_bytes())
}

/// The inverse of [`encode_cursor`]; `None` when it is none of ours.
pub fn decode_cursor(text: &str) -> Option<uuid::Uuid> {
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()?;
    uuid::Uuid::from_slice(&bytes).ok()
}

/// As [`encode_cursor`], for a list that is ordered by two ids.
pub fn encode_pair_cursor(first: uuid::Uuid, second: uuid::Uuid) -> String {
    let bytes = [*first.as_bytes(), *second.as_bytes()].concat();
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// The inverse of [`encode_pair_cursor`]; `None` when it is none of ours.
pub fn decode_pair_cursor(text: &str) -> Option<(uuid::Uuid, uuid::Uuid)> {
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()?;
    let (first, second) = bytes.split_at_checked(16)?;
    Some((uuid::Uuid::from_slice(first).ok()?, uuid::Uuid::from_slice(second).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_proves_itself() {
        let key = ApiKey::new([7; 40]);
        let presented = ApiKey::parse(key.reveal()).unwrap();
        assert_eq!(presented.prefix(), "0707070707070707");
        assert!(presented.matches(&key.hash()));
        assert!(!ApiKey::new([8; 40]).matches(&key.hash()));
        assert!(!format!("{key:?}").contains("07_07"));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "rvp_", "rvp_07_07", "sk_0707070707070707_00", "rvp_070707070707070g_00"] {
            assert!(ApiKey::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn every_scope_reads_back() {
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.as_str()), Some(scope));
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.as_str());
        }
    }

    #[test]
    fn cursors_are_opaque_and_read_back() {
        let id = uuid::Uuid::from_u128(42);
        assert_eq!(decode_cursor(&encode_cursor(id)), Some(id));
        assert_eq!(decode_cursor("not a cursor"), None);
        let other = uuid::Uuid::from_u128(7);
        assert_eq!(decode_pair_cursor(&encode_pair_cursor(id, other)), Some((id, other)));
        assert_eq!(decode_pair_cursor(&encode_cursor(id)), None);
    }
}
