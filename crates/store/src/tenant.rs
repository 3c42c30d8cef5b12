//! The tenant door: one organization's rows and nothing else, by every query and by row-level security.
//!
//! Each operation is one transaction that first gives up the system's role and names the organization; what a query
//! forgets to say, the policies of the schema still enforce. One that changes something can only be committed together
//! with what the audit log says of it, by the author for whom the door was opened. Time and randomness are arguments.

mod alert_rules;
mod alerts;
mod api_keys;
mod audit;
mod channels;
mod dead_letters;
mod deliveries;
mod destinations;
mod endpoints;
mod events;
mod expunge;
mod health;
mod idempotency;
mod invitations;
mod live;
mod members;
mod organization;
mod page;
mod rejected;
mod replay;
mod replay_jobs;
mod scheduled;
mod secrets;
mod signing_keys;
mod statistics;
mod transaction;
mod waiting;
pub(crate) mod yielding;

use ravenpost_core::audit::Author;
use ravenpost_core::ids::OrganizationId;
use ravenpost_core::secret::{Keyring, Secret};
use sqlx::postgres::PgPool;
use uuid::Uuid;

pub use alert_rules::{MAX_ALERT_RULES, RuleChanged, RuleRefused, StoredRule};
pub use alerts::{Alert, AlertFilter, AlertState, Told};
pub use api_keys::{ApiKey, MAX_API_KEYS, NewApiKey};
pub use audit::{AuditFilter, AuditPage, AuditRow};
pub use channels::{Channel, ChannelChange, ChannelChanged, NewChannel};
pub use dead_letters::{DeadLetter, DeadLetterFilter, DeadLetterPage, DeadLetters};
pub use deliveries::{Attempts, Delivery, Waiting};
pub use destinations::{
    Destination, DestinationChange, DestinationChanged, DestinationRefused, MAX_DESTINATIONS,
    MAX_FORMER_SECRETS, MOST_WAITING_COUNTED, NewDestination, NewSigningSecret, SecretRotated, Unsaid,
};
pub use endpoints::{
    Endpoint, EndpointChange, EndpointChanged, EndpointVersion, NewEndpoint, VerificationChange,
};
pub use events::{Event, EventFilter, EventHeaders};
pub use expunge::Expunged;
pub use health::EndpointHealth;
pub use idempotency::{Claimed, KeyClaim};
pub use invitations::{
    Invitation, InvitationRevoked, Invited, MAX_INVITATIONS_A_DAY, Mailing, NewInvitation,
};
pub use live::{LiveAttempt, LiveEvent, WATCHED};
pub use members::{Member, MemberChanged, MemberRemoved, Person};
pub use organization::Organization;
pub use page::{Listed, Page};
pub use rejected::{Acceptance, Accepted, CountOfHour, RejectedFilter, RejectedHead, RejectedRequest};
pub use replay::{ReplayError, Replayed};
pub use replay_jobs::{MOST_COUNTED, MOST_JOBS, Matched, NewReplayJob, ReplayJob, ReplayJobError, Steered};
pub use scheduled::{Scheduled, ScheduledFilter, ScheduledList, ScheduledPlace};
pub use secrets::{InboundSecret, MAX_SECRETS, NewSecret, SecretAdded, SecretRemoved};
pub use signing_keys::{KeyRotated, KeyRotation, MAX_SIGNING_KEYS, NewSigningKey, PublishedKey};
pub use statistics::{Counted, EndpointFigures, Series};

use crate::Result;
pub(crate) use events::{ids_before, ids_from};
pub(crate) use yielding::has_yielded;

use crate::decode::Row;
use crate::sealing::Sealing;

/// What became of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It is deleted.
    Deleted,
    /// There is none.
    Missing,
    /// Somebody has changed it since the version that was to be deleted.
    Stale,
}

/// A secret and the fresh random bytes to seal it with.
#[derive(Debug, Clone, Copy)]
pub struct ToSeal<'a> {
    /// In the clear; never stored so.
    pub secret: &'a Secret,
    /// Never used before.
    pub nonce: [u8; 12],
}

/// One organization. Cheap to clone.
#[derive(Clone)]
pub struct Tenant {
    pool: PgPool,
    sealing: Sealing,
    organization: OrganizationId,
    author: Author,
}

impl Tenant {
    pub(crate) fn new(
        pool: PgPool,
        keyring: Option<Keyring>,
        organization: OrganizationId,
        author: Author,
    ) -> Self {
        Self { pool, sealing: Sealing(keyring), organization, author }
    }

    /// Whose rows these are.
    pub fn organization_id(&self) -> OrganizationId {
        self.organization
    }

    fn seal(&self, to_seal: ToSeal<'_>, owner: Uuid) -> Result<Vec<u8>> {
        Ok(self.sealing.keyring()?.seal(to_seal.secret, owner, to_seal.nonce))
    }

    fn seal_if(&self, to_seal: Option<ToSeal<'_>>, owner: Uuid) -> Result<Option<Vec<u8>>> {
        to_seal.map(|to_seal| self.seal(to_seal, owner)).transpose()
    }

    /// What is sealed for a row in a column that may be null.
    fn opened<T>(
        &self,
        row: Row,
        column: &'static str,
        sealed: Option<&[u8]>,
        read: fn(&Secret) -> std::result::Result<T, &'static str>,
    ) -> Result<Option<T>> {
        let Some(sealed) = sealed else { return Ok(None) };
        let secret = self.sealing.open(row, column, sealed, row.id)?;
        Ok(Some(row.value(column, read(&secret))?))
    }
}

/// An integer column that is never negative.
fn unsigned<T: TryFrom<i32>>(row: Row, column: &'static str, value: i32) -> Result<T> {
    Ok(row.value(column, T::try_from(value).map_err(|_| format!("`{value}` is out of range")))?)
}
