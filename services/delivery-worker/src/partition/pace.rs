//! Lanes and their gates: who is met, who may start, and what a destination's answer changes.

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_bus::Message;
use ravenpost_chassis::random;
use ravenpost_core::delivery::Signal;
use ravenpost_core::ids::{DeliveryId, DestinationId, EndpointId};
use ravenpost_core::pacing::{DestinationEvent, DestinationReport, Turn};
use ravenpost_store::system::{DestinationState, Pace, PaceSettings, ParkReason};
use tracing::{info, warn};

use super::owner::{MOST_UNRECORDED, Owner};
use super::{Hint, Pair};
use crate::gate::{Gate, Shut};
use crate::lane::Lane;
use crate::record::encoded;

/// How often lanes are counted, and those forgotten that nobody uses.
const REVIEW_EVERY: TimeDelta = TimeDelta::seconds(1);
/// A lane that nobody has used for so long is forgotten, and as soon as it is idle when there are many.
const FORGOTTEN_AFTER: TimeDelta = TimeDelta::minutes(10);
const MANY: usize = 10_000;

impl Owner {
    /// Those of `destinations` that have no lane yet: how they fare is not known.
    pub(super) fn unmet(&self, destinations: impl Iterator<Item = DestinationId>) -> Vec<DestinationId> {
        let mut unmet: Vec<_> = destinations.filter(|id| !self.lanes.contains_key(id)).collect();
        unmet.sort_unstable();
        unmet.dedup();
        unmet
    }

    /// A destination and what is stored of it. What is known here of one that was met before is newer.
    pub(super) fn meet(&mut self, pace: &Pace, now: DateTime<Utc>) {
        if self.lanes.contains_key(&pace.destination_id) {
            return self.configure(pace.destination_id, pace.settings, now);
        }
        let pacing = self.shared.pacing;
        let gate = Gate::new(pacing, pace, now);
        let queue = usize::from(pacing.lane_queue);
        let lane = Lane::new(gate, pace.organization_id, queue, pace.behind, now);
        self.lanes.insert(pace.destination_id, lane);
        if pace.behind {
            self.hint(pace.destination_id, now);
        }
    }

    /// A destination's settings were read again.
    pub(super) fn configure(
        &mut self,
        destination: DestinationId,
        settings: PaceSettings,
        now: DateTime<Utc>,
    ) {
        if let Some(lane) = self.lanes.get_mut(&destination) {
            lane.gate.configure(settings, now);
        }
    }

    /// What the sweep has found.
    pub(super) fn heed(&mut self, hint: Hint, now: DateTime<Utc>) {
        let Hint { destination_id, due_at, resumed_at } = hint;
        let lane = self.lanes.get_mut(&destination_id);
        if lane.is_some_and(|lane| lane.gate.follow(resumed_at)) {
            self.shared.metrics.turned("resumed");
            self.advance(destination_id, now);
        }
        self.due.add(destination_id, due_at);
        if let Some(lane) = self.lanes.get_mut(&destination_id) {
            lane.expect_unless_known(due_at, now);
        }
    }

    /// Starts what may start now, oldest first, and remembers when to look again.
    pub(super) fn advance(&mut self, destination: DestinationId, now: DateTime<Utc>) {
        if self.unrecorded() >= MOST_UNRECORDED {
            self.halted.insert(destination);
            return;
        }
        while !self.is_stopped()
            && let Some(event) = self.lanes.get_mut(&destination).and_then(|lane| lane.start_next(now))
        {
            self.start((event, destination));
        }
        if let Some(at) = self.lanes.get_mut(&destination).and_then(|lane| lane.wake(now)) {
            self.shared.metrics.rate_waits.inc();
            self.wakes.insert((at, destination));
        }
        if self.lanes.get_mut(&destination).is_some_and(|lane| lane.is_fed(now)) {
            self.hint(destination, now);
        }
    }

    /// When something may start that has to wait for its rate.
    pub(super) fn next_wake(&self) -> Option<DateTime<Utc>> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// Looks at those whose time has come.
    pub(super) fn wake(&mut self, now: DateTime<Utc>) {
        while let Some((_, destination)) = self.wakes.first().copied().filter(|(at, _)| *at <= now) {
            self.wakes.pop_first();
            self.advance(destination, now);
        }
    }

