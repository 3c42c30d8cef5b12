//! Events: what was accepted, where it stands, and where its payload is.

use chrono::{DateTime, TimeDelta, Utc};
use http::HeaderMap;
use ravenpost_core::event::{EventStatus, PayloadLocation};
use ravenpost_core::headers;
use ravenpost_core::ids::{DestinationId, EndpointId, EventId};
use uuid::Uuid;

use super::{Listed, Page, Tenant};
use crate::Result;
use crate::decode::Row;

/// One accepted webhook.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its id, which destinations know as `webhook-id`.
    pub id: EventId,
    /// Through which endpoint it came.
    pub endpoint_id: EndpointId,
    /// When.
    pub received_at: DateTime<Utc>,
    /// Where it stands over all destinations.
    pub status: EventStatus,
    /// What its producer says it is.
    pub event_type: Option<String>,
    /// The media type of the body, as its producer says.
    pub content_type: Option<String>,
    /// SHA-256 of the body.
    pub body_sha256: Vec<u8>,
    /// Where the body is.
    pub payload: PayloadLocation,
    /// Destinations that wait for it; `None` when it is not routed yet.
    pub pending: Option<Vec<DestinationId>>,
    /// Destinations that have accepted it.
    pub delivered: Vec<DestinationId>,
    /// Destinations for which it was given up.
    pub dead: Vec<DestinationId>,
    /// Destinations whose filter did not want it.
    pub filtered: Vec<DestinationId>,
    /// When its payload was expunged: nothing may read it any more.
    pub expunged_at: Option<DateTime<Utc>>,
}

/// The headers that came with an event, credentials left out.
pub type EventHeaders = HeaderMap;

/// Which events to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventFilter<'a> {
    /// Of one endpoint.
    pub endpoint: Option<EndpointId>,
    /// For one destination, however it stands with it.
    pub destination: Option<DestinationId>,
    /// In that status.
    pub status: Option<EventStatus>,
    /// Of that type.
    pub event_type: Option<&'a str>,
    /// Received at or after.
    pub received_after: Option<DateTime<Utc>>,
    /// Received before.
    pub received_before: Option<DateTime<Utc>>,
}

/// How far an id may lie from when its event was received: ids are drawn when a batch is cut (PROTOCOLS I2), which is
/// later than the receipt by as long as a request may take, and clocks may step.
const ID_DRIFT: TimeDelta = TimeDelta::minutes(5);

impl EventFilter<'_> {
    /// Whether an event is one of these.
    pub fn admits(&self, event: &Event) -> bool {
        let concerns = |id: &DestinationId| {
            [&event.delivered, &event.dead, &event.filtered].iter().any(|set| set.contains(id))
                || event.pending.as_ref().is_some_and(|set| set.contains(id))
        };
        self.endpoint.is_none_or(|endpoint| endpoint == event.endpoint_id)
            && self.destination.as_ref().is_none_or(concerns)
            && self.status.is_none_or(|status| status == event.status)
            && self.event_type.is_none_or(|wanted| event.event_type.as_deref() == Some(wanted))
            && self.received_after.is_none_or(|after| event.received_at >= after)
            && self.received_before.is_none_or(|before| event.received_at < before)
    }

    /// Bounds of the ids, so that only the partitions of that time are read: at or above, and below.
    fn id_bounds(&self, page: Page) -> (Uuid, Uuid) {
        let low = self.received_after.map_or(Uuid::nil(), ids_from);
        let high = self.received_before.map_or(Uuid::max(), ids_before);
        (low, high.min(page.below()))
    }
}

/// What is received at `moment` or later has an id at or above this one.
pub(crate) fn ids_from(moment: DateTime<Utc>) -> Uuid {
    floor(moment.checked_sub_signed(ID_DRIFT).unwrap_or(DateTime::<Utc>::MIN_UTC))
}

/// What is received before `moment` has an id below this one.
pub(crate) fn ids_before(moment: DateTime<Utc>) -> Uuid {
    floor(moment.checked_add_signed(ID_DRIFT).unwrap_or(DateTime::<Utc>::MAX_UTC))
}

/// The smallest UUIDv7 of a moment; version and variant left zero, so that it is at or below every real one.
fn floor(moment: DateTime<Utc>) -> Uuid {
    let milliseconds = u128::try_from(moment.timestamp_millis()).unwrap_or(0);
    Uuid::from_u128(milliseconds.min((1 << 48) - 1) << 80)
}

/// A row as it is stored.
struct EventRow {
    id: Uuid,
    endpoint_id: Uuid,
    received_at: DateTime<Utc>,
    status: String,
    event_type: Option<String>,
    content_type: Option<String>,
    body_sha256: Vec<u8>,
    s3_key: String,
    s3_offset: i64,
    s3_length: i64,
    pending: Option<Vec<Uuid>>,
    delivered: Vec<Uuid>,
    dead: Vec<Uuid>,
    filtered: Vec<Uuid>,
    expunged_at: Option<DateTime<Utc>>,
}

