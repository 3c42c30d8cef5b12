//! Key sets, which anybody may ask for without a key of the API: each is told from memory for a moment, and few are read at
//! once. So whoever asks for many, of organizations that don't exist even, takes little of the database.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use moka::sync::Cache;
use ravenpost_chassis::problem::Problem;
use ravenpost_core::ids::OrganizationId;
use tokio::sync::Semaphore;

use crate::api::Failure;

/// How long a set is told as it was read: another replica may have rotated its keys since. Far below what receivers may keep
/// it for.
const FRESH: Duration = Duration::from_secs(5);
/// Sets remembered at once, those without keys too.
const REMEMBERED: u64 = 1_000;
/// Most that are read at once.
const READERS: usize = 4;
/// How long a request waits until it may read.
const PATIENCE: Duration = Duration::from_millis(500);
/// When it is worth trying again after that.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The sets of all organizations, as they are sent. Cloning shares them.
#[derive(Clone)]
pub(in crate::api) struct KeySets {
    known: Cache<OrganizationId, Bytes>,
    readers: Arc<Semaphore>,
}

impl Default for KeySets {
    fn default() -> Self {
        let known = Cache::builder().max_capacity(REMEMBERED).time_to_live(FRESH).build();
        Self { known, readers: Arc::new(Semaphore::new(READERS)) }
    }
}

impl KeySets {
    /// An organization's set: what is remembered, or what `read` answers.
    pub(super) async fn of(
        &self,
        organization: OrganizationId,
        read: impl Future<Output = Result<Bytes, Failure>>,
    ) -> Result<Bytes, Failure> {
        if let Some(set) = self.known.get(&organization) {
            return Ok(set);
        }
        let Ok(Ok(_reader)) = tokio::time::timeout(PATIENCE, self.readers.acquire()).await else {
            return Err(Problem::unavailable("too many key sets are being read", RETRY_AFTER).into());
        };
        // Somebody else may have read it meanwhile.
        if let Some(set) = self.known.get(&organization) {
            return Ok(set);
        }
        let set = read.await?;
        self.known.insert(organization, set.clone());
        Ok(set)
    }

    /// It has changed, by this replica: whoever changes keys finds them changed. Who is just reading it may have seen it as
    /// it was, and keeps it for the moment that other replicas do.
    pub(super) fn forget(&self, organization: OrganizationId) {
        self.known.invalidate(&organization);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use axum::http::{StatusCode, header};
    use axum::response::IntoResponse;
    use uuid::Uuid;

    use super::*;

    const ONE: OrganizationId = OrganizationId(Uuid::from_u128(1));
    const OTHER: OrganizationId = OrganizationId(Uuid::from_u128(2));

    /// A set that counts how often it is read.
    fn counted(reads: &Cell<usize>) -> impl Future<Output = Result<Bytes, Failure>> {
        futures::future::lazy(move |_| {
            reads.set(reads.get() + 1);
            Ok(format!("set {}", reads.get()).into())
        })
    }

    #[tokio::test]
    async fn a_set_is_read_once_and_again_when_it_has_changed() {
        let (sets, reads) = (KeySets::default(), Cell::new(0));
        for (organization, expected) in [(ONE, "set 1"), (ONE, "set 1"), (OTHER, "set 2")] {
            assert_eq!(sets.of(organization, counted(&reads)).await.unwrap(), expected);
        }
        sets.forget(ONE);
        for (organization, expected) in [(OTHER, "set 2"), (ONE, "set 3"), (ONE, "set 3")] {
            assert_eq!(sets.of(organization, counted(&reads)).await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn what_fails_is_not_remembered() {
        let (sets, reads) = (KeySets::default(), Cell::new(0));
        let fails = async { Err(Failure::from(Problem::not_found("database"))) };
        sets.of(ONE, fails).await.unwrap_err();
        assert_eq!(sets.of(ONE, counted(&reads)).await.unwrap(), "set 1");
    }

    #[tokio::test]
    async fn few_are_read_at_once_and_what_is_known_is_told_all_the_same() {
        let (sets, reads) = (KeySets::default(), Cell::new(0));
        sets.of(ONE, counted(&reads)).await.unwrap();
        let busy = sets.readers.try_acquire_many(u32::try_from(READERS).unwrap()).unwrap();
        assert_eq!(sets.of(ONE, counted(&reads)).await.unwrap(), "set 1");
        let refused = sets.of(OTHER, counted(&reads)).await.unwrap_err().into_response();
        assert_eq!((refused.status(), reads.get()), (StatusCode::SERVICE_UNAVAILABLE, 1));
        assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
        drop(busy);
        assert_eq!(sets.of(OTHER, counted(&reads)).await.unwrap(), "set 2");
    }
}
