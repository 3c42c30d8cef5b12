//! Channels: how people are reached, and the secrets that this takes.

use url::Url;

use super::Invalid;
use crate::destination::target_url;
use crate::secret::Secret;
use crate::signature::standard_webhooks;

/// How a channel reaches people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChannelType {
    /// By e-mail.
    Email,
    /// By an incoming webhook of Slack.
    Slack,
    /// By a workflow's webhook of Microsoft Teams.
    Teams,
    /// By the Events API v2 of `PagerDuty`.
    Pagerduty,
    /// By the Alert API of Opsgenie.
    Opsgenie,
    /// By a webhook that is signed as deliveries are (Standard Webhooks 1.0).
    Webhook,
}

impl ChannelType {
    /// Every type.
    pub const ALL: [Self; 6] =
        [Self::Email, Self::Slack, Self::Teams, Self::Pagerduty, Self::Opsgenie, Self::Webhook];

    /// As it is stored and told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Slack => "slack",
            Self::Teams => "teams",
            Self::Pagerduty => "pagerduty",
            Self::Opsgenie => "opsgenie",
            Self::Webhook => "webhook",
        }
    }

    /// The inverse of [`ChannelType::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Where a channel leads. All but an e-mail address is sealed when it is stored: who knows it can write to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelConfig {
    /// An e-mail address.
    Email {
        /// The address.
        address: String,
    },
    /// The URL of an incoming webhook.
    Slack {
        /// `https://hooks.slack.com/services/…`.
        url: Secret,
    },
    /// The URL of a workflow.
    Teams {
        /// `https://….logic.azure.com/…`.
        url: Secret,
    },
    /// An integration of a service.
    Pagerduty {
        /// 32 characters.
        routing_key: Secret,
    },
    /// An API integration.
    Opsgenie {
        /// Its key.
        api_key: Secret,
        /// Whether the account is in the European instance.
        eu: bool,
    },
    /// Any URL.
    Webhook {
        /// Where to.
        url: Secret,
        /// What it is signed with: `whsec_…`.
        signing_secret: Secret,
    },
}

impl ChannelConfig {
    /// How it reaches people.
    pub fn kind(&self) -> ChannelType {
        match self {
            Self::Email { .. } => ChannelType::Email,
            Self::Slack { .. } => ChannelType::Slack,
            Self::Teams { .. } => ChannelType::Teams,
            Self::Pagerduty { .. } => ChannelType::Pagerduty,
            Self::Opsgenie { .. } => ChannelType::Opsgenie,
            Self::Webhook { .. } => ChannelType::Webhook,
        }
    }

    /// Where it leads, for people to tell channels apart; holds no secret.
    pub fn shown(&self) -> String {
        match self {
            Self::Email { address } => address.clone(),
            Self::Slack { url } | Self::Teams { url } | Self::Webhook { url, .. } => host(url),
            Self::Pagerduty { routing_key } => ending(routing_key),
            Self::Opsgenie { api_key, .. } => ending(api_key),
        }
    }

    /// What is sealed: everything, as JSON; `None` for an e-mail address.
    pub fn to_sealed(&self) -> Option<Secret> {
        let value = match self {
            Self::Email { .. } => return None,
            Self::Slack { url } | Self::Teams { url } => serde_json::json!({ "url": url.reveal() }),
            Self::Pagerduty { routing_key } => serde_json::json!({ "routing_key": routing_key.reveal() }),
            Self::Opsgenie { api_key, eu } => serde_json::json!({ "api_key": api_key.reveal(), "eu": eu }),
            Self::Webhook { url, signing_secret } => {
                serde_json::json!({ "url": url.reveal(), "signing_secret": signing_secret.reveal() })
            }
        };
        Some(Secret::new(value.to_string()))
    }

