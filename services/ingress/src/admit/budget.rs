//! The memory that bodies in flight may take, so that it is bounded by the setting and not by traffic (invariant 7).
//!
//! It is reserved as a body arrives, for the room that is allocated: announcing much and sending little takes little.
//! Nobody can take all of it, so that a slow or a large upload keeps no small one from coming in: an endpoint has half, an
//! organization three quarters over all of its endpoints, or a bit more where that would not hold the largest body, and
//! large bodies leave an eighth to small ones, in the whole and in each part.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moka::future::Cache;
use ravenpost_core::endpoint::MAX_BODY_BYTES;
use ravenpost_core::ids::{EndpointId, OrganizationId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a request counts for beside its body: headers, buffers of its connection, the request itself.
const OVERHEAD: usize = 1_024;
/// The room that a body gets first.
const FIRST_ROOM: usize = 4 * 1_024;
/// From this much room on, a body is large.
const LARGE: usize = 64 * 1_024;
/// Endpoints and organizations whose share is remembered; a forgotten one begins anew, within the whole budget as ever.
const REMEMBERED: u64 = 10_000;
const FORGOTTEN_AFTER: Duration = Duration::from_secs(300);

/// What has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// The whole budget is taken, or what large bodies may have of it.
    Memory,
    /// The organization's part of it is.
    Organization,
    /// The endpoint's part of it is.
    Endpoint,
}

impl Full {
    /// Its name in metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Organization => "organization_memory",
            Self::Endpoint => "endpoint_memory",
        }
    }
}

/// Bytes for all bodies, of which large ones may have so many.
struct Pot {
    all: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl Pot {
    fn new(large: usize, small: usize) -> Self {
        // A single body of the highest limit fits.
        let large = large.max(usize::try_from(MAX_BODY_BYTES).unwrap_or(usize::MAX));
        Self { all: Arc::new(Semaphore::new(large + small)), large: Arc::new(Semaphore::new(large)) }
    }

    fn open(self: &Arc<Self>, full: Full) -> Result<Part, Full> {
        // Every event costs something, an empty one too.
        let all = take(&self.all, OVERHEAD).ok_or(full)?;
        Ok(Part { pot: Arc::clone(self), full, all, large: None })
    }
}

/// A request's part of a pot.
struct Part {
    pot: Arc<Pot>,
    full: Full,
    all: OwnedSemaphorePermit,
    large: Option<OwnedSemaphorePermit>,
}

impl Part {
    /// From `room` to `wanted` bytes of room. What becomes large is counted as large from its first byte.
    fn grow(&mut self, room: usize, wanted: usize) -> Result<(), Full> {
        self.all.merge(take(&self.pot.all, wanted - room).ok_or(self.full)?);
        if wanted > LARGE {
            let more = if self.large.is_some() { wanted - room } else { wanted };
            let more = take(&self.pot.large, more).ok_or(self.full)?;
            match &mut self.large {
                Some(held) => held.merge(more),
                None => self.large = Some(more),
            }
        }
        Ok(())
    }

    fn shrink(&mut self, bytes: usize) {
        drop(self.all.split(bytes));
        if let Some(large) = &mut self.large {
            drop(large.split(bytes));
        }
    }
}

/// So many bytes for all.
pub struct Budget {
    whole: Arc<Pot>,
    organizations: Cache<OrganizationId, Arc<Pot>>,
    endpoints: Cache<EndpointId, Arc<Pot>>,
    bytes: usize,
}

/// A request's part of it, given back when it is dropped.
pub struct Share {
    endpoint: Part,
    organization: Part,
    whole: Part,
}

impl Share {
    /// From `room` to `wanted` bytes of room.
    fn grow(&mut self, room: usize, wanted: usize) -> Result<(), Full> {
        self.endpoint.grow(room, wanted)?;
        self.organization.grow(room, wanted)?;
        self.whole.grow(room, wanted)
    }

