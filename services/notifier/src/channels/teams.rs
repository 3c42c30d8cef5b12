//! Microsoft Teams, by the webhook of a workflow: an Adaptive Card ("Create incoming webhooks with Workflows", Adaptive Cards 1.4).

use ravenpost_core::alert::Severity;
use ravenpost_core::secret::Secret;
use ravenpost_store::system::NotificationKind;
use serde_json::{Value, json};

use super::Post;
use crate::message::Message;

pub(super) fn post(url: &Secret, message: &Message) -> Post {
    Post { url: url.reveal().to_owned(), headers: Vec::new(), body: body(message) }
}

pub(super) fn body(message: &Message) -> Value {
    let color = match (message.kind, message.severity) {
        (NotificationKind::Resolved, _) => "Good",
        (_, Severity::Critical) => "Attention",
        (_, Severity::Warning) => "Warning",
        (_, Severity::Info) => "Accent",
    };
    let title = json!({ "type": "TextBlock", "text": escaped(&message.title), "weight": "Bolder", "size": "Medium",
        "color": color, "wrap": true });
    let facts: Vec<Value> =
        message.facts.iter().map(|(name, value)| json!({ "title": name, "value": escaped(value) })).collect();
    let mut card = vec![title, json!({ "type": "FactSet", "facts": facts })];
    for item in &message.items {
        card.push(json!({ "type": "TextBlock", "text": escaped(item), "wrap": true }));
    }
    let mut actions =
        vec![json!({ "type": "Action.OpenUrl", "title": "Open in the console", "url": message.link })];
    if let Some(mute) = &message.mute_link {
        actions.push(json!({ "type": "Action.OpenUrl", "title": "Mute", "url": mute }));
    }
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": card,
                "actions": actions,
            },
        }],
    })
}

/// Text blocks read a part of Markdown, and Teams some HTML: what begins any of it is escaped.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for one in text.chars() {
        match one {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '*' | '_' | '[' | ']' | '`' | '~' | '#' => {
                escaped.push('\\');
                escaped.push(one);
            }
            one => escaped.push(one),
        }
    }
    escaped
}