impl EventRow {
    fn decode(self) -> Result<Event> {
        let row = Row { table: "events", id: self.id };
        let destinations = |ids: Vec<Uuid>| ids.into_iter().map(DestinationId).collect();
        Ok(Event {
            id: self.id.into(),
            endpoint_id: self.endpoint_id.into(),
            received_at: self.received_at,
            status: row.word("status", &self.status, EventStatus::parse)?,
            event_type: self.event_type,
            content_type: self.content_type,
            body_sha256: self.body_sha256,
            payload: PayloadLocation {
                s3_key: self.s3_key,
                s3_offset: self.s3_offset,
                s3_length: self.s3_length,
            },
            pending: self.pending.map(destinations),
            delivered: destinations(self.delivered),
            dead: destinations(self.dead),
            filtered: destinations(self.filtered),
            expunged_at: self.expunged_at,
        })
    }
}

/// The query for [`EventRow`]s of the organization $1, by what else has to hold and their order.
macro_rules! select_events {
    ($rest:literal $(+ $more:literal)*, $($argument:expr),+) => {
        sqlx::query_as!(
            EventRow,
            "select id, endpoint_id, received_at, status, event_type, content_type, body_sha256, s3_key, s3_offset,
                 s3_length, pending, delivered, dead, filtered, expunged_at
             from events where organization_id = $1 and " + $rest $(+ $more)*,
            $($argument),+
        )
    };
}

/// As [`select_events`], newest first: those with ids from $2 to below $3 that match the filter.
macro_rules! select_matching {
    ($also:literal, $tenant:ident, $filter:ident, $page:ident $(, $argument:expr)*) => {{
        let (low, high) = $filter.id_bounds($page);
        select_events!(
            $also + "id >= $2 and id < $3
                 and ($4::text is null or status = $4) and ($5::text is null or event_type = $5)
                 and ($6::timestamptz is null or received_at >= $6)
                 and ($7::timestamptz is null or received_at < $7)
             order by id desc limit $8",
            $tenant.organization.0,
            low,
            high,
            $filter.status.map(EventStatus::as_str),
            $filter.event_type,
            $filter.received_after,
            $filter.received_before,
            $page.to_read()
            $(, $argument)*
        )
    }};
}

impl Tenant {
    /// The events that match, newest first.
    pub async fn events(&self, filter: &EventFilter<'_>, page: Page) -> Result<Listed<Event>> {
        let mut transaction = self.begin().await?;
        // Statements of their own rather than one with an optional endpoint: each has its index, and a generic plan of the
        // one would read all of an organization's events to find those of a quiet endpoint.
        let rows = match (filter.endpoint, filter.destination) {
            (endpoint, Some(destination)) => {
                select_matching!(
                    "endpoint_id = (select endpoint_id from destinations where organization_id = $1 and id = $9)
                     and ($10::uuid is null or endpoint_id = $10) and ($9 = any (pending) or $9 = any (delivered)
                         or $9 = any (dead) or $9 = any (filtered)) and ",
                    self,
                    filter,
                    page,
                    destination.0,
                    endpoint.map(|endpoint| endpoint.0)
                )
                .fetch_all(&mut *transaction)
                .await?
            }
            (None, None) => select_matching!("", self, filter, page).fetch_all(&mut *transaction).await?,
            (Some(endpoint), None) => {
                select_matching!("endpoint_id = $9 and ", self, filter, page, endpoint.0)
                    .fetch_all(&mut *transaction)
                    .await?
            }
        };
        let events = rows.into_iter().map(EventRow::decode).collect::<Result<_>>()?;
        Ok(page.cut(events, |event: &Event| event.id.0))
    }

    /// The event of that id.
    pub async fn event(&self, id: EventId) -> Result<Option<Event>> {
        let mut transaction = self.begin().await?;
        select_events!("id = $2", self.organization.0, id.0)
            .fetch_optional(&mut *transaction)
            .await?
            .map(EventRow::decode)
            .transpose()
    }

    /// The headers that came with an event; empty when there is no such event.
    pub async fn event_headers(&self, id: EventId) -> Result<EventHeaders> {
        let mut transaction = self.begin().await?;
        let stored = sqlx::query_scalar!(
            "select headers from event_headers where organization_id = $1 and event_id = $2",
            self.organization.0,
            id.0
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let row = Row { table: "event_headers", id: id.0 };
        Ok(row.value("headers", headers::decode(&stored.unwrap_or_default()))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_bounds_the_ids() {
        let at = DateTime::from_timestamp_millis(1_700_000_000_000).unwrap();
        let page = Page { after: None, limit: 1 };
        let id = EventId::new(at, [0; 10]).0;
        let within = |filter: EventFilter<'_>| {
            let (low, high) = filter.id_bounds(page);
            low <= id && id < high
        };
        assert!(within(EventFilter::default()));
        assert!(within(EventFilter { received_after: Some(at), ..Default::default() }));
        assert!(within(EventFilter { received_before: Some(at), ..Default::default() }));
        assert!(!within(EventFilter {
            received_after: Some(at + TimeDelta::minutes(6)),
            ..Default::default()
        }));
        assert!(!within(EventFilter {
            received_before: Some(at - TimeDelta::minutes(6)),
            ..Default::default()
        }));
        assert_eq!(EventFilter::default().id_bounds(Page { after: Some(id), limit: 1 }).1, id);
        let (first, last) = (DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC);
        assert!(within(EventFilter { received_after: Some(first), ..Default::default() }));
        assert!(within(EventFilter { received_before: Some(last), ..Default::default() }));
        assert_eq!(floor(first), Uuid::nil());
    }
}
