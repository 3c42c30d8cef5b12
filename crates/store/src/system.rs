//! The system door: what the hot paths of ingress, worker and notifier need, over all organizations.

mod absence;
mod accept;
mod access_news;
mod audit;
mod bootstrap;
mod cancel;
mod configuration;
mod destinations;
mod endpoints;
mod expunge;
mod identity;
mod instances;
mod invitations;
mod ledger;
mod leftovers;
mod listener;
mod live;
mod maintenance;
mod notifications;
mod observe;
mod pacing;
mod partitions;
mod people;
mod record;
mod rejected;
mod replay_jobs;
mod resume;
mod retention;
mod route_changes;
mod rules;
mod schedule;
mod signing_keys;
mod statistics;
mod sweep;
mod unpublished;

use std::time::Duration;

use ravenpost_core::secret::{Keyring, Secret};
use sqlx::PgPool;
use uuid::Uuid;

pub use absence::{Absence, Fact};
pub use accept::Accepted;
pub use access_news::{AccessChange, AccessChanges};
pub use audit::Verified;
pub use bootstrap::Bootstrapped;
pub use configuration::{Change, Changes};
pub use destinations::{DeliveryConfig, Destination, FilterError, FormerSecret, Route};
pub use endpoints::Endpoint;
pub use expunge::Unerased;
pub use identity::{ApiKeyRecord, ApiKeyUse};
pub use instances::Peer;
pub use invitations::DueInvitation;
pub use ledger::{LedgerPage, StoredPayload};
pub use leftovers::{Keeping, Leftover, Removed};
pub(crate) use notifications::leave_untold;
pub use notifications::{Claim, Failed, Gathering, Notification, NotificationKind, ToldAlert};
pub use observe::{Firing, Observed, Subject, Turn};
pub(crate) use observe::{tell_ended, tell_resolved};
pub use pacing::{DisableAfter, Pace, PaceSettings};
pub use people::{InvitationAccepted, Login, MAX_ORGANIZATIONS, Membership, NewOrganization, OrganizationOf};
pub use record::{Attempt, DestinationState, Filtered, OfPartition, Park, ParkReason, Record, Routed};
pub use rejected::{NewRejected, RejectedCaps, RejectedCount};
pub use replay_jobs::{Recovered, ReplayStep};
pub use resume::Known;
pub use retention::{DayDropped, Expiring, Place};
pub use route_changes::{RouteChanges, RouteMark};
pub use schedule::{Ask, Due, Waiting};
pub use signing_keys::OrganizationKey;
pub use statistics::{Rolled, StatisticsKept};
pub use sweep::{SweeperState, Swept};

use crate::decode::{Damaged, Row};
pub use crate::new_event::{Deduplication, Draft, KeyOfEndpoint, NewEvent, Winner};
use crate::sealing::Sealing;

/// Everything, for the services themselves. Of a customer's request only who asks is looked up here (API key,
/// person, and what that person is a member of), since only that says whose request it is; and what a rejected request is verified with again, by the token of the customer's own
/// endpoint, so that ingress and API can't judge by different secrets.
#[derive(Clone)]
pub struct System {
    pool: PgPool,
    recording: PgPool,
    sealing: Sealing,
    /// How long a statement may take on our side.
    deadline: Duration,
}

impl System {
    pub(crate) fn new(pool: PgPool, recording: PgPool, keyring: Option<Keyring>, deadline: Duration) -> Self {
        Self { pool, recording, sealing: Sealing(keyring), deadline }
    }

    fn open(&self, row: Row, column: &'static str, sealed: &[u8], owner: Uuid) -> Result<Secret, Damaged> {
        self.sealing.open(row, column, sealed, owner)
    }
}
