//! The events of a page and the traces of their pairs.

use std::collections::{BTreeMap, HashSet};

use ravenpost_core::delivery::WaitingReason;
use ravenpost_core::event::{EventStatus, PayloadLocation};
use ravenpost_core::ids::{DestinationId, EventId};
use ravenpost_core::ledger::{Entry, Listed, Traces};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Range, StoredPayload};
use crate::Result;
use crate::decode::Row;

/// A row as it is stored.
pub(super) struct EventRow {
    pub(super) id: Uuid,
    organization_id: Uuid,
    status: String,
    pending: Option<Vec<Uuid>>,
    delivered: Vec<Uuid>,
    dead: Vec<Uuid>,
    filtered: Vec<Uuid>,
    s3_key: String,
    s3_offset: i64,
    s3_length: i64,
    body_sha256: Vec<u8>,
    expunged: bool,
}

/// The traces of every pair, by event.
type AllTraces = BTreeMap<Uuid, BTreeMap<DestinationId, Traces>>;

/// The first `most` events of a range.
pub(super) async fn events(connection: &mut PgConnection, range: Range, most: i64) -> Result<Vec<EventRow>> {
    let query = sqlx::query_as!(
        EventRow,
        r#"select id, organization_id, status, pending, delivered, dead, filtered, s3_key, s3_offset, s3_length,
             body_sha256, expunged_at is not null as "expunged!"
         from events where id > $1 and id <= $2 order by id limit $3"#,
        range.after,
        range.through,
        most
    );
    Ok(query.fetch_all(connection).await?)
}

/// Their entries in the books, and where their payloads are. What is above `settled` may still be on its way.
pub(super) async fn entries(
    connection: &mut PgConnection,
    rows: Vec<EventRow>,
    settled: EventId,
) -> Result<(Vec<Entry>, Vec<StoredPayload>)> {
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let with_headers = with_headers(connection, &ids).await?;
    let mut traces = AllTraces::new();
    scheduled(connection, &ids, &mut traces).await?;
    dead_letters(connection, &ids, &mut traces).await?;
    attempts(connection, &ids, &mut traces).await?;
    deleted(connection, &rows, &mut traces).await?;
    let mut entries = Vec::with_capacity(rows.len());
    let mut payloads = Vec::with_capacity(rows.len());
    for row in rows {
        let traces = traces.remove(&row.id).unwrap_or_default();
        let (has_headers, expunged) = (with_headers.contains(&row.id), row.expunged);
        let (entry, payload) = row.decode(has_headers, traces, settled)?;
        entries.push(entry);
        payloads.extend((!expunged).then_some(payload));
    }
    Ok((entries, payloads))
}

impl EventRow {
    /// What its sets list. A set more is a line more here, and a column more above.
    fn listed(&self) -> impl Iterator<Item = (DestinationId, Listed)> {
        let set =
            |ids: &[Uuid], listed| ids.iter().map(move |id| (DestinationId(*id), listed)).collect::<Vec<_>>();
        [
            set(self.pending.as_deref().unwrap_or_default(), Listed::Pending),
            set(&self.delivered, Listed::Delivered),
            set(&self.dead, Listed::Dead),
            set(&self.filtered, Listed::Filtered),
        ]
        .into_iter()
        .flatten()
    }

    fn decode(
        self,
        has_headers: bool,
        traces: BTreeMap<DestinationId, Traces>,
        settled: EventId,
    ) -> Result<(Entry, StoredPayload)> {
        let (event_id, organization_id) = (EventId(self.id), self.organization_id.into());
        let row = Row { table: "events", id: self.id };
        let entry = Entry {
            id: event_id,
            organization_id,
            status: row.word("status", &self.status, EventStatus::parse)?,
            routed: self.pending.is_some(),
            has_headers,
            may_travel: event_id > settled,
            listed: self.listed().collect(),
            traces,
        };
        let location =
            PayloadLocation { s3_key: self.s3_key, s3_offset: self.s3_offset, s3_length: self.s3_length };
        Ok((entry, StoredPayload { event_id, organization_id, location, sha256: self.body_sha256 }))
    }
}

async fn with_headers(connection: &mut PgConnection, ids: &[Uuid]) -> Result<HashSet<Uuid>> {
    let (Some(low), Some(high)) = (ids.first(), ids.last()) else { return Ok(HashSet::new()) };
    let query = sqlx::query_scalar!(
        "select event_id from event_headers where event_id = any ($1) and event_id between $2 and $3",
        ids,
        low,
        high
    );
    Ok(query.fetch_all(connection).await?.into_iter().collect())
}

async fn scheduled(connection: &mut PgConnection, ids: &[Uuid], traces: &mut AllTraces) -> Result<()> {
    let query = sqlx::query!(
        "select event_id, destination_id, run, reason from scheduled_deliveries where event_id = any ($1)",
        ids
    );
    for row in query.fetch_all(connection).await? {
        let decode = Row { table: "scheduled_deliveries", id: row.event_id };
        let reason = decode.word("reason", &row.reason, WaitingReason::parse)?;
        trace(traces, row.event_id, row.destination_id).scheduled = Some((reason, row.run));
    }
    Ok(())
}

async fn dead_letters(connection: &mut PgConnection, ids: &[Uuid], traces: &mut AllTraces) -> Result<()> {
    let query =
        sqlx::query!("select event_id, destination_id, run from dead_letters where event_id = any ($1)", ids);
    for row in query.fetch_all(connection).await? {
        trace(traces, row.event_id, row.destination_id).dead_letter = Some(row.run);
    }
    Ok(())
}

async fn attempts(connection: &mut PgConnection, ids: &[Uuid], traces: &mut AllTraces) -> Result<()> {
    let (Some(low), Some(high)) = (ids.first(), ids.last()) else { return Ok(()) };
    let query = sqlx::query!(
        "select event_id, destination_id, min(run) as first_run,
             max(run) filter (where outcome = 'success') as delivered_run
         from deliveries where event_id = any ($1) and event_id between $2 and $3
         group by event_id, destination_id",
        ids,
        low,
        high
    );
    for row in query.fetch_all(connection).await? {
        let trace = trace(traces, row.event_id, row.destination_id);
        (trace.first_run, trace.delivered_run) = (row.first_run, row.delivered_run);
    }
    Ok(())
}

/// Which destinations are deleted, of those that tables speak of and that their event does not list.
async fn deleted(connection: &mut PgConnection, rows: &[EventRow], traces: &mut AllTraces) -> Result<()> {
    let mut unlisted = Vec::new();
    for row in rows {
        let Some(traces) = traces.get(&row.id) else { continue };
        unlisted.extend(traces.keys().filter(|id| !row.listed().any(|(listed, _)| listed == **id)).copied());
    }
    if unlisted.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = unlisted.into_iter().map(Uuid::from).collect();
    let query = sqlx::query_scalar!(
        "select id from destinations where id = any ($1) and deleted_at is not null",
        &ids
    );
    let deleted = query.fetch_all(connection).await?;
    for (destination, traces) in traces.values_mut().flat_map(BTreeMap::iter_mut) {
        traces.deleted = deleted.contains(&destination.0);
    }
    Ok(())
}

fn trace(traces: &mut AllTraces, event: Uuid, destination: Uuid) -> &mut Traces {
    traces.entry(event).or_default().entry(DestinationId(destination)).or_default()
}
