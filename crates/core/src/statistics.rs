//! What is counted of events and attempts: outcomes, and how long attempts took, in buckets of time.
//!
//! Figures are added and never averaged, so that minutes make hours and destinations an endpoint without loss. A
//! latency falls into one of a few fixed classes; a percentile is read from these, within a class by interpolation.

mod histogram;

use std::ops::RangeInclusive;

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::delivery::Outcome;

pub use histogram::{BOUNDS, CLASSES, Histogram};

/// How long a bucket of time is. Buckets begin at whole ones in UTC.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Grain {
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours.
    Day,
}

impl Grain {
    /// Every grain, the finest first.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// As it is stored and told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// The inverse of [`Grain::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|grain| grain.as_str() == text)
    }

    /// How long a bucket is.
    pub fn length(self) -> TimeDelta {
        match self {
            Self::Minute => TimeDelta::minutes(1),
            Self::Hour => TimeDelta::hours(1),
            Self::Day => TimeDelta::days(1),
        }
    }

    /// When the bucket begins that a moment lies in.
    pub fn floor(self, moment: DateTime<Utc>) -> DateTime<Utc> {
        let length = self.length().num_seconds();
        let seconds = moment.timestamp().div_euclid(length) * length;
        DateTime::from_timestamp(seconds, 0).unwrap_or(DateTime::<Utc>::MIN_UTC)
    }

    /// The grain from which all figures of a span are added up: about 60 buckets, for a span of up to two months.
    pub fn coarse(span: TimeDelta) -> Self {
        if span <= TimeDelta::hours(1) {
            Self::Minute
        } else if span <= TimeDelta::hours(48) {
            Self::Hour
        } else {
            Self::Day
        }
    }

    /// The grain in which a span of time is neither a few bars nor a thicket: at most 360 minutes, 14 days of hours.
    pub fn fitting(span: TimeDelta) -> Self {
        if span <= TimeDelta::hours(6) {
            Self::Minute
        } else if span <= TimeDelta::days(14) {
            Self::Hour
        } else {
            Self::Day
        }
    }
}

/// A span of time in whole buckets: from the start of the first one to the end of the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// How long each bucket is.
    pub grain: Grain,
    /// The start of the first bucket.
    pub from: DateTime<Utc>,
    /// The end of the last bucket.
    pub to: DateTime<Utc>,
}

/// Most buckets of one answer.
pub const MOST_BUCKETS: i64 = 1_500;

/// Why a span can't be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpan {
    /// It ends before it begins.
    #[error("has to be before `to`")]
    Reversed,
    /// It lies where no figures can be.
    #[error("has to be in the years 1970 to 9999")]
    OutOfRange,
    /// It has too many buckets.
    #[error("leads to {0} buckets, of at most {MOST_BUCKETS}: choose a longer bucket or a shorter span")]
    TooMany(i64),
}

impl Span {
    /// Whole buckets that cover the time from `from` to below `to`; of a fitting grain unless one is given.
    pub fn covering(
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        grain: Option<Grain>,
    ) -> Result<Self, InvalidSpan> {
        if from >= to {
            return Err(InvalidSpan::Reversed);
        }
        if from.year() < 1970 || to.year() > 9999 {
            return Err(InvalidSpan::OutOfRange);
        }
        let grain = grain.unwrap_or_else(|| Grain::fitting(to - from));
        let first = grain.floor(from);
        let last = grain.floor(to - TimeDelta::microseconds(1));
        let count = (last - first).num_seconds() / grain.length().num_seconds() + 1;
        if count > MOST_BUCKETS {
            return Err(InvalidSpan::TooMany(count));
        }
        Ok(Self { grain, from: first, to: last + grain.length() })
    }

    /// When each of its buckets begins, in their order.
    pub fn starts(self) -> impl Iterator<Item = DateTime<Utc>> {
        let length = self.grain.length();
        std::iter::successors(Some(self.from), move |start| Some(*start + length))
            .take_while(move |start| *start < self.to)
    }

    /// The bucket that a moment lies in, if it is one of these.
    pub fn bucket(self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let start = self.grain.floor(moment);
        RangeInclusive::new(self.from, self.to - self.grain.length()).contains(&start).then_some(start)
    }
}

/// How attempts ended, by class. A correction takes away from one class what it adds to another, so that a part of the
/// books alone may be negative; the whole never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcomes {
    /// Accepted by the destination.
    pub successes: i64,
    /// A 3xx.
    pub redirects: i64,
    /// A 4xx.
    pub client_errors: i64,
    /// A 5xx, or no status of HTTP.
    pub server_errors: i64,
    /// No answer in time.
    pub timeouts: i64,
    /// Not reached: name, connection, TLS, token, an address that is refused.
    pub unreachable: i64,
}

