//! Forgetting what listeners were told.

use chrono::{DateTime, Utc};

use super::System;
use crate::Result;
use crate::lease::bounded;
use crate::tenant::WATCHED;

impl System {
    /// Forgets attempts that nobody can resume from any more, and who has listened.
    pub async fn forget_live(&self, now: DateTime<Utc>) -> Result<()> {
        let query = sqlx::query!("delete from live_attempts where recorded_at < $1", now - WATCHED);
        bounded!(self, query, execute);
        let query = sqlx::query!("delete from live_watches where until < $1", now);
        bounded!(self, query, execute);
        Ok(())
    }
}
