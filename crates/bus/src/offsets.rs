//! Which offset may be committed: the last one before which everything is recorded (invariant 2).

use std::collections::BTreeMap;

/// The offsets of one partition that are not recorded yet.
#[derive(Debug, Default)]
pub struct Offsets {
    /// What each open offset still waits for.
    open: BTreeMap<i64, usize>,
    /// The highest offset taken.
    highest: Option<i64>,
    /// The last offset given out as committable.
    committed: Option<i64>,
}

impl Offsets {
    /// Takes a message that waits for `parts` records; none is done at once.
    pub fn take(&mut self, offset: i64, parts: usize) {
        self.highest = self.highest.max(Some(offset));
        if parts > 0 {
            self.open.insert(offset, parts);
        }
    }

    /// One part of the message is recorded.
    pub fn complete(&mut self, offset: i64) {
        if let Some(parts) = self.open.get_mut(&offset) {
            *parts -= 1;
            if *parts == 0 {
                self.open.remove(&offset);
            }
        }
    }

    /// The highest offset up to which everything is recorded, if it has moved since the last call.
    pub fn committable(&mut self) -> Option<i64> {
        let through = match self.open.first_key_value() {
            Some((first, _)) => first.checked_sub(1),
            None => self.highest,
        };
        if through <= self.committed {
            return None;
        }
        self.committed = through;
        through
    }

    /// The first offset that is not recorded: where to go on; `None` when nothing was taken.
    pub fn resume_at(&self) -> Option<i64> {
        match self.open.first_key_value() {
            Some((first, _)) => Some(*first),
            None => self.highest.map(|highest| highest + 1),
        }
    }

    /// Messages taken and not recorded.
    pub fn open(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_committed_past_what_is_open() {
        let mut offsets = Offsets::default();
        assert_eq!(offsets.committable(), None);
        offsets.take(10, 1);
        offsets.take(11, 2);
        offsets.take(12, 0);
        assert_eq!(offsets.committable(), Some(9));
        offsets.complete(11);
        assert_eq!(offsets.committable(), None);
        assert_eq!(offsets.resume_at(), Some(10));
        offsets.complete(10);
        assert_eq!(offsets.committable(), Some(10));
        offsets.complete(11);
        assert_eq!(offsets.committable(), Some(12));
        assert_eq!(offsets.committable(), None);
        assert_eq!((offsets.open(), offsets.resume_at()), (0, Some(13)));
    }

    #[test]
    fn an_unknown_offset_changes_nothing() {
        let mut offsets = Offsets::default();
        offsets.take(5, 1);
        offsets.complete(4);
        offsets.complete(6);
        assert_eq!(offsets.committable(), Some(4));
        assert_eq!(offsets.open(), 1);
    }
}
