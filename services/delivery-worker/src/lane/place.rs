//! How far the rows of a destination have been read, oldest first (PROTOCOLS W7).

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_core::ids::EventId;

/// While there are more and more of them they are read from the start so often.
const RESTART_AFTER: TimeDelta = TimeDelta::seconds(30);

/// A row, by when it is due and its event.
pub type Row = (DateTime<Utc>, EventId);

/// Where reading goes on.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The last one that was read.
    after: Option<Row>,
    /// They are being read, as far as they were due then.
    reading: Option<DateTime<Utc>>,
    /// When the first of those was due that have come since.
    came: Option<DateTime<Utc>>,
    /// When they were read from the start.
    restarted_at: DateTime<Utc>,
}

impl Place {
    /// They are about to be read: after which one. `None`: from the start.
    pub(super) fn begin(&mut self, now: DateTime<Utc>) -> Option<Row> {
        self.reading = Some(now);
        if self.after.is_none() {
            self.restarted_at = now;
        }
        self.after
    }

    /// They were read, up to `last`. `false`: some have come meanwhile that were due.
    pub(super) fn end(&mut self, last: Option<Row>) -> bool {
        self.reading = None;
        let came = self.came.take();
        if let Some((due_at, _)) = last {
            self.after = last.filter(|_| came.is_none_or(|came| came > due_at));
        }
        came.is_none()
    }

    /// Something is due then: it may stand before what was read.
    pub(super) fn expect(&mut self, due_at: DateTime<Utc>) {
        if self.reading.is_some_and(|now| due_at <= now) {
            self.came = Some(self.came.map_or(due_at, |came| came.min(due_at)));
        }
        self.after = self.after.filter(|(last, _)| *last < due_at);
    }

    /// They are read from the start next.
    pub(super) fn forget(&mut self) {
        self.expect(DateTime::<Utc>::MIN_UTC);
    }

    /// Whether it is time to read them from the start, though nothing says that something stands there.
    pub(super) fn is_old(&self, now: DateTime<Utc>) -> bool {
        now >= self.restarted_at + RESTART_AFTER
    }
}