    fn shrink(&mut self, bytes: usize) {
        for part in [&mut self.endpoint, &mut self.organization, &mut self.whole] {
            part.shrink(bytes);
        }
    }
}

impl Budget {
    /// So many bytes.
    pub fn new(bytes: u32) -> Self {
        let bytes = usize::try_from(bytes).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            whole: Arc::new(Pot::new(bytes - bytes / 8, bytes / 8)),
            organizations: Cache::builder().max_capacity(REMEMBERED).time_to_idle(FORGOTTEN_AFTER).build(),
            endpoints: Cache::builder().max_capacity(REMEMBERED).time_to_idle(FORGOTTEN_AFTER).build(),
            bytes,
        }
    }

    /// Makes room for a body of an organization's endpoint, of at most so many bytes.
    pub(super) async fn open(
        &self,
        organization: OrganizationId,
        endpoint: EndpointId,
        most: usize,
    ) -> Result<Intake, Full> {
        let eighth = self.bytes / 8;
        let pot = |large| async move { Arc::new(Pot::new(large, eighth)) };
        let organization = self.organizations.get_with(organization, pot(eighth * 5)).await;
        let endpoint = self.endpoints.get_with(endpoint, pot(eighth * 3)).await;
        let share = Share {
            endpoint: endpoint.open(Full::Endpoint)?,
            organization: organization.open(Full::Organization)?,
            whole: self.whole.open(Full::Memory)?,
        };
        Ok(Intake { share, most, body: Vec::new() })
    }
}

/// A body that is arriving.
pub(super) struct Intake {
    share: Share,
    most: usize,
    body: Vec<u8>,
}

impl Intake {
    pub(super) fn len(&self) -> usize {
        self.body.len()
    }

    /// Keeps a chunk, unless there is no room for it.
    pub(super) fn add(&mut self, chunk: &[u8]) -> Result<(), Full> {
        let (room, needed) = (self.body.capacity(), self.body.len() + chunk.len());
        if needed > room {
            // Doubled, so that a long body is not copied with each chunk, but not beyond what may come.
            let wanted = (room * 2).max(FIRST_ROOM).min(self.most).max(needed);
            self.share.grow(room, wanted)?;
            self.body.reserve_exact(wanted - self.body.len());
        }
        self.body.extend_from_slice(chunk);
        Ok(())
    }

    /// The body, and what it takes; room that stayed empty is given back.
    pub(super) fn finish(mut self) -> (Bytes, Share) {
        let spare = self.body.capacity() - self.body.len();
        self.body.shrink_to_fit();
        self.share.shrink(spare);
        (self.body.into(), self.share)
    }
}

