//! What people read: of a group of notifications to one channel one message, in plain text. Every text that somebody else may
//! have written is one line without anything hidden; what it takes beyond that each channel knows.

use chrono::{DateTime, SecondsFormat, Utc};
use ravenpost_core::alert::judge::headline;
use ravenpost_core::alert::{Evidence, Severity};
use ravenpost_core::delivery::is_shown;
use ravenpost_core::ids::{NotificationId, OrganizationId};
use ravenpost_store::system::{Claim, Notification, NotificationKind, ToldAlert};
use url::Url;
use uuid::Uuid;

/// Most characters of a title, and of any other value.
const MAX_TITLE: usize = 150;
const MAX_VALUE: usize = 300;
/// Most alerts that are named in one message.
const MOST_NAMED: usize = 10;

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The same whenever the same group is told again, and another one when it has grown: who has taken the smaller one
    /// must not take the larger for a repetition.
    pub id: NotificationId,
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// Of what it tells.
    pub kind: NotificationKind,
    /// How bad it is.
    pub severity: Severity,
    /// What happened, in one line.
    pub title: String,
    /// What is known of it: a name and a value.
    pub facts: Vec<(&'static str, String)>,
    /// Whom it befell, when these are several.
    pub items: Vec<String>,
    /// Where to read on.
    pub link: Url,
    /// Where to be left alone.
    pub mute_link: Option<Url>,
    /// The alerts it tells of.
    pub alerts: Vec<ToldAlert>,
    /// What a pager knows it by.
    pub incident: Uuid,
    /// When it came about.
    pub at: DateTime<Utc>,
}

/// Notifications that are told in one message: of one kind, and by one rule.
pub fn group(notifications: &[Notification]) -> Vec<Vec<&Notification>> {
    let mut groups: Vec<Vec<&Notification>> = Vec::new();
    let key = |one: &Notification| {
        let rule = one.alert.as_ref().map(|alert| (alert.rule.clone(), alert.severity));
        // A pager resolves what it was told to be one incident.
        let incident = if one.kind == NotificationKind::Fired { None } else { one.incident };
        let alone = one.alert.is_none().then_some(one.id);
        (one.kind, rule, incident, alone)
    };
    for notification in notifications {
        match groups.iter_mut().find(|group| key(group[0]) == key(notification)) {
            Some(group) => group.push(notification),
            None => groups.push(vec![notification]),
        }
    }
    groups
}

/// The message of a group.
pub fn compose(claim: &Claim, group: &[&Notification], console: &Url) -> Message {
    let first = group[0];
    let alerts: Vec<ToldAlert> = group.iter().filter_map(|one| one.alert.clone()).collect();
    let (severity, title, facts) = match alerts.as_slice() {
        [] => about_channel(first),
        [alert] => (alert.severity, title(first.kind, &subject(alert), alert), facts(alert, true)),
        [alert, ..] => {
            let what = if alert.destination.is_some() { "destinations" } else { "endpoints" };
            let told = format!("{} {what}: {}", alerts.len(), alert.rule_name);
            (alert.severity, prefixed(first.kind, alert.severity, &told), facts(alert, false))
        }
    };
    let mut facts = facts;
    facts.insert(0, ("Organization", line(&claim.organization_name, MAX_VALUE)));
    let (link, mute_link) = links(console, &alerts);
    Message {
        id: id_of(group),
        organization_id: claim.organization_id,
        kind: first.kind,
        severity,
        title: line(&title, MAX_TITLE),
        facts,
        items: items(&alerts),
        link,
        mute_link,
        incident: first.incident.or(alerts.first().map(|alert| alert.id.0)).unwrap_or(first.id.0),
        alerts,
        at: first.created_at,
    }
}

/// The notification's own id, or one made of all of them.
fn id_of(group: &[&Notification]) -> NotificationId {
    let all = group.iter().fold(0, |all, one| all ^ one.id.0.as_u128());
    if group.len() == 1 {
        group[0].id
    } else {
        NotificationId(uuid::Builder::from_custom_bytes(all.to_be_bytes()).into_uuid())
    }
}

