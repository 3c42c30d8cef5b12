//! A destination's gate: whether its next request may start, and if not, when. It joins how the destination fares
//! with its limits. Nothing here waits or reads a clock.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ravenpost_core::delivery::Signal;
use ravenpost_core::limit::RateLimit;
use ravenpost_core::limit::bucket::{Bucket, Rate};
use ravenpost_core::pacing::{self, Breaker, Health, Rules, Turn};
use ravenpost_store::system::{DisableAfter, Pace, PaceSettings};

use crate::settings::PacingSettings;

/// When attempts were made last is stored no more often: it tells only whether the destination rests.
const STORE_EVERY: Duration = Duration::from_secs(10);

/// Whether a request may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// It may.
    Now,
    /// Not before then.
    At(DateTime<Utc>),
    /// As soon as another one has ended.
    AfterAnother,
    /// Not before a person resumes the destination.
    Never,
}

/// What keeps a destination from being sent to as fast as it may be at best; the label of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shut {
    /// Nothing does.
    Not,
    /// It was disabled.
    Disabled,
    /// Its breaker is open.
    Breaker,
    /// One request tries whether it works again.
    HalfOpen,
    /// It has too much to do.
    Slow,
    /// It has recovered and is sent to a little faster with each success.
    SlowStart,
}

impl Shut {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Not, Self::Disabled, Self::Breaker, Self::HalfOpen, Self::Slow, Self::SlowStart];

    /// As it is counted.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Not => "open",
            Self::Disabled => "disabled",
            Self::Breaker => "breaker_open",
            Self::HalfOpen => "breaker_half_open",
            Self::Slow => "slow",
            Self::SlowStart => "slow_start",
        }
    }
}

/// Whether requests get out at all: past the operator's proxy, with the help of the operator's name server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WayOut {
    /// They do.
    Open,
    /// The last one did not. A proxy that restarts loses one now and then.
    Doubted,
    /// None did since the last answer, of two at least.
    Closed,
}

/// A destination's gate.
#[derive(Debug)]
pub struct Gate {
    health: Health,
    /// What is stored of it, and since when.
    stored: Option<(Health, DateTime<Utc>)>,
    operator: PacingSettings,
    settings: PaceSettings,
    bucket: Bucket<DateTime<Utc>>,
    /// It is not sent to before, for a fault of ours.
    rests_until: Option<DateTime<Utc>>,
    way_out: WayOut,
}

impl Gate {
    /// Of a destination as it was met at `now`.
    pub fn new(operator: PacingSettings, pace: &Pace, now: DateTime<Utc>) -> Self {
        let settings = pace.settings;
        let mut gate = Self {
            health: pace.health,
            stored: None,
            operator,
            settings,
            bucket: Bucket::empty(now),
            rests_until: None,
            way_out: WayOut::Open,
        };
        if let Some(rate) = gate.rate()
            && gate.has_rested(rate, now)
        {
            gate.bucket = Bucket::default();
        }
        gate
    }

    /// Whether its bucket is full for sure, whoever has sent to it last.
    fn has_rested(&self, rate: RateLimit, now: DateTime<Utc>) -> bool {
        let fills = Duration::from_secs_f64(f64::from(rate.burst) / f64::from(rate.per_second));
        let last = self.health.last_success_at.max(self.health.last_failure_at);
        last.is_none_or(|last| now > last + fills + STORE_EVERY)
    }

    /// Its settings were read again. What was read earlier than what is known already has no effect on its health.
    pub fn configure(&mut self, settings: PaceSettings, now: DateTime<Utc>) {
        self.follow(settings.resumed_at);
        if self.settings.limits != settings.limits {
            self.bucket = Bucket::empty(now);
        }
        self.settings = settings;
    }

    /// A person has resumed the destination at that time, if ever: how it fared before is void. `true` when this is
    /// news.
    pub fn follow(&mut self, resumed_at: Option<DateTime<Utc>>) -> bool {
        let news = resumed_at > self.health.follows;
        if news {
            self.health = Health::new(resumed_at);
        }
        news
    }

    /// It can't be sent to before, for a fault of ours: nothing of that is the destination's, or stored.
    pub fn rest_until(&mut self, until: DateTime<Utc>) {
        self.rests_until = Some(until);
    }

    /// A request did not get out. Tells what was known before: once there is no way out it rests until then, and from then
    /// on one request at a time looks whether there is one, until one is answered.
    pub fn lose_way_out(&mut self, until: DateTime<Utc>) -> WayOut {
        let before = self.way_out;
        self.way_out = match before {
            WayOut::Open => WayOut::Doubted,
            WayOut::Doubted | WayOut::Closed => {
                self.rest_until(until);
                WayOut::Closed
            }
        };
        before
    }

