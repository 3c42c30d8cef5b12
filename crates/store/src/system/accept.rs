//! A batch of accepted events becomes rows: one statement, all or nothing, under the lane's row (PROTOCOLS I3). Those
//! whose producer repeats itself stay out of it (I7).

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use ravenpost_core::ids::{EventId, InstanceId};

use super::System;
use crate::Result;
use crate::lease::bounded;
use crate::new_event::{Columns, KeyOfEndpoint, Lost, NewEvent, Winner, insert_events, winners};

/// What came of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// These are committed; the others repeat events that were committed before ([`System::winners`]).
    Committed(HashSet<EventId>),
    /// None is: the lane's row is gone, a peer has adopted this instance.
    Adopted,
}

impl System {
    /// Commits a batch through a lane of an instance.
    pub async fn accept(&self, instance: InstanceId, lane: i32, events: &[NewEvent]) -> Result<Accepted> {
        let columns = Columns::of(events);
        let row = bounded!(
            self,
            insert_events!(
                "select instance_id from ingress_lanes where instance_id = $16 and lane = $17 for share",
                columns,
                instance.0,
                lane
            ),
            fetch_one
        );
        let ids = row.ids.into_iter().map(EventId).collect();
        Ok(if row.ours { Accepted::Committed(ids) } else { Accepted::Adopted })
    }

    /// The events that hold these keys now; who is not found was no winner after all.
    pub async fn winners(&self, keys: &[KeyOfEndpoint]) -> Result<HashMap<KeyOfEndpoint, Winner>> {
        winners(bounded!(self, Lost(keys), fetch))
    }

    /// Forgets up to `most` keys that have expired, and says how many those were.
    pub async fn sweep_deduplication(&self, most: i64) -> Result<u64> {
        let done = bounded!(
            self,
            sqlx::query!(
                "delete from ingest_dedup where (endpoint_id, key) in (
                     select endpoint_id, key from ingest_dedup where expires_at < now()
                     order by expires_at limit $1 for update skip locked)",
                most
            ),
            execute
        );
        Ok(done.rows_affected())
    }
}
