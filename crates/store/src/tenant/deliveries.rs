//! The attempts of one event, and what still waits for its time.

use chrono::{DateTime, Utc};
use ravenpost_core::delivery::{Outcome, PhaseTimes, WaitingReason};
use ravenpost_core::ids::{DeliveryId, DestinationId, EventId};
use sqlx::PgConnection;

use super::{Tenant, unsigned};
use crate::Result;
use crate::decode::Row;

/// Most attempts that are read of one event, the latest: replays have no end.
const MOST: i64 = 1_000;

/// Everything that was and will be tried for one event.
#[derive(Debug, Clone)]
pub struct Attempts {
    /// The latest thousand attempts, in their order in time.
    pub deliveries: Vec<Delivery>,
    /// What waits, soonest first.
    pub waiting: Vec<Waiting>,
}

/// One attempt.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// To which destination.
    pub destination_id: DestinationId,
    /// The destination's URL as it is now.
    pub url: String,
    /// 0 for the original delivery; each replay is the next.
    pub run: u32,
    /// From 1, within the run.
    pub attempt_number: u32,
    /// What came of it.
    pub outcome: Outcome,
    /// HTTP status, if there was a response.
    pub response_code: Option<u16>,
    /// The start of the response's body.
    pub response_body_snippet: Option<String>,
    /// Why it failed.
    pub error_message: Option<String>,
    /// Why the destination's filter could not decide, and so let the event through.
    pub filter_error: Option<String>,
    /// When the next attempt was due.
    pub next_retry_at: Option<DateTime<Utc>>,
    /// How long it took.
    pub duration_ms: u32,
    /// Where the time went; nothing is known of attempts before that was recorded.
    pub phases: PhaseTimes,
    /// What was connected to, as `address:port`.
    pub connected_address: Option<String>,
    /// When it started.
    pub attempted_at: DateTime<Utc>,
}

/// An attempt to come.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// To which destination.
    pub destination_id: DestinationId,
    /// The destination's URL as it is now.
    pub url: String,
    /// Of which run.
    pub run: u32,
    /// Which attempt of the run.
    pub attempt_number: u32,
    /// When it is due at the earliest.
    pub due_at: DateTime<Utc>,
    /// Why it waits.
    pub reason: WaitingReason,
}

impl Tenant {
    /// The attempts of an event; `None` when there is no such event.
    pub async fn attempts(&self, event: EventId) -> Result<Option<Attempts>> {
        let mut transaction = self.begin_reading().await?;
        let found = sqlx::query!(
            "select id from events where organization_id = $1 and id = $2",
            self.organization.0,
            event.0
        )
        .fetch_optional(&mut *transaction)
        .await?;
        if found.is_none() {
            return Ok(None);
        }
        Ok(Some(Attempts {
            deliveries: self.select_deliveries(&mut transaction, event).await?,
            waiting: self.select_waiting(&mut transaction, event).await?,
        }))
    }

    async fn select_deliveries(
        &self,
        connection: &mut PgConnection,
        event: EventId,
    ) -> Result<Vec<Delivery>> {
        let rows = sqlx::query!(
            "select v.id, v.destination_id, d.url, v.run, v.attempt_number, v.outcome, v.response_code,
                 v.response_body_snippet, v.error_message, v.filter_error, v.next_retry_at, v.duration_ms, v.attempted_at,
                 v.queue_us, v.dns_us, v.connect_us, v.tls_us, v.first_byte_us, v.connected_address
             from deliveries v
             join destinations d on d.organization_id = v.organization_id and d.id = v.destination_id
             where v.organization_id = $1 and v.event_id = $2
             order by v.attempted_at desc, v.run desc, v.attempt_number desc limit $3",
            self.organization.0,
            event.0,
            MOST
        )
        .fetch_all(connection)
        .await?;
        rows.into_iter()
            .rev()
            .map(|found| {
                let row = Row { table: "deliveries", id: found.id };
                let code = found.response_code.map(|code| unsigned(row, "response_code", code));
                let time = |column, time: Option<i32>| {
                    time.map(|time| unsigned::<u64>(row, column, time)).transpose()
                };
                Ok(Delivery {
                    id: found.id.into(),
                    destination_id: found.destination_id.into(),
                    url: found.url,
                    run: unsigned(row, "run", found.run)?,
                    attempt_number: unsigned(row, "attempt_number", found.attempt_number)?,
                    outcome: row.word("outcome", &found.outcome, Outcome::parse)?,
                    response_code: code.transpose()?,
                    response_body_snippet: found.response_body_snippet,
                    error_message: found.error_message,
                    filter_error: found.filter_error,
                    next_retry_at: found.next_retry_at,
                    duration_ms: unsigned(row, "duration_ms", found.duration_ms)?,
                    phases: PhaseTimes {
                        queue_us: found
                            .queue_us
                            .map(|time| row.value("queue_us", u64::try_from(time)))
                            .transpose()?,
                        dns_us: time("dns_us", found.dns_us)?,
                        connect_us: time("connect_us", found.connect_us)?,
                        tls_us: time("tls_us", found.tls_us)?,
                        first_byte_us: time("first_byte_us", found.first_byte_us)?,
                    },
                    connected_address: found.connected_address,
                    attempted_at: found.attempted_at,
                })
            })
            .collect()
    }

    async fn select_waiting(&self, connection: &mut PgConnection, event: EventId) -> Result<Vec<Waiting>> {
        let rows = sqlx::query!(
            "select s.event_id, s.destination_id, d.url, s.run, s.attempt_number, s.due_at, s.reason
             from scheduled_deliveries s
             join destinations d on d.organization_id = s.organization_id and d.id = s.destination_id
             where s.organization_id = $1 and s.event_id = $2
             order by s.due_at, s.destination_id",
            self.organization.0,
            event.0
        )
        .fetch_all(connection)
        .await?;
        rows.into_iter()
            .map(|found| {
                let row = Row { table: "scheduled_deliveries", id: found.event_id };
                Ok(Waiting {
                    destination_id: found.destination_id.into(),
                    url: found.url,
                    run: unsigned(row, "run", found.run)?,
                    attempt_number: unsigned(row, "attempt_number", found.attempt_number)?,
                    due_at: found.due_at,
                    reason: row.word("reason", &found.reason, WaitingReason::parse)?,
                })
            })
            .collect()
    }
}
