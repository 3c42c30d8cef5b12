//! What a run of ingress has committed and not published: "everything after my cursor" (PROTOCOLS I2, I5).

use chrono::{DateTime, Utc};
use ravenpost_core::event::PayloadLocation;
use ravenpost_core::ids::{EventId, InstanceId, Slot};
use uuid::Uuid;

use super::{NewEvent, System};
use crate::Result;
use crate::decode::Row;
use crate::lease::bounded;

/// A row as it is stored.
struct EventRow {
    id: Uuid,
    organization_id: Uuid,
    endpoint_id: Uuid,
    slot: i32,
    received_at: DateTime<Utc>,
    s3_key: String,
    s3_offset: i64,
    s3_length: i64,
    body_sha256: Vec<u8>,
    headers: Vec<u8>,
    event_type: Option<String>,
    content_type: Option<String>,
    traceparent: Option<String>,
}

impl EventRow {
    fn decode(self) -> Result<NewEvent> {
        let row = Row { table: "events", id: self.id };
        Ok(NewEvent {
            id: self.id.into(),
            organization_id: self.organization_id.into(),
            endpoint_id: self.endpoint_id.into(),
            slot: Slot(row.value("slot", u16::try_from(self.slot))?),
            received_at: self.received_at,
            payload: PayloadLocation {
                s3_key: self.s3_key,
                s3_offset: self.s3_offset,
                s3_length: self.s3_length,
            },
            body_sha256: row.value("body_sha256", self.body_sha256.as_slice().try_into())?,
            headers: self.headers.into(),
            event_type: self.event_type,
            content_type: self.content_type,
            traceparent: self.traceparent,
            deduplication: None,
        })
    }
}

impl System {
    /// The next `most` events of a run with ids above `after` and up to `through`, by their ids.
    // By the primary key and no index of its own: what lies between is what all runs have accepted since.
    pub async fn unpublished(
        &self,
        instance: InstanceId,
        after: EventId,
        through: EventId,
        most: i64,
    ) -> Result<Vec<NewEvent>> {
        let rows = bounded!(
            self,
            sqlx::query_as!(
                EventRow,
                "select e.id, e.organization_id, e.endpoint_id, e.slot, e.received_at, e.s3_key, e.s3_offset, e.s3_length,
                     e.body_sha256, h.headers, e.event_type, e.content_type, e.traceparent
                 from events e join event_headers h on h.event_id = e.id and h.event_id > $2 and h.event_id <= $3
                 where e.instance_id = $1 and e.id > $2 and e.id <= $3
                 order by e.id limit $4",
                instance.0,
                after.0,
                through.0,
                most
            ),
            fetch_all
        );
        rows.into_iter().map(EventRow::decode).collect()
    }
}
