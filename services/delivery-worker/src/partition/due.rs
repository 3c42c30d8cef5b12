//! What is due in the schedule comes back into its lane, as far as the lane has room.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_bus::message::EventMessage;
use ravenpost_core::ids::DestinationId;
use ravenpost_store::system::Due;
use tracing::warn;

use super::owner::Owner;
use super::{AGAIN, Hint, Pair, Report};
use crate::lane::Place;
use crate::send::Job;

/// Destinations whose due rows are asked for at once.
const DESTINATIONS: usize = 64;
/// When a destination whose lane had no room is looked at again.
const NO_ROOM: TimeDelta = TimeDelta::milliseconds(100);

impl Owner {
    /// Asks for what is due, unless an answer is still awaited.
    pub(super) fn poll_due(&mut self, now: DateTime<Utc>) {
        if self.polling || self.is_stopped() {
            return;
        }
        let ripe = self.due.iter().filter(|(id, due)| **due <= now && self.room(**id) > 0);
        let mut ripe: Vec<(DateTime<Utc>, DestinationId)> = ripe.map(|(id, due)| (*due, *id)).collect();
        // Whoever has waited longest comes first, however many there are.
        ripe.sort_unstable();
        let destinations: Vec<DestinationId> =
            ripe.into_iter().take(DESTINATIONS).map(|(_, id)| id).collect();
        if destinations.is_empty() {
            return;
        }
        self.polling = true;
        self.ended.clear();
        let limit = i64::try_from(self.due_limit()).unwrap_or(i64::MAX);
        let (system, reports) = (self.shared.system.clone(), self.reports.clone());
        tokio::spawn(async move {
            let (asked, rows) = match system.due(&destinations, limit, now).await {
                Ok(rows) => (destinations, rows),
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "what is due can't be read");
                    tokio::time::sleep(AGAIN).await;
                    (Vec::new(), Vec::new())
                }
            };
            let _ = reports.send(Report::Due(asked, rows));
        });
    }

    /// Rows of one destination that are read at once: what is under way is among the oldest and is read past.
    fn due_limit(&self) -> usize {
        let bounds = self.shared.lanes;
        2 * (usize::from(bounds.lane_concurrency) + usize::from(bounds.lane_queue))
    }

    fn room(&self, destination: DestinationId) -> usize {
        let bounds = self.shared.lanes;
        let empty = usize::from(bounds.lane_concurrency) + usize::from(bounds.lane_queue);
        self.lanes.get(&destination).map_or(empty, |lane| lane.room(bounds))
    }

    /// Rows have come: each enters its lane, unless it is under way already.
    pub(super) fn take_due(&mut self, destinations: &[DestinationId], rows: Vec<Due>, now: DateTime<Utc>) {
        self.polling = false;
        let mut read: HashMap<DestinationId, usize> = HashMap::new();
        for row in &rows {
            *read.entry(row.destination_id).or_default() += 1;
        }
        let limit = self.due_limit();
        for destination in destinations {
            // A full answer: more may be due. Otherwise the sweep or a record tells when something is.
            if read.get(destination).copied().unwrap_or(0) < limit {
                self.due.remove(destination);
            } else {
                self.due.insert(*destination, now);
            }
        }
        for row in rows {
            let destination_id = row.destination_id;
            if self.ended.contains(&(row.event_id, destination_id)) {
                // Perhaps it is an attempt that has just been made: read it again.
                self.hint(Hint { destination_id, due_at: now });
            } else if !self.is_stopped() && !self.take_row(row) {
                self.due.remove(&destination_id);
                self.hint(Hint { destination_id, due_at: now + NO_ROOM });
            }
        }
    }

    /// `false`: its lane has no room.
    fn take_row(&mut self, row: Due) -> bool {
        let pair: Pair = (row.event_id, row.destination_id);
        if self.deliveries.contains_key(&pair) {
            return true;
        }
        let version = row.version;
        self.add(pair, job(row), version, None);
        let entered = self.enter(pair) != Place::Full;
        if !entered {
            self.deliveries.remove(&pair);
        }
        entered
    }
}

fn job(row: Due) -> Job {
    Job {
        destination_id: row.destination_id,
        run: row.run,
        attempt_number: row.attempt_number,
        ready_at: row.due_at,
        event: Arc::new(EventMessage {
            id: row.event_id,
            organization_id: row.organization_id,
            endpoint_id: row.endpoint_id,
            event_type: row.event_type,
            received_at: row.received_at,
            content_type: row.content_type,
            traceparent: row.traceparent,
            payload: row.payload,
            body: None,
            headers: row.headers,
            relayed: false,
        }),
    }
}
