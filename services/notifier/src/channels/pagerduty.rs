//! `PagerDuty`, by its Events API v2 ("Send an alert event"): trigger, acknowledge and resolve, with the incident as what
//! duplicates are recognised by.

use ravenpost_core::alert::Severity;
use ravenpost_core::secret::Secret;
use ravenpost_store::system::NotificationKind;
use serde_json::{Map, Value, json};
use url::Url;

use super::Post;
use crate::message::{Message, time};

/// The longest summary.
const MAX_SUMMARY: usize = 1_024;

pub(super) fn post(url: &Url, routing_key: &Secret, message: &Message) -> Post {
    let mut body = body(message);
    body["routing_key"] = routing_key.reveal().into();
    Post { url: url.as_str().to_owned(), headers: Vec::new(), body }
}

/// Everything but the routing key.
pub(super) fn body(message: &Message) -> Value {
    let action = match message.kind {
        NotificationKind::Resolved => "resolve",
        NotificationKind::Acknowledged => "acknowledge",
        _ => "trigger",
    };
    let mut body = json!({ "event_action": action, "dedup_key": format!("ravenpost-{}", message.incident) });
    if action != "trigger" {
        return body;
    }
    let severity = match message.severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
        Severity::Info => "info",
    };
    let mut details: Map<String, Value> =
        message.facts.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
    if !message.items.is_empty() {
        details.insert("Destinations".to_owned(), message.items.clone().into());
    }
    let mut links = vec![json!({ "href": message.link, "text": "Open in the console" })];
    if let Some(mute) = &message.mute_link {
        links.push(json!({ "href": mute, "text": "Mute" }));
    }
    body["payload"] = json!({
        "summary": message.title.chars().take(MAX_SUMMARY).collect::<String>(),
        "source": message.link.host_str().unwrap_or("ravenpost"),
        "severity": severity,
        "timestamp": time(message.at),
        "component": "ravenpost",
        "class": message.alerts.first().map_or("channel", |alert| alert.condition.as_str()),
        "custom_details": details,
    });
    body["client"] = "Ravenpost".into();
    body["client_url"] = message.link.as_str().into();
    body["links"] = links.into();
    body
}
