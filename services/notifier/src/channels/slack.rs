//! Slack, by an incoming webhook: blocks (Slack's "Reference: Block Kit" and "Sending messages using incoming webhooks").

use ravenpost_core::alert::Severity;
use ravenpost_core::secret::Secret;
use ravenpost_store::system::NotificationKind;
use serde_json::{Value, json};

use super::Post;
use crate::message::Message;

/// Most fields of one section.
const MOST_FIELDS: usize = 10;

pub(super) fn post(url: &Secret, message: &Message) -> Post {
    Post { url: url.reveal().to_owned(), headers: Vec::new(), body: body(message) }
}

pub(super) fn body(message: &Message) -> Value {
    let title = format!("{} {}", mark(message), message.title);
    let mut blocks = vec![json!({ "type": "header", "text": plain(&shortened(&title, 150)) })];
    for facts in message.facts.chunks(MOST_FIELDS) {
        let fields: Vec<Value> =
            facts.iter().map(|(name, value)| text(&format!("*{name}*\n{}", escaped(value)))).collect();
        blocks.push(json!({ "type": "section", "fields": fields }));
    }
    for item in &message.items {
        blocks.push(json!({ "type": "section", "text": text(&format!("• {}", escaped(item))) }));
    }
    let mut links = format!("<{}|Open in the console>", escaped(message.link.as_str()));
    if let Some(mute) = &message.mute_link {
        links = format!("{links}  ·  <{}|Mute>", escaped(mute.as_str()));
    }
    blocks.push(json!({ "type": "context", "elements": [text(&links)] }));
    // What notifications show, and readers that know no blocks.
    json!({ "text": escaped(&title), "blocks": blocks })
}

fn mark(message: &Message) -> &'static str {
    match (message.kind, message.severity) {
        (NotificationKind::Resolved, _) => "✅",
        (_, Severity::Critical) => "🔴",
        (_, Severity::Warning) => "🟠",
        (_, Severity::Info) => "🔵",
    }
}

fn plain(text: &str) -> Value {
    json!({ "type": "plain_text", "text": text, "emoji": false })
}

/// Names and addresses in it are not made into mentions and links.
fn text(markdown: &str) -> Value {
    json!({ "type": "mrkdwn", "text": markdown, "verbatim": true })
}

/// The three characters that control Slack's markup ("Formatting text for app surfaces", escaping).
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn shortened(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}
