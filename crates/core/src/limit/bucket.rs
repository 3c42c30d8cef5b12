//! A token bucket: so much at once after a pause, and so much lastingly.
//!
//! It has no clock: the time is given with every use, by whichever clock its user goes. Nor has it a rate, as that may
//! change while it is in use.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::RateLimit;

/// How fast a bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Tokens that come each second; 0 for none.
    pub per_second: f64,
    /// Tokens that it holds.
    pub burst: f64,
}

/// What is left in a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// So many single tokens could be taken now.
    pub tokens: u64,
    /// When it is full again; when it is empty, when there is one.
    pub reset: Duration,
}

/// A time by some clock.
pub trait Moment: Copy + Ord {
    /// How long after `earlier` it is; nothing when it is before.
    fn since(self, earlier: Self) -> Duration;
}

impl Moment for Instant {
    fn since(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

impl Moment for DateTime<Utc> {
    fn since(self, earlier: Self) -> Duration {
        (self - earlier).to_std().unwrap_or_default()
    }
}

/// Tokens as of a moment.
#[derive(Debug, Clone, Copy)]
pub struct Bucket<M = Instant>(Option<Level<M>>);

#[derive(Debug, Clone, Copy)]
struct Level<M> {
    tokens: f64,
    at: M,
}

impl<M> Default for Bucket<M> {
    /// Full when it is first used.
    fn default() -> Self {
        Self(None)
    }
}

impl Rate {
    /// What each of so many replicas has of a limit that they share; 0 counts as 1.
    pub fn share(limit: RateLimit, replicas: u32) -> Self {
        let replicas = f64::from(replicas.max(1));
        Self {
            per_second: f64::from(limit.per_second) / replicas,
            // With less than one nothing would ever be accepted.
            burst: (f64::from(limit.burst) / replicas).max(1.0),
        }
    }

    fn time_for(self, tokens: f64) -> Duration {
        let exact = Duration::try_from_secs_f64((tokens / self.per_second).max(0.0));
        // Rounded up: who comes when told so finds them.
        exact.unwrap_or(Duration::MAX).saturating_add(Duration::from_nanos(1))
    }

    /// Whether so many tokens are enough, or when they will be.
    fn enough(self, tokens: f64, cost: f64) -> Result<(), Duration> {
        if tokens >= cost {
            return Ok(());
        }
        Err(if cost > self.burst { Duration::MAX } else { self.time_for(cost - tokens) })
    }
}

impl<M: Moment> Bucket<M> {
    /// With nothing in it.
    pub fn empty(now: M) -> Self {
        Self(Some(Level { tokens: 0.0, at: now }))
    }

    /// Whether `cost` could be taken, or how long it takes until then; [`Duration::MAX`] when it never can be.
    pub fn peek(&mut self, rate: Rate, cost: f64, now: M) -> Result<(), Duration> {
        rate.enough(self.refill(rate, now).tokens, cost)
    }

    /// Takes `cost`, or nothing and says how long to wait, as [`Bucket::peek`] does.
    pub fn take(&mut self, rate: Rate, cost: f64, now: M) -> Result<(), Duration> {
        let level = self.refill(rate, now);
        rate.enough(level.tokens, cost)?;
        level.tokens -= cost;
        Ok(())
    }

    /// Puts back what was taken. What is too much then is cut off with the next use.
    pub fn give_back(&mut self, tokens: f64) {
        if let Some(level) = &mut self.0 {
            level.tokens += tokens;
        }
    }

    /// What is left.
    pub fn left(&mut self, rate: Rate, now: M) -> Left {
        let tokens = self.refill(rate, now).tokens;
        match rate.enough(tokens, 1.0) {
            Ok(()) if tokens >= rate.burst => Left { tokens: whole(tokens), reset: Duration::ZERO },
            Ok(()) => Left { tokens: whole(tokens), reset: rate.time_for(rate.burst - tokens) },
            Err(wait) => Left { tokens: 0, reset: wait },
        }
    }

    /// Whether forgetting it changes nothing.
    pub fn is_full(&mut self, rate: Rate, now: M) -> bool {
        self.refill(rate, now).tokens >= rate.burst
    }

    fn refill(&mut self, rate: Rate, now: M) -> &mut Level<M> {
        let level = self.0.get_or_insert(Level { tokens: rate.burst, at: now });
        // Requests read the time before they get here: the last one may be from a little later.
        let elapsed = now.since(level.at);
        level.tokens = (level.tokens + elapsed.as_secs_f64() * rate.per_second).min(rate.burst);
        level.at = level.at.max(now);
        level
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to a million")]
fn whole(tokens: f64) -> u64 {
    tokens as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 2.0, burst: 3.0 };

    fn taken<M: Moment>(bucket: &mut Bucket<M>, now: M) -> usize {
        (0..10).filter(|_| bucket.take(RATE, 1.0, now).is_ok()).count()
    }

    #[test]
    fn a_burst_and_then_what_time_brings() {
        let (mut bucket, start) = (Bucket::default(), Instant::now());
        assert!(bucket.is_full(RATE, start));
        assert_eq!(taken(&mut bucket, start), 3);
        assert!(!bucket.is_full(RATE, start));
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(1)), 2);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(60)), 3, "it holds no more than a burst");
        assert!(bucket.is_full(RATE, start + Duration::from_secs(62)));
        // A clock that steps back brings nothing and breaks nothing.
        let mut bucket = Bucket::default();
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(1)), 3);
        assert_eq!(taken(&mut bucket, start), 0);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(1)), 0);
    }

    #[test]
    fn what_costs_more_than_is_left_takes_nothing() {
        let (mut bucket, now) = (Bucket::default(), Instant::now());
        assert_eq!(bucket.take(RATE, 4.0, now), Err(Duration::MAX), "more than it ever holds");
        assert_eq!(bucket.take(RATE, 2.0, now), Ok(()));
        let wait = bucket.take(RATE, 3.0, now).unwrap_err();
        assert_eq!(wait.as_millis(), 1_000);
        assert_eq!(bucket.peek(RATE, 1.0, now), Ok(()));
        assert_eq!(bucket.take(RATE, 3.0, now + wait), Ok(()), "who comes when told so finds them");
    }

    #[test]
    fn what_is_given_back_does_not_exceed_the_burst() {
        let (mut bucket, now) = (Bucket::default(), Instant::now());
        bucket.give_back(1.0);
        assert_eq!(taken(&mut bucket, now), 3);
        bucket.give_back(2.0);
        assert_eq!(bucket.left(RATE, now).tokens, 2);
        bucket.give_back(9.0);
        assert_eq!(bucket.left(RATE, now), Left { tokens: 3, reset: Duration::ZERO });
    }

    #[test]
    fn it_begins_full_or_empty_and_goes_by_any_clock() {
        let start = DateTime::UNIX_EPOCH;
        let mut bucket = Bucket::empty(start);
        assert_eq!(taken(&mut bucket, start), 0);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(1)), 2);
        assert_eq!(taken(&mut bucket, start - Duration::from_secs(9)), 0, "a clock that was set back");
        assert_eq!(taken(&mut bucket, start + Duration::from_millis(1_500)), 1);
        assert_eq!(taken(&mut Bucket::default(), start), 3);
    }

    #[test]
    fn what_never_fills_says_so() {
        let dry = Rate { per_second: 0.0, burst: 1.0 };
        let (mut bucket, now) = (Bucket::default(), Instant::now());
        assert_eq!(bucket.take(dry, 1.0, now), Ok(()));
        assert_eq!(bucket.take(dry, 1.0, now + Duration::from_secs(60)), Err(Duration::MAX));
    }
}
