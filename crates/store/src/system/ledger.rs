//! The books, read page by page: what each event says of its destinations, and what the tables beside it have
//! (PROTOCOLS D6). Each page is one snapshot, so that a system at work looks as balanced as one that stands still.
//!
//! All reads go by primary keys and are bounded; the rules that judge what they find are core's.

mod page;
mod strays;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use ravenpost_core::event::PayloadLocation;
use ravenpost_core::ids::{EventId, OrganizationId};
use ravenpost_core::ledger::{Entry, Finding};
use sqlx::{Executor, PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::System;
use super::retention::kept_from;
use crate::Result;
use crate::lease::bounded;

/// A stretch of the books.
#[derive(Debug, Clone)]
pub struct LedgerPage {
    /// Its events, by their ids.
    pub entries: Vec<Entry>,
    /// Where the payloads of these events are, in the same order; without those that were expunged.
    pub payloads: Vec<StoredPayload>,
    /// Rows that speak of events which are not there.
    pub strays: Vec<Finding>,
    /// The last id that was looked at; the next page begins after it.
    pub reached: EventId,
}

/// A payload and what it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPayload {
    /// Of which event.
    pub event_id: EventId,
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// Where it is.
    pub location: PayloadLocation,
    /// Its SHA-256, as it was accepted; not of 32 bytes when the row was altered.
    pub sha256: Vec<u8>,
}

/// Which stretch is read.
#[derive(Debug, Clone, Copy)]
struct Range {
    after: Uuid,
    through: Uuid,
}

impl System {
    /// The next events after `after` and up to `through`, at most `most` of them and as many strays. What was accepted
    /// after `settled`, or what the workers have not come to, may still be on its way.
    pub async fn ledger_page(
        &self,
        after: EventId,
        through: EventId,
        settled: DateTime<Utc>,
        most: i64,
    ) -> Result<LedgerPage> {
        let mut transaction = self.begin_snapshot().await?;
        // Before the snapshot is taken: a day that is dropped in between would be missing from it only in part.
        transaction.execute("lock table events, event_headers, deliveries in access share mode").await?;
        let met = met_through(&mut transaction).await?;
        let settled = met.min(EventId::floor(settled));
        // What is kept no longer is in no book.
        let after = after.max(kept_from(&mut transaction).await?.predecessor());
        if after >= through {
            return Ok(LedgerPage {
                entries: Vec::new(),
                payloads: Vec::new(),
                strays: Vec::new(),
                reached: through,
            });
        }
        let mut rows =
            page::events(&mut transaction, Range { after: after.0, through: through.0 }, most).await?;
        let reached = end(&rows, most, through, |row| EventId(row.id));
        let strays =
            strays::strays(&mut transaction, Range { after: after.0, through: reached.0 }, most).await?;
        // There may be more of them: what lies beyond the last one is the next page's.
        let reached = end(&strays, most, reached, |stray| stray.event_id);
        rows.retain(|row| row.id <= reached.0);
        let (entries, payloads) = page::entries(&mut transaction, rows, settled).await?;
        Ok(LedgerPage { entries, payloads, strays, reached })
    }

    /// What organizations are called.
    pub async fn organization_names(
        &self,
        organizations: &[OrganizationId],
    ) -> Result<HashMap<OrganizationId, String>> {
        let ids: Vec<Uuid> = organizations.iter().map(|id| id.0).collect();
        let query = sqlx::query!("select id, name from organizations where id = any ($1)", &ids);
        let rows = bounded!(self, query, fetch_all);
        Ok(rows.into_iter().map(|row| (OrganizationId(row.id), row.name)).collect())
    }

    async fn begin_snapshot(&self) -> Result<Transaction<'static, Postgres>> {
        Ok(self.pool.begin_with("begin isolation level repeatable read, read only").await?)
    }
}

/// Where a page ends: at its last row when it is full, and else where it may.
fn end<T>(rows: &[T], most: i64, through: EventId, id: impl FnOnce(&T) -> EventId) -> EventId {
    let full = i64::try_from(rows.len()).is_ok_and(|rows| rows >= most);
    rows.last().filter(|_| full).map_or(through, id)
}

/// Up to where the workers have recorded all that was published; the nil id when they have said nothing yet.
async fn met_through(connection: &mut PgConnection) -> Result<EventId> {
    let met = sqlx::query_scalar!("select met_through from sweeper").fetch_optional(connection).await?;
    Ok(EventId(met.flatten().unwrap_or_default()))
}
