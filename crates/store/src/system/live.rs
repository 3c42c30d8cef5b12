//! Forgetting what listeners were told.

use chrono::{DateTime, Utc};

use super::System;
use crate::Result;
use crate::lease::bounded;
use crate::tenant::WATCHED;

/// Most attempts of one statement.
const STEP: i64 = 10_000;

impl System {
    /// Forgets attempts that nobody can resume from any more, and who has listened.
    pub async fn forget_live(&self, now: DateTime<Utc>) -> Result<()> {
        loop {
            let query = sqlx::query!(
                "delete from live_attempts where ctid = any (array(
                     select ctid from live_attempts where recorded_at < $1 limit $2))",
                now - WATCHED,
                STEP
            );
            let forgotten = bounded!(self, query, execute).rows_affected();
            if i64::try_from(forgotten).is_ok_and(|forgotten| forgotten < STEP) {
                break;
            }
        }
        let query = sqlx::query!("delete from live_watches where until < $1", now);
        bounded!(self, query, execute);
        Ok(())
    }
}