fn take(from: &Arc<Semaphore>, bytes: usize) -> Option<OwnedSemaphorePermit> {
    Arc::clone(from).try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// An endpoint, of an organization of its own.
    async fn receive(budget: &Budget, number: u8, bytes: usize) -> Result<Share, Full> {
        receive_of(budget, number, number, bytes).await
    }

    async fn receive_of(
        budget: &Budget,
        organization: u8,
        endpoint: u8,
        bytes: usize,
    ) -> Result<Share, Full> {
        let id = |number| uuid::Uuid::from_bytes([number; 16]);
        let mut intake = budget.open(id(organization).into(), id(endpoint).into(), bytes).await?;
        let mut left = bytes;
        while left > 0 {
            let chunk = left.min(10_000);
            intake.add(&vec![7; chunk])?;
            left -= chunk;
        }
        let (body, share) = intake.finish();
        assert_eq!(body.len(), bytes);
        assert!(body.iter().all(|byte| *byte == 7));
        Ok(share)
    }

    fn free(budget: &Budget) -> (usize, usize) {
        (budget.whole.all.available_permits(), budget.whole.large.available_permits())
    }

    #[tokio::test]
    async fn a_share_is_what_the_body_takes_and_comes_back() {
        let budget = Budget::new(64 << 20);
        assert_eq!(free(&budget), (64 * MIB, 56 * MIB));
        for bytes in [0, 1, 5_000, LARGE, LARGE + 1, 3 * MIB + 7] {
            let share = receive(&budget, 1, bytes).await.unwrap();
            let large = if bytes > LARGE { bytes } else { 0 };
            assert_eq!(free(&budget), (64 * MIB - bytes - OVERHEAD, 56 * MIB - large), "{bytes}");
            drop(share);
            assert_eq!(free(&budget), (64 * MIB, 56 * MIB));
        }
    }

    #[tokio::test]
    async fn announcing_much_takes_little() {
        let budget = Budget::new(64 << 20);
        let id = uuid::Uuid::from_bytes([1; 16]);
        let mut intake = budget.open(id.into(), id.into(), 25 * MIB).await.unwrap();
        intake.add(b"x").unwrap();
        assert_eq!(free(&budget).0, 64 * MIB - OVERHEAD - FIRST_ROOM);
    }

    /// Holds as many bodies as fit; says what is full then.
    async fn fill(budget: &Budget, number: u8, bytes: usize, held: &mut Vec<Share>) -> Full {
        loop {
            match receive(budget, number, bytes).await {
                Ok(share) => held.push(share),
                Err(full) => return full,
            }
        }
    }

    #[tokio::test]
    async fn nobody_takes_all() {
        let budget = Budget::new(64 << 20);
        let mut held = Vec::new();
        assert_eq!((fill(&budget, 1, MIB, &mut held).await, held.len()), (Full::Endpoint, 25));
        receive(&budget, 1, 10_000).await.unwrap();
        assert_eq!((fill(&budget, 2, MIB, &mut held).await, held.len()), (Full::Endpoint, 50));
        assert_eq!((fill(&budget, 3, MIB, &mut held).await, held.len()), (Full::Memory, 56));
        for number in 1..=4 {
            receive(&budget, number, 10_000).await.unwrap();
        }
        // A flood of small ones at one endpoint leaves something to others as well.
        let budget_of_small = Budget::new(64 << 20);
        let mut small = Vec::new();
        assert_eq!(fill(&budget_of_small, 1, 10_000, &mut small).await, Full::Endpoint);
        receive(&budget_of_small, 2, 20 * MIB).await.unwrap();
        drop(held);
        assert_eq!(free(&budget), (64 * MIB, 56 * MIB), "what was refused halfway gave back what it had");
    }

    #[tokio::test]
    async fn many_endpoints_of_one_organization_leave_room_to_others() {
        let budget = Budget::new(64 << 20);
        let mut held = Vec::new();
        let full = loop {
            let endpoint = 10 + u8::try_from(held.len() / 5).unwrap();
            match receive_of(&budget, 1, endpoint, MIB).await {
                Ok(share) => held.push(share),
                Err(full) => break full,
            }
        };
        assert_eq!((full, held.len()), (Full::Organization, 40), "of 56 MiB for large bodies");
        let another = receive_of(&budget, 2, 2, 15 * MIB).await;
        assert!(another.is_ok(), "{:?}", another.err());
        receive_of(&budget, 1, 99, 10_000).await.unwrap();
        // Small ones alike.
        let budget = Budget::new(64 << 20);
        let mut small = Vec::new();
        let full = loop {
            let endpoint = u8::try_from(small.len() / 500).unwrap();
            match receive_of(&budget, 1, endpoint, 10_000).await {
                Ok(share) => small.push(share),
                Err(full) => break full,
            }
        };
        assert_eq!(full, Full::Organization);
        receive_of(&budget, 2, 200, 14 * MIB).await.unwrap();
        drop((held, small));
        assert_eq!(free(&budget), (64 * MIB, 56 * MIB));
    }

    #[tokio::test]
    async fn the_largest_body_fits_into_the_smallest_budget() {
        let budget = Budget::new(32 << 20);
        let largest = usize::try_from(MAX_BODY_BYTES).unwrap();
        assert!(receive(&budget, 1, largest).await.is_ok());
    }
}
