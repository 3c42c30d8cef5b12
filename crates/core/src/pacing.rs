//! How fast a destination is sent to, and how it fares: limits that its owner sets, and what its answers make of it.
//!
//! A destination's [`Health`] is moved by one signal an attempt. It gates the destination's lane: a breaker that opens
//! after failures in a row, a time to stay away that the destination has asked for, a slow start afterwards, and being
//! disabled. It is stored, so that whoever sends to the destination next goes on from there.

#[cfg(test)]
mod tests;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::delivery::Signal;
use crate::duration;
use crate::limit::{Invalid, RateLimit};

/// The highest limit of concurrency.
pub const MAX_CONCURRENCY: u16 = 256;
/// Bounds of the time of failures only after which a destination is disabled.
pub const DISABLE_AFTER_BOUNDS: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_hours(90 * 24));
/// How a destination is never disabled for its failures.
pub const NEVER: &str = "never";
/// How long a destination is left alone that has too much to do and did not say for how long.
pub const SLOW_FOR: Duration = Duration::from_secs(5);

/// How fast a destination is sent to. What is absent is as the operator has set it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Most requests at once. 1 to 256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 256)]
    pub concurrency: Option<u16>,
    /// Most requests a second, and at once after a pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateLimit>,
}

impl Limits {
    /// Checks the bounds.
    pub fn check(self) -> Result<(), Invalid> {
        if self.concurrency.is_some_and(|concurrency| !(1..=MAX_CONCURRENCY).contains(&concurrency)) {
            let message = format!("from 1 to {MAX_CONCURRENCY}");
            return Err(Invalid { field: "concurrency", message });
        }
        self.rate.map_or(Ok(()), RateLimit::check).map_err(|Invalid { field, message }| Invalid {
            field: if field == "burst" { "rate.burst" } else { "rate.per_second" },
            message,
        })
    }
}

/// Reads after how long of failures only a destination is disabled: a duration within [`DISABLE_AFTER_BOUNDS`], or
/// `never`, which is `None`.
pub fn disable_after(text: &str) -> Result<Option<Duration>, String> {
    if text == NEVER {
        return Ok(None);
    }
    let (least, most) = DISABLE_AFTER_BOUNDS;
    let bounds = format!("from {} to {}, or {NEVER}", duration::format(least), duration::format(most));
    let time = duration::parse(text).map_err(|error| format!("{error}, {bounds}"))?;
    if (least..=most).contains(&time) { Ok(Some(time)) } else { Err(bounds) }
}

/// By what rules a destination's health moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// So many failures in a row open the breaker.
    pub breaker_failures: u32,
    /// How long it is open at first; each probe that fails doubles it.
    pub breaker_wait: Duration,
    /// How long it is open at most.
    pub breaker_longest: Duration,
    /// After so long of failures only a destination is disabled; `None` never does.
    pub disable_after: Option<Duration>,
    /// Most requests at once, where a slow start ends.
    pub concurrency: u16,
}

/// Why we send nothing more to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DisabledReason {
    /// It answered 410.
    Gone,
    /// It has failed for too long, and nothing else.
    Failing,
}

impl DisabledReason {
    /// As it is stored and told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Failing => "failing",
        }
    }

    /// The inverse of [`DisabledReason::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Gone, Self::Failing].into_iter().find(|reason| reason.as_str() == text)
    }
}

/// How a destination fares, as it is stored: the fields are the columns of `destination_state`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// When a person resumed the destination, as far as this is known here; a later time there makes this void.
    pub follows: Option<DateTime<Utc>>,
    /// Nothing is sent before.
    pub slow_until: Option<DateTime<Utc>>,
    /// Since when the breaker is open; `None` when it is closed.
    pub opened_at: Option<DateTime<Utc>>,
    /// From when on one request may try whether it works again.
    pub probe_at: Option<DateTime<Utc>>,
    /// How often it has opened since it was closed.
    pub trips: u32,
    /// Failures in a row that count for the breaker.
    pub failures: u32,
    /// Since when it has not accepted anything; `None` when the last attempt was accepted.
    pub failing_since: Option<DateTime<Utc>>,
    /// When it accepted last.
    pub last_success_at: Option<DateTime<Utc>>,
    /// When an attempt failed last.
    pub last_failure_at: Option<DateTime<Utc>>,
    /// When its owner was warned that it is going to be disabled.
    pub warned_at: Option<DateTime<Utc>>,
    /// Most requests at once while it starts slowly; `None` when it doesn't.
    pub concurrency: Option<u16>,
    /// We send nothing more until a person resumes it.
    pub disabled_reason: Option<DisabledReason>,
}

/// Whether a destination's breaker lets requests through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Breaker {
    /// It does.
    Closed,
    /// Nothing is sent.
    Open,
    /// One request at a time tries whether the destination works again.
    HalfOpen,
}

impl Breaker {
    /// As it is told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// What a person should hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It has failed for half of the time after which it is disabled.
    Warned,
    /// It was disabled.
    Disabled(DisabledReason),
}

/// What a destination may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// So many requests at once.
    Open(u16),
    /// Nothing before then.
    ClosedUntil(DateTime<Utc>),
    /// Nothing until a person resumes it.
    Disabled,
}

impl Health {
    /// Of a destination that was resumed then, or never.
    pub fn new(follows: Option<DateTime<Utc>>) -> Self {
        Self { follows, ..Self::default() }
    }

