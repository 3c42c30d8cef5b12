//! When something is due next, by destination, the earliest first (PROTOCOLS W7).

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use ravenpost_core::ids::DestinationId;

/// At most one time for each destination.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    times: HashMap<DestinationId, DateTime<Utc>>,
    order: BTreeSet<(DateTime<Utc>, DestinationId)>,
}

impl Agenda {
    /// Something is due then, or earlier, as far as is known.
    pub(super) fn add(&mut self, destination: DestinationId, due_at: DateTime<Utc>) {
        if self.times.get(&destination).is_some_and(|known| *known <= due_at) {
            return;
        }
        self.remove(destination);
        self.times.insert(destination, due_at);
        self.order.insert((due_at, destination));
    }

    /// Forgets a destination.
    pub(super) fn remove(&mut self, destination: DestinationId) {
        if let Some(due_at) = self.times.remove(&destination) {
            self.order.remove(&(due_at, destination));
        }
    }

    /// When the first one is due.
    pub(super) fn first(&self) -> Option<DateTime<Utc>> {
        self.order.first().map(|(due_at, _)| *due_at)
    }

    /// Whoever is due, whoever has waited longest first.
    pub(super) fn ripe(&self, now: DateTime<Utc>) -> impl Iterator<Item = DestinationId> {
        self.order.iter().take_while(move |(due_at, _)| *due_at <= now).map(|(_, destination)| *destination)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use uuid::Uuid;

    #[test]
    fn the_earliest_time_counts_and_the_longest_wait_comes_first() {
        let (now, second) = (DateTime::UNIX_EPOCH, TimeDelta::seconds(1));
        let [a, b] = [1, 2].map(|number| DestinationId::from(Uuid::from_u128(number)));
        let mut agenda = Agenda::default();
        agenda.add(a, now + second);
        agenda.add(b, now + second * 2);
        agenda.add(b, now);
        agenda.add(a, now + second * 3);
        assert_eq!(agenda.first(), Some(now));
        assert_eq!(agenda.ripe(now).collect::<Vec<_>>(), [b]);
        assert_eq!(agenda.ripe(now + second).collect::<Vec<_>>(), [b, a]);
        agenda.remove(b);
        assert_eq!((agenda.first(), agenda.ripe(now).count()), (Some(now + second), 0));
    }
}
