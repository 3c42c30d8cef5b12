//! How a destination has fared lately, in little memory: a streak, and tallies of minutes in which something was attempted.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::condition::LONGEST_WINDOW;
use crate::delivery::is_shown;
use crate::pacing::DestinationReport;
use crate::statistics::{CLASSES, Histogram};

/// The longest error that is kept, in bytes.
const MAX_ERROR: usize = 300;

/// An attempt as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// When it ended.
    pub at: DateTime<Utc>,
    /// Whether the destination accepted.
    pub success: bool,
    /// How long it took, in milliseconds.
    pub took_ms: u32,
    /// The event was given up with it.
    pub dead: bool,
    /// Nothing was sent, so it says nothing of the destination: the event had waited for as long as events are kept.
    pub expired: bool,
    /// Why it failed.
    pub error: Option<String>,
}

/// What has come to pass in one minute.
#[derive(Debug, Clone)]
struct Minute {
    /// Minutes since 1970.
    number: i64,
    attempts: u32,
    failures: u32,
    dead: u32,
    /// Attempts by how long they took; a minute with more of one class than fit counts as many as fit.
    latency: Box<[u16; CLASSES]>,
}

/// What has come to pass in a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// All attempts.
    pub attempts: u32,
    /// Those that failed.
    pub failures: u32,
    /// Events that were given up.
    pub dead: u32,
}

/// How a destination fares.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// Failures since the last success.
    pub failures_in_a_row: u32,
    /// When the first of them ended.
    pub failing_since: Option<DateTime<Utc>>,
    /// When it last accepted.
    pub last_success_at: Option<DateTime<Utc>>,
    /// When it was last attempted.
    pub last_attempt_at: Option<DateTime<Utc>>,
    /// Why the last failure failed.
    pub last_error: Option<Box<str>>,
    /// An event was given up with the last attempt.
    pub last_was_dead: bool,
    /// The last thing that was heard of it is that an event was given up without being sent: why.
    pub last_expired: Option<Box<str>>,
    /// That it is going to be disabled, or was; until it accepts.
    pub disabling: Option<Box<DestinationReport>>,
    minutes: VecDeque<Minute>,
}

impl Watch {
    /// As it stood, without what the windows hold.
    pub fn resumed(
        failures_in_a_row: u32,
        failing_since: Option<DateTime<Utc>>,
        last_success_at: Option<DateTime<Utc>>,
        last_attempt_at: Option<DateTime<Utc>>,
        last_error: Option<&str>,
    ) -> Self {
        Self {
            failures_in_a_row,
            failing_since,
            last_success_at,
            last_attempt_at,
            last_error: last_error.map(bounded),
            ..Self::default()
        }
    }

    /// Counts an attempt in its minute. One that is older than every window is not counted.
    pub fn tally(&mut self, seen: &Seen) {
        let number = minute(seen.at);
        let newest = self.minutes.back().map_or(number, |newest| newest.number);
        if number <= newest - longest() {
            return;
        }
        let at = self.minutes.partition_point(|minute| minute.number < number);
        if self.minutes.get(at).is_none_or(|minute| minute.number != number) {
            let latency = Box::new([0; CLASSES]);
            self.minutes.insert(at, Minute { number, attempts: 0, failures: 0, dead: 0, latency });
            self.forget_before(seen.at);
        }
        let Some(minute) = self.minutes.iter_mut().rev().find(|minute| minute.number == number) else {
            return;
        };
        minute.dead += u32::from(seen.dead);
        if seen.expired {
            return;
        }
        minute.attempts += 1;
        minute.failures += u32::from(!seen.success);
        let class = &mut minute.latency[Histogram::class(seen.took_ms)];
        *class = class.saturating_add(1);
    }

    /// Follows the streak: an attempt that was not followed before.
    pub fn follow(&mut self, seen: &Seen) {
        self.last_was_dead = seen.dead;
        self.last_expired = seen.error.as_deref().filter(|_| seen.expired).map(bounded);
        if seen.expired {
            return;
        }
        self.last_attempt_at = self.last_attempt_at.max(Some(seen.at));
        if seen.success {
            self.failures_in_a_row = 0;
            self.failing_since = None;
            self.disabling = None;
            self.last_success_at = self.last_success_at.max(Some(seen.at));
        } else {
            self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
            self.failing_since.get_or_insert(seen.at);
            self.last_error = seen.error.as_deref().map(bounded);
        }
    }

    /// Forgets minutes that no window reaches any more.
    pub fn forget_before(&mut self, now: DateTime<Utc>) {
        let oldest = minute(now) - longest();
        while self.minutes.front().is_some_and(|minute| minute.number < oldest) {
            self.minutes.pop_front();
        }
    }

