//! What a person needs to find the cause of a broken promise: who was told what when, what is where, what suffered at
//! that time, and what the services said.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
    time::Duration,
};

use chrono::DateTime;
use ravenpost_testkit::system::System;

use crate::{
    places::Places,
    producer::{Heard, Sent},
    verdict::{Promise, Violation},
    world::Entry,
};

/// Violations of one promise that are told in full; the others are counted.
const IN_FULL: usize = 4;
/// Violations of one promise that are told at all.
const IN_ALL: usize = 25;
/// Lines of logs with each.
const LINES: usize = 10;
/// Characters of each of them.
const WIDTH: usize = 500;
/// How much before the first and after the last request of an event is of interest.
const BEFORE: Duration = Duration::from_secs(2);
const AFTER: Duration = Duration::from_secs(10);

/// All that is known of a round.
pub(crate) struct Case<'round> {
    pub(crate) system: &'round System,
    pub(crate) sent: &'round [Sent],
    pub(crate) places: &'round Places,
    pub(crate) journal: &'round [Entry],
    pub(crate) violations: &'round [Violation],
}

impl Case<'_> {
    /// The whole report of a round that broke a promise.
    pub(crate) fn tell(&self) -> String {
        let mut by_promise: BTreeMap<Promise, Vec<&Violation>> = BTreeMap::new();
        let mut told = BTreeSet::new();
        for violation in self.violations {
            by_promise.entry(violation.promise).or_default().push(violation);
        }
        let mut text = String::from("What was done:\n");
        for entry in self.journal {
            let _ = writeln!(text, "  {} {}", self.clock(entry.at), entry.what);
        }
        for (promise, violations) in by_promise {
            let _ = writeln!(text, "\n=== {} times broken: {promise}", violations.len());
            let mut in_full = IN_FULL;
            for violation in violations.iter().take(IN_ALL) {
                let _ = writeln!(text, "--- {}", violation.what);
                // What is known of an event is told once, whichever promises it breaks.
                if in_full > 0 && told.insert((violation.original, violation.events.clone())) {
                    in_full -= 1;
                    self.tell_one(&mut text, violation);
                }
            }
        }
        text
    }

    fn tell_one(&self, text: &mut String, violation: &Violation) {
        let sent = self.sent.iter().find(|sent| Some(sent.original) == violation.original);
        for attempt in sent.into_iter().flat_map(|sent| &sent.attempts) {
            let (at, took) = (self.clock(attempt.at), attempt.took.as_secs_f64());
            let _ = writeln!(
                text,
                "  {at} posted to ingress-{}: {} ({took:.3} s)",
                attempt.replica, attempt.heard
            );
        }
        for id in &violation.events {
            let row = self.places.rows.get(id).map_or("no row", |row| row.status.as_str());
            let messages = self.places.messages.get(id).map_or(0, Vec::len);
            let deliveries = self.places.deliveries.get(id).into_iter().flatten();
            let arrived: Vec<String> = deliveries.map(|delivery| self.clock(delivery.at)).collect();
            let _ = writeln!(text, "  {id}: {row}, {messages} messages, arrived at {arrived:?}");
        }
        for line in self.lines(violation, sent) {
            let _ = writeln!(text, "  {line}");
        }
    }

    /// Seconds since the first thing that was sent.
    fn clock(&self, at: Duration) -> String {
        let started = self.sent.iter().flat_map(|sent| &sent.attempts).map(|attempt| attempt.at).min();
        format!("{:+9.3} s", at.as_secs_f64() - started.unwrap_or_default().as_secs_f64())
    }

    /// What the services said of these events, and the complaints of ingress at that time.
    fn lines(&self, violation: &Violation, sent: Option<&Sent>) -> Vec<String> {
        let ids: Vec<String> = violation.events.iter().map(ToString::to_string).collect();
        let attempts = sent.map(|sent| sent.attempts.as_slice()).unwrap_or_default();
        let span = attempts.first().zip(attempts.last()).map(|(first, last)| {
            let end = last.at + last.took + AFTER;
            (timestamp(first.at.saturating_sub(BEFORE)), timestamp(end))
        });
        let mut lines = Vec::new();
        for (name, log) in logs(self.system.logs()) {
            for line in log.lines() {
                let is_named = ids.iter().any(|id| line.contains(id));
                let is_of_that_time = span.as_ref().is_some_and(|(from, to)| is_within(line, from, to));
                if is_named || is_of_that_time && name.starts_with("ingress") && is_complaint(line) {
                    let told: String = line.chars().take(WIDTH).collect();
                    lines.push((time(line).unwrap_or_default().to_owned(), format!("{name}: {told}")));
                }
            }
        }
        lines.sort();
        lines.truncate(LINES);
        lines.into_iter().map(|(_, line)| line).collect()
    }
}

/// How the round went, in a line.
pub(crate) fn summary(sent: &[Sent], places: &Places) -> String {
    let count = |is_meant: fn(&&Sent) -> bool| sent.iter().filter(is_meant).count();
    let accepted = count(|sent| !sent.accepted().is_empty());
    let after_refusal = count(|sent| sent.was_refused() && !sent.accepted().is_empty());
    let given_up = count(|sent| sent.was_refused() && sent.accepted().is_empty());
    let unanswered =
        count(|sent| sent.attempts.iter().any(|attempt| matches!(attempt.heard, Heard::Nothing(_))));
    let messages: usize = places.messages.values().map(Vec::len).sum();
    let requests: usize = places.deliveries.values().map(Vec::len).sum();
    // An attempt that was recorded is not repeated but by policy; what came more often was in the air when something failed.
    let recorded = |id| places.recorded.get(id).map_or(0, |recorded| recorded.attempts);
    let in_the_air: usize =
        places.deliveries.iter().map(|(id, all)| all.len().saturating_sub(recorded(id))).sum();
    format!(
        "{} events sent: {accepted} accepted ({after_refusal} of them refused at first), {given_up} given up, \
         {unanswered} not answered at some time; {} rows, {messages} messages, {} arrived in {requests} requests, of \
         which {in_the_air} were in the air when something failed, and came again",
        sent.len(),
        places.rows.len(),
        places.deliveries.len(),
    )
}

fn logs(folder: &Path) -> Vec<(String, String)> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.map(|path| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        (name, String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned())
    })
    .collect()
}

/// The time of a line of a service's log: it stands first, as RFC 3339 with six digits of a second.
fn time(line: &str) -> Option<&str> {
    line.strip_prefix(r#"{"time":""#)?.split('"').next()
}

fn is_within(line: &str, from: &str, to: &str) -> bool {
    time(line).is_some_and(|time| (from..=to).contains(&time))
}

/// A warning or an error of ours: librdkafka repeats itself.
fn is_complaint(line: &str) -> bool {
    let is_ours = line.contains(r#""target":"ravenpost"#);
    is_ours && ["warn", "error"].iter().any(|level| line.contains(&format!(r#""level":"{level}""#)))
}

/// A time as logs write it.
fn timestamp(at: Duration) -> String {
    let at = DateTime::from_timestamp_nanos(i64::try_from(at.as_nanos()).unwrap_or(i64::MAX));
    at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_time_are_found() {
        let line = r#"{"time":"2025-01-02T03:04:05.000006Z","level":"warn","target":"ravenpost_ingress"}"#;
        let at = Duration::new(1_735_787_045, 6_000);
        assert_eq!(time(line), Some(timestamp(at).as_str()));
        assert!(is_complaint(line));
        assert!(is_within(line, &timestamp(at), &timestamp(at)));
        assert!(!is_within(line, &timestamp(at + BEFORE), &timestamp(at + AFTER)));
    }
}
