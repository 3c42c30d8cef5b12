//! The system door: what the hot paths of ingress, worker and notifier need, over all organizations.

mod accept;
mod audit;
mod bootstrap;
mod cancel;
mod configuration;
mod destinations;
mod endpoints;
mod identity;
mod instances;
mod ledger;
mod leftovers;
mod maintenance;
mod observe;
mod pacing;
mod partitions;
mod record;
mod rejected;
mod replay_jobs;
mod resume;
mod schedule;
mod signing_keys;
mod sweep;
mod unpublished;

use std::time::Duration;

use ravenpost_core::secret::{Keyring, Secret};
use sqlx::PgPool;
use uuid::Uuid;

pub use accept::Accepted;
pub use audit::Verified;
pub use bootstrap::Bootstrapped;
pub use configuration::{Change, Changes};
pub use destinations::{DeliveryConfig, Destination, FilterError, FormerSecret, Route};
pub use endpoints::Endpoint;
pub use identity::ApiKeyRecord;
pub use instances::Peer;
pub use ledger::{LedgerPage, StoredPayload};
pub use leftovers::{Keeping, Leftover, Removed};
pub use observe::{DueAlert, Health, Observation};
pub use pacing::{DisableAfter, Pace, PaceSettings};
pub use record::{Attempt, DestinationState, Filtered, OfPartition, Park, ParkReason, Record, Routed};
pub use rejected::{NewRejected, RejectedCaps, RejectedCount};
pub use replay_jobs::{Recovered, ReplayStep};
pub use resume::Known;
pub use schedule::{Ask, Due, Waiting};
pub use signing_keys::OrganizationKey;
pub use sweep::{SweeperState, Swept};

use crate::decode::{Damaged, Row};
pub use crate::new_event::{Deduplication, Draft, KeyOfEndpoint, NewEvent, Winner};
use crate::sealing::Sealing;

/// Everything, for the services themselves. Of a customer's request only the API key is looked up here, since only the
/// key says whose request it is; and what a rejected request is verified with again, by the token of the customer's own
/// endpoint, so that ingress and API can't judge by different secrets.
#[derive(Clone)]
pub struct System {
    pool: PgPool,
    sealing: Sealing,
    /// How long a statement may take on our side.
    deadline: Duration,
}

impl System {
    pub(crate) fn new(pool: PgPool, keyring: Option<Keyring>, deadline: Duration) -> Self {
        Self { pool, sealing: Sealing(keyring), deadline }
    }

    fn open(&self, row: Row, column: &'static str, sealed: &[u8], owner: Uuid) -> Result<Secret, Damaged> {
        self.sealing.open(row, column, sealed, owner)
    }
}
