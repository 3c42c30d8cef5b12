//! What waits for its time: listed, brought forward, cancelled.
//!
//! Nothing here touches an attempt in the air: a row keeps its version when it is brought forward, so that whoever has it
//! completes it, and what is parked is due already or in the air and runs by itself (PROTOCOLS W7, W8).

use chrono::{DateTime, Utc};
use ravenpost_core::audit::Action;
use ravenpost_core::delivery::{KeptBy, WaitingReason};
use ravenpost_core::ids::{DestinationId, EndpointId, EventId};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::yielding::{TRIES, has_yielded};
use super::{Tenant, unsigned};
use crate::Result;
use crate::audit::Entry;
use crate::decode::Row;

/// An attempt to come, with what keeps it.
#[derive(Debug, Clone)]
pub struct Scheduled {
    /// The event.
    pub event_id: EventId,
    /// For which destination.
    pub destination_id: DestinationId,
    /// Through which endpoint it came.
    pub endpoint_id: EndpointId,
    /// Of which run.
    pub run: u32,
    /// Which attempt of the run.
    pub attempt_number: u32,
    /// When it is due at the earliest.
    pub due_at: DateTime<Utc>,
    /// Since when it stands in the schedule.
    pub waiting_since: DateTime<Utc>,
    /// Why it waits.
    pub reason: WaitingReason,
    /// What keeps it although its time has come, or will.
    pub kept_by: Option<KeptBy>,
    /// Until when, where that is known.
    pub kept_until: Option<DateTime<Utc>>,
}

/// What to list of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScheduledFilter {
    /// Of one endpoint.
    pub endpoint: Option<EndpointId>,
    /// For one destination.
    pub destination: Option<DestinationId>,
    /// Of one event.
    pub event: Option<EventId>,
    /// Waiting for that reason.
    pub reason: Option<WaitingReason>,
}

/// The place of a row in the list.
pub type ScheduledPlace = (DateTime<Utc>, EventId, DestinationId);

/// Rows of each destination that a page looks at when it is for one reason: of those, hardly any may match.
const LOOKED_AT: i64 = 10_000;

/// A page of the list, soonest due first. It may be short, or empty, although it is not the last one.
#[derive(Debug, Clone)]
pub struct ScheduledList {
    /// Its rows.
    pub rows: Vec<Scheduled>,
    /// What the next page is after; `None` when this is the last one.
    pub next: Option<ScheduledPlace>,
}

struct ScheduledRow {
    event_id: Uuid,
    destination_id: Uuid,
    endpoint_id: Uuid,
    run: i32,
    attempt_number: i32,
    due_at: DateTime<Utc>,
    waiting_since: DateTime<Utc>,
    reason: String,
    kept_by: Option<String>,
    kept_until: Option<DateTime<Utc>>,
}

impl ScheduledRow {
    fn decode(self) -> Result<Scheduled> {
        let row = Row { table: "scheduled_deliveries", id: self.event_id };
        let kept_by = self.kept_by.map(|word| row.word("kept_by", &word, KeptBy::parse)).transpose()?;
        Ok(Scheduled {
            event_id: self.event_id.into(),
            destination_id: self.destination_id.into(),
            endpoint_id: self.endpoint_id.into(),
            run: unsigned(row, "run", self.run)?,
            attempt_number: unsigned(row, "attempt_number", self.attempt_number)?,
            due_at: self.due_at,
            waiting_since: self.waiting_since,
            reason: row.word("reason", &self.reason, WaitingReason::parse)?,
            kept_by,
            kept_until: self.kept_until,
        })
    }
}

