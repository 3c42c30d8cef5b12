//! An inbound address and how its producers are verified.

use serde::{Deserialize, Serialize};

use crate::provider::Provider;
use crate::signature::Network;
use crate::signature::generic::HmacScheme;
use crate::signature::request::Place;

/// Whether an endpoint's events are delivered. Ingress accepts in either state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndpointStatus {
    /// Events are delivered.
    Active,
    /// Events are accepted and held.
    Paused,
}

impl EndpointStatus {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
        }
    }

    /// The inverse of [`EndpointStatus::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Paused].into_iter().find(|status| status.as_str() == text)
    }
}

/// How an endpoint knows that a request comes from its producer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Verification {
    /// Standard Webhooks 1.0: `webhook-id`, `webhook-timestamp`, `webhook-signature`.
    StandardWebhooks {},
    /// As a known provider signs.
    Provider {
        /// Which one.
        provider: Provider,
    },
    /// An HMAC in a header, described in detail.
    Hmac(HmacScheme),
    /// HTTP basic authentication (RFC 7617); the secret is the password.
    BasicAuth {
        /// The user's name, without a colon.
        username: String,
    },
    /// `Authorization: Bearer` and the secret (RFC 6750).
    Bearer {},
    /// The secret in a header.
    ApiKey {
        /// The header.
        #[schema(example = "X-Api-Key")]
        header: String,
    },
    /// Only from these networks. Alone it says where from, not by whom: better together with a secret, by `all`.
    IpAllowList {
        /// Addresses and CIDRs.
        #[schema(min_items = 1, max_items = 100)]
        networks: Vec<Network>,
    },
    /// Each of these has to hold. At most one of them takes a secret.
    All {
        /// Two to eight, none of them `all` or `none`.
        #[schema(no_recursion, min_items = 2, max_items = 8)]
        of: Vec<Verification>,
    },
    /// Anybody who knows the URL may send. Has to be chosen explicitly.
    None {},
}

/// Why a way to verify is refused, and which field is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidVerification {
    /// The field, relative to the verification.
    pub field: String,
    /// What it should be.
    pub message: String,
}

/// Most networks of an allow-list, and most members of `all`.
const MAX_NETWORKS: usize = 100;
const MAX_MEMBERS: usize = 8;

impl Verification {
    /// Whether producers prove themselves with a secret.
    pub fn needs_secret(&self) -> bool {
        self.secret_holder().is_some()
    }

    /// The part of it that takes the secret: itself, or a member of `all`.
    pub fn secret_holder(&self) -> Option<&Self> {
        match self {
            Self::None {} | Self::IpAllowList { .. } => None,
            Self::All { of } => of.iter().find_map(Self::secret_holder),
            _ => Some(self),
        }
    }

    /// The provider among it, if one is.
    pub fn provider(&self) -> Option<Provider> {
        match self {
            Self::Provider { provider } => Some(*provider),
            Self::All { of } => of.iter().find_map(Self::provider),
            _ => None,
        }
    }

    /// The header that shows a secret, which therefore ends at us.
    pub fn credential_header(&self) -> Option<&str> {
        match self.secret_holder()? {
            Self::ApiKey { header } => Some(header),
            Self::Bearer {} | Self::BasicAuth { .. } => Some("authorization"),
            Self::Provider { provider } => provider.credential_header(),
            _ => None,
        }
    }

    /// Checks what deserializing can't.
    pub fn check(&self) -> Result<(), InvalidVerification> {
        let invalid = |field: &str, message: &str| {
            Err(InvalidVerification { field: field.to_owned(), message: message.to_owned() })
        };
        match self {
            Self::Hmac(scheme) => scheme.check().or_else(|error| invalid(error.field, error.message)),
            Self::BasicAuth { username } => {
                let visible = username.bytes().all(|byte| matches!(byte, b' '..=b'9' | b';'..=b'~'));
                let fits = (1..=MAX_NAME).contains(&username.len());
                if visible && fits {
                    Ok(())
                } else {
                    invalid("username", "1 to 200 characters of visible ASCII, no colon")
                }
            }
            Self::ApiKey { header } => match http::HeaderName::from_bytes(header.as_bytes()) {
                Ok(_) if header.len() <= 100 => Ok(()),
                _ => invalid("header", "not the name of an HTTP header"),
            },
            Self::IpAllowList { networks } if !(1..=MAX_NETWORKS).contains(&networks.len()) => {
                invalid("networks", "from 1 to 100 networks")
            }
            Self::All { of } => check_members(of),
            _ => Ok(()),
        }
    }
}