    /// Whether its breaker lets requests through.
    pub fn breaker(&self, now: DateTime<Utc>) -> Breaker {
        match self.probe_at {
            None => Breaker::Closed,
            Some(probe_at) if now < probe_at => Breaker::Open,
            Some(_) => Breaker::HalfOpen,
        }
    }

    /// What may be sent now, at most `concurrency` at once.
    pub fn gate(&self, concurrency: u16, now: DateTime<Utc>) -> Gate {
        if self.disabled_reason.is_some() {
            return Gate::Disabled;
        }
        match self.slow_until.max(self.probe_at) {
            Some(opens_at) if now < opens_at => Gate::ClosedUntil(opens_at),
            _ if self.probe_at.is_some() => Gate::Open(1),
            _ => Gate::Open(self.concurrency.map_or(concurrency, |slowly| slowly.clamp(1, concurrency))),
        }
    }

    /// An attempt was answered so at `now`. Tells what a person should hear of.
    pub fn hear(&mut self, signal: Signal, now: DateTime<Utc>, rules: &Rules) -> Option<Turn> {
        match signal {
            Signal::Accepts => {
                self.accepted(now, rules);
                return None;
            }
            Signal::Refuses => self.works(),
            Signal::Slow { until: Some(until) } => {
                self.works();
                self.slow_down(until);
            }
            Signal::Slow { until: None } => {
                self.failed(now, rules);
                self.slow_down(now + SLOW_FOR);
            }
            Signal::Fails => self.failed(now, rules),
            Signal::Hangs => {
                self.failed(now, rules);
                self.concurrency = Some(1);
            }
            Signal::Gone => {}
        }
        self.last_failure_at = Some(now);
        let since = *self.failing_since.get_or_insert(now);
        if self.disabled_reason.is_some() {
            return None;
        }
        let turn = if signal == Signal::Gone {
            Some(Turn::Disabled(DisabledReason::Gone))
        } else {
            rules.disable_after.and_then(|after| self.turn(since, after, now))
        };
        match turn {
            Some(Turn::Warned) => self.warned_at = Some(now),
            Some(Turn::Disabled(reason)) => self.disabled_reason = Some(reason),
            None => {}
        }
        turn
    }

    /// A warning at half the time, and the end after all of it, but never sooner than a quarter after the warning:
    /// a destination may have had nothing to do in between.
    fn turn(&self, since: DateTime<Utc>, after: Duration, now: DateTime<Utc>) -> Option<Turn> {
        match self.warned_at {
            None => (now >= since + after / 2).then_some(Turn::Warned),
            Some(warned_at) => (now >= since + after && now >= warned_at + after / 4)
                .then_some(Turn::Disabled(DisabledReason::Failing)),
        }
    }

    fn accepted(&mut self, now: DateTime<Utc>, rules: &Rules) {
        self.works();
        self.last_success_at = Some(now);
        self.failing_since = None;
        self.warned_at = None;
        if let Some(slowly) = self.concurrency {
            // One more for each that was accepted: twice as many with each round.
            let more = slowly.saturating_add(1);
            self.concurrency = (more < rules.concurrency).then_some(more);
        }
    }

    /// It answered: the breaker closes, and it starts slowly.
    fn works(&mut self) {
        self.failures = 0;
        if self.probe_at.is_some() {
            self.opened_at = None;
            self.probe_at = None;
            self.trips = 0;
            self.concurrency = Some(1);
        }
    }

    fn slow_down(&mut self, until: DateTime<Utc>) {
        self.slow_until = self.slow_until.max(Some(until));
        self.concurrency = Some(1);
    }

    fn failed(&mut self, now: DateTime<Utc>, rules: &Rules) {
        self.failures = self.failures.saturating_add(1);
        self.concurrency = self.concurrency.map(|slowly| (slowly / 2).max(1));
        let opens = match self.breaker(now) {
            Breaker::Closed => self.failures >= rules.breaker_failures,
            // What was sent before it opened tells nothing new.
            Breaker::Open => false,
            Breaker::HalfOpen => true,
        };
        if opens {
            let doubled = rules.breaker_wait.saturating_mul(1 << self.trips.min(20));
            self.opened_at.get_or_insert(now);
            self.probe_at = Some(now + doubled.min(rules.breaker_longest));
            self.trips = self.trips.saturating_add(1);
            self.concurrency = Some(1);
        }
    }

    /// Whether `other` differs in more than when the last attempts were made: then it is stored at once.
    pub fn differs(&self, other: &Self) -> bool {
        let timeless = |health: &Self| Self { last_success_at: None, last_failure_at: None, ..*health };
        timeless(self) != timeless(other)
    }
}

/// A message on `webhooks.deliveries` that tells of a destination, not of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationReport {
    /// Its id; a message that is told twice has the same.
    pub id: crate::ids::DeliveryId,
    /// Whose it is.
    pub organization_id: crate::ids::OrganizationId,
    /// Its endpoint.
    pub endpoint_id: crate::ids::EndpointId,
    /// Which one.
    pub destination_id: crate::ids::DestinationId,
    /// What happened to it.
    pub destination_event: DestinationEvent,
    /// Why it was disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled_reason: Option<DisabledReason>,
    /// Since when it has failed.
    pub failing_since: Option<DateTime<Utc>>,
    /// When it is going to be disabled, if it goes on failing; of a warning alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled_at_earliest: Option<DateTime<Utc>>,
    /// When it happened.
    pub happened_at: DateTime<Utc>,
}

/// What happened to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DestinationEvent {
    /// It is going to be disabled.
    Warned,
    /// It was disabled.
    Disabled,
}
