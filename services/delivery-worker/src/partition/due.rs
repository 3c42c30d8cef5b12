//! What is due in the schedule comes back into its lane, as far as the lane has room.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_bus::message::EventMessage;
use ravenpost_core::ids::DestinationId;
use ravenpost_store::System;
use ravenpost_store::system::{Ask, Due, Pace};
use tracing::warn;

use super::owner::{Owner, Stage};
use super::{AGAIN, Pair, Poll, Report};
use crate::lane::{Lane, Row};
use crate::send::{Job, Neighbours};

/// Destinations whose due rows are asked for at once.
const DESTINATIONS: usize = 64;
/// Rows that are asked for at once, shared out among the destinations, and the fewest of each.
const ROWS: usize = 2_048;
const FEWEST: usize = 64;
/// When a destination is looked at again for which there was no room in memory.
const NO_ROOM: TimeDelta = TimeDelta::milliseconds(100);

impl Owner {
    /// When to look for what is due, unless an answer is still awaited.
    pub(super) fn next_due(&self) -> Option<DateTime<Utc>> {
        if self.polling || self.is_full() { None } else { self.due.first() }
    }

    /// Asks for what is due, unless an answer is still awaited. Whoever has no use for rows is set aside.
    pub(super) fn poll_due(&mut self, now: DateTime<Utc>) {
        if self.polling
            || self.is_full()
            || self.is_stopped()
            || self.due.first().is_none_or(|first| first > now)
        {
            return;
        }
        let ripe: Vec<DestinationId> = self.due.ripe(now).take(DESTINATIONS).collect();
        let (wanting, others): (Vec<_>, Vec<_>) = ripe.into_iter().partition(|id| self.wants_rows(*id, now));
        for destination in others {
            self.set_aside(destination, now);
        }
        if wanting.is_empty() {
            return;
        }
        let most = (ROWS / wanting.len()).max(FEWEST);
        let asked: Vec<Ask> = wanting.iter().map(|id| self.ask(*id, most, now)).collect();
        self.polling = true;
        self.ended.clear();
        let is_clean = |id: &DestinationId| self.lanes.get(id).is_some_and(Lane::is_clean);
        let clean = wanting.into_iter().filter(is_clean).collect();
        let (system, reports) = (self.shared.system.clone(), self.reports.clone());
        tokio::spawn(async move {
            let poll =
                look(&system, Poll { asked, clean, paces: Vec::new(), rows: Vec::new(), failed: false }, now)
                    .await;
            let _ = reports.send(Report::Due(poll));
        });
    }

    fn wants_rows(&self, destination: DestinationId, now: DateTime<Utc>) -> bool {
        self.lanes.get(&destination).is_none_or(|lane| lane.wants_rows(now))
    }

    /// A look is of no use until there is room, or until its gate opens.
    fn set_aside(&mut self, destination: DestinationId, now: DateTime<Utc>) {
        self.due.remove(destination);
        if let Some(opens_at) = self.lanes.get_mut(&destination).and_then(|lane| lane.starve(now)) {
            self.due.add(destination, opens_at);
        }
    }

    /// What is heard of it from now on counts for the next look.
    fn ask(&mut self, destination_id: DestinationId, most: usize, now: DateTime<Utc>) -> Ask {
        self.due.remove(destination_id);
        let lane = self.lanes.get_mut(&destination_id);
        let (after, most) = lane.map_or((None, most), |lane| lane.begin_reading(most, now));
        Ask { destination_id, most: i64::try_from(most).unwrap_or(i64::MAX), after }
    }

    /// Rows have come: each enters its lane, unless it is under way already.
    pub(super) fn take_due(&mut self, poll: Poll, now: DateTime<Utc>) {
        self.polling = false;
        if poll.failed {
            return self.ask_again(&poll.asked, now);
        }
        for pace in &poll.paces {
            self.meet(pace, now);
        }
        let paces: HashMap<DestinationId, &Pace> =
            poll.paces.iter().map(|pace| (pace.destination_id, pace)).collect();
        let mut rows: HashMap<DestinationId, Vec<Due>> = HashMap::new();
        for row in poll.rows {
            rows.entry(row.destination_id).or_default().push(row);
        }
        let (mut taken, mut came) = (Vec::new(), Vec::new());
        for Ask { destination_id, most, .. } in poll.asked {
            let rows = rows.remove(&destination_id).unwrap_or_default();
            let all = i64::try_from(rows.len()).is_ok_and(|count| count < most);
            let (last, entered) = self.take_rows(rows, &mut came, now);
            taken.push((destination_id, all, last, entered));
        }
        // Of all of them, and before any starts.
        self.read_ahead(&came);
        for (destination_id, all, last, entered) in taken {
            let entered = self.begin(destination_id, last, entered, now);
            let Some(pace) = paces.get(&destination_id).filter(|pace| !pace.held) else { continue };
            if let Some(next) = pace.next_due_at {
                self.hint(destination_id, next);
            }
            if entered != Entered::All || !all {
                let again = if entered == Entered::NoMemory { now + NO_ROOM } else { now };
                self.hint(destination_id, again);
            }
            let clean = poll.clean.contains(&destination_id);
            self.catch_up(destination_id, entered == Entered::All && all, clean, now);
        }
    }

