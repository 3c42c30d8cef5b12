//! Any URL, signed as deliveries are (Standard Webhooks 1.0): `webhook-id` is the same whenever a message is tried again.

use chrono::{DateTime, Utc};
use ravenpost_core::secret::Secret;
use ravenpost_core::signature::standard_webhooks;
use ravenpost_store::system::{NotificationKind, ToldAlert};
use serde_json::{Value, json};

use super::{NotSent, Post};
use crate::message::{Message, time};

pub(super) fn post(
    url: &Secret,
    secret: &Secret,
    message: &Message,
    now: DateTime<Utc>,
) -> Result<Post, NotSent> {
    let body = body(message);
    let id = message.id.to_string();
    // Signed as it is sent: the text of a value is always the same.
    let signature = standard_webhooks::sign(secret, &id, now.timestamp(), body.to_string().as_bytes())
        .map_err(|invalid| NotSent::permanent(invalid.to_string()))?;
    let headers = vec![
        (standard_webhooks::ID, id),
        (standard_webhooks::TIMESTAMP, now.timestamp().to_string()),
        (standard_webhooks::SIGNATURE, signature),
    ];
    Ok(Post { url: url.reveal().to_owned(), headers, body })
}

pub(super) fn body(message: &Message) -> Value {
    let kind = match message.kind {
        NotificationKind::Fired => "alert.fired",
        NotificationKind::Acknowledged => "alert.acknowledged",
        NotificationKind::Resolved => "alert.resolved",
        NotificationKind::Test => "channel.test",
        NotificationKind::ChannelDisabled => "channel.disabled",
    };
    json!({
        "type": kind,
        "timestamp": time(message.at),
        "data": {
            "organization_id": message.organization_id,
            "severity": message.severity,
            "title": message.title,
            "url": message.link,
            "mute_url": message.mute_link,
            "alerts": message.alerts.iter().map(alert).collect::<Vec<_>>(),
        },
    })
}

fn alert(alert: &ToldAlert) -> Value {
    json!({
        "id": alert.id,
        "rule": alert.rule,
        "rule_name": alert.rule_name,
        "condition": alert.condition,
        "severity": alert.severity,
        "endpoint_id": alert.endpoint.as_ref().map(|(id, _)| id),
        "endpoint_name": alert.endpoint.as_ref().map(|(_, name)| name),
        "destination_id": alert.destination.as_ref().map(|(id, _)| id),
        "destination_url": alert.destination.as_ref().map(|(_, url)| url),
        "evidence": alert.evidence,
        "opened_at": time(alert.opened_at),
        "resolved_at": alert.resolved_at.map(time),
    })
}