fn check_members(members: &[Verification]) -> Result<(), InvalidVerification> {
    let invalid =
        |field: String, message: &str| Err(InvalidVerification { field, message: message.to_owned() });
    if !(2..=MAX_MEMBERS).contains(&members.len()) {
        return invalid("of".to_owned(), "from 2 to 8 ways to verify");
    }
    for (index, member) in members.iter().enumerate() {
        if matches!(member, Verification::All { .. } | Verification::None {}) {
            return invalid(format!("of[{index}].type"), "neither all nor none");
        }
        member.check().map_err(|error| InvalidVerification {
            field: format!("of[{index}].{}", error.field),
            ..error
        })?;
    }
    if members.iter().filter(|member| member.needs_secret()).count() > 1 {
        return invalid(
            "of".to_owned(),
            "at most one of them may take a secret; they would have to share it",
        );
    }
    Ok(())
}

/// The highest body limit that an endpoint can have: 25 MiB, GitHub's own cap.
pub const MAX_BODY_BYTES: u32 = 25 * 1_024 * 1_024;

/// The longest name of anything, in characters.
pub const MAX_NAME: usize = 200;

/// The token of a new endpoint's URL: 32 random bytes, so that nobody guesses one.
pub fn token(random: [u8; 32]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random)
}

/// The longest id of an event that a producer can give, in bytes; a longer one is none.
const MAX_EVENT_ID: usize = 256;

/// The producer's own id of an event, the same on each of its attempts; `None` when the producer has none.
pub fn event_id(verification: &Verification, headers: &http::HeaderMap, body: &[u8]) -> Option<String> {
    let places = match verification {
        Verification::StandardWebhooks {} => &[Place::Header("webhook-id")],
        Verification::All { of } => return of.iter().find_map(|one| event_id(one, headers, body)),
        _ => verification.provider()?.profile().event_id,
    };
    first(places, headers, body, MAX_EVENT_ID)
}

/// The URL that endpoints' URLs begin with: http or https, no query.
pub fn base_url(text: &str) -> Result<url::Url, &'static str> {
    let usable = |url: &url::Url| matches!(url.scheme(), "http" | "https") && url.query().is_none();
    url::Url::parse(text)
        .ok()
        .filter(usable)
        .ok_or("write an http or https URL, such as https://hooks.example.com")
}

/// What kind of event a request carries, as far as its producer says so.
pub fn event_type(verification: &Verification, headers: &http::HeaderMap, body: &[u8]) -> Option<String> {
    let places = match verification {
        Verification::StandardWebhooks {} => &[Place::Json("/type")],
        Verification::All { of } => return of.iter().find_map(|one| event_type(one, headers, body)),
        _ => verification.provider()?.profile().event_type,
    };
    first(places, headers, body, MAX_NAME)
}

fn first(places: &[Place<'_>], headers: &http::HeaderMap, body: &[u8], longest: usize) -> Option<String> {
    let found = places.iter().find_map(|place| place.find(headers, body))?;
    // The database stores no NUL, and nobody means any other control character.
    let usable = !found.is_empty() && found.len() <= longest && !found.chars().any(char::is_control);
    usable.then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn verification_reads_as_documented() {
        let read = |json: serde_json::Value| serde_json::from_value::<Verification>(json);
        assert_eq!(read(json!({"type": "standard_webhooks"})).unwrap(), Verification::StandardWebhooks {});
        assert_eq!(
            read(json!({"type": "provider", "provider": "github"})).unwrap(),
            Verification::Provider { provider: Provider::Github }
        );
        assert_eq!(read(json!({"type": "none"})).unwrap(), Verification::None {});
        assert!(read(json!({})).is_err());
        assert!(read(json!({"type": "none", "secret": "x"})).is_err());
        assert!(read(json!({"type": "provider", "provider": "nobody"})).is_err());
        let hmac = json!({"type": "hmac", "header": "X-Sig", "algorithm": "sha1", "encoding": "base64", "prefix": "",
            "timestamp": {"header": "X-Time", "tolerance": "5m"}});
        assert_eq!(serde_json::to_value(read(hmac.clone()).unwrap()).unwrap(), hmac);
    }

    #[test]
    fn what_is_told_of_an_event_has_no_control_characters() {
        let stripe = Verification::Provider { provider: Provider::Stripe };
        let told = |body: &str| {
            let headers = http::HeaderMap::new();
            let id = event_id(&stripe, &headers, body.as_bytes());
            (id, event_type(&stripe, &headers, body.as_bytes()))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(told(r#"{"id": "evt_é", "type": "a b"}"#), (some("evt_é"), some("a b")));
        assert_eq!(told(r#"{"id": "a\u0000b", "type": "charge"}"#), (None, some("charge")));
        assert_eq!(told(r#"{"id": "evt", "type": "\u0000"}"#), (some("evt"), None));
        assert_eq!(told(r#"{"id": "a\nb", "type": "a\u0085"}"#), (None, None));
        let headers = http::HeaderMap::from_iter([(
            http::HeaderName::from_static("webhook-id"),
            http::HeaderValue::from_static("a\tb"),
        )]);
        assert_eq!(event_id(&Verification::StandardWebhooks {}, &headers, b"{}"), None);
    }
}
