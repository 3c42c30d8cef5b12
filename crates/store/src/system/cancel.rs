//! Going on with cancelling what waits for a deleted destination, where the one who deleted it has not come to an end.

use chrono::{DateTime, Utc};
use ravenpost_core::ids::{DestinationId, OrganizationId};
use sqlx::Executor;

use super::System;
use crate::error::POSTGRES;
use crate::{Error, Result, cancel};

impl System {
    /// Cancels one step of what waits for `destination`, if it is deleted. Answers how many pairs; zero when nothing
    /// waits. It gives way to whoever holds the rows, and is then unavailable.
    pub async fn cancel_waiting(
        &self,
        organization: OrganizationId,
        destination: DestinationId,
        now: DateTime<Utc>,
    ) -> Result<usize> {
        let step =
            tokio::time::timeout(self.deadline, self.cancel_step(organization, destination, now)).await;
        step.map_err(|elapsed| Error::Unavailable { store: POSTGRES, cause: elapsed.into() })?
    }

    async fn cancel_step(
        &self,
        organization: OrganizationId,
        destination: DestinationId,
        now: DateTime<Utc>,
    ) -> Result<usize> {
        let mut transaction = self.pool.begin().await?;
        // A record never waits for us: see tenant::yielding.
        transaction.execute("set local lock_timeout = '200ms'").await?;
        let deleted = sqlx::query_scalar!(
            "select deleted_at is not null as \"deleted!\" from destinations where organization_id = $1 and id = $2",
            organization.0,
            destination.0
        )
        .fetch_optional(&mut *transaction)
        .await?;
        if deleted != Some(true) {
            return Ok(0);
        }
        let cancelled = cancel::step(&mut transaction, organization, destination, now).await?;
        transaction.commit().await?;
        Ok(cancelled)
    }
}
