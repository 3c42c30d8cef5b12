//! One destination's lane: how much is under way to it and how much waits in memory. Both are bounded, so that a
//! destination that is slow or flooded takes nothing from others.

use std::collections::VecDeque;

use ravenpost_core::ids::EventId;

use crate::settings::LaneSettings;

/// Where a delivery goes when it meets its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Send it now.
    Start,
    /// It waits in memory for its turn.
    Queued,
    /// No room: it is to be parked.
    Full,
}

/// A destination's lane.
#[derive(Debug, Default)]
pub struct Lane {
    running: usize,
    queue: VecDeque<EventId>,
}

impl Lane {
    /// Takes a delivery in, if there is room.
    pub fn enter(&mut self, event: EventId, bounds: LaneSettings) -> Place {
        if self.running < usize::from(bounds.lane_concurrency) && self.queue.is_empty() {
            self.running += 1;
            Place::Start
        } else if self.queue.len() < usize::from(bounds.lane_queue) {
            self.queue.push_back(event);
            Place::Queued
        } else {
            Place::Full
        }
    }

    /// A request came back: the next delivery takes its place.
    pub fn leave(&mut self) -> Option<EventId> {
        let next = self.queue.pop_front();
        if next.is_none() {
            self.running -= 1;
        }
        next
    }

    /// Takes a waiting delivery out, since it was parked.
    pub fn withdraw(&mut self, event: EventId) {
        self.queue.retain(|waiting| *waiting != event);
    }

    /// Takes out everything that waits, in its order.
    pub fn drain(&mut self) -> Vec<EventId> {
        self.queue.drain(..).collect()
    }

    /// How many more deliveries may enter.
    pub fn room(&self, bounds: LaneSettings) -> usize {
        let most = usize::from(bounds.lane_concurrency) + usize::from(bounds.lane_queue);
        most.saturating_sub(self.running + self.queue.len())
    }

    /// How many are in it, under way or waiting.
    pub fn len(&self) -> usize {
        self.running + self.queue.len()
    }

    /// Nothing is under way and nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_queues_and_overflows_in_this_order() {
        let bounds = LaneSettings { lane_concurrency: 1, lane_queue: 2 };
        let event = |number: u128| EventId(uuid::Uuid::from_u128(number));
        let mut lane = Lane::default();
        assert_eq!(lane.room(bounds), 3);
        let places: Vec<_> = (1..=4).map(|number| lane.enter(event(number), bounds)).collect();
        assert_eq!(places, [Place::Start, Place::Queued, Place::Queued, Place::Full]);
        lane.withdraw(event(2));
        assert_eq!(lane.leave(), Some(event(3)));
        assert_eq!(lane.len(), 1);
        assert_eq!(lane.enter(event(5), bounds), Place::Queued);
        assert_eq!(lane.enter(event(6), bounds), Place::Queued);
        assert_eq!(lane.drain(), [event(5), event(6)]);
        assert_eq!(lane.leave(), None);
        assert!(lane.is_empty());
    }
}