    /// What an answer tells of its destination gates its lane from now on, and is recorded with the attempt. Of one that
    /// was sent before a person resumed the destination it tells nothing.
    pub(super) fn listen(&mut self, pair: Pair, endpoint: EndpointId, signal: Signal, now: DateTime<Utc>) {
        let Some(lane) = self.lanes.get_mut(&pair.1) else { return };
        if self.deliveries.get(&pair).is_some_and(|sent| sent.follows != lane.gate.health().follows) {
            return;
        }
        let before = lane.gate.shut(now);
        let turn = lane.gate.hear(signal, now);
        let after = lane.gate.shut(now);
        if let Some(health) = lane.gate.to_store(now) {
            let (destination_id, organization_id) = (pair.1, lane.organization_id);
            self.record.set_state(DestinationState {
                destination_id,
                organization_id,
                health,
                updated_at: now,
            });
        }
        if let Some(turn) = turn {
            self.tell_turn(pair.1, endpoint, turn, now);
        }
        if before != after {
            self.tell_gate(pair.1, before, after);
        }
        if self.lanes.get(&pair.1).is_some_and(|lane| lane.is_shut(now)) {
            self.leave_to_schedule(pair.1, ParkReason::Parked, now);
        }
    }

    /// Leaves everything that waits in a lane's memory to the schedule.
    pub(super) fn leave_to_schedule(
        &mut self,
        destination: DestinationId,
        reason: ParkReason,
        now: DateTime<Utc>,
    ) {
        let Some(lane) = self.lanes.get_mut(&destination) else { return };
        let reason = if lane.gate.shut(now) == Shut::Disabled { ParkReason::Held } else { reason };
        for event in lane.fall_behind() {
            self.wait_in_schedule((event, destination), reason, now);
        }
    }

    /// A lane has no room: what arrives goes into the schedule, as does what has arrived after what is there.
    pub(super) fn overflow(&mut self, destination: DestinationId, now: DateTime<Utc>) {
        let Some(lane) = self.lanes.get_mut(&destination) else { return };
        for event in lane.overflow() {
            self.wait_in_schedule((event, destination), ParkReason::Parked, now);
        }
    }

    fn tell_gate(&self, destination_id: DestinationId, before: Shut, after: Shut) {
        if after == Shut::SlowStart && before == Shut::Not {
            return;
        }
        self.shared.metrics.turned(after.as_str());
        info!(%destination_id, before = before.as_str(), after = after.as_str(), "a destination's gate moves");
    }

    /// Its owner is to hear of it: told before it is recorded.
    fn tell_turn(
        &mut self,
        destination_id: DestinationId,
        endpoint_id: EndpointId,
        turn: Turn,
        now: DateTime<Utc>,
    ) {
        let Some(lane) = self.lanes.get(&destination_id) else { return };
        let failing_since = lane.gate.health().failing_since;
        let (destination_event, disabled_reason) = match turn {
            Turn::Warned => (DestinationEvent::Warned, None),
            Turn::Disabled(reason) => (DestinationEvent::Disabled, Some(reason)),
        };
        let ends = lane.gate.disable_after().zip(failing_since);
        let disabled_at_earliest =
            ends.filter(|_| turn == Turn::Warned).map(|(after, since)| (since + after).max(now + after / 4));
        match disabled_reason {
            None => {
                self.shared.metrics.turned("warned");
                warn!(%destination_id, "a destination fails only, and will be disabled");
            }
            Some(reason) => warn!(%destination_id, reason = reason.as_str(), "a destination was disabled"),
        }
        let report = DestinationReport {
            id: DeliveryId::new(now, random::bytes()),
            organization_id: lane.organization_id,
            endpoint_id,
            destination_id,
            destination_event,
            disabled_reason,
            failing_since,
            disabled_at_earliest,
            happened_at: now,
        };
        self.messages.extend(encoded(Message::destination_report(&report)));
    }

    /// Counts lanes by their gates, and forgets those that nobody has used for long.
    pub(super) fn review_lanes(&mut self, now: DateTime<Utc>) {
        if now < self.reviewed_at + REVIEW_EVERY {
            return;
        }
        self.reviewed_at = now;
        let long = if self.lanes.len() > MANY { REVIEW_EVERY } else { FORGOTTEN_AFTER };
        self.lanes.retain(|_, lane| !lane.is_idle(long, now));
        let mut counts = [0_i64; Shut::ALL.len()];
        for lane in self.lanes.values() {
            counts[lane.gate.shut(now) as usize] += 1;
        }
        self.count_lanes(counts);
    }

    /// Owners share the gauges: each moves them by what has changed of its own.
    pub(super) fn count_lanes(&mut self, counts: [i64; Shut::ALL.len()]) {
        for (shut, (now, before)) in Shut::ALL.iter().zip(counts.iter().zip(&self.counted)) {
            self.shared.metrics.lanes(*shut, now - before);
        }
        self.counted = counts;
    }
}
