//! Upkeep of the schema under its own role: one process at a time is elected, and gives way to everybody else.

use sqlx::{Executor, Postgres, Transaction};

use super::System;
use crate::error::POSTGRES;
use crate::{Error, Result};

/// The keys of the advisory locks by which a maintainer is elected, one for each of its tasks: a long one must not make
/// another wait. Each kind of leftovers has its own, from the second key on.
const PARTITIONS: i64 = 0x7261_7665_6e01;
pub(super) const LEFTOVERS: i64 = 0x7261_7665_6e02;
pub(super) const RETENTION: i64 = 0x7261_7665_6e80;
const GROWTH: i64 = 0x7261_7665_6e81;

impl System {
    /// Makes the daily partitions of the coming `days` that are missing, unless another process is at it.
    /// Answers how many it made.
    pub async fn ensure_partitions(&self, days: i32) -> Result<i32> {
        let Some(mut transaction) = self.elected(PARTITIONS).await? else { return Ok(0) };
        let made = sqlx::query_scalar!("select ensure_partitions($1) as \"made!\"", days)
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(made)
    }

    /// Lets Postgres forget how small it found tables to be that may fill within moments, so that it keeps no plan which
    /// was made for an empty one (docs/decisions 0040). Answers how many these were; none while another process is at it.
    pub async fn expect_growth(&self) -> Result<i32> {
        let forgotten = tokio::time::timeout(self.deadline, self.forget_sizes()).await;
        forgotten.map_err(|elapsed| Error::Unavailable { store: POSTGRES, cause: elapsed.into() })?
    }

    async fn forget_sizes(&self) -> Result<i32> {
        let Some(mut transaction) = self.elected(GROWTH).await? else { return Ok(0) };
        let forgotten = sqlx::query_scalar!("select expect_growth() as \"forgotten!\"")
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(forgotten)
    }

    /// A transaction of the maintenance role, which holds the task until its end; `None` while another process does.
    pub(super) async fn elected(&self, task: i64) -> Result<Option<Transaction<'static, Postgres>>> {
        let mut transaction = self.maintenance().await?;
        let elected = sqlx::query_scalar!("select pg_try_advisory_xact_lock($1) as \"elected!\"", task)
            .fetch_one(&mut *transaction)
            .await?;
        Ok(elected.then_some(transaction))
    }

    /// A transaction of the maintenance role.
    pub(super) async fn maintenance(&self) -> Result<Transaction<'static, Postgres>> {
        let mut transaction = self.pool.begin().await?;
        transaction.execute("set local role ravenpost_maintenance").await?;
        Ok(transaction)
    }
}