impl Tenant {
    /// What waits, soonest due first. For each destination the rows are read from where the page begins, and no more of
    /// them than it holds; for one reason, some thousands.
    pub async fn scheduled(
        &self,
        filter: &ScheduledFilter,
        after: Option<ScheduledPlace>,
        limit: u16,
    ) -> Result<ScheduledList> {
        let (due_at, event, destination) =
            after.unwrap_or((DateTime::UNIX_EPOCH, EventId(Uuid::nil()), DestinationId(Uuid::nil())));
        let mut transaction = self.begin_reading().await?;
        let end = self.looked_through(&mut transaction, filter, (due_at, event), limit).await?;
        let (last_due_at, last_event, last_destination) =
            end.unwrap_or((DateTime::<Utc>::MAX_UTC, EventId(Uuid::max()), DestinationId(Uuid::max())));
        let rows = sqlx::query_as!(
            ScheduledRow,
            r#"select s.event_id as "event_id!", s.destination_id as "destination_id!", s.endpoint_id as "endpoint_id!",
                 s.run as "run!", s.attempt_number as "attempt_number!", s.due_at as "due_at!",
                 s.created_at as "waiting_since!", s.reason as "reason!",
                 case when p.status = 'paused' then 'endpoint_paused' when d.status = 'paused' then 'destination_paused'
                     when d.status = 'disabled' then 'destination_disabled'
                     when h.slow_until > now() then 'slowed_down'
                     when h.opened_at is not null then 'breaker_open' end as kept_by,
                 case when p.status = 'active' and d.status = 'active'
                     then case when h.slow_until > now() then h.slow_until
                         when h.opened_at is not null then h.probe_at end end as kept_until
             from destinations d
             join endpoints p on p.organization_id = d.organization_id and p.id = d.endpoint_id
             left join destination_state h on h.organization_id = d.organization_id and h.destination_id = d.id
                 and h.follows is not distinct from d.resumed_at
             cross join lateral (
                 select * from scheduled_deliveries s
                 where s.destination_id = d.id and s.organization_id = $1 and (s.due_at, s.event_id) >= ($5, $6)
                     and (s.due_at, s.event_id) <= ($10, $11)
                     and ($4::uuid is null or s.event_id = $4) and ($9::text is null or s.reason = $9)
                 order by s.due_at, s.event_id limit $8::bigint + 1) as s
             where d.organization_id = $1 and ($2::uuid is null or d.endpoint_id = $2) and ($3::uuid is null or d.id = $3)
                 and ($4::uuid is null or d.id in (select destination_id from scheduled_deliveries
                     where organization_id = $1 and event_id = $4))
                 and (s.due_at, s.event_id, s.destination_id) > ($5, $6, $7)
                 and (s.due_at, s.event_id, s.destination_id) <= ($10, $11, $12)
             order by s.due_at, s.event_id, s.destination_id limit $8"#,
            self.organization.0,
            filter.endpoint.map(|id| id.0),
            filter.destination.map(|id| id.0),
            filter.event.map(|id| id.0),
            due_at,
            event.0,
            destination.0,
            i64::from(limit) + 1,
            filter.reason.map(WaitingReason::as_str),
            last_due_at,
            last_event.0,
            last_destination.0
        )
        .fetch_all(&mut *transaction)
        .await?;
        let mut rows = rows.into_iter().map(ScheduledRow::decode).collect::<Result<Vec<_>>>()?;
        let more = rows.len() > usize::from(limit);
        rows.truncate(usize::from(limit));
        let last = rows.last().filter(|_| more).map(|last| (last.due_at, last.event_id, last.destination_id));
        Ok(ScheduledList { rows, next: last.or(end) })
    }