    /// Whether nothing is known of it that a new watch would not know.
    pub fn is_idle(&self) -> bool {
        self.minutes.is_empty() && self.failures_in_a_row == 0 && self.disabling.is_none()
    }

    /// What has come to pass in the minutes that `window` before `now` touches.
    pub fn in_window(&self, window: Duration, now: DateTime<Utc>) -> Tally {
        let mut tally = Tally::default();
        for minute in self.minutes_of(window, now) {
            tally.attempts += minute.attempts;
            tally.failures += minute.failures;
            tally.dead += minute.dead;
        }
        tally
    }

    /// What 95 of 100 attempts in the window did not exceed, in milliseconds.
    pub fn p95(&self, window: Duration, now: DateTime<Utc>) -> Option<f64> {
        let mut counts = [0_i64; CLASSES];
        for minute in self.minutes_of(window, now) {
            for (sum, count) in counts.iter_mut().zip(*minute.latency) {
                *sum += i64::from(count);
            }
        }
        Histogram::from_counts(&counts)?.percentile(0.95)
    }

    fn minutes_of(&self, window: Duration, now: DateTime<Utc>) -> impl Iterator<Item = &Minute> {
        let window = TimeDelta::from_std(window).unwrap_or(TimeDelta::MAX);
        let (first, last) = (minute(now.checked_sub_signed(window).unwrap_or(now)), minute(now));
        let touched = move |number: i64| (first..=last).contains(&number);
        self.minutes.iter().filter(move |minute| touched(minute.number))
    }
}

fn minute(moment: DateTime<Utc>) -> i64 {
    moment.timestamp().div_euclid(60)
}

fn longest() -> i64 {
    i64::try_from(LONGEST_WINDOW.as_secs() / 60 + 1).unwrap_or(i64::MAX)
}

/// An error that is not longer than is kept, in one line and with nothing that hides.
fn bounded(error: &str) -> Box<str> {
    let mut end = error.len().min(MAX_ERROR);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    let plain = |one: char| if one.is_control() || !is_shown(one) { ' ' } else { one };
    error[..end].chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    fn seen(second: i64, success: bool) -> Seen {
        Seen {
            at: at(second),
            success,
            took_ms: 10,
            dead: false,
            expired: false,
            error: Some("refused".to_owned()),
        }
    }

    #[test]
    fn a_window_counts_the_minutes_that_it_touches() {
        let mut watch = Watch::default();
        for second in [0, 61, 60, 3_599, 3_600] {
            watch.tally(&seen(second, second == 0));
        }
        let hour = Duration::from_hours(1);
        assert_eq!(watch.in_window(hour, at(3_600)), Tally { attempts: 5, failures: 4, dead: 0 });
        assert_eq!(watch.in_window(hour, at(3_660)).attempts, 4);
        assert_eq!(watch.in_window(Duration::from_mins(1), at(3_600)).attempts, 2);
        assert_eq!(watch.in_window(Duration::from_mins(1), at(90)).attempts, 3);
    }

    #[test]
    fn what_no_window_reaches_is_forgotten() {
        let mut watch = Watch::default();
        for second in 0..100_000 {
            watch.tally(&seen(second, true));
        }
        assert!(watch.minutes.len() <= 62, "{}", watch.minutes.len());
        watch.tally(&seen(0, true));
        assert!(watch.minutes.front().unwrap().number > minute(at(0)));
        watch.forget_before(at(200_000));
        assert!(watch.is_idle());
    }

    #[test]
    fn a_streak_begins_with_a_failure_and_ends_with_a_success() {
        let mut watch = Watch::default();
        watch.follow(&seen(1, true));
        watch.follow(&seen(2, false));
        watch.follow(&seen(3, false));
        assert_eq!((watch.failures_in_a_row, watch.failing_since), (2, Some(at(2))));
        assert_eq!(watch.last_error.as_deref(), Some("refused"));
        watch.follow(&seen(4, true));
        assert_eq!((watch.failures_in_a_row, watch.failing_since), (0, None));
        assert_eq!(watch.last_success_at, Some(at(4)));
    }

    #[test]
    fn a_long_error_is_cut_between_characters() {
        assert_eq!(&*bounded("short\r\n\u{0}\u{202e}"), "short    ");
        assert_eq!(bounded(&"ä".repeat(400)).len(), 300);
        assert_eq!(bounded(&format!("x{}", "ä".repeat(400))).len(), 299);
    }
}
