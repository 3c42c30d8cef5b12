//! Opsgenie, by its Alert API: create, acknowledge and close, with the incident as the alias.

use http::header::AUTHORIZATION;
use ravenpost_core::alert::Severity;
use ravenpost_core::secret::Secret;
use ravenpost_store::system::NotificationKind;
use serde_json::{Map, Value, json};
use url::Url;

use super::Post;
use crate::message::Message;

/// The longest message of an alert, and the longest description.
const MAX_MESSAGE: usize = 130;
const MAX_DESCRIPTION: usize = 15_000;

pub(super) fn post(base: &Url, api_key: &Secret, message: &Message) -> Post {
    let base = base.as_str().trim_end_matches('/');
    let alias = alias(message);
    let url = match message.kind {
        NotificationKind::Resolved => format!("{base}/v2/alerts/{alias}/close?identifierType=alias"),
        NotificationKind::Acknowledged => {
            format!("{base}/v2/alerts/{alias}/acknowledge?identifierType=alias")
        }
        _ => format!("{base}/v2/alerts"),
    };
    let headers = vec![(AUTHORIZATION, format!("GenieKey {}", api_key.reveal()))];
    Post { url, headers, body: body(message) }
}

fn alias(message: &Message) -> String {
    format!("ravenpost-{}", message.incident)
}

pub(super) fn body(message: &Message) -> Value {
    if matches!(message.kind, NotificationKind::Resolved | NotificationKind::Acknowledged) {
        return json!({ "source": "Ravenpost", "note": message.title });
    }
    let priority = match message.severity {
        Severity::Critical => "P1",
        Severity::Warning => "P3",
        Severity::Info => "P5",
    };
    let details: Map<String, Value> =
        message.facts.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
    let mut lines = message.items.clone();
    lines.push(message.link.to_string());
    lines.extend(message.mute_link.iter().map(|mute| format!("Mute: {mute}")));
    let description = lines.join("\n");
    json!({
        "message": message.title.chars().take(MAX_MESSAGE).collect::<String>(),
        "alias": alias(message),
        "description": description.chars().take(MAX_DESCRIPTION).collect::<String>(),
        "priority": priority,
        "source": "Ravenpost",
        "tags": ["ravenpost", message.severity.as_str()],
        "details": details,
    })
}
