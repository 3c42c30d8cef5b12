//! How long events are kept: what still waits of a day is given up, then the day is dropped (PROTOCOLS D2).
//!
//! ```text
//! expires_before: given up is what has waited for a day ─▶ ends_before: given up is everything ─▶ nothing waits: dropped
//! ```
//!
//! Workers give up, since they tell Kafka of it; the maintenance role drops, and only what nothing waits for.

use std::time::Duration;

use chrono::{NaiveDate, TimeDelta};
use ravenpost_core::event::PayloadLocation;
use ravenpost_core::ids::{DestinationId, EventId};
use sqlx::{Executor, PgConnection};

use super::maintenance::RETENTION;
use super::schedule::sha256;
use super::{Due, System};
use crate::error::POSTGRES;
use crate::lease::bounded;
use crate::tenant::has_yielded;
use crate::{Error, Result};

/// How long before its end what waits is given up, and how long what is replayed after that has.
const NOTICE: TimeDelta = TimeDelta::days(1);
/// So long a bound has to have stood: nearly as long, since it moves with the days.
const STOOD: TimeDelta = TimeDelta::hours(23);
/// Deletes whole tables, however large they are.
const DROP_TIMEOUT: Duration = Duration::from_secs(60);

/// A pair, by which the rows of the schedule are paged.
pub type Place = (EventId, DestinationId);

/// What waits, and is to be given up.
#[derive(Debug, Clone, Default)]
pub struct Expiring {
    /// Rows of the slots that were asked for.
    pub rows: Vec<Due>,
    /// After which one to go on; `None`: that was all.
    pub after: Option<Place>,
}

/// What became of the oldest day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DayDropped {
    /// Its events are gone.
    Dropped(NaiveDate),
    /// It is kept for longer, or another process is at it.
    NotYet,
    /// Its time is over, and something waits for its events; or it is not known whether.
    Waiting(NaiveDate),
    /// Somebody uses its tables at the moment, to whom this gives way.
    Busy(NaiveDate),
}

impl System {
    /// Notes that events are kept for so long, in whole days, by the clock of the database. A bound that moves on gives a
    /// day's notice first, however far; one that moves back counts at once.
    pub async fn keep_events(&self, kept: TimeDelta) -> Result<()> {
        let mut transaction = self.maintenance().await?;
        sqlx::query!(
            "update retention r set expires_before = w.bound, moved_at = now(),
                ends_before = case when w.bound < r.expires_before then least(r.ends_before, w.bound)
                    else r.expires_before end
             from (select uuid_v7_floor(date_trunc('day', now() - make_interval(secs => $1), 'UTC')) as bound) as w
             where w.bound < r.expires_before
                or (w.bound > r.expires_before and r.moved_at <= now() - make_interval(secs => $2))",
            (kept - NOTICE).as_seconds_f64(),
            STOOD.as_seconds_f64()
        )
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Below this id no event is there any more.
    pub async fn kept_from(&self) -> Result<EventId> {
        let query = sqlx::query_scalar!("select kept_from from retention");
        Ok(EventId(bounded!(self, query, fetch_one)))
    }

    /// When the oldest events that are kept were received, to the day.
    pub async fn oldest_day(&self) -> Result<Option<NaiveDate>> {
        let query = sqlx::query_scalar!("select oldest_day()");
        Ok(bounded!(self, query, fetch_one))
    }

    /// Of the next `most` rows of the schedule that are to be given up, those of `owned`, of so many partitions; held ones,
    /// too.
    pub async fn expiring(
        &self,
        after: Option<Place>,
        most: i64,
        partitions: i32,
        owned: &[i32],
    ) -> Result<Expiring> {
        let (event, destination) =
            after.map(|(event, destination)| (event.0, destination.0)).unwrap_or_default();
        let query = sqlx::query!(
            r#"with page as materialized (
                select s.* from scheduled_deliveries s
                where (s.event_id, s.destination_id) > ($1, $2)
                    and s.event_id < (select greatest(expires_before, ends_before) from retention)
                order by s.event_id, s.destination_id limit $3
            )
            select s.event_id as "event_id!", s.destination_id as "destination_id!",
                s.organization_id as "organization_id!", s.endpoint_id as "endpoint_id!", s.run as "run!",
                s.attempt_number as "attempt_number!", s.version as "version!", s.due_at as "due_at!",
                s.unfiltered as "unfiltered!", e.received_at as "received_at?",
                e.s3_key as "s3_key?", e.s3_offset as "s3_offset?", e.s3_length as "s3_length?",
                e.body_sha256 as "body_sha256?", e.event_type,
                e.content_type, e.traceparent, h.headers as "headers?"
            from page s
            cross join retention r
            left join destinations d on d.id = s.destination_id and d.deleted_at is null
                and d.slot % $4 = any ($5)
                and (s.event_id < r.ends_before or s.created_at < now() - make_interval(secs => $6))
            left join lateral (select * from events e where e.id = s.event_id and d.id is not null limit 1) as e on true
            left join lateral (select * from event_headers h
                where h.event_id = s.event_id and d.id is not null limit 1) as h on true
            order by s.event_id, s.destination_id"#,
            event,
            destination,
            most,
            partitions,
            owned,
            NOTICE.as_seconds_f64()
        );
        let rows = bounded!(self, query, fetch_all);
        let full = i64::try_from(rows.len()).is_ok_and(|rows| rows >= most);
        let last = rows.last().map(|row| (EventId(row.event_id), DestinationId(row.destination_id)));
        let expiring = rows.into_iter().filter_map(|row| {
            Some(Due {
                event_id: row.event_id.into(),
                destination_id: row.destination_id.into(),
                organization_id: row.organization_id.into(),
                endpoint_id: row.endpoint_id.into(),
                run: row.run,
                attempt_number: row.attempt_number,
                previous: None,
                version: row.version,
                due_at: row.due_at,
                unfiltered: row.unfiltered,
                received_at: row.received_at?,
                payload: PayloadLocation {
                    s3_key: row.s3_key?,
                    s3_offset: row.s3_offset?,
                    s3_length: row.s3_length?,
                },
                body_sha256: sha256(&row.body_sha256?),
                headers: row.headers.unwrap_or_default().into(),
                event_type: row.event_type,
                content_type: row.content_type,
                traceparent: row.traceparent,
            })
        });
        Ok(Expiring { rows: expiring.collect(), after: last.filter(|_| full) })
    }

