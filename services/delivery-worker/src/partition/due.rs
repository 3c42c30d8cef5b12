//! What is due in the schedule comes back into its lane, as far as the lane has room.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_bus::message::EventMessage;
use ravenpost_core::ids::DestinationId;
use ravenpost_store::System;
use ravenpost_store::system::Due;
use tracing::warn;

use super::owner::{Owner, Stage};
use super::{AGAIN, Pair, Poll, Report};
use crate::lane::Lane;
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
        let ripe = self.due.iter().filter(|(id, due)| **due <= now && self.wants_rows(**id, now));
        let mut ripe: Vec<(DateTime<Utc>, DestinationId)> = ripe.map(|(id, due)| (*due, *id)).collect();
        // Whoever has waited longest comes first, however many there are.
        ripe.sort_unstable();
        let asked: Vec<(DestinationId, i64)> =
            ripe.into_iter().take(DESTINATIONS).map(|(_, id)| (id, self.most_rows(id, now))).collect();
        if asked.is_empty() {
            return;
        }
        self.polling = true;
        self.ended.clear();
        let is_clean = |id: &DestinationId| self.lanes.get(id).is_some_and(Lane::is_clean);
        let clean = asked.iter().map(|(id, _)| *id).filter(is_clean).collect();
        let (system, reports) = (self.shared.system.clone(), self.reports.clone());
        tokio::spawn(async move {
            let poll = look(&system, Poll { asked, clean, paces: Vec::new(), rows: Vec::new() }, now).await;
            let _ = reports.send(Report::Due(poll));
        });
    }

    fn wants_rows(&self, destination: DestinationId, now: DateTime<Utc>) -> bool {
        self.lanes.get(&destination).is_none_or(|lane| lane.wants_rows(now))
    }

    /// Rows that are read of a destination: as many as there is room for, one more, which tells that there are more,
    /// and those under way, which are among the oldest and are read past.
    fn most_rows(&self, destination: DestinationId, now: DateTime<Utc>) -> i64 {
        let pacing = self.shared.pacing;
        let unmet = usize::from(pacing.lane_concurrency) + usize::from(pacing.lane_queue);
        let rows = self.lanes.get(&destination).map_or(unmet, |lane| lane.len() + lane.room(now));
        i64::try_from(rows).unwrap_or(i64::MAX).saturating_add(1)
    }

    /// Rows have come: each enters its lane, unless it is under way already.
    pub(super) fn take_due(&mut self, poll: Poll, now: DateTime<Utc>) {
        self.polling = false;
        for pace in &poll.paces {
            self.meet(pace, now);
        }
        let held: HashSet<DestinationId> =
            poll.paces.iter().filter(|pace| pace.held).map(|pace| pace.destination_id).collect();
        let mut rows: HashMap<DestinationId, Vec<Due>> = HashMap::new();
        for row in poll.rows {
            rows.entry(row.destination_id).or_default().push(row);
        }
        for (destination, most) in poll.asked {
            let rows = rows.remove(&destination).unwrap_or_default();
            let all = i64::try_from(rows.len()).is_ok_and(|count| count < most);
            // What is due after these is heard of by the sweep or by a record.
            self.due.remove(&destination);
            let entered = self.take_rows(destination, rows, now);
            if held.contains(&destination) {
                continue;
            }
            if !entered {
                self.hint(destination, now + NO_ROOM);
            } else if !all {
                self.hint(destination, now);
            }
            self.catch_up(destination, entered && all, poll.clean.contains(&destination), now);
        }
    }

    /// `false`: not all of them found room.
    fn take_rows(&mut self, destination: DestinationId, rows: Vec<Due>, now: DateTime<Utc>) -> bool {
        let mut entered = true;
        for row in rows {
            if self.is_stopped() {
                return false;
            }
            if self.ended.contains(&(row.event_id, destination)) {
                // Perhaps it is an attempt that has just been made: read it again.
                self.hint(destination, now);
            } else if !self.take_row(row, now) {
                entered = false;
                break;
            }
        }
        self.advance(destination, now);
        entered
    }

    /// `false`: its lane has no room.
    fn take_row(&mut self, row: Due, now: DateTime<Utc>) -> bool {
        let pair: Pair = (row.event_id, row.destination_id);
        if self.deliveries.contains_key(&pair) {
            return true;
        }
        let Some(lane) = self.lanes.get_mut(&pair.1) else { return false };
        if !lane.enter(pair.0, now) {
            return false;
        }
        let version = row.version;
        self.add(pair, job(row), version, None);
        self.set_stage(pair, Stage::Queued);
        true
    }

    /// Whether what arrives enters from now on, or has to go on waiting behind rows.
    fn catch_up(&mut self, destination: DestinationId, all: bool, clean: bool, now: DateTime<Utc>) {
        if !all || self.lanes.get(&destination).is_some_and(|lane| lane.is_shut(now)) {
            return self.overflow(destination, now);
        }
        if self.lanes.get_mut(&destination).is_some_and(|lane| lane.catch_up(clean)) {
            self.hint(destination, now);
        }
        self.advance(destination, now);
    }
}

/// First whether they are held, then what is due: who is resumed in between has rows that are read next time.
async fn look(system: &System, poll: Poll, now: DateTime<Utc>) -> Poll {
    let ids: Vec<DestinationId> = poll.asked.iter().map(|(id, _)| *id).collect();
    let looked = async {
        Ok::<_, ravenpost_store::Error>((system.paces(&ids, now).await?, system.due(&poll.asked, now).await?))
    };
    match looked.await {
        Ok((paces, rows)) => Poll { paces, rows, ..poll },
        Err(error) => {
            warn!(error = &error as &dyn std::error::Error, "what is due can't be read");
            tokio::time::sleep(AGAIN).await;
            Poll { asked: Vec::new(), ..poll }
        }
    }
}

fn job(row: Due) -> Job {
    Job {
        destination_id: row.destination_id,
        run: row.run,
        attempt_number: row.attempt_number,
        unfiltered: row.unfiltered,
        previous: row.previous,
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
