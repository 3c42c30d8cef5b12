//! The tenant door: one organization's rows and nothing else, by every query and by row-level security.
//!
//! Each operation is one transaction that first gives up the system's role and names the organization
//! ([`Tenant::begin`]); what a query forgets to say, the policies of the schema still enforce. Time and randomness are
//! arguments.

mod alerts;
mod channels;
mod deliveries;
mod destinations;
mod endpoints;
mod events;
mod page;
mod rejected;
mod replay;
mod secrets;
mod waiting;
pub(crate) mod yielding;

use ravenpost_core::ids::OrganizationId;
use ravenpost_core::secret::{Keyring, Secret};
use sqlx::postgres::{PgPool, Postgres};
use sqlx::{AssertSqlSafe, Transaction};
use uuid::Uuid;

pub use alerts::Alert;
pub use channels::Channel;
pub use deliveries::{Attempts, Delivery, Waiting};
pub use destinations::{Destination, DestinationChange, NewDestination};
pub use endpoints::{Endpoint, EndpointChange, NewEndpoint, VerificationChange};
pub use events::{Event, EventFilter, EventHeaders};
pub use page::{Listed, Page};
pub use rejected::{Acceptance, Accepted, CountOfHour, RejectedFilter, RejectedHead, RejectedRequest};
pub use replay::{ReplayError, Replayed};
pub use secrets::{InboundSecret, MAX_SECRETS, NewSecret, SecretAdded, SecretRemoved};

use crate::Result;
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
}

/// An integer column that is never negative.
fn unsigned<T: TryFrom<i32>>(row: Row, column: &'static str, value: i32) -> Result<T> {
    Ok(row.value(column, T::try_from(value).map_err(|_| format!("`{value}` is out of range")))?)
}