    fn ask_again(&mut self, asked: &[Ask], now: DateTime<Utc>) {
        for ask in asked {
            if let Some(lane) = self.lanes.get_mut(&ask.destination_id) {
                lane.end_reading(None);
            }
            self.hint(ask.destination_id, now + AGAIN);
        }
    }

    /// Rows of a destination enter, as far as they may; answers the last one that has.
    fn take_rows(
        &mut self,
        rows: Vec<Due>,
        came: &mut Vec<Pair>,
        now: DateTime<Utc>,
    ) -> (Option<Row>, Entered) {
        let mut last = None;
        for row in rows {
            let (place, pair) = ((row.due_at, row.event_id), (row.event_id, row.destination_id));
            let entered = if self.is_stopped() { Entered::NoRoom } else { self.take_row(row, now) };
            if entered != Entered::All {
                return (last, entered);
            }
            last = Some(place);
            came.push(pair);
        }
        (last, Entered::All)
    }

    /// What has entered starts, as far as it may.
    fn begin(
        &mut self,
        destination: DestinationId,
        last: Option<Row>,
        entered: Entered,
        now: DateTime<Utc>,
    ) -> Entered {
        let none_came = self.lanes.get_mut(&destination).is_none_or(|lane| lane.end_reading(last));
        self.advance(destination, now);
        if none_came { entered } else { Entered::NoRoom }
    }

    fn read_ahead(&mut self, came: &[Pair]) {
        let ahead = self.neighbours(came);
        if !ahead.is_empty() {
            let sender = Arc::clone(&self.shared.sender);
            tokio::spawn(async move { Neighbours::prefetch(ahead, &sender.payloads).await });
        }
    }

    /// Lets those that have entered together and lie side by side be read together, which takes about the memory that they
    /// have been given. In the order in which they are needed.
    fn neighbours(&mut self, came: &[Pair]) -> Vec<Arc<Neighbours>> {
        let waiting = |pair: &Pair| self.deliveries.get(pair)?.load.as_ref();
        let found = Neighbours::of(
            came.iter()
                .filter_map(waiting)
                .filter(|(job, _)| job.neighbours.is_none())
                .map(|(job, _)| &job.event.payload),
        );
        let mut ahead: Vec<Arc<Neighbours>> = Vec::new();
        for pair in came {
            let Some((job, _)) = self.deliveries.get_mut(pair).and_then(|delivery| delivery.load.as_mut())
            else {
                continue;
            };
            let Some(beside) = found.get(&job.event.payload.s3_key).filter(|_| job.neighbours.is_none())
            else {
                continue;
            };
            if ahead.last().is_none_or(|last| !Arc::ptr_eq(last, beside)) {
                ahead.push(Arc::clone(beside));
            }
            job.neighbours = Some(Arc::clone(beside));
        }
        ahead
    }

    fn take_row(&mut self, row: Due, now: DateTime<Utc>) -> Entered {
        let pair: Pair = (row.event_id, row.destination_id);
        if self.ended.contains(&pair) {
            // Perhaps it is an attempt that has just been made: read it again.
            self.hint(pair.1, row.due_at);
            return Entered::All;
        }
        if self.deliveries.contains_key(&pair) {
            return Entered::All;
        }
        let version = row.version;
        let job = job(row);
        let Some(room) = self.room(&job) else { return Entered::NoMemory };
        if !self.lanes.get_mut(&pair.1).is_some_and(|lane| lane.enter(pair.0, now)) {
            return Entered::NoRoom;
        }
        self.add(pair, job, Some(room), version, None);
        self.set_stage(pair, Stage::Queued);
        Entered::All
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

/// Whether rows have entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entered {
    All,
    /// There was no room in the lane for all of them.
    NoRoom,
    /// There was no room in the memory that all lanes share.
    NoMemory,
}

/// First whether they are held, then what is due: who is resumed in between has rows that are read next time.
async fn look(system: &System, poll: Poll, now: DateTime<Utc>) -> Poll {
    let ids: Vec<DestinationId> = poll.asked.iter().map(|ask| ask.destination_id).collect();
    let looked = async {
        Ok::<_, ravenpost_store::Error>((system.paces(&ids, now).await?, system.due(&poll.asked, now).await?))
    };
    match looked.await {
        Ok((paces, rows)) => Poll { paces, rows, ..poll },
        Err(error) => {
            warn!(error = &error as &dyn std::error::Error, "what is due can't be read");
            Poll { failed: true, ..poll }
        }
    }
}

pub(super) fn job(row: Due) -> Job {
    Job {
        destination_id: row.destination_id,
        run: row.run,
        attempt_number: row.attempt_number,
        unfiltered: row.unfiltered,
        previous: row.previous,
        neighbours: None,
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
            body_sha256: Some(row.body_sha256),
            body: None,
            headers: row.headers,
            relayed: false,
        }),
    }
}
