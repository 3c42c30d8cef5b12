//! What has arrived, by event: when for the first time, where, and how often. Bounded, and bodies are not kept.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ravenpost_testkit::receiver::Received;
use uuid::Uuid;

/// Most events of which is remembered that they have arrived, some 100 MiB. A bench whose run sends more fails.
const MOST: usize = 1_000_000;

/// The arrivals of one event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) first: Instant,
    /// Since the Unix epoch, the last time.
    pub(crate) last_at: Duration,
    pub(crate) times: u32,
    /// Which of the paths that were seen.
    path: usize,
}

#[derive(Debug, Default)]
struct Seen {
    arrivals: HashMap<Uuid, Arrival>,
    paths: Vec<String>,
    /// Requests that could not be remembered: without an id, or one too many.
    lost: u64,
}

/// Everything since it was last forgotten.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(Mutex<Seen>);

impl Arrivals {
    /// Remembers a request; tells its event, and how often that has arrived, this time included.
    pub(crate) fn observe(&self, received: &Received) -> Option<(Uuid, u32)> {
        let now = Instant::now();
        let id = received.header("webhook-id").and_then(|id| Uuid::try_parse(id).ok());
        let mut seen = self.lock();
        let Some(id) = id.filter(|id| seen.arrivals.len() < MOST || seen.arrivals.contains_key(id)) else {
            seen.lost += 1;
            return None;
        };
        let path = seen.path(&received.path);
        let new = Arrival { first: now, last_at: received.at, times: 0, path };
        let arrival = seen.arrivals.entry(id).or_insert(new);
        arrival.times += 1;
        arrival.last_at = received.at;
        Some((id, arrival.times))
    }

    /// Those of these events that have not arrived.
    pub(crate) fn missing(&self, ids: &[Uuid]) -> Vec<Uuid> {
        let seen = self.lock();
        ids.iter().filter(|id| !seen.arrivals.contains_key(id)).copied().collect()
    }

    /// The arrivals of an event.
    pub(crate) fn of(&self, id: Uuid) -> Option<Arrival> {
        self.lock().arrivals.get(&id).copied()
    }

    /// The arrivals of an event, when they were at this path.
    pub(crate) fn at(&self, path: &str, id: Uuid) -> Option<Arrival> {
        let seen = self.lock();
        let arrival = seen.arrivals.get(&id)?;
        (seen.paths.get(arrival.path).is_some_and(|seen| seen == path)).then_some(*arrival)
    }

    /// How many events have arrived.
    pub(crate) fn count(&self) -> usize {
        self.lock().arrivals.len()
    }

    /// Requests that could not be remembered.
    pub(crate) fn lost(&self) -> u64 {
        self.lock().lost
    }

    /// How many requests were more than the first one of their event.
    pub(crate) fn repeated(&self) -> u64 {
        self.lock().arrivals.values().map(|arrival| u64::from(arrival.times) - 1).sum()
    }

    /// Begins anew.
    pub(crate) fn forget(&self) {
        self.lock().arrivals.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn path(&mut self, path: &str) -> usize {
        self.paths.iter().position(|seen| seen == path).unwrap_or_else(|| {
            self.paths.push(path.to_owned());
            self.paths.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::HeaderMap;

    use super::*;

    fn received(id: &str, path: &str) -> Received {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", id.parse().unwrap());
        let (method, path) = ("POST".to_owned(), path.to_owned());
        let at = Duration::from_secs(7);
        Received { method, path, headers, body: "".into(), at, answered: Arc::default() }
    }

    #[test]
    fn events_are_told_apart_and_counted() {
        let arrivals = Arrivals::default();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(arrivals.observe(&received(&one.to_string(), "/a")), Some((one, 1)));
        assert_eq!(arrivals.observe(&received(&one.to_string(), "/a")), Some((one, 2)));
        assert_eq!(arrivals.observe(&received("nobody", "/a")), None);
        assert_eq!(arrivals.missing(&[one, other]), [other]);
        assert_eq!((arrivals.count(), arrivals.repeated(), arrivals.lost()), (1, 1, 1));
        assert!(arrivals.at("/a", one).is_some() && arrivals.at("/b", one).is_none());
        arrivals.forget();
        assert_eq!(arrivals.missing(&[one]), [one]);
    }
}
