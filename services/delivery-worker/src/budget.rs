//! What all lanes of this process share: memory for what waits and for large payloads, and requests at once. An
//! organization gets no more than its share of each, and when all is taken, what comes back goes to whoever has least
//! (PROTOCOLS W10).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ravenpost_core::ids::OrganizationId;
use tokio::sync::oneshot;

/// Bytes for which one unit of memory stands.
const UNIT: usize = 1024;
/// What an event takes beside its headers and its payload.
const OVERHEAD: usize = 1024;
/// Parts of the memory that an organization may take: half of it.
const MEMORY_SHARES: usize = 2;
/// Parts of the requests at once that an organization may take: a quarter of them.
const REQUEST_SHARES: usize = 4;

/// What is shared.
pub struct Budget {
    /// For what waits in lanes.
    waiting: Arc<Pool>,
    /// For payloads that are fetched for one attempt.
    payloads: Arc<Pool>,
    requests: Arc<Pool>,
}

/// A part of something shared, until it is dropped.
#[derive(Debug)]
pub struct Part {
    pool: Arc<Pool>,
    organization: OrganizationId,
    units: usize,
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        state.give_back(self.organization, self.units);
        self.pool.serve(&mut state);
    }
}

impl Budget {
    /// Of so many bytes for what waits, as many again for payloads, and so many requests at once.
    pub fn new(bytes: usize, requests: usize) -> Self {
        let memory = || Pool::new(bytes / UNIT, MEMORY_SHARES);
        Self { waiting: memory(), payloads: memory(), requests: Pool::new(requests, REQUEST_SHARES) }
    }

    /// Room for an event of so many bytes, headers and payload; `None` when there is none now.
    pub fn room(&self, organization: OrganizationId, bytes: usize) -> Option<Part> {
        self.waiting.try_take(organization, units(bytes + OVERHEAD))
    }

    /// Waits for room for a payload of so many bytes.
    pub async fn payload(&self, organization: OrganizationId, bytes: usize) -> Part {
        self.payloads.take(organization, units(bytes)).await
    }

    /// Waits for its turn to make a request.
    pub async fn request(&self, organization: OrganizationId) -> Part {
        self.requests.take(organization, 1).await
    }
}

fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT)
}

/// Units of something.
#[derive(Debug)]
struct Pool {
    share: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// Those that have some, or wait for some.
    organizations: HashMap<OrganizationId, Usage>,
    waiting: usize,
}

#[derive(Debug, Default)]
struct Usage {
    used: usize,
    /// In the order of asking.
    waiting: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    units: usize,
    granted: oneshot::Sender<Part>,
}