    /// Drops the oldest day, if its time is over and nothing waits for an event of it.
    pub async fn drop_day(&self) -> Result<DayDropped> {
        match tokio::time::timeout(DROP_TIMEOUT, self.try_drop_day()).await {
            Ok(done) => done,
            Err(elapsed) => Err(Error::Unavailable { store: POSTGRES, cause: elapsed.into() }),
        }
    }

    async fn try_drop_day(&self) -> Result<DayDropped> {
        let Some(mut transaction) = self.elected(RETENTION).await? else { return Ok(DayDropped::NotYet) };
        let dropped = drop_oldest(&mut transaction).await;
        match dropped {
            Ok(DayDropped::Dropped(_)) => transaction.commit().await?,
            // At once: as long as it is open nobody else is elected, and its locks are held.
            _ => transaction.rollback().await?,
        }
        dropped
    }
}

async fn drop_oldest(connection: &mut PgConnection) -> Result<DayDropped> {
    let Some(day) = over(connection).await? else { return Ok(DayDropped::NotYet) };
    if waits(connection, day).await? {
        return Ok(DayDropped::Waiting(day));
    }
    connection.execute("set local statement_timeout = '60s'").await?;
    match sqlx::query!("select drop_day($1)", day).execute(&mut *connection).await.map_err(Error::from) {
        Ok(_) => {}
        Err(error) if has_yielded(&error) => return Ok(DayDropped::Busy(day)),
        Err(error) => return Err(error),
    }
    // From here on everybody waits for this transaction: it must not linger, whatever becomes of this process.
    connection
        .execute(
            "set local statement_timeout = '500ms'; set local idle_in_transaction_session_timeout = '500ms'",
        )
        .await?;
    // Whoever was in between has committed, or waits for this transaction and will find nothing.
    if waits(connection, day).await? { Ok(DayDropped::Waiting(day)) } else { Ok(DayDropped::Dropped(day)) }
}

/// The oldest day, if its time is over.
async fn over(connection: &mut PgConnection) -> Result<Option<NaiveDate>> {
    let over = sqlx::query_scalar!(
        "select d.day from retention r, (select oldest_day() as day) as d
         where uuid_v7_floor((d.day + 1)::timestamp at time zone 'UTC') <= r.ends_before"
    )
    .fetch_optional(connection)
    .await?;
    Ok(over.flatten())
}

/// Whether something may wait for an event of that day or of one before it: it has a row in the schedule, or was not looked
/// for yet. What has no row and should have one is given one by the sweeper (PROTOCOLS W11).
async fn waits(connection: &mut PgConnection, day: NaiveDate) -> Result<bool> {
    let waits = sqlx::query_scalar!(
        r#"select coalesce((select s.swept_through < b.bound from sweeper s), true)
                or exists (select from scheduled_deliveries w where w.event_id < b.bound) as "waits!"
         from (select uuid_v7_floor(($1::date + 1)::timestamp at time zone 'UTC') as bound) as b"#,
        day
    )
    .fetch_one(connection)
    .await?;
    Ok(waits)
}

/// Below this id no event is there any more, as the transaction of `connection` sees it.
pub(super) async fn kept_from(connection: &mut PgConnection) -> Result<EventId> {
    Ok(EventId(sqlx::query_scalar!("select kept_from from retention").fetch_one(connection).await?))
}
