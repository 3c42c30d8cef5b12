//! The time, read from the machine in this one place.

use std::time::{Duration, SystemTime};

/// Now, since the Unix epoch.
#[expect(
    clippy::disallowed_methods,
    reason = "producers sign with the time; services read theirs from chassis"
)]
pub fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
