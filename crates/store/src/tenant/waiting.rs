//! Cancelling what waits for a deleted destination (PROTOCOLS W6), in steps, so that no transaction is long.

use chrono::{DateTime, Utc};
use ravenpost_core::ids::DestinationId;

use super::Tenant;
use super::yielding::{TRIES, has_yielded};
use crate::{Result, cancel};

impl Tenant {
    /// Cancels everything that waits for `destination`, which is deleted already, so nothing new comes.
    pub(super) async fn cancel_waiting(&self, destination: DestinationId, now: DateTime<Utc>) -> Result<()> {
        let mut yielded = 0;
        loop {
            match self.cancel_step(destination, now).await {
                Ok(0) => return Ok(()),
                Ok(_) => yielded = 0,
                Err(error) if yielded < TRIES && has_yielded(&error) => yielded += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Answers how many it cancelled.
    async fn cancel_step(&self, destination: DestinationId, now: DateTime<Utc>) -> Result<usize> {
        let mut transaction = self.begin_yielding().await?;
        let cancelled = cancel::step(&mut transaction, self.organization, destination, now).await?;
        transaction.commit_unaudited("what follows from a deletion, which was audited").await?;
        Ok(cancelled)
    }
}