impl Pool {
    fn new(units: usize, shares: usize) -> Arc<Self> {
        let state = State { free: units.max(1), organizations: HashMap::new(), waiting: 0 };
        Arc::new(Self { share: (units / shares).max(1), state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of what the others have left, half at the most: so there is always something for one more.
    fn try_take(self: &Arc<Self>, organization: OrganizationId, units: usize) -> Option<Part> {
        let mut state = self.state();
        let used = state.organizations.get(&organization).map_or(0, |usage| usage.used);
        if used + units > self.share.min(usize::midpoint(state.free, used)) {
            return None;
        }
        Some(self.grant(&mut state, organization, units))
    }

    /// More than a share is a share: it has to pass.
    async fn take(self: &Arc<Self>, organization: OrganizationId, units: usize) -> Part {
        let granted = {
            let mut state = self.state();
            let units = units.min(self.share);
            let used = state.organizations.get(&organization).map_or(0, |usage| usage.used);
            if state.waiting == 0 && units <= state.free && used + units <= self.share {
                return self.grant(&mut state, organization, units);
            }
            let (granted, grants) = oneshot::channel();
            let usage = state.organizations.entry(organization).or_default();
            usage.waiting.push_back(Waiter { units, granted });
            state.waiting += 1;
            self.serve(&mut state);
            grants
        };
        granted.await.expect("a pool outlives who waits for it")
    }

    /// Serves those who wait, as far as it goes: first whoever has least and is not at the end of its share.
    fn serve(self: &Arc<Self>, state: &mut State) {
        while state.waiting > 0 {
            let wants = |usage: &Usage| Some((usage.used, usage.waiting.front()?.units));
            let all = state.organizations.iter().filter_map(|(id, usage)| Some((*id, wants(usage)?)));
            let within = all.filter(|(_, (used, units))| used + units <= self.share);
            let Some((organization, (_, units))) = within.min_by_key(|(_, (used, _))| *used) else { return };
            if units > state.free {
                return;
            }
            let Some(usage) = state.organizations.get_mut(&organization) else { return };
            let Some(waiter) = usage.waiting.pop_front() else { return };
            state.waiting -= 1;
            if waiter.granted.is_closed() {
                state.forget_if_idle(organization);
                continue;
            }
            let part = self.grant(state, organization, units);
            if let Err(part) = waiter.granted.send(part) {
                // By hand: to drop it would wait for the lock that is held.
                std::mem::forget(part);
                state.give_back(organization, units);
            }
        }
    }

    fn grant(self: &Arc<Self>, state: &mut State, organization: OrganizationId, units: usize) -> Part {
        state.free -= units;
        state.organizations.entry(organization).or_default().used += units;
        Part { pool: Arc::clone(self), organization, units }
    }
}

impl State {
    fn give_back(&mut self, organization: OrganizationId, units: usize) {
        self.free += units;
        if let Some(usage) = self.organizations.get_mut(&organization) {
            usage.used -= units;
        }
        self.forget_if_idle(organization);
    }

    fn forget_if_idle(&mut self, organization: OrganizationId) {
        if self
            .organizations
            .get(&organization)
            .is_some_and(|usage| usage.used == 0 && usage.waiting.is_empty())
        {
            self.organizations.remove(&organization);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use uuid::Uuid;

    fn organization(number: u128) -> OrganizationId {
        Uuid::from_u128(number).into()
    }

    #[test]
    fn an_organization_takes_its_share_and_leaves_the_rest() {
        let budget = Budget::new(16 * UNIT, 8);
        let one: Vec<Part> = std::iter::from_fn(|| budget.room(organization(1), UNIT)).collect();
        assert_eq!(one.len(), 4, "half of sixteen, two each");
        let other: Vec<Part> = std::iter::from_fn(|| budget.room(organization(2), UNIT)).collect();
        assert_eq!(other.len(), 2, "half of what is left");
        let third: Vec<Part> = std::iter::from_fn(|| budget.room(organization(3), UNIT)).collect();
        assert_eq!(third.len(), 1, "there is always something for one more");
        drop((other, third));
        assert!(budget.room(organization(1), 0).is_none() && budget.room(organization(3), 0).is_some());
        drop(one);
        assert!(budget.room(organization(1), 6 * UNIT).is_some(), "what was taken has come back");
    }

    #[tokio::test]
    async fn requests_wait_for_their_turn() {
        let budget = Budget::new(UNIT, 8);
        let first = budget.request(organization(1)).await;
        let second = budget.request(organization(1)).await;
        let mut third = Box::pin(budget.request(organization(1)));
        assert!(third.as_mut().now_or_never().is_none(), "a quarter of eight");
        assert!(budget.request(organization(2)).now_or_never().is_some(), "others have their own");
        drop(first);
        assert!(third.now_or_never().is_some());
        drop(second);
    }

    #[tokio::test]
    async fn what_is_larger_than_a_share_passes_alone() {
        let budget = Budget::new(4 * UNIT, 1);
        let large = budget.payload(organization(1), 100 * UNIT).await;
        assert!(budget.payload(organization(1), 1).now_or_never().is_none());
        drop(large);
        assert!(budget.payload(organization(1), 1).now_or_never().is_some());
    }

    #[tokio::test]
    async fn what_comes_back_goes_to_whoever_has_least() {
        let budget = Budget::new(UNIT, 8);
        let mut held = Vec::new();
        for greedy in 1..=4 {
            for _ in 0..2 {
                held.push(budget.request(organization(greedy)).await);
            }
        }
        // They have it all, and want more.
        let mut more: Vec<_> = (1..=4).map(|greedy| Box::pin(budget.request(organization(greedy)))).collect();
        assert!(more.iter_mut().all(|more| more.as_mut().now_or_never().is_none()));
        let mut late = Box::pin(budget.request(organization(9)));
        assert!(late.as_mut().now_or_never().is_none());
        drop(held.pop());
        let late = late.now_or_never();
        assert!(late.is_some(), "it has asked last and has nothing");
        assert!(more.iter_mut().all(|more| more.as_mut().now_or_never().is_none()));
    }

    #[tokio::test]
    async fn whoever_waits_no_more_takes_nothing() {
        let budget = Budget::new(UNIT, 4);
        let all: Vec<Part> =
            (1..=4).filter_map(|one| budget.request(organization(one)).now_or_never()).collect();
        assert_eq!(all.len(), 4);
        for _ in 0..3 {
            let mut gone = Box::pin(budget.request(organization(5)));
            assert!(gone.as_mut().now_or_never().is_none());
        }
        let mut stays = Box::pin(budget.request(organization(6)));
        assert!(stays.as_mut().now_or_never().is_none());
        drop(all);
        assert!(stays.now_or_never().is_some());
        let free = (1..=4).filter_map(|one| budget.request(organization(one)).now_or_never()).count();
        assert_eq!(free, 4, "nothing has leaked");
    }

    #[test]
    fn organizations_that_have_nothing_are_forgotten() {
        let budget = Budget::new(1_000_000 * UNIT, 1);
        let kept = budget.room(organization(0), 0);
        for number in 1..1_000 {
            drop(budget.room(organization(number), 0));
        }
        assert_eq!((budget.waiting.state().organizations.len(), kept.is_some()), (1, true));
    }
}
