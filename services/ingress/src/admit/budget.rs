//! The memory that bodies in flight may take, so that it is bounded by the setting and not by traffic (invariant 7).
//!
//! It is reserved as a body arrives, for the room that is allocated: announcing much and sending little takes little.
//! Nobody can take all of it: large bodies leave an eighth to small ones, and one endpoint half to the others.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moka::future::Cache;
use ravenpost_core::endpoint::MAX_BODY_BYTES;
use ravenpost_core::ids::EndpointId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a request counts for beside its body: headers, buffers of its connection, the request itself.
const OVERHEAD: usize = 1_024;
/// The room that a body gets first.
const FIRST_ROOM: usize = 4 * 1_024;
/// From this much room on, a body is large.
const LARGE: usize = 64 * 1_024;
/// Endpoints whose share is remembered; a forgotten one begins anew, within the whole budget as ever.
const REMEMBERED: u64 = 10_000;
const FORGOTTEN_AFTER: Duration = Duration::from_secs(300);

/// What has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// The whole budget is taken.
    Memory,
    /// Large bodies have taken what is theirs.
    Large,
    /// The endpoint has taken what is its own.
    Endpoint,
}

impl Full {
    /// Its name in metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Large => "large_memory",
            Self::Endpoint => "endpoint_memory",
        }
    }
}

/// So many bytes for all.
pub struct Budget {
    all: Arc<Semaphore>,
    large: Arc<Semaphore>,
    endpoints: Cache<EndpointId, Arc<Semaphore>>,
    endpoint_bytes: usize,
}

/// A request's part of it, given back when it is dropped.
pub struct Share {
    all: OwnedSemaphorePermit,
    endpoint: OwnedSemaphorePermit,
    large: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// So many bytes.
    pub fn new(bytes: u32) -> Self {
        let bytes = usize::try_from(bytes).unwrap_or(Semaphore::MAX_PERMITS);
        // A single body of the highest limit fits everywhere.
        let largest = usize::try_from(MAX_BODY_BYTES).unwrap_or(usize::MAX) + LARGE;
        Self {
            all: Arc::new(Semaphore::new(bytes)),
            large: Arc::new(Semaphore::new((bytes - bytes / 8).max(largest))),
            endpoints: Cache::builder().max_capacity(REMEMBERED).time_to_idle(FORGOTTEN_AFTER).build(),
            endpoint_bytes: (bytes / 2).max(largest),
        }
    }

    /// Makes room for a body of an endpoint, of at most so many bytes.
    pub(super) async fn open(&self, endpoint: EndpointId, most: usize) -> Result<Intake, Full> {
        let own = async { Arc::new(Semaphore::new(self.endpoint_bytes)) };
        let own = self.endpoints.get_with(endpoint, own).await;
        // Every event costs something, an empty one too.
        let share = Share {
            endpoint: take(&own, OVERHEAD, Full::Endpoint)?,
            all: take(&self.all, OVERHEAD, Full::Memory)?,
            large: None,
        };
        let large = Arc::clone(&self.large);
        Ok(Intake { share, large, most, body: Vec::new() })
    }
}

/// A body that is arriving.
pub(super) struct Intake {
    share: Share,
    large: Arc<Semaphore>,
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
            self.share.grow(&self.large, room, wanted)?;
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

impl Share {
    /// From `room` to `wanted` bytes of room. What becomes large is counted as large from its first byte.
    fn grow(&mut self, large: &Arc<Semaphore>, room: usize, wanted: usize) -> Result<(), Full> {
        let more = wanted - room;
        let own = take(self.endpoint.semaphore(), more, Full::Endpoint)?;
        let all = take(self.all.semaphore(), more, Full::Memory)?;
        if wanted > LARGE {
            let counted = if self.large.is_some() { more } else { wanted };
            let large = take(large, counted, Full::Large)?;
            match &mut self.large {
                Some(held) => held.merge(large),
                None => self.large = Some(large),
            }
        }
        self.endpoint.merge(own);
        self.all.merge(all);
        Ok(())
    }

    fn shrink(&mut self, bytes: usize) {
        drop(self.all.split(bytes));
        drop(self.endpoint.split(bytes));
        if let Some(large) = &mut self.large {
            drop(large.split(bytes));
        }
    }
}

fn take(from: &Arc<Semaphore>, bytes: usize, full: Full) -> Result<OwnedSemaphorePermit, Full> {
    let bytes = u32::try_from(bytes).map_err(|_| full)?;
    Arc::clone(from).try_acquire_many_owned(bytes).map_err(|_| full)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn endpoint(number: u8) -> EndpointId {
        uuid::Uuid::from_bytes([number; 16]).into()
    }

    async fn receive(budget: &Budget, number: u8, bytes: usize) -> Result<Share, Full> {
        let mut intake = budget.open(endpoint(number), bytes).await?;
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

    #[tokio::test]
    async fn a_share_is_what_the_body_takes_and_comes_back() {
        let budget = Budget::new(64 << 20);
        let free = budget.all.available_permits();
        for bytes in [0, 1, 5_000, LARGE, LARGE + 1, 3 * MIB + 7] {
            let share = receive(&budget, 1, bytes).await.unwrap();
            assert_eq!(free - budget.all.available_permits(), bytes + OVERHEAD);
            assert_eq!(share.large.is_some(), bytes > LARGE, "{bytes}");
            drop(share);
            assert_eq!(budget.all.available_permits(), free);
            assert_eq!(budget.large.available_permits(), 56 * MIB);
        }
    }

    #[tokio::test]
    async fn announcing_much_takes_little() {
        let budget = Budget::new(64 << 20);
        let mut intake = budget.open(endpoint(1), 25 * MIB).await.unwrap();
        intake.add(b"x").unwrap();
        assert_eq!(64 * MIB - budget.all.available_permits(), OVERHEAD + FIRST_ROOM);
    }

    #[tokio::test]
    async fn nobody_takes_all() {
        let budget = Budget::new(64 << 20);
        let mut held = Vec::new();
        let full = loop {
            match receive(&budget, 1, MIB).await {
                Ok(share) => held.push(share),
                Err(full) => break full,
            }
        };
        assert_eq!(
            (full, held.len()),
            (Full::Endpoint, 31),
            "half, less what requests cost beside their bodies"
        );
        let full = loop {
            match receive(&budget, 2, MIB).await {
                Ok(share) => held.push(share),
                Err(full) => break full,
            }
        };
        assert_eq!((full, held.len()), (Full::Large, 56));
        let small = receive(&budget, 3, 10_000).await.unwrap();
        assert_eq!(receive(&budget, 3, MIB).await.err(), Some(Full::Large));
        drop(held);
        drop(small);
        assert_eq!(
            budget.all.available_permits(),
            64 * MIB,
            "what was refused halfway gave back what it had"
        );
        assert_eq!(budget.large.available_permits(), 56 * MIB);
    }

    #[tokio::test]
    async fn the_largest_body_fits_into_the_smallest_budget() {
        let budget = Budget::new(32 << 20);
        let largest = usize::try_from(MAX_BODY_BYTES).unwrap();
        assert!(receive(&budget, 1, largest).await.is_ok());
    }
}
