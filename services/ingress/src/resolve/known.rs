//! One remembered endpoint: fresh, to be read again, or all there is while the store is away.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ravenpost_store::system::Endpoint;

/// When an endpoint was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Before it was read.
    pub(super) at: Instant,
    /// How many upheavals had been heard of then.
    pub(super) upheavals: u64,
    /// It may have changed since.
    pub(super) outdated: bool,
}

/// What is remembered of a token.
pub(super) struct Known {
    state: Mutex<State>,
    /// Held by the one request that reads it again.
    pub(super) reading: tokio::sync::Mutex<()>,
}

struct State {
    endpoint: Arc<Endpoint>,
    seen: Seen,
    failed: Option<Instant>,
}

impl Known {
    pub(super) fn new(endpoint: Endpoint, seen: Seen) -> (Self, Arc<Endpoint>) {
        let endpoint = Arc::new(endpoint);
        let state = State { endpoint: Arc::clone(&endpoint), seen, failed: None };
        (Self { state: Mutex::new(state), reading: tokio::sync::Mutex::default() }, endpoint)
    }

    /// The endpoint, if nothing speaks against its being so still.
    pub(super) fn fresh(&self, now: Instant, fresh: Duration, upheavals: u64) -> Option<Arc<Endpoint>> {
        let state = self.lock();
        let Seen { at, upheavals: heard, outdated } = state.seen;
        let believed = !outdated && heard == upheavals && now.saturating_duration_since(at) < fresh;
        believed.then(|| Arc::clone(&state.endpoint))
    }

    /// The endpoint as it was, if it could not be read a moment ago and was not read too long ago.
    pub(super) fn respite(&self, now: Instant, respite: Duration, stale: Duration) -> Option<Arc<Endpoint>> {
        let known = self.lock();
        let failed = known.failed.is_some_and(|at| now.saturating_duration_since(at) < respite);
        let usable = failed && now.saturating_duration_since(known.seen.at) < stale;
        usable.then(|| Arc::clone(&known.endpoint))
    }

    /// It was read again.
    pub(super) fn store(&self, endpoint: Endpoint, seen: Seen) -> Arc<Endpoint> {
        let endpoint = Arc::new(endpoint);
        *self.lock() = State { endpoint: Arc::clone(&endpoint), seen, failed: None };
        endpoint
    }

    /// It could not be read again.
    pub(super) fn failed(&self, now: Instant) {
        self.lock().failed = Some(now);
    }

    /// It has changed.
    pub(super) fn outdate(&self) {
        self.lock().seen.outdated = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use ravenpost_core::endpoint::Verification;
    use ravenpost_core::ids::Slot;

    use super::*;

    const FRESH: Duration = Duration::from_secs(15);
    const RESPITE: Duration = Duration::from_secs(1);
    const STALE: Duration = Duration::from_secs(300);

    fn endpoint(max_body_bytes: u32) -> Endpoint {
        Endpoint {
            organization_id: uuid::Uuid::nil().into(),
            id: uuid::Uuid::nil().into(),
            slot: Slot(0),
            verification: Verification::None {},
            secrets: Vec::new(),
            max_body_bytes: Some(max_body_bytes),
            rate_limit: None,
            organization_rate_limit: None,
            content_types: None,
            answer: None,
            deleted: false,
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn fresh_until_its_time_a_change_or_an_upheaval() {
        let at = Instant::now();
        let (known, _) = Known::new(endpoint(1), Seen { at, upheavals: 7, outdated: false });
        assert!(known.fresh(at + seconds(14), FRESH, 7).is_some());
        assert!(known.fresh(at + seconds(15), FRESH, 7).is_none());
        assert!(known.fresh(at, FRESH, 8).is_none());
        known.outdate();
        assert!(known.fresh(at, FRESH, 7).is_none());
        let read = known.store(endpoint(2), Seen { at, upheavals: 8, outdated: false });
        assert_eq!(read.max_body_bytes, Some(2));
        assert_eq!(known.fresh(at, FRESH, 8).unwrap().max_body_bytes, Some(2));
        // Changed while it was being read: used this once, and read again for the next request.
        known.store(endpoint(3), Seen { at, upheavals: 8, outdated: true });
        assert!(known.fresh(at, FRESH, 8).is_none());
    }

    #[test]
    fn while_the_store_is_away_it_is_used_on_but_not_for_ever() {
        let at = Instant::now();
        let (known, _) = Known::new(endpoint(1), Seen { at, upheavals: 0, outdated: false });
        assert!(known.respite(at, RESPITE, STALE).is_none(), "nothing has failed");
        known.failed(at + seconds(20));
        assert!(known.respite(at + seconds(20), RESPITE, STALE).is_some());
        assert!(known.respite(at + seconds(21), RESPITE, STALE).is_none(), "time to try again");
        known.failed(at + seconds(300));
        assert!(known.respite(at + seconds(300), RESPITE, STALE).is_none(), "too old");
        known.store(endpoint(1), Seen { at: at + seconds(300), upheavals: 0, outdated: false });
        assert!(known.respite(at + seconds(300), RESPITE, STALE).is_none());
    }
}
