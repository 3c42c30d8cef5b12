//! When a failed delivery is tried again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Most attempts of one delivery, the first included.
pub const MAX_ATTEMPTS: usize = 30;
/// Longest wait between two attempts.
pub const MAX_WAIT: Duration = Duration::from_hours(7 * 24);
/// A `Retry-After` is honoured within these bounds: neither at once nor for years.
const RETRY_AFTER_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(24));

/// The waits between the attempts of a delivery, and how much each is spread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryPolicy {
    /// The wait before each retry, such as `["1m", "5m", "15m", "1h", "6h"]`: as many retries as entries (at most
    /// 29), each up to `7d`. Units: `ms`, `s`, `m`, `h`, `d`.
    #[serde(with = "crate::duration::list")]
    #[schema(value_type = Vec<String>, example = json!(["1m", "5m", "15m", "1h", "6h"]))]
    pub schedule: Vec<Duration>,
    /// The share of a wait by which it is spread, 0 to 1: `0.1` makes `10m` something between `9m` and `11m`.
    #[serde(default = "default_jitter")]
    pub jitter: f64,
}

fn default_jitter() -> f64 {
    0.1
}

impl Default for RetryPolicy {
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(count * 60);
        Self { schedule: [1, 5, 15, 60, 360].map(minutes).to_vec(), jitter: default_jitter() }
    }
}

/// Why a policy is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// See [`MAX_ATTEMPTS`].
    #[error("schedule: at most {} retries", MAX_ATTEMPTS - 1)]
    TooManyRetries,
    /// See [`MAX_WAIT`].
    #[error("schedule: a wait is at most 7d")]
    WaitTooLong,
    /// Jitter is a share.
    #[error("jitter: a number from 0 to 1")]
    Jitter,
}

impl RetryPolicy {
    /// Checks the bounds that a deserialized policy may exceed.
    pub fn check(&self) -> Result<(), InvalidPolicy> {
        if self.schedule.len() >= MAX_ATTEMPTS {
            return Err(InvalidPolicy::TooManyRetries);
        }
        if self.schedule.iter().any(|wait| *wait > MAX_WAIT) {
            return Err(InvalidPolicy::WaitTooLong);
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(InvalidPolicy::Jitter);
        }
        Ok(())
    }

    /// The wait after failed attempt number `attempt` (from 1); `None` after the last one.
    ///
    /// `random` in 0 to 1 places the wait within its spread.
    pub fn wait_after(&self, attempt: u32, random: f64) -> Option<Duration> {
        let index = usize::try_from(attempt).ok()?.checked_sub(1)?;
        let wait = self.schedule.get(index)?;
        let spread = 1.0 + self.jitter.clamp(0.0, 1.0) * (2.0 * random.clamp(0.0, 1.0) - 1.0);
        Some(wait.mul_f64(spread))
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
        let at = DateTime::parse_from_rfc2822(text).ok()?;
        (at.with_timezone(&Utc) - now).to_std().unwrap_or_default()
    };
    Some(wait.clamp(least, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_five_retries_over_seven_hours() {
        let policy = RetryPolicy::default();
        let json = serde_json::to_value(&policy).unwrap();
        assert_eq!(json, serde_json::json!({"schedule": ["1m", "5m", "15m", "1h", "6h"], "jitter": 0.1}));
        assert_eq!(policy.wait_after(1, 0.5), Some(Duration::from_secs(60)));
        assert_eq!(policy.wait_after(1, 0.0), Some(Duration::from_secs(54)));
        assert_eq!(policy.wait_after(1, 1.0), Some(Duration::from_secs(66)));
        assert_eq!(policy.wait_after(6, 0.5), None);
        assert_eq!(policy.wait_after(0, 0.5), None);
    }

    #[test]
    fn refuses_what_is_out_of_bounds() {
        let minute = Duration::from_secs(60);
        let policy = |schedule, jitter| RetryPolicy { schedule, jitter }.check();
        assert_eq!(policy(vec![minute; 29], 1.0), Ok(()));
        assert_eq!(policy(vec![minute; 30], 0.1), Err(InvalidPolicy::TooManyRetries));
        assert_eq!(policy(vec![MAX_WAIT + minute], 0.1), Err(InvalidPolicy::WaitTooLong));
        assert_eq!(policy(vec![], f64::NAN), Err(InvalidPolicy::Jitter));
    }

    #[test]
    fn retry_after_has_two_forms_and_bounds() {
        let now = DateTime::parse_from_rfc2822("Sun, 06 Nov 1994 08:49:37 GMT").unwrap().with_timezone(&Utc);
        let seconds = |header| retry_after(header, now).map(|wait| wait.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds("0"), Some(1));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:00:00 GMT"), Some(1));
        assert_eq!(seconds("Fri, 31 Dec 9999 23:59:59 GMT"), Some(86_400));
        assert_eq!(seconds("999999999999999999999999"), Some(86_400));
        for absurd in ["", "-5", "soon", "1.5", "1e9"] {
            assert_eq!(seconds(absurd), None, "{absurd}");
        }
    }
}
