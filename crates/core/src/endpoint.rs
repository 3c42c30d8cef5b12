//! An inbound address and how its producers are verified.

use serde::{Deserialize, Serialize};

use crate::signature::generic::HmacScheme;

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
    /// Anybody who knows the URL may send. Has to be chosen explicitly.
    None {},
}

impl Verification {
    /// Whether producers sign with a secret.
    pub fn needs_secret(&self) -> bool {
        !matches!(self, Self::None {})
    }
}

/// Providers whose signature we know by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// GitHub, "Validating webhook deliveries": `X-Hub-Signature-256`.
    Github,
}

impl Provider {
    /// How this provider signs.
    pub fn scheme(self) -> HmacScheme {
        match self {
            Self::Github => HmacScheme::github(),
        }
    }

    /// The header that names the kind of event, if there is one.
    pub fn event_type_header(self) -> &'static str {
        match self {
            Self::Github => "x-github-event",
        }
    }
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

/// What kind of event a request carries, as far as its producer says so in a header.
pub fn event_type(verification: &Verification, headers: &http::HeaderMap) -> Option<String> {
    let Verification::Provider { provider } = verification else { return None };
    let value = headers.get(provider.event_type_header())?.to_str().ok()?;
    (!value.is_empty() && value.len() <= MAX_NAME).then(|| value.to_owned())
}

/// The id that the producer gave its event, which its retries repeat; `None` when it gives none.
pub fn event_id(verification: &Verification, headers: &http::HeaderMap, _body: &[u8]) -> Option<String> {
    let header = match verification {
        Verification::StandardWebhooks {} => "webhook-id",
        Verification::Provider { provider: Provider::Github } => "x-github-delivery",
        Verification::Hmac(_) | Verification::None {} => return None,
    };
    headers.get(header)?.to_str().ok().map(str::to_owned)
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
}
