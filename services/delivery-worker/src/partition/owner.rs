//! The owner's state and its rules. Nothing here waits: what takes time is started and heard of later.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use ravenpost_bus::{Lately, Message, Offsets};
use ravenpost_core::ids::{DestinationId, EndpointId, EventId, OrganizationId, Slot};
use ravenpost_store::system::{Filtered, ParkReason, Record, Routed};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::agenda::Agenda;
use super::expire::Expiry;
use super::{Pair, Report, Shared};
use crate::budget::Part;
use crate::gate::{Shut, WayOut};
use crate::lane::Lane;
use crate::send::{Attempted, Done, Job};

/// When something that could not be sent for a fault of ours is tried again.
const NOT_SENT_DUE: TimeDelta = TimeDelta::seconds(5);
/// When something is tried again whose payload is missing: nothing but a person brings it back.
const PAYLOAD_MISSING_DUE: TimeDelta = TimeDelta::minutes(1);
/// How long a send waits before it asks again whether this process may send.
const LIVE_AGAIN: Duration = Duration::from_millis(50);
/// Messages taken and not recorded: beyond it no more are taken. What is slow is parked, so this frees itself.
const MOST_OPEN: usize = 2_000;
/// Deliveries that have ended and are not recorded: beyond it no more are made. They pile up only while a store is away.
pub(super) const MOST_UNRECORDED: usize = 2_000;
/// Rows to be made or changed: beyond it no more of the schedule is read.
const MOST_PARKS: usize = 8_192;
/// Relayed events that are known: more than a relay publishes to a partition while a message of the producer may still be
/// under way.
const MOST_RELAYED: usize = 20_000;
/// How long a destination is left alone whose settings can't be read: a person has to mend them.
const UNREADABLE_RESTS: TimeDelta = TimeDelta::minutes(1);

/// Where a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// In its lane, waiting.
    Queued,
    /// In the air.
    InFlight,
    /// Over: waits to be recorded, or is being recorded.
    Settled,
    /// Left to the schedule, as soon as its row is recorded.
    PutOff,
}

/// An event on its way to a destination.
pub(super) struct Delivery {
    pub(super) organization_id: OrganizationId,
    pub(super) endpoint_id: EndpointId,
    pub(super) run: i32,
    pub(super) attempt_number: i32,
    /// What is to be sent, and what it takes of the shared memory; gone as soon as it is sent or left to the schedule.
    pub(super) load: Option<(Job, Part)>,
    pub(super) stage: Stage,
    pub(super) since: Instant,
    /// The version of its row in the schedule; 0 when it has none.
    pub(super) version: i32,
    /// A row is being made for it.
    pub(super) parking: bool,
    /// That row is due at once: what arrives later has to queue behind it.
    pub(super) parks_due: bool,
    /// The row that it has is due already.
    pub(super) row_is_due: bool,
    /// It was put off meanwhile: what that row has to say instead, as soon as it is there.
    pub(super) put_off: Option<(ParkReason, DateTime<Utc>)>,
    /// The message that waits for it.
    pub(super) offset: Option<i64>,
    /// When a person had resumed the destination, as far as was known when it was sent.
    pub(super) follows: Option<DateTime<Utc>>,
}

/// The state of a partition.
pub(super) struct Owner {
    pub(super) partition: i32,
    pub(super) epoch: i64,
    pub(super) shared: Arc<Shared>,
    pub(super) reports: mpsc::UnboundedSender<Report>,
    pub(super) lanes: HashMap<DestinationId, Lane>,
    pub(super) deliveries: HashMap<Pair, Delivery>,
    pub(super) offsets: Offsets,
    /// Messages whose event has no destination, and which wait for that to be recorded.
    pub(super) dropped: HashMap<EventId, Vec<i64>>,
    /// What is to be recorded next.
    pub(super) record: Record,
    /// What Kafka is to be told before that, beside the attempts.
    pub(super) messages: Vec<Message>,
    pub(super) recording: bool,
    /// Deliveries that have ended and are being recorded.
    pub(super) being_recorded: usize,
    /// Lanes that stand still for that.
    pub(super) halted: HashSet<DestinationId>,
    pub(super) due: Agenda,
    pub(super) polling: bool,
    /// When lanes are looked at that wait for their rate.
    pub(super) wakes: BTreeSet<(DateTime<Utc>, DestinationId)>,
    pub(super) reviewed_at: DateTime<Utc>,
    /// Lanes by what shuts them, as they were counted last.
    pub(super) counted: [i64; Shut::ALL.len()],
    /// What was relayed lately: its first copy may come after it.
    pub(super) relayed: Lately<EventId>,
    /// What has ended while due rows are being read: what was read of it may be older than its end.
    pub(super) ended: HashSet<Pair>,
    /// What is to be given up.
    pub(super) expiry: Expiry,
    stop: CancellationToken,
    /// The partition is another worker's.
    lost: bool,
    /// Where the log is to be gone on with, as it was when that became known: what a record names that did not count any
    /// more is not done with.
    resume_at: Option<i64>,
}

