//! The one place where a process reads wall time; everywhere else time is an argument.

use std::time::SystemTime;

use chrono::{DateTime, Utc};

/// The current wall time, UTC. It may jump; measure durations with [`std::time::Instant`].
#[expect(clippy::disallowed_methods, reason = "the one exemption: processes read the time here")]
pub fn now() -> DateTime<Utc> {
    DateTime::<Utc>::from(SystemTime::now())
}
