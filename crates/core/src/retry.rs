//! When a failed delivery is tried again: a destination's policy, and what it says to each class of failure.

mod form;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Most attempts of one delivery, the first included.
pub const MAX_ATTEMPTS: usize = 30;
/// The longest wait between two attempts, and the longest that all waits of a policy take together.
pub const MAX_WAIT: Duration = Duration::from_hours(7 * 24);
/// The largest factor of an exponential policy.
pub const MAX_FACTOR: f64 = 100.0;
/// The factor of an exponential policy that names none.
pub const DEFAULT_FACTOR: f64 = 2.0;
/// The longest wait of an exponential policy that names none.
pub const DEFAULT_LONGEST: Duration = Duration::from_hours(24);
/// A `Retry-After` is honoured within these bounds: neither at once nor for years.
const RETRY_AFTER_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(24));

/// When a destination's failed deliveries are tried again. Its form in API and store is told in [`form`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "form::Form", into = "form::Form")]
pub struct RetryPolicy {
    /// The waits between attempts.
    pub waits: Waits,
    /// The share of a wait by which it is spread, 0 to 1: `0.1` makes `10m` something between `9m` and `11m`.
    pub jitter: f64,
    /// What goes before it for a class of failures.
    pub overrides: BTreeMap<FailureClass, Override>,
}

/// The waits between the attempts of a delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum Waits {
    /// One wait a retry: as many retries as entries.
    Schedule(Vec<Duration>),
    /// Each wait is the one before, multiplied.
    Exponential {
        /// The first wait.
        first: Duration,
        /// By how much each wait is longer than the one before, 1 to [`MAX_FACTOR`].
        factor: f64,
        /// No wait is longer.
        longest: Duration,
        /// How many attempts there are, the first included.
        attempts: u32,
    },
}

/// What a policy says to one class of failures.
#[derive(Debug, Clone, PartialEq)]
pub enum Override {
    /// Such a failure is never tried again.
    Never,
    /// A policy of its own, which has no overrides.
    Policy(Box<RetryPolicy>),
}

/// Classes of failures that a policy may tell apart.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// A 3xx.
    Redirect,
    /// A 4xx but 410, which disables, and 429.
    ClientError,
    /// 429 and 503: the destination has too much to do.
    Throttled,
    /// A 5xx but 503, or a status outside 200 to 599.
    ServerError,
    /// The address is not public. Once more after [`SLOW_RETRY`](crate::delivery::SLOW_RETRY), unless overridden.
    BlockedAddress,
    /// The URL is not one that can be delivered to.
    InvalidUrl,
    /// The name did not resolve.
    Dns,
    /// No connection came about.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// A certificate was not accepted. Once more after [`SLOW_RETRY`](crate::delivery::SLOW_RETRY), unless overridden.
    Certificate,
    /// The deadline passed.
    Timeout,
    /// The other side did not speak HTTP properly.
    Protocol,
    /// The destination's token endpoint gave no access token.
    Token,
}

/// Why a policy is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct InvalidPolicy {
    /// The field that is out of bounds, such as `overrides.timeout.schedule`.
    pub field: String,
    /// What it may be.
    pub message: String,
}

impl Default for RetryPolicy {
    /// After 1 m, 5 m, 15 m, 1 h and 6 h, each spread by a tenth.
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(count * 60);
        Self::schedule([1, 5, 15, 60, 360].map(minutes).to_vec(), form::default_jitter())
    }
}

impl RetryPolicy {
    /// A policy that waits so, whatever the failure.
    pub fn schedule(waits: Vec<Duration>, jitter: f64) -> Self {
        Self { waits: Waits::Schedule(waits), jitter, overrides: BTreeMap::new() }
    }

    /// Checks the bounds that a deserialized policy may exceed.
    pub fn check(&self) -> Result<(), InvalidPolicy> {
        self.waits.check()?;
        if !(0.0..=1.0).contains(&self.jitter) {
            return invalid("jitter", "a number from 0 to 1");
        }
        for (class, of_class) in &self.overrides {
            if let Override::Policy(policy) = of_class {
                policy.check().map_err(|InvalidPolicy { field, message }| InvalidPolicy {
                    field: format!("overrides.{}.{field}", class.as_str()),
                    message,
                })?;
            }
        }
        Ok(())
    }

    /// The wait after failed attempt number `attempt` (from 1), whatever the failure; `None` after the last one.
    ///
    /// `random` in 0 to 1 places the wait within its spread, which ends where all waits together would exceed
    /// [`MAX_WAIT`].
    pub fn wait_after(&self, attempt: u32, random: f64) -> Option<Duration> {
        let wait = self.waits.after(attempt)?;
        let spread = 1.0 + self.jitter.clamp(0.0, 1.0) * (2.0 * random.clamp(0.0, 1.0) - 1.0);
        // A share of each wait, since nobody knows how the others were spread.
        let most = MAX_WAIT.as_secs_f64() / self.waits.total().as_secs_f64();
        Some(wait.mul_f64(spread.min(most)))
    }

