//! What waits in the schedule instead of in memory: rows for what finds no room, is slow, or is in the air when the partition
//! changes hands (PROTOCOLS W4).

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use ravenpost_chassis::clock;
use ravenpost_core::ids::DestinationId;
use ravenpost_store::system::{Park, ParkReason};

use super::Pair;
use super::owner::{Delivery, Owner, Stage};
use crate::lane::Lane;

/// What is unfinished after so long gets a row in the schedule, so that offsets never wait (PROTOCOLS W4).
const PARK_AFTER: Duration = Duration::from_secs(1);
/// The row of an attempt that is still in the air is due so long after its deadline.
const IN_FLIGHT_MARGIN: Duration = Duration::from_secs(10);

impl Owner {
    /// Leaves a delivery to the schedule until its destination may be sent to: by a new row, or by the one that it has,
    /// which stays as it is.
    pub(super) fn wait_in_schedule(&mut self, pair: Pair, reason: ParkReason, now: DateTime<Utc>) {
        if self.deliveries.get(&pair).is_some_and(|delivery| delivery.row_is_due) {
            self.set_stage(pair, Stage::PutOff);
            self.remove(pair);
            if let Some(lane) = self.lanes.get_mut(&pair.1) {
                lane.read_again();
            }
            self.hint_parked(pair.1, reason, now);
        } else {
            self.put_off(pair, reason, now);
        }
    }

    /// Leaves a delivery to the schedule, due then.
    pub(super) fn put_off(&mut self, pair: Pair, reason: ParkReason, due_at: DateTime<Utc>) {
        self.set_stage(pair, Stage::PutOff);
        self.deliveries.entry(pair).and_modify(|delivery| delivery.load = None);
        self.give_row(pair, reason, due_at);
    }

    /// Writes the delivery's row. While one is being written, for an attempt that was in the air, it is written again
    /// afterwards: nothing is in the air any more.
    pub(super) fn give_row(&mut self, pair: Pair, reason: ParkReason, due_at: DateTime<Utc>) {
        let Some(delivery) = self.deliveries.get_mut(&pair) else { return };
        if delivery.parking {
            delivery.put_off = Some((reason, due_at));
            return;
        }
        delivery.parking = true;
        delivery.parks_due = delivery.stage == Stage::PutOff && due_at <= clock::now();
        let parks_due = delivery.parks_due;
        self.record.parks.push(park(pair, delivery, reason, due_at));
        self.shared.metrics.parked(reason);
        if let Some(lane) = self.lanes.get_mut(&pair.1).filter(|_| parks_due) {
            lane.wait_for_record();
        }
    }

    /// What is held comes back by the sweep, once somebody resumes it.
    pub(super) fn hint_parked(
        &mut self,
        destination_id: DestinationId,
        reason: ParkReason,
        due_at: DateTime<Utc>,
    ) {
        if reason != ParkReason::Held {
            self.hint(destination_id, due_at);
        }
    }

    /// Gives what brought a message and is not finished after a second a row in the schedule. What was read from there goes
    /// back to it, once: so much of it was too much.
    pub(super) fn park_slow(&mut self, instant: Instant, now: DateTime<Utc>) {
        let is_slow = |delivery: &Delivery| {
            delivery.stage != Stage::Settled
                && delivery.stage != Stage::PutOff
                && !delivery.parking
                && (delivery.version == 0 || delivery.stage == Stage::Queued)
                && instant.saturating_duration_since(delivery.since) > PARK_AFTER
        };
        let slow = self.deliveries.iter().filter(|(_, delivery)| is_slow(delivery));
        let slow: Vec<(Pair, Stage)> = slow.map(|(pair, delivery)| (*pair, delivery.stage)).collect();
        for (pair, stage) in slow {
            if stage == Stage::Queued {
                let has_row = self.deliveries.get(&pair).is_some_and(|delivery| delivery.version > 0);
                let news = self.lanes.get_mut(&pair.1).is_some_and(Lane::crowd);
                if news || !has_row {
                    // What waits behind it would overtake it.
                    self.leave_to_schedule(pair.1, ParkReason::Parked, now);
                }
            } else {
                self.give_row_in_flight(pair, now);
            }
        }
    }

    /// Gives everything in the air a row that is not due yet: the next owner finds that, and does not send it a second
    /// time. A retry or a replay has one, which is due since it was taken from there.
    pub(super) fn park_in_flight(&mut self, now: DateTime<Utc>) {
        let is_bare = |delivery: &Delivery| {
            delivery.stage == Stage::InFlight
                && !delivery.parking
                && (delivery.version == 0 || delivery.row_is_due)
        };
        let bare = self.deliveries.iter().filter(|(_, delivery)| is_bare(delivery));
        let bare: Vec<Pair> = bare.map(|(pair, _)| *pair).collect();
        for pair in bare {
            self.give_row_in_flight(pair, now);
        }
    }

    /// Its row is due when no attempt can be in the air any more.
    fn give_row_in_flight(&mut self, pair: Pair, now: DateTime<Utc>) {
        let timeout = self.lanes.get(&pair.1).map_or(Duration::ZERO, |lane| lane.gate.timeout());
        self.give_row(pair, ParkReason::Parked, now + timeout + IN_FLIGHT_MARGIN);
    }
}

fn park(pair: Pair, delivery: &Delivery, reason: ParkReason, due_at: DateTime<Utc>) -> Park {
    Park {
        event_id: pair.0,
        destination_id: pair.1,
        organization_id: delivery.organization_id,
        endpoint_id: delivery.endpoint_id,
        run: delivery.run,
        attempt_number: delivery.attempt_number,
        version: delivery.version,
        due_at,
        reason,
    }
}
