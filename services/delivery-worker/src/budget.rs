//! What all lanes of this process share: memory for what waits and for large payloads, and requests at once. An
//! organization gets no more than its share of each (PROTOCOLS W10).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ravenpost_core::ids::OrganizationId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes for which one unit of memory stands.
const UNIT: usize = 1024;
/// What an event takes beside its headers and its payload.
const OVERHEAD: usize = 1024;
/// Parts of the memory that an organization may take: half of it.
const MEMORY_SHARES: usize = 2;
/// Parts of the requests at once that an organization may take: a quarter of them.
const REQUEST_SHARES: usize = 4;
/// With so many organizations remembered, those that have nothing are forgotten.
const MANY: usize = 1_024;

/// What is shared.
pub struct Budget {
    /// For what waits in lanes.
    waiting: Pool,
    /// For payloads that are fetched for one attempt.
    payloads: Pool,
    requests: Pool,
}

/// A part of something shared, until it is dropped.
#[derive(Debug)]
pub struct Part {
    _of_organization: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
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

/// Units of something. Whoever waits for some is served in the order of asking.
struct Pool {
    all: Arc<Semaphore>,
    share: usize,
    organizations: Mutex<HashMap<OrganizationId, Weak<Semaphore>>>,
}

impl Pool {
    fn new(units: usize, shares: usize) -> Self {
        let share = (units / shares).max(1);
        Self { all: Arc::new(Semaphore::new(units.max(1))), share, organizations: Mutex::default() }
    }

    fn try_take(&self, organization: OrganizationId, units: usize) -> Option<Part> {
        let units = u32::try_from(units).ok()?;
        let of_organization = self.of(organization).try_acquire_many_owned(units).ok()?;
        let of_all = Arc::clone(&self.all).try_acquire_many_owned(units).ok()?;
        Some(Part { _of_organization: of_organization, _of_all: of_all })
    }

    /// More than a share is a share: it has to pass.
    async fn take(&self, organization: OrganizationId, units: usize) -> Part {
        let units = u32::try_from(units.min(self.share)).unwrap_or(u32::MAX);
        let of_organization =
            self.of(organization).acquire_many_owned(units).await.expect("it is never closed");
        let of_all = Arc::clone(&self.all).acquire_many_owned(units).await.expect("it is never closed");
        Part { _of_organization: of_organization, _of_all: of_all }
    }

    /// What is left of an organization's share; whoever has some keeps it.
    fn of(&self, organization: OrganizationId) -> Arc<Semaphore> {
        let mut organizations = self.organizations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = organizations.get(&organization).and_then(Weak::upgrade) {
            return known;
        }
        if organizations.len() >= MANY {
            organizations.retain(|_, share| share.strong_count() > 0);
        }
        let share = Arc::new(Semaphore::new(self.share));
        organizations.insert(organization, Arc::downgrade(&share));
        share
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
        assert_eq!(other.len(), 4);
        assert!(budget.room(organization(3), 0).is_none(), "nothing is left");
        drop(other);
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

    #[test]
    fn organizations_that_have_nothing_are_forgotten() {
        let budget = Budget::new(1_000_000 * UNIT, 1);
        let kept = budget.room(organization(0), 0);
        for number in 1..5 * MANY as u128 {
            drop(budget.room(organization(number), 0));
        }
        assert!(budget.waiting.organizations.lock().unwrap().len() <= MANY);
        assert!(
            kept.is_some() && budget.waiting.of(organization(0)).available_permits() < budget.waiting.share
        );
    }
}
