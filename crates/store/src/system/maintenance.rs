//! Upkeep of the schema under its own role.

use super::System;
use crate::Result;

/// One maintainer at a time: the key of its advisory lock.
const MAINTENANCE_LOCK: i64 = 0x7261_7665_6e01;

impl System {
    /// Makes the daily partitions of the coming `days` that are missing, unless another process is at it.
    /// Answers how many it made.
    pub async fn ensure_partitions(&self, days: i32) -> Result<i32> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("set local role ravenpost_maintenance").execute(&mut *transaction).await?;
        let elected =
            sqlx::query_scalar!("select pg_try_advisory_xact_lock($1) as \"elected!\"", MAINTENANCE_LOCK)
                .fetch_one(&mut *transaction)
                .await?;
        let made = if elected {
            sqlx::query_scalar!("select ensure_partitions($1) as \"made!\"", days)
                .fetch_one(&mut *transaction)
                .await?
        } else {
            0
        };
        transaction.commit().await?;
        Ok(made)
    }
}
