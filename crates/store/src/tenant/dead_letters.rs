//! Dead letters: what was given up, newest event first. Each stays replayable.

use chrono::{DateTime, Utc};
use ravenpost_core::ids::{DestinationId, EndpointId, EventId};
use uuid::Uuid;

use super::events::{ids_before, ids_from};
use super::{Tenant, unsigned};
use crate::Result;
use crate::decode::Row;

/// A pair that was given up.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The event.
    pub event_id: EventId,
    /// For which destination.
    pub destination_id: DestinationId,
    /// Through which endpoint the event came.
    pub endpoint_id: EndpointId,
    /// The run that was the last one.
    pub run: u32,
    /// Why it was given up, in one word.
    pub reason: String,
    /// When.
    pub died_at: DateTime<Utc>,
    /// When the event was received.
    pub received_at: DateTime<Utc>,
    /// What its producer says it is.
    pub event_type: Option<String>,
}

/// Which dead letters to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeadLetterFilter<'a> {
    /// Of one endpoint.
    pub endpoint: Option<EndpointId>,
    /// Of one destination.
    pub destination: Option<DestinationId>,
    /// For that reason.
    pub reason: Option<&'a str>,
    /// Whose event was received at or after.
    pub received_after: Option<DateTime<Utc>>,
    /// Whose event was received before.
    pub received_before: Option<DateTime<Utc>>,
}

/// Which part of the list; the last pair of the page before, and most rows.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetterPage {
    /// `None` begins at the newest.
    pub after: Option<(EventId, DestinationId)>,
    /// At least one.
    pub limit: u16,
}

/// One page.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    /// Its rows.
    pub rows: Vec<DeadLetter>,
    /// What the next page is after; `None` when this is the last one.
    pub next: Option<(EventId, DestinationId)>,
}

struct DeadLetterRow {
    event_id: Uuid,
    destination_id: Uuid,
    endpoint_id: Uuid,
    run: i32,
    reason: String,
    died_at: DateTime<Utc>,
    received_at: DateTime<Utc>,
    event_type: Option<String>,
}

impl DeadLetterRow {
    fn decode(self) -> Result<DeadLetter> {
        Ok(DeadLetter {
            event_id: self.event_id.into(),
            destination_id: self.destination_id.into(),
            endpoint_id: self.endpoint_id.into(),
            run: unsigned(Row { table: "dead_letters", id: self.event_id }, "run", self.run)?,
            reason: self.reason,
            died_at: self.died_at,
            received_at: self.received_at,
            event_type: self.event_type,
        })
    }
}

/// Where a page begins and ends: everything at or above `low`, and below the pair.
struct Bounds {
    low: Uuid,
    event: Uuid,
    destination: Uuid,
    limit: i64,
}

impl Bounds {
    fn of(filter: &DeadLetterFilter<'_>, page: DeadLetterPage) -> Self {
        let low = filter.received_after.map_or(Uuid::nil(), ids_from);
        let high = filter.received_before.map_or(Uuid::max(), ids_before);
        let after =
            page.after.map_or((Uuid::max(), Uuid::max()), |(event, destination)| (event.0, destination.0));
        let (event, destination) = after.min((high, Uuid::nil()));
        Self { low, event, destination, limit: i64::from(page.limit) + 1 }
    }
}

/// What stands in `dead_letters` under a condition of its own, whose arguments begin with `$9`.
macro_rules! select_dead_letters {
    ($condition:literal, $organization:expr, $bounds:expr, $filter:expr $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            DeadLetterRow,
            "select l.event_id, l.destination_id, l.endpoint_id, l.run, l.reason, l.created_at as died_at, e.received_at,
                 e.event_type
             from dead_letters l join events e on e.organization_id = $1 and e.id = l.event_id
             where l.organization_id = $1 and l.event_id >= $2 and l.event_id <= $3
                 and (l.event_id, l.destination_id) < ($3, $4) and l.destination_id = any (e.dead)
                 and ($6::text is null or l.reason = $6)
                 and ($7::timestamptz is null or e.received_at >= $7)
                 and ($8::timestamptz is null or e.received_at < $8) " + $condition +
            " order by l.event_id desc, l.destination_id desc limit $5",
            $organization,
            $bounds.low,
            $bounds.event,
            $bounds.destination,
            $bounds.limit,
            $filter.reason,
            $filter.received_after,
            $filter.received_before
            $(, $argument)*
        )
    };
}

impl Tenant {
    /// The dead letters that match, newest event first.
    pub async fn dead_letters(
        &self,
        filter: &DeadLetterFilter<'_>,
        page: DeadLetterPage,
    ) -> Result<DeadLetters> {
        let bounds = Bounds::of(filter, page);
        let mut rows = match (filter.destination, filter.endpoint) {
            (Some(destination), _) => self.dead_letters_to(destination, filter, &bounds).await?,
            (None, Some(endpoint)) => self.dead_letters_of(endpoint, filter, &bounds).await?,
            (None, None) => self.all_dead_letters(filter, &bounds).await?,
        };
        let limit = usize::from(page.limit);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let rows = rows.into_iter().map(DeadLetterRow::decode).collect::<Result<Vec<_>>>()?;
        let next = rows.last().filter(|_| more).map(|last| (last.event_id, last.destination_id));
        Ok(DeadLetters { rows, next })
    }

    // Three statements, each with an index of its own; see `select_events`.
    async fn all_dead_letters(
        &self,
        filter: &DeadLetterFilter<'_>,
        bounds: &Bounds,
    ) -> Result<Vec<DeadLetterRow>> {
        let mut transaction = self.begin().await?;
        let rows = select_dead_letters!("", self.organization.0, bounds, filter)
            .fetch_all(&mut *transaction)
            .await?;
        Ok(rows)
    }

    async fn dead_letters_of(
        &self,
        endpoint: EndpointId,
        filter: &DeadLetterFilter<'_>,
        bounds: &Bounds,
    ) -> Result<Vec<DeadLetterRow>> {
        let mut transaction = self.begin().await?;
        let rows =
            select_dead_letters!("and l.endpoint_id = $9", self.organization.0, bounds, filter, endpoint.0)
                .fetch_all(&mut *transaction)
                .await?;
        Ok(rows)
    }

    async fn dead_letters_to(
        &self,
        destination: DestinationId,
        filter: &DeadLetterFilter<'_>,
        bounds: &Bounds,
    ) -> Result<Vec<DeadLetterRow>> {
        let mut transaction = self.begin().await?;
        let rows = select_dead_letters!(
            "and l.destination_id = $9 and ($10::uuid is null or l.endpoint_id = $10)",
            self.organization.0,
            bounds,
            filter,
            destination.0,
            filter.endpoint.map(|endpoint| endpoint.0)
        )
        .fetch_all(&mut *transaction)
        .await?;
        Ok(rows)
    }
}
