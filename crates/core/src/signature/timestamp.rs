//! A signed time: how it is written, and how far it may lie from now.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::request::{Place, Request};
use super::{Rejection, Staleness};

/// How a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimestampFormat {
    /// Whole seconds since 1970.
    #[default]
    Seconds,
    /// Whole milliseconds since 1970.
    Milliseconds,
    /// RFC 3339, such as `2026-01-31T12:00:00Z`.
    Rfc3339,
}

/// A time that is signed with the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp<'a> {
    /// Where it stands.
    pub place: Place<'a>,
    /// How it is written.
    pub format: TimestampFormat,
    /// How far it may lie from now, either way, in seconds; `None` where its retries may carry the first attempt's time for
    /// nobody knows how long.
    pub tolerance: Option<u64>,
}

impl Timestamp<'_> {
    /// The time as it is written, once it is known to be close enough to when the request came.
    pub(super) fn fresh<'r>(&self, request: &Request<'r>) -> Result<Cow<'r, str>, Rejection> {
        let text = self.place.read(request)?;
        self.check(&text, request)?;
        Ok(text)
    }

    /// Refuses a time, as it is written, that is too far from when the request came.
    pub(super) fn check(&self, text: &str, request: &Request<'_>) -> Result<(), Rejection> {
        let malformed = |()| {
            self.place.malformed(match self.format {
                TimestampFormat::Seconds => "not a number of seconds since 1970",
                TimestampFormat::Milliseconds => "not a number of milliseconds since 1970",
                TimestampFormat::Rfc3339 => "not a time as RFC 3339 writes it",
            })
        };
        let at = self.format.read(text).ok_or(()).map_err(malformed)?;
        let Some(tolerance) = self.tolerance else { return Ok(()) };
        let now = request.received_at.timestamp();
        if now.abs_diff(at) > tolerance {
            let staleness = if at < now { Staleness::Old } else { Staleness::Future };
            return Err(Rejection::Stale(staleness, tolerance));
        }
        Ok(())
    }
}

impl TimestampFormat {
    /// Seconds since 1970.
    fn read(self, text: &str) -> Option<i64> {
        let number = || {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if digits { text.parse::<i64>().ok() } else { None }
        };
        match self {
            Self::Seconds => number(),
            Self::Milliseconds => number().map(|milliseconds| milliseconds / 1_000),
            Self::Rfc3339 => {
                DateTime::parse_from_rfc3339(text).ok().map(|at| at.with_timezone(&Utc).timestamp())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        use TimestampFormat::{Milliseconds, Rfc3339, Seconds};
        for (format, text, expected) in [
            (Seconds, "1700000000", Some(1_700_000_000)),
            (Seconds, "", None),
            (Seconds, "-1", None),
            (Seconds, "+1", None),
            (Seconds, "1.5", None),
            (Seconds, "99999999999999999999", None),
            (Milliseconds, "1700000000999", Some(1_700_000_000)),
            (Milliseconds, "soon", None),
            (Rfc3339, "2023-11-14T22:13:20Z", Some(1_700_000_000)),
            (Rfc3339, "2023-11-15T00:13:20.5+02:00", Some(1_700_000_000)),
            (Rfc3339, "2023-11-14", None),
        ] {
            assert_eq!(format.read(text), expected, "{format:?} {text}");
        }
    }
}