fn about_channel(notification: &Notification) -> (Severity, String, Vec<(&'static str, String)>) {
    match &notification.broken_channel {
        Some(broken) => (
            Severity::Warning,
            "[warning] A channel of alerts was disabled: it takes no messages".to_owned(),
            vec![("Channel", line(broken, MAX_VALUE))],
        ),
        None => (Severity::Info, "[test] This channel is told of alerts".to_owned(), Vec::new()),
    }
}

fn title(kind: NotificationKind, subject: &str, alert: &ToldAlert) -> String {
    let told = format!("{subject} {}", headline(alert.condition, &alert.evidence));
    prefixed(kind, alert.severity, &told)
}

fn prefixed(kind: NotificationKind, severity: Severity, told: &str) -> String {
    match kind {
        NotificationKind::Resolved => format!("[resolved] {told}"),
        NotificationKind::Acknowledged => format!("[acknowledged] {told}"),
        _ => format!("[{}] {told}", severity.as_str()),
    }
}

fn subject(alert: &ToldAlert) -> String {
    alert.endpoint.as_ref().map_or_else(|| "The organization".to_owned(), |(_, name)| name.clone())
}

fn facts(alert: &ToldAlert, alone: bool) -> Vec<(&'static str, String)> {
    let mut facts = vec![("Rule", line(&alert.rule_name, MAX_VALUE))];
    if alone {
        if let Some((id, name)) = &alert.endpoint {
            facts.push(("Endpoint", format!("{} ({id})", line(name, MAX_VALUE))));
        }
        if let Some((id, url)) = &alert.destination {
            facts.push(("Destination", format!("{} ({id})", line(url, MAX_VALUE))));
        }
    }
    facts.push(("Since", time(alert.evidence.since.unwrap_or(alert.opened_at))));
    if let Some(resolved) = alert.resolved_at {
        facts.push(("Resolved", time(resolved)));
    }
    facts.extend(amounts(&alert.evidence));
    facts
}

/// How much, as far as it is known.
fn amounts(evidence: &Evidence) -> Vec<(&'static str, String)> {
    let number = |name, value: Option<u32>| value.map(|value| (name, value.to_string()));
    let moment = |name, value: Option<DateTime<Utc>>| value.map(|value| (name, time(value)));
    [
        number("Failures in a row", evidence.failures_in_a_row),
        number("Attempts", evidence.attempts),
        number("Failures", evidence.failures),
        number("Given up", evidence.dead_letters),
        number("p95 in ms", evidence.p95_ms),
        number("Waiting", evidence.waiting),
        number("Rejected", evidence.rejected),
        moment("Disabled at the earliest", evidence.disabled_at_earliest),
        moment("Last success", evidence.last_success_at),
        evidence.last_error.as_deref().map(|error| ("Last error", line(error, MAX_VALUE))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn items(alerts: &[ToldAlert]) -> Vec<String> {
    if alerts.len() < 2 {
        return Vec::new();
    }
    let named = alerts.iter().take(MOST_NAMED).map(|alert| {
        let what = headline(alert.condition, &alert.evidence);
        let place =
            alert.destination.as_ref().map_or_else(String::new, |(id, url)| format!(" → {url} ({id})"));
        line(&format!("{}{place} {what}", subject(alert)), MAX_VALUE)
    });
    let mut items: Vec<String> = named.collect();
    if alerts.len() > MOST_NAMED {
        items.push(format!("and {} more", alerts.len() - MOST_NAMED));
    }
    items
}

fn links(console: &Url, alerts: &[ToldAlert]) -> (Url, Option<Url>) {
    let mut link = console.clone();
    let path = match alerts {
        [alert] => format!("{}/alerts/{}", console.path().trim_end_matches('/'), alert.id),
        _ => format!("{}/alerts", console.path().trim_end_matches('/')),
    };
    link.set_path(&path);
    let mute = alerts.first().map(|alert| {
        let mut mute = link.clone();
        if alerts.len() == 1 {
            mute.set_query(Some("mute=1h"));
        } else {
            mute.set_query(Some(&format!("mute=1h&rule={}", alert.rule)));
        }
        mute
    });
    (link, mute)
}

/// A time as people and programs read it.
pub fn time(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// One line, of so many characters at most, without control characters and what hides or reorders text.
pub fn line(text: &str, most: usize) -> String {
    let plain = text.chars().map(|one| if one.is_control() || !is_shown(one) { ' ' } else { one });
    let mut line = String::new();
    for (count, one) in plain.enumerate() {
        if count >= most {
            line.push('…');
            break;
        }
        line.push(one);
    }
    line.trim().to_owned()
}

#[cfg(test)]
pub mod tests;
