//! The ways to people. Each turns a message into what its provider reads, with whatever somebody else has written made
//! harmless, and says whether it was taken.

mod email;
mod opsgenie;
mod pagerduty;
mod slack;
mod teams;
mod webhook;

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue, header};
use ravenpost_core::alert::ChannelConfig;
use ravenpost_core::delivery::{FailureKind, Response};
use ravenpost_egress::{Client, Request};
use serde_json::Value;
use url::Url;

pub use email::{Email, EmailError, Mail, SmtpSettings};

use crate::message::Message;

/// How long a provider may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How much of what it answered is told, in bytes.
const SNIPPET: usize = 200;
/// The longest wait that a provider can ask for.
const LONGEST_WAIT: u64 = 3_600;

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NotSent {
    /// For people; holds no secret.
    pub message: String,
    /// It won't mend by itself.
    pub permanent: bool,
    /// How long the provider wants us to wait.
    pub retry_after: Option<Duration>,
}

impl NotSent {
    fn permanent(message: impl Into<String>) -> Self {
        Self { message: message.into(), permanent: true, retry_after: None }
    }
}

/// Where the operator's pagers are.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct ProviderSettings {
    /// Where `PagerDuty` takes events (its Events API v2).
    #[arg(
        long,
        env = "RAVENPOST_PAGERDUTY_URL",
        value_name = "URL",
        default_value = "https://events.pagerduty.com/v2/enqueue"
    )]
    pub pagerduty_url: Url,
    /// Where Opsgenie's API is.
    #[arg(
        long,
        env = "RAVENPOST_OPSGENIE_URL",
        value_name = "URL",
        default_value = "https://api.opsgenie.com"
    )]
    pub opsgenie_url: Url,
    /// Where the API of Opsgenie's European instance is.
    #[arg(
        long,
        env = "RAVENPOST_OPSGENIE_EU_URL",
        value_name = "URL",
        default_value = "https://api.eu.opsgenie.com"
    )]
    pub opsgenie_eu_url: Url,
}

/// All ways.
pub struct Channels {
    email: Email,
    client: Client,
    providers: ProviderSettings,
}

/// What is posted where.
#[derive(Debug)]
struct Post {
    url: String,
    headers: Vec<(http::HeaderName, String)>,
    body: Value,
}

impl Channels {
    /// Mail by the operator's relay, all else by the guarded client.
    pub fn new(email: Email, client: Client, providers: ProviderSettings) -> Self {
        Self { email, client, providers }
    }

    /// Sends a message the way that the channel says.
    pub async fn send(
        &self,
        config: &ChannelConfig,
        message: &Message,
        now: DateTime<Utc>,
    ) -> Result<(), NotSent> {
        let post = match config {
            ChannelConfig::Email { address } => {
                return Ok(self.email.send(email::of_message(message, address)).await?);
            }
            ChannelConfig::Slack { url } => slack::post(url, message),
            ChannelConfig::Teams { url } => teams::post(url, message),
            ChannelConfig::Pagerduty { routing_key } => {
                pagerduty::post(&self.providers.pagerduty_url, routing_key, message)
            }
            ChannelConfig::Opsgenie { api_key, eu } => {
                let base = if *eu { &self.providers.opsgenie_eu_url } else { &self.providers.opsgenie_url };
                opsgenie::post(base, api_key, message)
            }
            ChannelConfig::Webhook { url, signing_secret } => {
                webhook::post(url, signing_secret, message, now)?
            }
        };
        self.deliver(post).await
    }

    async fn deliver(&self, post: Post) -> Result<(), NotSent> {
        let url = post.url.parse().map_err(|_| NotSent::permanent("the channel's URL does not read"))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in post.headers {
            let mut value = HeaderValue::from_str(&value)
                .map_err(|_| NotSent::permanent("the channel's key holds what no header may"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let body = Bytes::from(post.body.to_string());
        let request = Request { url, headers, body, timeout: TIMEOUT, first_byte_timeout: None, tls: None };
        let answer = self.client.send(request).await;
        if answer.outcome().is_success() {
            return Ok(());
        }
        let mut message = answer.error_message().unwrap_or_default();
        if let Some(snippet) = answer.body_snippet(SNIPPET).filter(|snippet| !snippet.trim().is_empty()) {
            message = format!("{message}: {}", crate::message::line(&snippet, SNIPPET));
        }
        let (permanent, retry_after) = match &answer.result {
            Ok(response) => (is_permanent(response.status), retry_after(response)),
            Err(failure) => {
                (matches!(failure.kind, FailureKind::BlockedAddress | FailureKind::InvalidUrl), None)
            }
        };
        Err(NotSent { message, permanent, retry_after })
    }
}

/// A redirect is not followed and a refusal will be repeated, but for those that say "later".
fn is_permanent(status: u16) -> bool {
    matches!(status, 300..=499) && !matches!(status, 408 | 425 | 429)
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds: u64 = response.retry_after.as_deref()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(LONGEST_WAIT)))
}

#[cfg(test)]
mod tests;