    /// Up to where a page for one reason looks: to where the first destination has more rows than are looked at, and too
    /// few among them for a page. `None`: as far as need be.
    async fn looked_through(
        &self,
        connection: &mut PgConnection,
        filter: &ScheduledFilter,
        (due_at, event): (DateTime<Utc>, EventId),
        limit: u16,
    ) -> Result<Option<ScheduledPlace>> {
        // Of one event there are few rows.
        let Some(reason) = filter.reason.filter(|_| filter.event.is_none()) else { return Ok(None) };
        let place = sqlx::query!(
            r#"select s.due_at as "due_at!", s.event_id as "event_id!", d.id as "destination_id!"
             from destinations d
             cross join lateral (
                 select s.due_at, s.event_id from scheduled_deliveries s
                 where s.destination_id = d.id and s.organization_id = $1 and (s.due_at, s.event_id) >= ($4, $5)
                     and not exists (select from (
                         select n.reason from scheduled_deliveries n where n.destination_id = d.id
                             and n.organization_id = $1 and (n.due_at, n.event_id) >= ($4, $5)
                         order by n.due_at, n.event_id limit $6) as n where n.reason = $7 offset $8)
                 order by s.due_at, s.event_id offset $6 limit 1) as s
             where d.organization_id = $1 and ($2::uuid is null or d.endpoint_id = $2) and ($3::uuid is null or d.id = $3)
             order by s.due_at, s.event_id, d.id limit 1"#,
            self.organization.0,
            filter.endpoint.map(|id| id.0),
            filter.destination.map(|id| id.0),
            due_at,
            event.0,
            LOOKED_AT,
            reason.as_str(),
            i64::from(limit) + 1
        )
        .fetch_optional(connection)
        .await?;
        Ok(place.map(|place| (place.due_at, place.event_id.into(), place.destination_id.into())))
    }

    /// Brings what waits forward to `now` and answers how it waits then; `None` when it doesn't.
    pub async fn run_scheduled(
        &self,
        event: EventId,
        destination: DestinationId,
        now: DateTime<Utc>,
    ) -> Result<Option<Scheduled>> {
        let mut transaction = self.begin_change().await?;
        let hastened = sqlx::query!(
            "update scheduled_deliveries set due_at = $4
             where organization_id = $1 and event_id = $2 and destination_id = $3 and due_at > $4 and reason <> 'parked'",
            self.organization.0,
            event.0,
            destination.0,
            now
        )
        .execute(&mut *transaction)
        .await?;
        if hastened.rows_affected() > 0 {
            let entry = Entry::of(Action::ScheduledDeliveryHastened, event);
            transaction.commit(&entry.after(json!({ "destination_id": destination })), now).await?;
        }
        let filter = ScheduledFilter {
            event: Some(event),
            destination: Some(destination),
            ..ScheduledFilter::default()
        };
        Ok(self.scheduled(&filter, None, 1).await?.rows.pop())
    }

    /// Gives up what waits: it becomes a dead letter with the reason `cancelled`, unless the event was delivered there
    /// before. What a worker has in its memory is not called back: a success of it counts. `false`: nothing waits.
    pub async fn cancel_scheduled(
        &self,
        event: EventId,
        destination: DestinationId,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        for _ in 1..TRIES {
            match self.try_cancel(event, destination, now).await {
                Err(error) if has_yielded(&error) => {}
                done => return done,
            }
        }
        self.try_cancel(event, destination, now).await
    }

    async fn try_cancel(
        &self,
        event: EventId,
        destination: DestinationId,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let mut transaction = self.begin_yielding().await?;
        let gone = sqlx::query!(
            "delete from scheduled_deliveries where organization_id = $1 and event_id = $2 and destination_id = $3
             returning endpoint_id, run",
            self.organization.0,
            event.0,
            destination.0
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(gone) = gone else { return Ok(false) };
        let died = sqlx::query_scalar!(
            r#"update events set pending = array_remove(pending, $3), dead = dead || $3, updated_at = $4,
                 status = case when cardinality(array_remove(pending, $3)) > 0 then 'PENDING' else 'FAILED' end
             where organization_id = $1 and id = $2 and $3 = any (pending) returning id"#,
            self.organization.0,
            event.0,
            destination.0,
            now
        )
        .fetch_optional(&mut *transaction)
        .await?;
        if died.is_some() {
            sqlx::query!(
                "insert into dead_letters (event_id, destination_id, organization_id, endpoint_id, run, reason, created_at)
                 values ($2, $3, $1, $4, $5, 'cancelled', $6) on conflict (event_id, destination_id) do nothing",
                self.organization.0,
                event.0,
                destination.0,
                gone.endpoint_id,
                gone.run,
                now
            )
            .execute(&mut *transaction)
            .await?;
        }
        let entry = Entry::of(Action::ScheduledDeliveryCancelled, event);
        transaction.commit(&entry.after(json!({ "destination_id": destination })), now).await?;
        Ok(true)
    }
}
