//! The tenant door: one organization's rows and nothing else, by every query and by row-level security.
//!
//! Each operation is one transaction that first gives up the system's role and names the organization
//! ([`Tenant::begin`]); what a query forgets to say, the policies of the schema still enforce. Time and randomness are
//! arguments.

mod alerts;
mod api_keys;
mod channels;
mod dead_letters;
mod deliveries;
mod destinations;
mod endpoints;
mod events;
mod expunge;
mod health;
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
mod waiting;
pub(crate) mod yielding;

use ravenpost_core::ids::OrganizationId;
use ravenpost_core::secret::{Keyring, Secret};
use sqlx::postgres::{PgPool, Postgres};
use sqlx::{AssertSqlSafe, Transaction};
use uuid::Uuid;

pub use alerts::Alert;
pub use api_keys::{ApiKey, MAX_API_KEYS, NewApiKey};
pub use channels::Channel;
pub use dead_letters::{DeadLetter, DeadLetterFilter, DeadLetterPage, DeadLetters};
pub use deliveries::{Attempts, Delivery, Waiting};
pub use destinations::{
    Destination, DestinationChange, DestinationChanged, MAX_FORMER_SECRETS, MOST_WAITING_COUNTED,
    NewDestination, NewSigningSecret, SecretRotated, Unsaid,
};
pub use endpoints::{Endpoint, EndpointChange, EndpointChanged, NewEndpoint, VerificationChange};
pub use events::{Event, EventFilter, EventHeaders};
pub use expunge::Expunged;
pub use health::EndpointHealth;
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
pub(crate) use events::{ID_DRIFT, floor};
pub(crate) use yielding::has_yielded;

use crate::decode::Row;
use crate::sealing::Sealing;

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
}

impl Tenant {
    pub(crate) fn new(pool: PgPool, keyring: Option<Keyring>, organization: OrganizationId) -> Self {
        Self { pool, sealing: Sealing(keyring), organization }
    }

    /// Whose rows these are.
    pub fn organization_id(&self) -> OrganizationId {
        self.organization
    }

    /// Begins a transaction that acts for the organization, in one round trip. Dropping it rolls back, which is also
    /// how a reading one ends.
    async fn begin(&self) -> Result<Transaction<'static, Postgres>> {
        self.begin_as("begin").await
    }

    /// As [`Tenant::begin`], for what takes several statements to read: all of them see the same moment.
    async fn begin_reading(&self) -> Result<Transaction<'static, Postgres>> {
        self.begin_as("begin isolation level repeatable read, read only").await
    }

    async fn begin_as(&self, begin: &str) -> Result<Transaction<'static, Postgres>> {
        // Safe to put together: a UUID prints as hexadecimal digits and hyphens.
        let statement = format!(
            "{begin}; set local role ravenpost_tenant; set local ravenpost.organization_id = '{}'",
            self.organization
        );
        Ok(self.pool.begin_with(AssertSqlSafe(statement)).await?)
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
