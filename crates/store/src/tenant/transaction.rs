//! The two kinds of transactions of the tenant door. One that reads can't write and has no commit; one that changes
//! something commits only with what the audit log is to say of it. So no change can go unsaid.

use std::fmt::Write as _;
use std::ops::{Deref, DerefMut};

use chrono::{DateTime, Utc};
use ravenpost_core::audit::Author;
use ravenpost_core::ids::OrganizationId;
use sqlx::postgres::{PgConnection, Postgres};
use sqlx::{AssertSqlSafe, Executor, Transaction};

use super::Tenant;
use crate::Result;
use crate::audit::{Entry, append};

/// A transaction that reads. It ends when it is dropped.
pub(super) struct Reading(Transaction<'static, Postgres>);

/// A transaction that changes something of the organization. Dropping it rolls back.
pub(super) struct Changing {
    transaction: Transaction<'static, Postgres>,
    organization: OrganizationId,
    author: Author,
}

impl Deref for Reading {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for Reading {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}

impl Deref for Changing {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.transaction
    }
}

impl DerefMut for Changing {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }
}

impl Changing {
    /// Commits, with a row in the audit log.
    pub(super) async fn commit(mut self, entry: &Entry, now: DateTime<Utc>) -> Result<()> {
        self.carry_out().await?;
        self.commit_part(entry, now).await
    }

    /// As [`Changing::commit`], for what comes before the change itself and a repeat of the request finds done.
    pub(super) async fn commit_part(mut self, entry: &Entry, now: DateTime<Utc>) -> Result<()> {
        append(&mut self.transaction, self.organization, &self.author, entry, now).await?;
        Ok(self.transaction.commit().await?)
    }

    /// Commits what is no change in the eyes of a customer; says why.
    pub(super) async fn commit_unaudited(self, _why: &'static str) -> Result<()> {
        Ok(self.transaction.commit().await?)
    }

    /// The request that holds an `Idempotency-Key` is carried out with this commit, and by nobody else afterwards.
    async fn carry_out(&mut self) -> Result<()> {
        let Some(request) = self.author.request else { return Ok(()) };
        sqlx::query!("select carry_out($1) is null as done", request)
            .fetch_one(&mut *self.transaction)
            .await?;
        Ok(())
    }
}

impl Tenant {
    /// Begins a transaction that reads, in one round trip.
    pub(super) async fn begin(&self) -> Result<Reading> {
        self.begin_as("begin read only").await.map(Reading)
    }

    /// As [`Tenant::begin`], for what takes several statements to read: all of them see the same moment.
    pub(super) async fn begin_reading(&self) -> Result<Reading> {
        self.begin_as("begin isolation level repeatable read, read only").await.map(Reading)
    }

    /// Begins a transaction that changes something.
    pub(super) async fn begin_change(&self) -> Result<Changing> {
        let transaction = self.begin_as("begin").await?;
        Ok(Changing { transaction, organization: self.organization, author: self.author })
    }

    /// As [`Tenant::begin_change`], and no lock is waited for longer than 200 ms.
    pub(super) async fn begin_yielding(&self) -> Result<Changing> {
        let mut changing = self.begin_change().await?;
        changing.transaction.execute("set local lock_timeout = '200ms'").await?;
        Ok(changing)
    }

    /// Holds a lock of the organization's until the end of the transaction, so that what is counted stays so.
    pub(super) async fn one_at_a_time(&self, connection: &mut PgConnection, what: &str) -> Result<()> {
        sqlx::query!(
            "select pg_advisory_xact_lock(hashtextextended($2 || ':' || $1::text, 0)) is null as \"locked\"",
            self.organization.to_string(),
            what
        )
        .fetch_one(connection)
        .await?;
        Ok(())
    }

    async fn begin_as(&self, begin: &str) -> Result<Transaction<'static, Postgres>> {
        // Safe to put together: a UUID prints as hexadecimal digits and hyphens.
        let mut statement = format!(
            "{begin}; set local role ravenpost_tenant; set local ravenpost.organization_id = '{}'",
            self.organization
        );
        if let Some(request) = self.author.request {
            let _ = write!(statement, "; set local ravenpost.request_id = '{request}'");
        }
        Ok(self.pool.begin_with(AssertSqlSafe(statement)).await?)
    }
}