impl Outcomes {
    /// One attempt.
    pub fn of(outcome: Outcome) -> Self {
        let mut outcomes = Self::default();
        if let Some(class) = outcomes.class(outcome) {
            *class += 1;
        }
        outcomes
    }

    fn class(&mut self, outcome: Outcome) -> Option<&mut i64> {
        Some(match outcome {
            Outcome::Expired => return None,
            Outcome::Success => &mut self.successes,
            Outcome::Redirect => &mut self.redirects,
            Outcome::ClientError => &mut self.client_errors,
            Outcome::ServerError => &mut self.server_errors,
            Outcome::Timeout => &mut self.timeouts,
            Outcome::BlockedAddress
            | Outcome::InvalidUrl
            | Outcome::Dns
            | Outcome::Connect
            | Outcome::Tls
            | Outcome::Certificate
            | Outcome::Protocol
            | Outcome::Token => &mut self.unreachable,
        })
    }

    /// All that failed.
    pub fn failures(&self) -> i64 {
        self.redirects + self.client_errors + self.server_errors + self.timeouts + self.unreachable
    }

    /// All attempts.
    pub fn attempts(&self) -> i64 {
        self.successes + self.failures()
    }

    /// Adds what others have come to.
    pub fn add(&mut self, other: &Self) {
        self.successes += other.successes;
        self.redirects += other.redirects;
        self.client_errors += other.client_errors;
        self.server_errors += other.server_errors;
        self.timeouts += other.timeouts;
        self.unreachable += other.unreachable;
    }
}

/// Everything that is counted in one bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Figures {
    /// Events that were accepted.
    pub accepted: i64,
    /// The bytes of their payloads.
    pub accepted_bytes: i64,
    /// How attempts ended.
    pub outcomes: Outcomes,
    /// How long attempts took.
    pub latency: Histogram,
}

impl Figures {
    /// Adds what others have come to.
    pub fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.accepted_bytes += other.accepted_bytes;
        self.outcomes.add(&other.outcomes);
        self.latency.merge(&other.latency);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn every_outcome_is_counted_once() {
        let mut all = Outcomes::default();
        for outcome in Outcome::ALL {
            let one = Outcomes::of(outcome);
            assert_eq!(one.attempts(), i64::from(outcome.is_of_an_attempt()), "{outcome:?}");
            assert_eq!(one.successes == 1, outcome.is_success(), "{outcome:?}");
            all.add(&one);
        }
        assert_eq!((all.attempts(), all.successes, all.unreachable), (13, 1, 8));
    }

    #[test]
    fn a_span_is_whole_buckets() {
        let span = Span::covering(at("2026-03-01T10:59:30Z"), at("2026-03-01T12:00:00Z"), Some(Grain::Hour))
            .unwrap();
        assert_eq!(
            span.starts().collect::<Vec<_>>(),
            [at("2026-03-01T10:00:00Z"), at("2026-03-01T11:00:00Z")]
        );
        assert_eq!(span.to, at("2026-03-01T12:00:00Z"));
        assert_eq!(span.bucket(at("2026-03-01T11:59:59.999Z")), Some(at("2026-03-01T11:00:00Z")));
        assert_eq!(span.bucket(at("2026-03-01T12:00:00Z")), None);
        assert_eq!(span.bucket(at("2026-03-01T09:59:59Z")), None);
        assert_eq!(Grain::Day.floor(at("1969-12-31T12:00:00Z")), at("1969-12-31T00:00:00Z"));
    }

    #[test]
    fn a_span_has_a_grain_that_fits_and_a_bound() {
        let from = at("2026-03-01T00:00:00Z");
        let fitting = |span: TimeDelta| Span::covering(from, from + span, None).unwrap().grain;
        assert_eq!(fitting(TimeDelta::hours(6)), Grain::Minute);
        assert_eq!(fitting(TimeDelta::days(14)), Grain::Hour);
        assert_eq!(fitting(TimeDelta::days(365)), Grain::Day);
        assert_eq!(Span::covering(from, from, None), Err(InvalidSpan::Reversed));
        let (first, last) = (DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC);
        assert_eq!(Span::covering(from, last, None), Err(InvalidSpan::OutOfRange));
        assert_eq!(Span::covering(first, from, Some(Grain::Day)), Err(InvalidSpan::OutOfRange));
        let many = Span::covering(from, from + TimeDelta::minutes(1_501), Some(Grain::Minute));
        assert_eq!(many, Err(InvalidSpan::TooMany(1_501)));
        let most = Span::covering(from, from + TimeDelta::minutes(1_500), Some(Grain::Minute)).unwrap();
        assert_eq!(most.starts().count(), 1_500);
    }

    #[test]
    fn grains_read_back() {
        for grain in Grain::ALL {
            assert_eq!(Grain::parse(grain.as_str()), Some(grain));
        }
    }
}
