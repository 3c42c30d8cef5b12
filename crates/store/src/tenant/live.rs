//! What has just been accepted and attempted, for whoever listens. docs/decisions/0035 tells how.

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_core::delivery::Outcome;
use ravenpost_core::ids::{DeliveryId, DestinationId, EndpointId, EventId};
use uuid::Uuid;

use super::{Tenant, unsigned};
use crate::Result;
use crate::decode::Row;

/// How long the attempts of an organization are kept after somebody has listened.
pub const WATCHED: TimeDelta = TimeDelta::minutes(10);

/// An event that was accepted.
#[derive(Debug, Clone)]
pub struct LiveEvent {
    /// Its id.
    pub id: EventId,
    /// Through which endpoint it came.
    pub endpoint_id: EndpointId,
    /// When.
    pub received_at: DateTime<Utc>,
    /// What its producer says it is.
    pub event_type: Option<String>,
    /// The length of its payload.
    pub payload_bytes: i64,
}

/// An attempt that was recorded.
#[derive(Debug, Clone)]
pub struct LiveAttempt {
    /// Its id.
    pub id: DeliveryId,
    /// When it was recorded.
    pub recorded_at: DateTime<Utc>,
    /// Of which event.
    pub event_id: EventId,
    /// Through which endpoint the event came.
    pub endpoint_id: EndpointId,
    /// To which destination.
    pub destination_id: DestinationId,
    /// Of which run.
    pub run: u32,
    /// Which attempt of the run.
    pub attempt_number: u32,
    /// What came of it.
    pub outcome: Outcome,
    /// HTTP status, if there was a response.
    pub response_code: Option<u16>,
    /// Why it failed.
    pub error_message: Option<String>,
    /// When it is due again.
    pub next_retry_at: Option<DateTime<Utc>>,
    /// How long it took.
    pub duration_ms: u32,
    /// When it started.
    pub attempted_at: DateTime<Utc>,
}

impl Tenant {
    /// Says that somebody listens, for [`WATCHED`] from now. Answers since when attempts are kept without a gap.
    pub async fn watch(&self, now: DateTime<Utc>) -> Result<DateTime<Utc>> {
        let mut transaction = self.begin_change().await?;
        let since = sqlx::query_scalar!(
            "insert into live_watches as w (organization_id, since, until) values ($1, $2, $3)
             on conflict (organization_id) do update
             set since = case when w.until < $2 then excluded.since else w.since end, until = greatest(w.until, excluded.until)
             returning since",
            self.organization.0,
            now,
            now + WATCHED
        )
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit_unaudited("somebody listens, which changes nothing").await?;
        Ok(since)
    }

    /// The latest `most` events with ids above `after`, the oldest of them first.
    pub async fn live_events(&self, after: EventId, most: i64) -> Result<Vec<LiveEvent>> {
        let mut transaction = self.begin().await?;
        let rows = sqlx::query!(
            "select id, endpoint_id, received_at, event_type, s3_length from events
             where organization_id = $1 and id > $2 order by id desc limit $3",
            self.organization.0,
            after.0,
            most
        )
        .fetch_all(&mut *transaction)
        .await?;
        let event = |row: (Uuid, Uuid, DateTime<Utc>, Option<String>, i64)| LiveEvent {
            id: row.0.into(),
            endpoint_id: row.1.into(),
            received_at: row.2,
            event_type: row.3,
            payload_bytes: row.4,
        };
        let rows = rows.into_iter().rev();
        Ok(rows
            .map(|row| event((row.id, row.endpoint_id, row.received_at, row.event_type, row.s3_length)))
            .collect())
    }

    /// The latest `most` attempts that were recorded after `since`, the oldest of them first.
    pub async fn live_attempts(&self, since: DateTime<Utc>, most: i64) -> Result<Vec<LiveAttempt>> {
        let mut transaction = self.begin().await?;
        let rows = sqlx::query!(
            "select id, recorded_at, event_id, endpoint_id, destination_id, run, attempt_number, outcome, response_code,
                 error_message, next_retry_at, duration_ms, attempted_at
             from live_attempts where organization_id = $1 and recorded_at > $2 order by recorded_at desc limit $3",
            self.organization.0,
            since,
            most
        )
        .fetch_all(&mut *transaction)
        .await?;
        rows.into_iter()
            .rev()
            .map(|found| {
                let row = Row { table: "live_attempts", id: found.id };
                let code = found.response_code.map(|code| unsigned(row, "response_code", code));
                Ok(LiveAttempt {
                    id: found.id.into(),
                    recorded_at: found.recorded_at,
                    event_id: found.event_id.into(),
                    endpoint_id: found.endpoint_id.into(),
                    destination_id: found.destination_id.into(),
                    run: unsigned(row, "run", found.run)?,
                    attempt_number: unsigned(row, "attempt_number", found.attempt_number)?,
                    outcome: row.word("outcome", &found.outcome, Outcome::parse)?,
                    response_code: code.transpose()?,
                    error_message: found.error_message,
                    next_retry_at: found.next_retry_at,
                    duration_ms: unsigned(row, "duration_ms", found.duration_ms)?,
                    attempted_at: found.attempted_at,
                })
            })
            .collect()
    }
}