    /// The inverse of [`ChannelConfig::to_sealed`], of a type that is not e-mail.
    pub fn from_sealed(kind: ChannelType, sealed: &Secret) -> Result<Self, &'static str> {
        let damaged = "the configuration of a channel does not read";
        let value: serde_json::Value = serde_json::from_str(sealed.reveal()).map_err(|_| damaged)?;
        let text = |name: &str| value[name].as_str().map(Secret::new).ok_or(damaged);
        Ok(match kind {
            ChannelType::Email => return Err(damaged),
            ChannelType::Slack => Self::Slack { url: text("url")? },
            ChannelType::Teams => Self::Teams { url: text("url")? },
            ChannelType::Pagerduty => Self::Pagerduty { routing_key: text("routing_key")? },
            ChannelType::Opsgenie => {
                Self::Opsgenie { api_key: text("api_key")?, eu: value["eu"].as_bool().unwrap_or_default() }
            }
            ChannelType::Webhook => {
                Self::Webhook { url: text("url")?, signing_secret: text("signing_secret")? }
            }
        })
    }

    /// Refuses what can't be sent to, by the name of the field. An e-mail address is checked by who knows addresses.
    pub fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Email { .. } => Ok(()),
            Self::Slack { url } | Self::Teams { url } => is_url(url),
            Self::Webhook { url, signing_secret } => {
                is_url(url)?;
                let key = standard_webhooks::key(signing_secret).map(drop);
                key.map_err(|invalid| Invalid::new("signing_secret", invalid.to_string()))
            }
            Self::Pagerduty { routing_key } => is_key("routing_key", routing_key, 32..=32),
            Self::Opsgenie { api_key, .. } => is_key("api_key", api_key, 16..=64),
        }
    }
}

fn is_url(url: &Secret) -> Result<(), Invalid> {
    target_url(url.reveal()).map(drop).map_err(|error| Invalid::new("url", error.to_string()))
}

fn is_key(field: &'static str, key: &Secret, length: std::ops::RangeInclusive<usize>) -> Result<(), Invalid> {
    let text = key.reveal();
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if plain && length.contains(&text.len()) {
        return Ok(());
    }
    let count = match (length.start(), length.end()) {
        (least, most) if least == most => least.to_string(),
        (least, most) => format!("{least} to {most}"),
    };
    let message = format!("{count} letters, digits and hyphens");
    Err(Invalid::new(field, message))
}

fn host(url: &Secret) -> String {
    let url = Url::parse(url.reveal()).ok();
    url.and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
}

fn ending(key: &Secret) -> String {
    let text = key.reveal();
    format!("…{}", text.get(text.len().saturating_sub(4)..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> [ChannelConfig; 5] {
        let url = || Secret::new("https://hooks.example.com/services/T0/B0/xyz");
        [
            ChannelConfig::Slack { url: url() },
            ChannelConfig::Teams { url: url() },
            ChannelConfig::Pagerduty { routing_key: Secret::new("0123456789abcdef0123456789abcdef") },
            ChannelConfig::Opsgenie {
                api_key: Secret::new("eb243592-faa2-4ba2-a551-1afdf565c889"),
                eu: true,
            },
            ChannelConfig::Webhook { url: url(), signing_secret: Secret::standard_webhooks([7; 32]) },
        ]
    }

    #[test]
    fn every_configuration_reads_back_and_shows_no_secret() {
        for config in all() {
            config.check().unwrap();
            let sealed = config.to_sealed().unwrap();
            assert_eq!(ChannelConfig::from_sealed(config.kind(), &sealed), Ok(config.clone()));
            assert_eq!(ChannelType::parse(config.kind().as_str()), Some(config.kind()));
            for told in [config.shown(), format!("{config:?}")] {
                assert!(
                    !["xyz", "0123456789", "eb243592", "whsec"].iter().any(|part| told.contains(part)),
                    "{told}"
                );
            }
        }
        assert_eq!(all()[0].shown(), "hooks.example.com");
        assert_eq!(all()[2].shown(), "…cdef");
    }

    #[test]
    fn what_can_not_be_sent_to_names_its_field() {
        let field = |config: ChannelConfig| config.check().unwrap_err().field;
        assert_eq!(field(ChannelConfig::Slack { url: Secret::new("ftp://example.com") }), "url");
        assert_eq!(field(ChannelConfig::Pagerduty { routing_key: Secret::new("short") }), "routing_key");
        let api_key = Secret::new("with\nnewline-and-more");
        assert_eq!(field(ChannelConfig::Opsgenie { api_key, eu: false }), "api_key");
        let url = Secret::new("https://example.com/");
        let signing_secret = Secret::new("no");
        assert_eq!(field(ChannelConfig::Webhook { url, signing_secret }), "signing_secret");
    }
}