    /// What its health allows, unless it rests.
    fn allows(&self, now: DateTime<Utc>) -> pacing::Gate {
        let most = if self.way_out == WayOut::Closed { 1 } else { self.concurrency() };
        match (self.health.gate(most, now), self.rests_until.filter(|until| now < *until)) {
            (pacing::Gate::ClosedUntil(opens_at), Some(until)) => {
                pacing::Gate::ClosedUntil(opens_at.max(until))
            }
            (pacing::Gate::Open(_), Some(until)) => pacing::Gate::ClosedUntil(until),
            (allowed, _) => allowed,
        }
    }

    /// Whether one more may start beside `running` others.
    pub fn ask(&self, running: usize, now: DateTime<Utc>) -> Permit {
        match self.allows(now) {
            pacing::Gate::Disabled => Permit::Never,
            pacing::Gate::ClosedUntil(opens_at) => Permit::At(opens_at),
            pacing::Gate::Open(most) if running >= usize::from(most) => Permit::AfterAnother,
            pacing::Gate::Open(_) => self.rate().map_or(Permit::Now, |rate| {
                // A copy: whoever only asks takes nothing.
                let mut bucket = self.bucket;
                let waits = bucket.peek(Rate::share(rate, 1), 1.0, now);
                waits.map_or_else(|wait| Permit::At(now + wait), |()| Permit::Now)
            }),
        }
    }

    /// One starts.
    pub fn pass(&mut self, now: DateTime<Utc>) {
        if let Some(rate) = self.rate() {
            // Whoever was permitted finds one.
            let _ = self.bucket.take(Rate::share(rate, 1), 1.0, now);
        }
    }

    /// Most requests at once, now; zero when nothing may start, whatever the rate.
    pub fn most_at_once(&self, now: DateTime<Utc>) -> usize {
        match self.allows(now) {
            pacing::Gate::Open(most) => usize::from(most),
            pacing::Gate::ClosedUntil(_) | pacing::Gate::Disabled => 0,
        }
    }

    /// Most that may wait in memory beside what is under way: none behind a probe, and no more than pass in half a
    /// second, since what waits for longer is left to the schedule.
    pub fn most_waiting(&self, queue: usize, now: DateTime<Utc>) -> usize {
        match self.shut(now) {
            Shut::HalfOpen => 0,
            _ if self.way_out == WayOut::Closed => 0,
            _ => self.rate().map_or(queue, |rate| {
                queue.min(usize::try_from(rate.per_second / 2).unwrap_or(usize::MAX).max(1))
            }),
        }
    }

    /// An attempt was answered so. Tells what a person should hear of.
    pub fn hear(&mut self, signal: Signal, now: DateTime<Utc>) -> Option<Turn> {
        self.way_out = WayOut::Open;
        self.health.hear(signal, now, &self.rules())
    }

    /// What is to be stored, if anything is: what gates is stored at once, the rest now and then.
    pub fn to_store(&mut self, now: DateTime<Utc>) -> Option<Health> {
        let due =
            self.stored.is_none_or(|(stored, at)| stored.differs(&self.health) || now >= at + STORE_EVERY);
        if !due {
            return None;
        }
        self.stored = Some((self.health, now));
        Some(self.health)
    }

    /// What keeps it from full speed, rate aside.
    pub fn shut(&self, now: DateTime<Utc>) -> Shut {
        match self.health.breaker(now) {
            _ if self.health.disabled_reason.is_some() => Shut::Disabled,
            Breaker::Open => Shut::Breaker,
            _ if self.health.slow_until.is_some_and(|until| now < until) => Shut::Slow,
            Breaker::HalfOpen => Shut::HalfOpen,
            Breaker::Closed if self.health.concurrency.is_some() => Shut::SlowStart,
            Breaker::Closed => Shut::Not,
        }
    }

    /// How long it has to answer.
    pub fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    /// How it fares.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// After how long of failures only it is disabled.
    pub fn disable_after(&self) -> Option<Duration> {
        match self.settings.disable_after {
            DisableAfter::Operator => self.operator.disable_after.0,
            DisableAfter::Never => None,
            DisableAfter::After(time) => Some(time),
        }
    }

    fn concurrency(&self) -> u16 {
        self.settings.limits.concurrency.unwrap_or(self.operator.lane_concurrency)
    }

    fn rate(&self) -> Option<RateLimit> {
        self.settings.limits.rate.or(self.operator.destination_rate_limit)
    }

    fn rules(&self) -> Rules {
        Rules {
            breaker_failures: self.operator.breaker_failures,
            breaker_wait: self.operator.breaker_wait,
            breaker_longest: self.operator.breaker_longest_wait,
            disable_after: self.disable_after(),
            concurrency: self.concurrency(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