impl Owner {
    pub(super) fn new(
        shared: Arc<Shared>,
        partition: i32,
        epoch: i64,
        reports: mpsc::UnboundedSender<Report>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            partition,
            epoch,
            shared,
            reports,
            lanes: HashMap::new(),
            deliveries: HashMap::new(),
            offsets: Offsets::default(),
            dropped: HashMap::new(),
            record: Record::default(),
            messages: Vec::new(),
            recording: false,
            being_recorded: 0,
            halted: HashSet::new(),
            due: Agenda::default(),
            polling: false,
            wakes: BTreeSet::new(),
            reviewed_at: DateTime::UNIX_EPOCH,
            counted: [0; Shut::ALL.len()],
            relayed: Lately::new(MOST_RELAYED),
            ended: HashSet::new(),
            expiry: Expiry::default(),
            stop,
            lost: false,
            resume_at: None,
        }
    }

    /// Whether more messages may be taken.
    pub(super) fn has_room(&self) -> bool {
        self.offsets.open() < MOST_OPEN && self.unrecorded() < MOST_UNRECORDED
    }

    /// Deliveries that have ended and are not recorded.
    pub(super) fn unrecorded(&self) -> usize {
        self.being_recorded + ended(&self.record)
    }

    /// Whether there is so much to record that nothing more is read of the schedule.
    pub(super) fn is_full(&self) -> bool {
        self.unrecorded() >= MOST_UNRECORDED || self.record.parks.len() >= MOST_PARKS
    }

    /// Whether something is in the air or not yet recorded. What only waits in a lane is left to the next owner.
    pub(super) fn is_busy(&self) -> bool {
        self.recording || self.deliveries.values().any(|delivery| delivery.stage != Stage::Queued)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// See [`Offsets::committable`]; none of a partition that is lost.
    pub(super) fn committable(&mut self) -> Option<i64> {
        if self.lost { None } else { self.offsets.committable() }
    }

    /// Where the log is to be gone on with when the partition is lost; see [`Offsets::resume_at`].
    pub(super) fn resume_at(&self) -> Option<i64> {
        self.resume_at
    }

    /// A message that leads to nothing.
    pub(super) fn skip(&mut self, offset: i64) {
        self.offsets.take(offset, 0);
    }

    /// A message that waits for `parts` deliveries.
    pub(super) fn take(&mut self, offset: i64, parts: usize) {
        self.offsets.take(offset, parts);
    }

    /// A message whose event meets its destinations; without any it waits for that to be recorded.
    pub(super) fn route(&mut self, offset: i64, routed: Routed) {
        self.offsets.take(offset, routed.destinations.len().max(1));
        if routed.destinations.is_empty() {
            self.dropped.entry(routed.event_id).or_default().push(offset);
        }
        self.record.routed.push(routed);
    }

    /// A delivery that a message brought.
    pub(super) fn arrive(&mut self, job: Job, offset: i64, held: bool, now: DateTime<Utc>) {
        let pair = (job.event.id, job.destination_id);
        if self.deliveries.contains_key(&pair) {
            // The same event twice in the log: the first one does it, and its offset is the lower one.
            return self.offsets.complete(offset);
        }
        if !self.is_at_home(job.event.endpoint_id) {
            // Partitions were added since it was published: whoever owns its endpoint now finds it in the schedule.
            let reason = if held { ParkReason::Held } else { ParkReason::Parked };
            self.add(pair, job, None, 0, Some(offset));
            return self.put_off(pair, reason, now);
        }
        let room = if held { None } else { self.room(&job) };
        let lane = self.lanes.get_mut(&pair.1).filter(|_| room.is_some());
        let has_place = lane.is_some_and(|lane| lane.arrive(pair.0, now));
        self.add(pair, job, room.filter(|_| has_place), 0, Some(offset));
        if has_place {
            self.set_stage(pair, Stage::Queued);
            return self.advance(pair.1, now);
        }
        let held = held || self.lanes.get(&pair.1).is_some_and(|lane| lane.gate.shut(now) == Shut::Disabled);
        let reason = if held { ParkReason::Held } else { ParkReason::Parked };
        if held {
            // What waits in memory is older, and will be held, too.
            self.leave_to_schedule(pair.1, reason, now);
        }
        self.overflow(pair.1, now);
        self.wait_in_schedule(pair, reason, now);
    }

    /// Whether an endpoint is this partition's: then all of its destinations are governed here, and nowhere else (PROTOCOLS
    /// W1).
    pub(super) fn is_at_home(&self, endpoint: EndpointId) -> bool {
        Slot::of(endpoint).partition(self.shared.partitions) == self.partition
    }

    /// What it takes of the shared memory until it is sent; `None` when that is not to be had now.
    pub(super) fn room(&self, job: &Job) -> Option<Part> {
        let event = &job.event;
        let body = match &event.body {
            Some(body) => body.len(),
            // It may be read together with its neighbours, before it is needed.
            None if event.payload.is_in_segment() => {
                usize::try_from(event.payload.s3_length).unwrap_or(usize::MAX)
            }
            None => 0,
        };
        self.shared.sender.budget.room(event.organization_id, event.headers.len() + body)
    }

    /// Takes a delivery in: one that a message brought, or one that is due by the row of that version. Without room it is
    /// left to the schedule.
    pub(super) fn add(
        &mut self,
        pair: Pair,
        job: Job,
        room: Option<Part>,
        version: i32,
        offset: Option<i64>,
    ) {
        if let Some(lane) = self.lanes.get_mut(&pair.1) {
            lane.know();
        }
        let delivery = Delivery {
            organization_id: job.event.organization_id,
            endpoint_id: job.event.endpoint_id,
            run: job.run,
            attempt_number: job.attempt_number,
            load: room.map(|room| (job, room)),
            stage: Stage::Settled,
            since: Instant::now(),
            version,
            parking: false,
            parks_due: false,
            row_is_due: version > 0,
            put_off: None,
            offset,
            follows: None,
        };
        self.deliveries.insert(pair, delivery);
    }

    /// Forgets a delivery.
    pub(super) fn remove(&mut self, pair: Pair) -> Option<Delivery> {
        let delivery = self.deliveries.remove(&pair)?;
        if let Some(lane) = self.lanes.get_mut(&pair.1) {
            lane.forget();
        }
        Some(delivery)
    }

    /// Something waits in the schedule.
    pub(super) fn hint(&mut self, destination: DestinationId, due_at: DateTime<Utc>) {
        self.due.add(destination, due_at);
        if let Some(lane) = self.lanes.get_mut(&destination) {
            lane.expect(due_at);
        }
    }

    /// What something else reports.
    pub(super) fn hear(&mut self, report: Report, now: DateTime<Utc>) {
        match report {
            Report::Done(pair, done) => self.done(pair, done, now),
            Report::Due(poll) => self.take_due(poll, now),
            Report::Expiring(page) => self.take_expiring(page, now),
            Report::Recorded(recorded) => self.recorded(&recorded),
        }
    }

    /// The partition belongs to another worker: what is in the air may finish and is recorded, nothing else happens.
    pub(super) fn lose(&mut self) {
        if self.lost {
            return;
        }
        warn!(partition = self.partition, epoch = self.epoch, "the partition belongs to another worker now");
        self.lost = true;
        self.resume_at = self.offsets.resume_at();
        self.stop.cancel();
    }

    /// Looks at what is slow, and counts.
    pub(super) fn tick(&mut self, instant: Instant, now: DateTime<Utc>) {
        self.park_slow(instant, now);
        self.review_lanes(now);
    }

    pub(super) fn start(&mut self, pair: Pair) {
        self.set_stage(pair, Stage::InFlight);
        let follows = self.lanes.get(&pair.1).and_then(|lane| lane.gate.health().follows);
        let Some(delivery) = self.deliveries.get_mut(&pair) else { return };
        delivery.follows = follows;
        let Some((job, room)) = delivery.load.take() else { return };
        let (shared, reports, stop) = (Arc::clone(&self.shared), self.reports.clone(), self.stop.clone());
        tokio::spawn(async move {
            let attempt = AssertUnwindSafe(attempt(&shared, &stop, job)).catch_unwind();
            let done = attempt.await.unwrap_or_else(|_| {
                error!("an attempt panicked; it is made again");
                Done::NotSent
            });
            drop(room);
            // Nobody listens any more when the owner has lost the partition.
            let _ = reports.send(Report::Done(pair, done));
        });
    }

    fn done(&mut self, pair: Pair, done: Done, now: DateTime<Utc>) {
        self.set_stage(pair, Stage::Settled);
        if let Some(lane) = self.lanes.get_mut(&pair.1) {
            lane.leave(now);
        }
        match done {
            Done::Attempted(attempted) => {
                let Attempted { attempt, signal, letter } = *attempted;
                self.listen(pair, attempt.endpoint_id, signal, now);
                self.record.attempts.push(attempt);
                self.messages.extend(letter);
            }
            Done::Cancelled => self.record.cancelled.push(pair),
            Done::Filtered => self.refuse(pair),
            Done::Held => {
                self.wait_in_schedule(pair, ParkReason::Held, now);
                // Sent now, what waits behind it would overtake it.
                self.leave_to_schedule(pair.1, ParkReason::Held, now);
            }
            Done::NotSent => self.put_off(pair, ParkReason::Parked, now + NOT_SENT_DUE),
            Done::NoWayOut(why) => self.stay(pair, &why, now),
            Done::Unreadable => {
                if let Some(lane) = self.lanes.get_mut(&pair.1) {
                    lane.gate.rest_until(now + UNREADABLE_RESTS);
                }
                self.leave_all(pair, now);
            }
            Done::PayloadMissing => {
                self.shared.metrics.payloads_missing.inc();
                self.put_off(pair, ParkReason::Parked, now + PAYLOAD_MISSING_DUE);
            }
        }
        self.advance(pair.1, now);
    }

    /// It did not get out. When nothing does, all that its destination has waits in the schedule.
    fn stay(&mut self, pair: Pair, why: &str, now: DateTime<Utc>) {
        let until = now + NOT_SENT_DUE;
        let before = self.lanes.get_mut(&pair.1).map_or(WayOut::Open, |lane| lane.gate.lose_way_out(until));
        if before == WayOut::Open {
            return self.put_off(pair, ParkReason::Parked, until);
        }
        if before == WayOut::Doubted {
            warn!(destination_id = %pair.1, why, "there is no way out: what could not be sent is tried again");
        }
        self.leave_all(pair, now);
    }

    /// All that its destination has waits in the schedule while it rests.
    fn leave_all(&mut self, pair: Pair, now: DateTime<Utc>) {
        self.wait_in_schedule(pair, ParkReason::Parked, now);
        self.leave_to_schedule(pair.1, ParkReason::Parked, now);
    }

    /// The destination does not want it.
    fn refuse(&mut self, pair: Pair) {
        let run = self.deliveries.get(&pair).map_or(0, |delivery| delivery.run);
        self.record.filtered.push(Filtered { event_id: pair.0, destination_id: pair.1, run, version: 0 });
    }

    /// The only place where a stage changes, so that the gauges agree.
    pub(super) fn set_stage(&mut self, pair: Pair, stage: Stage) {
        let Some(delivery) = self.deliveries.get_mut(&pair) else { return };
        let before = std::mem::replace(&mut delivery.stage, stage);
        let metrics = &self.shared.metrics;
        let gauge = |stage| match stage {
            Stage::Queued => Some(&metrics.queued),
            Stage::InFlight => Some(&metrics.in_flight),
            Stage::Settled | Stage::PutOff => None,
        };
        if let Some(gauge) = gauge(before) {
            gauge.dec();
        }
        if let Some(gauge) = gauge(stage) {
            gauge.inc();
        }
    }
}

/// How many deliveries it ends.
pub(super) fn ended(record: &Record) -> usize {
    record.attempts.len() + record.cancelled.len() + record.filtered.len()
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.count_lanes([0; Shut::ALL.len()]);
        let left: Vec<Pair> = self.deliveries.keys().copied().collect();
        for pair in left {
            self.set_stage(pair, Stage::Settled);
        }
    }
}

/// Waits for its turn (PROTOCOLS W10) and until this process may send (W2), then does.
async fn attempt(shared: &Shared, stop: &CancellationToken, job: Job) -> Done {
    let turn = shared.sender.budget.request(job.event.organization_id);
    let Some(_turn) = stop.run_until_cancelled(turn).await else { return Done::NotSent };
    while !shared.liveness.is_live() {
        if stop.run_until_cancelled(tokio::time::sleep(LIVE_AGAIN)).await.is_none() {
            return Done::NotSent;
        }
    }
    shared.sender.attempt(job).await
}
