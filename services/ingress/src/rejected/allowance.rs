//! How many rejected requests are kept, whatever comes: a bucket that fills with time, and from which each one takes.

use std::time::Instant;

/// How full a bucket gets, and how fast.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    /// When it is full.
    pub(super) burst: f64,
    /// Added each second.
    pub(super) per_second: f64,
}

/// What is left of an allowance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn full(allowance: Allowance, now: Instant) -> Self {
        Self { left: allowance.burst, at: now }
    }

    /// Takes so much; `false` takes nothing, since there is less.
    pub(super) fn take(&mut self, allowance: Allowance, cost: f64, now: Instant) -> bool {
        self.left = self.level(allowance, now);
        self.at = now;
        let enough = self.left >= cost;
        if enough {
            self.left -= cost;
        }
        enough
    }

    pub(super) fn is_full(&self, allowance: Allowance, now: Instant) -> bool {
        self.level(allowance, now) >= allowance.burst
    }

    fn level(&self, allowance: Allowance, now: Instant) -> f64 {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * allowance.per_second;
        (self.left + gained).min(allowance.burst)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_and_then_what_time_brings() {
        let allowance = Allowance { burst: 3.0, per_second: 2.0 };
        let start = Instant::now();
        let mut bucket = Bucket::full(allowance, start);
        let taken = |bucket: &mut Bucket, now| (0..10).filter(|_| bucket.take(allowance, 1.0, now)).count();
        assert_eq!(taken(&mut bucket, start), 3);
        assert!(!bucket.is_full(allowance, start));
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(1)), 2);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(60)), 3, "it holds no more than a burst");
        assert!(bucket.is_full(allowance, start + Duration::from_secs(62)));
        // A clock that steps back brings nothing and breaks nothing.
        assert_eq!(taken(&mut bucket, start), 0);
    }

    #[test]
    fn what_costs_more_than_is_left_takes_nothing() {
        let allowance = Allowance { burst: 3.0, per_second: 0.0 };
        let now = Instant::now();
        let mut bucket = Bucket::full(allowance, now);
        assert!(!bucket.take(allowance, 4.0, now));
        assert!(bucket.take(allowance, 3.0, now));
    }
}
