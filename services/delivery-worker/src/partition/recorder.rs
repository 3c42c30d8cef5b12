//! What an owner has to record: one record at a time, of everything that has gathered while the last one was made.

use std::collections::HashSet;

use ravenpost_chassis::clock;
use ravenpost_store::system::Record;
use tokio::sync::oneshot;

use super::owner::{Owner, Stage, ended};
use super::{Pair, Report};
use crate::record::{Recorded, Recording};

/// Attempts that are recorded in one statement, and as many of each other kind, but for new events, which come before all
/// that is said of them. An owner that lets go has no time for several: the rows of what is in the air come last.
const MOST_RECORDED: usize = 500;

impl Owner {
    /// Records what there is, unless a record is being made.
    pub(super) fn flush(&mut self) {
        if self.recording || (self.record.is_empty() && self.messages.is_empty()) {
            return;
        }
        let mut record = std::mem::take(&mut self.record);
        // Of all of it: a row that is left for the next statement must not come after the end of its pair.
        self.drop_overtaken_parks(&mut record);
        if !self.is_stopped() {
            self.record = record.split_off(MOST_RECORDED);
        }
        for attempt in &mut record.attempts {
            // Known only now: the attempt may have been given a row while it was in the air (PROTOCOLS W8).
            let pair = (attempt.key.event_id, attempt.key.destination_id);
            attempt.version = self.deliveries.get(&pair).map_or(0, |delivery| delivery.version);
        }
        for filtered in &mut record.filtered {
            let pair = (filtered.event_id, filtered.destination_id);
            filtered.version = self.deliveries.get(&pair).map_or(0, |delivery| delivery.version);
        }
        self.recording = true;
        self.being_recorded = ended(&record);
        let (recorded, hears) = oneshot::channel();
        let messages = std::mem::take(&mut self.messages);
        let (partition, epoch) = (self.partition, self.epoch);
        self.shared.recorder.leave(Recording {
            partition,
            epoch,
            record,
            gone: Record::default(),
            messages,
            recorded,
        });
        let reports = self.reports.clone();
        tokio::spawn(async move {
            if let Ok(recorded) = hears.await {
                let _ = reports.send(Report::Recorded(recorded));
            }
        });
    }

    /// A pair that was slow and has ended before its row was written needs none: one statement can't both make the row
    /// and see it.
    fn drop_overtaken_parks(&mut self, record: &mut Record) {
        let attempted =
            record.attempts.iter().map(|attempt| (attempt.key.event_id, attempt.key.destination_id));
        let filtered = record.filtered.iter().map(|filtered| (filtered.event_id, filtered.destination_id));
        let ended: HashSet<Pair> =
            attempted.chain(filtered).chain(record.cancelled.iter().copied()).collect();
        record.parks.retain(|park| {
            let pair = (park.event_id, park.destination_id);
            let overtaken = ended.contains(&pair);
            if overtaken {
                // It was in the air, so that nothing queues behind its row.
                self.deliveries.entry(pair).and_modify(|delivery| delivery.parking = false);
            }
            !overtaken
        });
    }

    /// A record was made: what it stands for is finished, or comes back by the schedule. When the partition belongs to
    /// another worker by now, attempts and successes count all the same and the rest is the other one's to decide.
    pub(super) fn recorded(&mut self, Recorded { record, current }: &Recorded) {
        self.recording = false;
        self.being_recorded = 0;
        if !current {
            self.lose();
        }
        for routed in &record.routed {
            for offset in self.dropped.remove(&routed.event_id).unwrap_or_default() {
                self.offsets.complete(offset);
            }
        }
        for park in &record.parks {
            self.parked((park.event_id, park.destination_id));
            if self.is_at_home(park.endpoint_id) {
                self.hint_parked(park.destination_id, park.reason, park.due_at);
            }
        }
        for attempt in &record.attempts {
            self.finish((attempt.key.event_id, attempt.key.destination_id));
            if let Some(due_at) = attempt.next_retry_at {
                self.hint(attempt.key.destination_id, due_at);
            }
        }
        for pair in &record.cancelled {
            self.finish(*pair);
        }
        for filtered in &record.filtered {
            self.finish((filtered.event_id, filtered.destination_id));
        }
        for destination in std::mem::take(&mut self.halted) {
            self.advance(destination, clock::now());
        }
    }

    /// A pair has its row: the message need not wait for it any more, whether it is still in the air or not.
    fn parked(&mut self, pair: Pair) {
        let Some(delivery) = self.deliveries.get_mut(&pair) else { return };
        delivery.parking = false;
        delivery.version += 1;
        delivery.row_is_due = false;
        if std::mem::take(&mut delivery.parks_due)
            && let Some(lane) = self.lanes.get_mut(&pair.1)
        {
            lane.recorded();
        }
        if let Some(offset) = delivery.offset.take() {
            self.offsets.complete(offset);
        }
        if let Some((reason, due_at)) = delivery.put_off.take() {
            self.give_row(pair, reason, due_at);
        } else if delivery.stage == Stage::PutOff {
            self.remove(pair);
        }
    }

    fn finish(&mut self, pair: Pair) {
        let Some(delivery) = self.remove(pair) else { return };
        if self.polling {
            self.ended.insert(pair);
        }
        self.expiry.end(pair);
        if let Some(offset) = delivery.offset {
            self.offsets.complete(offset);
        }
    }
}
