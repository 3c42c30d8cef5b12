//! Channels as the API shows and takes them.

use chrono::{DateTime, Utc};
use ravenpost_chassis::random;
use ravenpost_core::alert::{ChannelConfig, ChannelType};
use ravenpost_core::ids::{ChannelId, NotificationId};
use ravenpost_core::secret::Secret;
use ravenpost_store::tenant::Channel;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::body::given;

/// A channel to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = NewChannel)]
pub(in crate::api) enum NewChannelBody {
    /// By e-mail.
    Email {
        /// The e-mail address.
        #[schema(format = Email, example = "oncall@example.com")]
        address: String,
        /// What people call it.
        name: Option<String>,
    },
    /// By an incoming webhook of Slack.
    Slack {
        /// Its URL.
        #[schema(value_type = String, format = Uri, example = "https://hooks.slack.com/services/T01ABCDEF/B01ABCDEF/0123456789abcdef")]
        url: Secret,
        /// What people call it.
        name: Option<String>,
    },
    /// By the webhook of a workflow in Microsoft Teams.
    Teams {
        /// Its URL.
        #[schema(value_type = String, format = Uri)]
        url: Secret,
        /// What people call it.
        name: Option<String>,
    },
    /// By the Events API v2 of PagerDuty.
    Pagerduty {
        /// The integration key: 32 characters.
        #[schema(value_type = String)]
        routing_key: Secret,
        /// What people call it.
        name: Option<String>,
    },
    /// By the Alert API of Opsgenie.
    Opsgenie {
        /// The key of an API integration.
        #[schema(value_type = String)]
        api_key: Secret,
        /// Whether the account is in the European instance.
        #[serde(default)]
        eu: bool,
        /// What people call it.
        name: Option<String>,
    },
    /// By a webhook that is signed as deliveries are (Standard Webhooks 1.0).
    Webhook {
        /// Where to.
        #[schema(value_type = String, format = Uri)]
        url: Secret,
        /// What it is signed with, `whsec_…`; made for you unless it is given.
        #[schema(value_type = Option<String>)]
        signing_secret: Option<Secret>,
        /// What people call it.
        name: Option<String>,
    },
}

impl NewChannelBody {
    /// What people call it, and where it leads.
    pub(super) fn into_parts(self) -> (Option<String>, ChannelConfig) {
        match self {
            Self::Email { address, name } => (name, ChannelConfig::Email { address }),
            Self::Slack { url, name } => (name, ChannelConfig::Slack { url }),
            Self::Teams { url, name } => (name, ChannelConfig::Teams { url }),
            Self::Pagerduty { routing_key, name } => (name, ChannelConfig::Pagerduty { routing_key }),
            Self::Opsgenie { api_key, eu, name } => (name, ChannelConfig::Opsgenie { api_key, eu }),
            Self::Webhook { url, signing_secret, name } => {
                let signing_secret =
                    signing_secret.unwrap_or_else(|| Secret::standard_webhooks(random::bytes()));
                (name, ChannelConfig::Webhook { url, signing_secret })
            }
        }
    }
}

/// What to change of a channel.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ChannelChange)]
pub(in crate::api) struct ChannelChangeBody {
    /// What people call it.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = String)]
    pub(super) name: Option<String>,
    /// Whether it is sent to.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = bool)]
    pub(super) enabled: Option<bool>,
}

/// Where alerts are sent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Channel)]
pub(in crate::api) struct ChannelBody {
    /// Its id.
    id: ChannelId,
    /// How it reaches people.
    #[serde(rename = "type")]
    kind: ChannelType,
    /// What people call it; may be empty.
    name: String,
    /// The e-mail address; of other types the host, or the end of the key.
    address: String,
    /// Whether it is sent to.
    enabled: bool,
    /// Why it was disabled by itself.
    #[schema(required = true)]
    disabled_reason: Option<String>,
    /// When it last took a message.
    #[schema(required = true)]
    last_sent_at: Option<DateTime<Utc>>,
    /// When it was made.
    created_at: DateTime<Utc>,
}

impl From<Channel> for ChannelBody {
    fn from(channel: Channel) -> Self {
        Self {
            id: channel.id,
            kind: channel.kind,
            name: channel.name,
            address: channel.address,
            enabled: channel.enabled,
            disabled_reason: channel.disabled_reason,
            last_sent_at: channel.last_sent_at,
            created_at: channel.created_at,
        }
    }
}

/// A channel that was just made.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CreatedChannel)]
pub(in crate::api) struct CreatedChannelBody {
    /// The channel.
    #[serde(flatten)]
    channel: ChannelBody,
    /// What a webhook is signed with; shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    signing_secret: Option<String>,
}

impl CreatedChannelBody {
    pub(super) fn new(channel: Channel, config: &ChannelConfig) -> Self {
        let signing_secret = match config {
            ChannelConfig::Webhook { signing_secret, .. } => Some(signing_secret.reveal().to_owned()),
            _ => None,
        };
        Self { channel: channel.into(), signing_secret }
    }
}

/// A test that was asked for.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChannelTest)]
pub(in crate::api) struct TestBody {
    /// Under which id it is among the channel's notifications.
    pub(super) notification_id: NotificationId,
}
