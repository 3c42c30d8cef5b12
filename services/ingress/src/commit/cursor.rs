//! Ids are drawn where batches are cut, and the cursor follows what is published (PROTOCOLS I2).

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ravenpost_chassis::{clock, random};
use ravenpost_core::ids::{EventId, EventIds};
use uuid::Uuid;

/// The ids of this run: drawn, unfinished, published.
#[derive(Default)]
pub(super) struct Cursor(Mutex<State>);

#[derive(Default)]
struct State {
    ids: EventIds,
    last: Option<EventId>,
    /// The first id of each batch in flight.
    unfinished: BTreeSet<EventId>,
    /// The lowest first id of a batch that may have been committed but not published: the cursor stays below it.
    unpublished: Option<EventId>,
}

impl Cursor {
    /// Draws the ids of a batch and registers it as unfinished, under one lock: no later batch can have a lower id
    /// and no reader of the cursor can miss this one.
    pub(super) fn cut(&self, events: usize) -> Vec<EventId> {
        let now = clock::now();
        let mut state = self.state();
        let ids: Vec<EventId> = (0..events).map(|_| state.ids.next(now, random::bytes())).collect();
        state.unfinished.extend(ids.first());
        state.last = ids.last().copied().or(state.last);
        ids
    }

    /// A batch is published, or certainly not committed.
    pub(super) fn finish(&self, first: EventId) {
        self.state().unfinished.remove(&first);
    }

    /// A batch may be committed, and is not published.
    pub(super) fn leave_unpublished(&self, first: EventId) {
        let mut state = self.state();
        state.unfinished.remove(&first);
        state.unpublished = Some(state.unpublished.map_or(first, |lowest| lowest.min(first)));
    }

    /// Everything that this run committed with an id up to this one is in Kafka; `None` while nothing was cut.
    pub(super) fn published_through(&self) -> Option<EventId> {
        let state = self.state();
        let lowest = state.unfinished.first().copied().into_iter().chain(state.unpublished).min();
        match lowest {
            Some(first) => Some(EventId(Uuid::from_u128(first.0.as_u128() - 1))),
            None => state.last,
        }
    }

    /// Nothing is committed that is not published.
    pub(super) fn is_published(&self) -> bool {
        let state = self.state();
        state.unfinished.is_empty() && state.unpublished.is_none()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_is_just_below_the_lowest_unfinished_batch() {
        let cursor = Cursor::default();
        assert_eq!(cursor.published_through(), None);
        let (first, second) = (cursor.cut(2), cursor.cut(1));
        assert!(first[0] < first[1] && first[1] < second[0]);
        assert!(cursor.published_through().unwrap() < first[0]);
        cursor.finish(second[0]);
        assert!(cursor.published_through().unwrap() < first[0], "a later batch does not overtake");
        cursor.finish(first[0]);
        assert_eq!(cursor.published_through(), Some(second[0]));
        assert!(cursor.is_published());
    }

    #[test]
    fn the_cursor_never_passes_what_may_be_committed_but_is_not_published() {
        let cursor = Cursor::default();
        let (first, second) = (cursor.cut(1), cursor.cut(1));
        cursor.leave_unpublished(first[0]);
        cursor.finish(second[0]);
        cursor.finish(cursor.cut(3)[0]);
        assert!(cursor.published_through().unwrap() < first[0]);
        assert!(!cursor.is_published());
    }
}
