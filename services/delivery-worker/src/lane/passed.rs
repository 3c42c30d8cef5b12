//! How many requests came back within about a second.

use chrono::{DateTime, TimeDelta, Utc};

const SECOND: TimeDelta = TimeDelta::seconds(1);

/// Counts in the current second and in the one before.
#[derive(Debug, Default)]
pub(super) struct Passed {
    since: DateTime<Utc>,
    now: usize,
    before: usize,
}

impl Passed {
    /// One has come back.
    pub(super) fn count(&mut self, now: DateTime<Utc>) {
        if now >= self.since + SECOND {
            let is_neighbour = now < self.since + SECOND * 2;
            self.before = if is_neighbour { self.now } else { 0 };
            (self.since, self.now) = (now, 0);
        }
        self.now += 1;
    }

    /// How many came back in a second lately, the better one of two.
    pub(super) fn in_a_second(&self, now: DateTime<Utc>) -> usize {
        let age = now - self.since;
        if age < SECOND {
            self.now.max(self.before)
        } else if age < SECOND * 2 {
            self.now
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_second_of_two_counts_and_what_is_older_does_not() {
        let at = |millis: i64| DateTime::UNIX_EPOCH + TimeDelta::milliseconds(1_000_000 + millis);
        let mut passed = Passed::default();
        assert_eq!(passed.in_a_second(at(0)), 0);
        for millis in [0, 10, 20] {
            passed.count(at(millis));
        }
        assert_eq!((passed.in_a_second(at(500)), passed.in_a_second(at(1_500))), (3, 3));
        passed.count(at(1_600));
        assert_eq!((passed.in_a_second(at(1_700)), passed.in_a_second(at(2_700))), (3, 1));
        passed.count(at(9_000));
        assert_eq!((passed.in_a_second(at(9_100)), passed.in_a_second(at(11_000))), (1, 0));
    }
}