    /// As [`RetryPolicy::wait_after`], for a failure of that class.
    pub fn wait_after_failure(&self, class: FailureClass, attempt: u32, random: f64) -> Option<Duration> {
        match self.overrides.get(&class) {
            None => self.wait_after(attempt, random),
            Some(Override::Never) => None,
            Some(Override::Policy(policy)) => policy.wait_after(attempt, random),
        }
    }
}

impl Waits {
    /// The wait after failed attempt number `attempt` (from 1), without jitter.
    fn after(&self, attempt: u32) -> Option<Duration> {
        let index = attempt.checked_sub(1)?;
        match self {
            Self::Schedule(waits) => waits.get(usize::try_from(index).ok()?).copied(),
            Self::Exponential { first, factor, longest, attempts } => {
                if attempt >= *attempts {
                    return None;
                }
                let power = i32::try_from(index).unwrap_or(i32::MAX);
                let seconds = first.as_secs_f64() * factor.powi(power);
                // Infinity, too, is more than the longest.
                Some(Duration::try_from_secs_f64(seconds).map_or(*longest, |wait| wait.min(*longest)))
            }
        }
    }

    /// All of them together, without jitter.
    fn total(&self) -> Duration {
        let waits = (1..).map_while(|attempt| self.after(attempt)).take(MAX_ATTEMPTS);
        waits.fold(Duration::ZERO, Duration::saturating_add)
    }

    fn check(&self) -> Result<(), InvalidPolicy> {
        let field = match self {
            Self::Schedule(waits) => {
                if waits.len() >= MAX_ATTEMPTS {
                    return invalid("schedule", format!("at most {} retries", MAX_ATTEMPTS - 1));
                }
                if waits.iter().any(|wait| *wait > MAX_WAIT) {
                    return invalid("schedule", "a wait is at most 7d");
                }
                "schedule"
            }
            Self::Exponential { first, factor, longest, attempts } => {
                check_exponential(*first, *factor, *longest, *attempts)?;
                "attempts"
            }
        };
        if self.total() > MAX_WAIT {
            return invalid(field, "all waits together are at most 7d");
        }
        Ok(())
    }
}

fn check_exponential(
    first: Duration,
    factor: f64,
    longest: Duration,
    attempts: u32,
) -> Result<(), InvalidPolicy> {
    if !(1..=MAX_ATTEMPTS).contains(&usize::try_from(attempts).unwrap_or(usize::MAX)) {
        return invalid("attempts", format!("from 1 to {MAX_ATTEMPTS}"));
    }
    if !(1.0..=MAX_FACTOR).contains(&factor) {
        return invalid("factor", format!("from 1 to {MAX_FACTOR}"));
    }
    if longest > MAX_WAIT {
        return invalid("max", "a wait is at most 7d");
    }
    if first > longest {
        return invalid("first", "at most max");
    }
    Ok(())
}

fn invalid(field: &str, message: impl Into<String>) -> Result<(), InvalidPolicy> {
    Err(InvalidPolicy { field: field.to_owned(), message: message.into() })
}

impl FailureClass {
    /// Every class.
    pub const ALL: [Self; 13] = [
        Self::Redirect,
        Self::ClientError,
        Self::Throttled,
        Self::ServerError,
        Self::BlockedAddress,
        Self::InvalidUrl,
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Certificate,
        Self::Timeout,
        Self::Protocol,
        Self::Token,
    ];

    /// As it is written in a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redirect => "redirect",
            Self::ClientError => "client_error",
            Self::Throttled => "throttled",
            Self::ServerError => "server_error",
            Self::BlockedAddress => "blocked_address",
            Self::InvalidUrl => "invalid_url",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Certificate => "certificate",
            Self::Token => "token",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
        }
    }
}

/// Reads a `Retry-After` header in either form (RFC 9110, section 10.2.3), clamped to one second and one day.
/// `None` when it is neither.
pub fn retry_after(header: &str, now: DateTime<Utc>) -> Option<Duration> {
    let (least, most) = RETRY_AFTER_BOUNDS;
    let text = header.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_or(most, Duration::from_secs)
    } else {
        // Senders may write either of two obsolete forms, too (RFC 9110, section 5.6.7); some write a zone.
        let date = httpdate::parse_http_date(text).map(DateTime::<Utc>::from);
        let at =
            date.or_else(|_| DateTime::parse_from_rfc2822(text).map(|at| at.with_timezone(&Utc))).ok()?;
        (at - now).to_std().unwrap_or_default()
    };
    Some(wait.clamp(least, most))
}
