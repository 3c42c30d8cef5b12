//! Groups, what they come to, and hostile text.

use ravenpost_core::alert::{ChannelConfig, ConditionName};

use super::*;

/// What a customer or a destination may write to hurt a reader.
pub const HOSTILE: &str = "<script>alert(1)</script> <!channel> <https://evil.example|click>\r\nBcc: x@evil.example\u{202e}\u{0} & [a](b) *x* \"'";

/// A claim of alerts of so many destinations, with hostile names.
pub fn claim(destinations: usize, kind: NotificationKind) -> Claim {
    let id = |number: usize| Uuid::from_u128(number as u128);
    let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let alert = |number: usize| ToldAlert {
        id: id(1_000 + number).into(),
        rule: "consecutive_failures".to_owned(),
        rule_name: HOSTILE.to_owned(),
        condition: ConditionName::ConsecutiveFailures,
        severity: Severity::Critical,
        evidence: Evidence {
            since: Some(at),
            failures_in_a_row: Some(5),
            last_error: Some(HOSTILE.to_owned()),
            ..Evidence::default()
        },
        opened_at: at,
        resolved_at: (kind == NotificationKind::Resolved).then_some(at),
        endpoint: Some((id(2).into(), HOSTILE.to_owned())),
        destination: Some((id(3_000 + number).into(), format!("https://example.com/{HOSTILE}"))),
    };
    let alone = matches!(kind, NotificationKind::Test | NotificationKind::ChannelDisabled);
    let notification = |number: usize| Notification {
        id: id(5_000 + number).into(),
        kind,
        attempts: 1,
        created_at: at,
        incident: None,
        alert: (!alone).then(|| alert(number)),
        broken_channel: (kind == NotificationKind::ChannelDisabled).then(|| HOSTILE.to_owned()),
    };
    Claim {
        organization_id: id(1).into(),
        organization_name: HOSTILE.to_owned(),
        channel_id: id(9).into(),
        channel: Ok(ChannelConfig::Email { address: "oncall@example.com".to_owned() }),
        notifications: (0..destinations).map(notification).collect(),
    }
}

/// The one message of such a claim.
pub fn message(destinations: usize, kind: NotificationKind) -> Message {
    let claim = claim(destinations, kind);
    let groups = group(&claim.notifications);
    assert_eq!(groups.len(), 1);
    compose(&claim, &groups[0], &"https://console.example.com/app/".parse().unwrap())
}

#[test]
fn a_storm_is_one_message() {
    let told = message(500, NotificationKind::Fired);
    assert!(told.title.starts_with("[critical] 500 destinations: "), "{}", told.title);
    assert_eq!((told.items.len(), told.items[10].as_str()), (11, "and 490 more"));
    assert_eq!(told.alerts.len(), 500);
    assert_eq!(told.link.as_str(), "https://console.example.com/app/alerts");
}

#[test]
fn one_alert_says_what_happened_since_when_how_much_and_why() {
    let told = message(1, NotificationKind::Fired);
    assert!(told.title.ends_with("keeps failing (5 attempts in a row)") || told.title.ends_with('…'));
    let names: Vec<&str> = told.facts.iter().map(|(name, _)| *name).collect();
    let expected =
        ["Organization", "Rule", "Endpoint", "Destination", "Since", "Failures in a row", "Last error"];
    assert_eq!(names, expected);
    let id = told.alerts[0].id;
    assert_eq!(told.link.as_str(), format!("https://console.example.com/app/alerts/{id}"));
    assert_eq!(told.mute_link.unwrap().as_str(), format!("{}?mute=1h", told.link));
    assert!(message(1, NotificationKind::Resolved).title.starts_with("[resolved] "));
}

#[test]
fn kinds_rules_and_tests_are_told_apart() {
    let mut claim = claim(4, NotificationKind::Fired);
    claim.notifications[1].kind = NotificationKind::Resolved;
    claim.notifications[2].alert.as_mut().unwrap().rule = "error_rate".to_owned();
    claim.notifications[3].alert = None;
    claim.notifications[3].kind = NotificationKind::Test;
    assert_eq!(group(&claim.notifications).len(), 4);
}

#[test]
fn every_text_is_one_line_that_hides_nothing() {
    for kind in [NotificationKind::Fired, NotificationKind::Test, NotificationKind::ChannelDisabled] {
        let told = message(if kind == NotificationKind::Fired { 3 } else { 1 }, kind);
        let texts = told.facts.iter().map(|(_, value)| value).chain(&told.items).chain([&told.title]);
        for text in texts {
            assert!(!text.chars().any(|one| one.is_control() || one == '\u{202e}'), "{text:?}");
        }
    }
    assert_eq!(line("äöü", 2), "äö…");
}

#[test]
fn a_group_that_has_grown_is_another_message() {
    let id = |destinations| message(destinations, NotificationKind::Fired).id;
    assert_eq!(id(1), claim(1, NotificationKind::Fired).notifications[0].id);
    assert_eq!(id(3), id(3));
    assert_ne!(id(3), id(2));
    assert_ne!(id(2), id(1));
}
