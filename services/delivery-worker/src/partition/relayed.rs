//! What was relayed lately. Its first copy, which counts as failed, may still come after it (PROTOCOLS W3).

use std::collections::{HashSet, VecDeque};

use ravenpost_core::ids::EventId;

/// More than a relay publishes to a partition while a message of the producer may still be under way.
const MOST: usize = 20_000;

/// The latest ids that were relayed.
#[derive(Default)]
pub(super) struct Relayed {
    ids: HashSet<EventId>,
    order: VecDeque<EventId>,
}

impl Relayed {
    /// From now on it is known, until many others have come.
    pub(super) fn remember(&mut self, id: EventId) {
        if self.ids.insert(id) {
            self.order.push_back(id);
        }
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }

    /// Whether it was relayed lately.
    pub(super) fn contains(&self, id: EventId) -> bool {
        self.ids.contains(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn the_latest_are_known_and_no_more() {
        let mut relayed = Relayed::default();
        let id = |number: usize| EventId(Uuid::from_u128(number as u128));
        for number in 0..=MOST {
            relayed.remember(id(number));
            relayed.remember(id(number));
        }
        assert!(!relayed.contains(id(0)));
        assert!(relayed.contains(id(1)) && relayed.contains(id(MOST)));
        assert_eq!((relayed.ids.len(), relayed.order.len()), (MOST, MOST));
    }
}
