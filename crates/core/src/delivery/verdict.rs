//! What an answer means: for the delivery (a verdict), and for its destination (a signal).

#[cfg(test)]
mod tests;

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Answer, Outcome};
use crate::retry::{self, FailureClass, RetryPolicy};

/// When what a person has to mend is tried again: a certificate, an address that is not public.
pub const SLOW_RETRY: Duration = Duration::from_hours(1);

const GONE: u16 = 410;
const TOO_MANY_REQUESTS: u16 = 429;
const SERVICE_UNAVAILABLE: u16 = 503;

/// What an answer means for the delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Done.
    Delivered,
    /// Once more, at the earliest then.
    Retry {
        /// When the next attempt is due.
        at: DateTime<Utc>,
    },
    /// It becomes a dead letter.
    GiveUp,
}

/// What an answer tells of its destination, whatever becomes of the delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// It takes events.
    Accepts,
    /// It is there and does not take this event: a 3xx or 4xx.
    Refuses,
    /// It does not work: a 5xx, or no connection.
    Fails,
    /// It does not answer in time: whatever is sent to it keeps a place for as long.
    Hangs,
    /// It has too much to do: 429 or 503.
    Slow {
        /// Until when it asked to be left alone (`Retry-After`); `None` when it did not say.
        until: Option<DateTime<Utc>>,
    },
    /// It wants nothing any more: 410.
    Gone,
}

/// The attempt that was answered.
#[derive(Debug, Clone, Copy)]
pub struct Made {
    /// Its number within the run, from 1.
    pub attempt: u32,
    /// What came of the attempt before it in the same run.
    pub previous: Option<Outcome>,
}

impl Answer {
    /// What to do now that the attempt was answered so at `now`. `random` in 0 to 1 draws the jitter.
    ///
    /// A 410 is never the end of a delivery: the destination is disabled, and its events wait for a person.
    pub fn verdict(&self, policy: &RetryPolicy, made: Made, now: DateTime<Utc>, random: f64) -> Verdict {
        let Some(class) = self.class() else { return Verdict::Delivered };
        if self.status() == Some(GONE) {
            return Verdict::Retry { at: now };
        }
        match self.wait(class, policy, made, random) {
            Some(wait) => Verdict::Retry { at: now + wait.max(self.retry_after(now).unwrap_or_default()) },
            None => Verdict::GiveUp,
        }
    }

    fn wait(&self, class: FailureClass, policy: &RetryPolicy, made: Made, random: f64) -> Option<Duration> {
        let by_policy = policy.wait_after_failure(class, made.attempt, random)?;
        let for_a_person = matches!(class, FailureClass::Certificate | FailureClass::BlockedAddress);
        if !for_a_person || policy.overrides.contains_key(&class) {
            return Some(by_policy);
        }
        // Once slowly, and then it is over: nothing but a person changes it.
        let again = made.previous == Some(self.outcome());
        (!again).then_some(by_policy.max(SLOW_RETRY))
    }

    /// Which class of failure it is; `None` for a success.
    pub fn class(&self) -> Option<FailureClass> {
        Some(match self.outcome() {
            // What has expired was not answered.
            Outcome::Success | Outcome::Expired => return None,
            Outcome::ClientError | Outcome::ServerError if self.is_throttled() => FailureClass::Throttled,
            Outcome::Redirect => FailureClass::Redirect,
            Outcome::ClientError => FailureClass::ClientError,
            Outcome::ServerError => FailureClass::ServerError,
            Outcome::BlockedAddress => FailureClass::BlockedAddress,
            Outcome::InvalidUrl => FailureClass::InvalidUrl,
            Outcome::Dns => FailureClass::Dns,
            Outcome::Connect => FailureClass::Connect,
            Outcome::Tls => FailureClass::Tls,
            Outcome::Certificate => FailureClass::Certificate,
            Outcome::Timeout => FailureClass::Timeout,
            Outcome::Protocol => FailureClass::Protocol,
            Outcome::Token => FailureClass::Token,
        })
    }

    /// What it tells of its destination.
    pub fn signal(&self, now: DateTime<Utc>) -> Signal {
        match self.outcome() {
            Outcome::Success => Signal::Accepts,
            _ if self.is_throttled() => Signal::Slow { until: self.retry_after(now).map(|wait| now + wait) },
            Outcome::ClientError if self.status() == Some(GONE) => Signal::Gone,
            Outcome::Redirect | Outcome::ClientError => Signal::Refuses,
            Outcome::Timeout => Signal::Hangs,
            _ => Signal::Fails,
        }
    }

    fn is_throttled(&self) -> bool {
        matches!(self.status(), Some(TOO_MANY_REQUESTS | SERVICE_UNAVAILABLE))
    }

    /// How long the destination asked us to stay away (RFC 9110, section 10.2.3).
    fn retry_after(&self, now: DateTime<Utc>) -> Option<Duration> {
        let header = self.result.as_ref().ok().and_then(|response| response.retry_after.as_deref());
        header.and_then(|text| retry::retry_after(text, now))
    }
}
