//! What was met lately: messages may come twice, and the second time soon after the first.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

/// The latest ones, up to a number.
#[derive(Debug)]
pub struct Lately<T> {
    most: usize,
    met: HashSet<T>,
    order: VecDeque<T>,
}

impl<T: Copy + Eq + Hash> Lately<T> {
    /// Remembers up to `most`.
    pub fn new(most: usize) -> Self {
        Self { most, met: HashSet::new(), order: VecDeque::new() }
    }

    /// From now on it is known, until as many others have come. `true` when it was not.
    pub fn remember(&mut self, one: T) -> bool {
        let news = self.met.insert(one);
        if news {
            self.order.push_back(one);
        }
        if self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.met.remove(&oldest);
        }
        news
    }

    /// Whether it was met lately.
    pub fn contains(&self, one: &T) -> bool {
        self.met.contains(one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_known_and_no_more() {
        let mut lately = Lately::new(3);
        for number in 0..=3 {
            assert!(lately.remember(number));
            assert!(!lately.remember(number));
        }
        assert!(!lately.contains(&0));
        assert!(lately.contains(&1) && lately.contains(&3));
        assert_eq!((lately.met.len(), lately.order.len()), (3, 3));
    }
}
