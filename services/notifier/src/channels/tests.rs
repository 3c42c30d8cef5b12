//! What each provider reads, by the schemas of their documentation; hostile text arrives harmless.

use ravenpost_core::secret::Secret;
use ravenpost_store::system::NotificationKind;
use serde_json::Value;

use super::*;
use crate::message::tests::message;

const KINDS: [NotificationKind; 5] = [
    NotificationKind::Fired,
    NotificationKind::Acknowledged,
    NotificationKind::Resolved,
    NotificationKind::Test,
    NotificationKind::ChannelDisabled,
];

/// Messages of every kind, of one alert and of a storm.
fn messages() -> Vec<Message> {
    let storms = KINDS[..3].iter().map(|kind| message(500, *kind));
    KINDS.iter().map(|kind| message(1, *kind)).chain(storms).collect()
}

fn conforms(schema: &str, bodies: impl IntoIterator<Item = Value>) {
    let schema: Value = serde_json::from_str(schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for body in bodies {
        let errors: Vec<String> = validator.iter_errors(&body).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?} in {body:#}");
    }
}

#[test]
fn slack_reads_blocks() {
    conforms(include_str!("../../tests/schemas/slack.json"), messages().iter().map(slack::body));
    for message in messages() {
        let text = slack::body(&message).to_string();
        for harm in ["<!channel>", "<script>", "<https://evil"] {
            assert!(!text.contains(harm) || header_only(&message, harm), "{harm} in {text}");
        }
    }
}

/// A header is plain text: Slack reads no markup in it.
fn header_only(message: &Message, harm: &str) -> bool {
    let mut body = slack::body(message);
    body["blocks"][0] = Value::Null;
    !body.to_string().contains(harm)
}

#[test]
fn teams_reads_a_card() {
    conforms(include_str!("../../tests/schemas/teams.json"), messages().iter().map(teams::body));
    for message in messages() {
        let text = teams::body(&message).to_string();
        for harm in ["<script>", "<at>", "](b)"] {
            assert!(!text.replace("\\\\]", "").contains(harm), "{harm} in {text}");
        }
    }
}

#[test]
fn pagerduty_reads_events() {
    let key = Secret::new("0123456789abcdef0123456789abcdef");
    let url: Url = "https://events.pagerduty.com/v2/enqueue".parse().unwrap();
    let bodies = messages();
    let bodies = bodies.iter().map(|message| pagerduty::post(&url, &key, message).body);
    conforms(include_str!("../../tests/schemas/pagerduty.json"), bodies);
    let [fired, resolved] =
        [NotificationKind::Fired, NotificationKind::Resolved].map(|kind| message(1, kind));
    assert_eq!(pagerduty::body(&fired)["dedup_key"], pagerduty::body(&resolved)["dedup_key"]);
    assert_eq!(pagerduty::body(&resolved)["event_action"], "resolve");
}

#[test]
fn opsgenie_reads_alerts() {
    let key = Secret::new("eb243592-faa2-4ba2-a551-1afdf565c889");
    let base: Url = "https://api.opsgenie.com".parse().unwrap();
    let fired = opsgenie::post(&base, &key, &message(1, NotificationKind::Fired));
    assert_eq!(fired.url, "https://api.opsgenie.com/v2/alerts");
    assert_eq!(fired.headers[0].1, "GenieKey eb243592-faa2-4ba2-a551-1afdf565c889");
    let closed = opsgenie::post(&base, &key, &message(1, NotificationKind::Resolved));
    let alias = fired.body["alias"].as_str().unwrap();
    assert_eq!(closed.url, format!("https://api.opsgenie.com/v2/alerts/{alias}/close?identifierType=alias"));
    conforms(include_str!("../../tests/schemas/opsgenie.json"), messages().iter().map(opsgenie::body));
}

#[test]
fn a_webhook_is_signed_as_deliveries_are() {
    let secret = Secret::standard_webhooks([7; 32]);
    let url = Secret::new("https://example.com/alerts");
    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let told = message(1, NotificationKind::Fired);
    let post = webhook::post(&url, &secret, &told, now).unwrap();
    let body = post.body.to_string();
    let signed = ravenpost_core::signature::standard_webhooks::sign(
        &secret,
        &told.id.to_string(),
        now.timestamp(),
        body.as_bytes(),
    );
    assert_eq!(post.headers[2].1, signed.unwrap());
    conforms(include_str!("../../tests/schemas/webhook.json"), messages().iter().map(webhook::body));
}

#[test]
fn mail_is_text_and_html_without_anybody_elses_markup() {
    for message in messages() {
        let html = email::html(&message);
        assert!(!html.contains("<script") && !html.contains("<!channel>"), "{html}");
        // Lines of its own, and none of somebody else's: nothing begins as a header does.
        assert!(!email::text(&message).lines().any(|line| line.starts_with("Bcc:")));
    }
}

#[test]
fn what_will_be_refused_again_is_permanent() {
    for (status, permanent) in
        [(301, true), (400, true), (404, true), (429, false), (408, false), (503, false)]
    {
        assert_eq!(is_permanent(status), permanent, "{status}");
    }
}

#[test]
fn only_a_mailbox_that_is_none_is_the_addresss_fault() {
    for reply in ["550 5.1.1 no such user here", "552-5.2.2 mailbox full", "permanent error (550): 5.1.10 x"]
    {
        assert!(email::names_no_mailbox(reply), "{reply}");
    }
    for reply in
        ["550 5.7.1 relaying denied", "535 5.7.8 wrong password", "550 refused", "554 5.1.2.3 is listed"]
    {
        assert!(!email::names_no_mailbox(reply), "{reply}");
    }
}
