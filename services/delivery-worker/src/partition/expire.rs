//! What has waited for longer than its event is kept is given up without having been sent (PROTOCOLS D2).

use chrono::{DateTime, Utc};
use ravenpost_store::system::Due;

use super::due::job;
use super::owner::Owner;
use crate::send;

impl Owner {
    /// Gives up a row of the schedule, whatever it waits for. What is under way just now is left to its end; if that is
    /// another wait, this is told of it once more.
    pub(super) fn expire(&mut self, row: Due, now: DateTime<Utc>) {
        let pair = (row.event_id, row.destination_id);
        if self.is_stopped() || self.deliveries.contains_key(&pair) {
            return;
        }
        let version = row.version;
        let job = job(row, None);
        let (attempt, letter) = send::expired(&job, now);
        self.add(pair, job, None, version, None);
        self.record.attempts.push(attempt);
        self.unrecorded += 1;
        self.messages.push(letter);
        self.shared.metrics.expired.inc();
    }
}
