//! A token bucket whose rate and size are given with every use, as both change while it is in use.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ravenpost_core::limit::RateLimit;

/// What one replica has of a limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Share {
    per_second: f64,
    burst: f64,
}

impl Share {
    pub(super) fn of(limit: RateLimit, replicas: u32) -> Self {
        let replicas = f64::from(replicas.max(1));
        Self {
            per_second: f64::from(limit.per_second) / replicas,
            // With less than one nothing would ever be accepted.
            burst: (f64::from(limit.burst) / replicas).max(1.0),
        }
    }

    fn time_for(self, tokens: f64) -> Duration {
        // Rounded up: who comes when told so is accepted.
        Duration::from_secs_f64((tokens / self.per_second).max(0.0)) + Duration::from_nanos(1)
    }
}

/// What is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    /// So many would be accepted now.
    pub(super) events: u64,
    /// When it is full again; when it is empty, when the next one is accepted.
    pub(super) reset: Duration,
}

/// Tokens as of a moment. It begins full.
#[derive(Default)]
pub(super) struct Bucket(Mutex<Option<Level>>);

#[derive(Clone, Copy)]
struct Level {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// Whether there is one, or when there will be.
    pub(super) fn peek(&self, share: Share, now: Instant) -> Result<(), Duration> {
        let mut level = self.lock();
        enough(refill(&mut level, share, now).tokens, share)
    }

    /// Takes one, or says when there will be one.
    pub(super) fn take(&self, share: Share, now: Instant) -> Result<(), Duration> {
        let mut level = self.lock();
        let level = refill(&mut level, share, now);
        enough(level.tokens, share)?;
        level.tokens -= 1.0;
        Ok(())
    }

    /// Puts one back. What is too much then is cut off with the next use.
    pub(super) fn give_back(&self) {
        if let Some(level) = self.lock().as_mut() {
            level.tokens += 1.0;
        }
    }

    pub(super) fn left(&self, share: Share, now: Instant) -> Left {
        let mut level = self.lock();
        let tokens = refill(&mut level, share, now).tokens;
        match enough(tokens, share) {
            Ok(()) if tokens >= share.burst => Left { events: whole(tokens), reset: Duration::ZERO },
            Ok(()) => Left { events: whole(tokens), reset: share.time_for(share.burst - tokens) },
            Err(wait) => Left { events: 0, reset: wait },
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Level>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refill(level: &mut Option<Level>, share: Share, now: Instant) -> &mut Level {
    let level = level.get_or_insert(Level { tokens: share.burst, at: now });
    // Requests read the time before they get here: the last one may be from a little later.
    let elapsed = now.saturating_duration_since(level.at);
    level.tokens = (level.tokens + elapsed.as_secs_f64() * share.per_second).min(share.burst);
    level.at = level.at.max(now);
    level
}

fn enough(tokens: f64, share: Share) -> Result<(), Duration> {
    if tokens >= 1.0 { Ok(()) } else { Err(share.time_for(1.0 - tokens)) }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to a million")]
fn whole(tokens: f64) -> u64 {
    tokens as u64
}
