//! Who owns a Kafka partition (PROTOCOLS W2).

use super::System;
use crate::Result;
use crate::lease::bounded;

impl System {
    /// Takes a partition: its new epoch. Decisions under an older one no longer count.
    pub async fn take_partition(&self, partition: i32) -> Result<i64> {
        Ok(bounded!(
            self,
            sqlx::query_scalar!(
                "insert into partitions (partition, epoch) values ($1, 1)
             on conflict (partition) do update set epoch = partitions.epoch + 1, taken_at = now()
             returning epoch",
                partition
            ),
            fetch_one
        ))
    }
}
