//! Overwriting expunged payloads, one range of an object at a time (PROTOCOLS D2).
//!
//! An object can only be written as a whole, so whoever overwrites a range holds the object by a lease meanwhile, and the
//! store is told which version is replaced.

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_core::event::PayloadLocation;
use ravenpost_core::ids::EventId;
use uuid::Uuid;

use super::System;
use crate::lease::bounded;
use crate::{Payloads, Result};

/// How long an object is held: longer than it takes to read and to write it.
const LEASE: TimeDelta = TimeDelta::minutes(2);
/// Most payloads of one step.
const STEP: i64 = 100;

/// An expunged payload that is still there.
#[derive(Debug, Clone)]
pub struct Unerased {
    /// Of which event.
    pub event_id: EventId,
    /// Where.
    pub payload: PayloadLocation,
}

impl System {
    /// Overwrites what is expunged and still there, of one event or of any. Answers how many were; those of an object
    /// that somebody else holds are for the next time.
    pub async fn erase(&self, payloads: &Payloads, of: Option<EventId>, holder: Uuid) -> Result<usize> {
        let (mut erased, mut failed) = (0, None);
        for left in self.unerased(of).await? {
            if !self.hold_payload(&left.payload.s3_key, holder).await? {
                continue;
            }
            let done = payloads.erase(&left.payload).await;
            if done.is_ok() {
                self.note_erased(left.event_id, &left.payload.s3_key, holder).await?;
                erased += 1;
            }
            self.release_payload(&left.payload.s3_key, holder).await?;
            // One that can't be overwritten keeps no other from it.
            failed = failed.or(done.err());
        }
        failed.map_or(Ok(erased), Err)
    }

    /// Whether the payload of this expunged event is overwritten.
    pub async fn is_erased(&self, event: EventId) -> Result<bool> {
        Ok(self.unerased(Some(event)).await?.is_empty())
    }

    /// Whether an event's payload was expunged: said before it is overwritten.
    pub async fn is_expunged(&self, event: EventId) -> Result<bool> {
        let query = sqlx::query_scalar!(
            r#"select exists (select from events where id = $1 and expunged_at is not null) as "expunged!""#,
            event.0
        );
        Ok(bounded!(self, query, fetch_one))
    }

    /// The events whose payloads were expunged after `since`, for those who hold copies in memory.
    pub async fn expunged_since(&self, since: DateTime<Utc>) -> Result<Vec<EventId>> {
        let query = sqlx::query_scalar!(
            "select event_id from expunged_payloads where expunged_at > $1 order by expunged_at desc limit 100000",
            since
        );
        Ok(bounded!(self, query, fetch_all).into_iter().map(EventId).collect())
    }

    async fn unerased(&self, of: Option<EventId>) -> Result<Vec<Unerased>> {
        let query = sqlx::query!(
            "select event_id, s3_key, s3_offset, s3_length from expunged_payloads
             where erased_at is null and ($1::uuid is null or event_id = $1) order by s3_key limit $2",
            of.map(|event| event.0),
            STEP
        );
        let rows = bounded!(self, query, fetch_all);
        let unerased = rows.into_iter().map(|row| Unerased {
            event_id: row.event_id.into(),
            payload: PayloadLocation {
                s3_key: row.s3_key,
                s3_offset: row.s3_offset,
                s3_length: row.s3_length,
            },
        });
        Ok(unerased.collect())
    }

    async fn hold_payload(&self, s3_key: &str, holder: Uuid) -> Result<bool> {
        let query = sqlx::query!(
            "insert into payload_locks as l (s3_key, holder, held_until)
             values ($1, $2, now() + make_interval(secs => $3))
             on conflict (s3_key) do update set holder = excluded.holder, held_until = excluded.held_until
             where l.held_until < now() or l.holder = excluded.holder",
            s3_key,
            holder,
            LEASE.as_seconds_f64()
        );
        Ok(bounded!(self, query, execute).rows_affected() == 1)
    }

    async fn note_erased(&self, event: EventId, s3_key: &str, holder: Uuid) -> Result<()> {
        let query = sqlx::query!(
            "update expunged_payloads set erased_at = now() where event_id = $1 and exists (
                 select from payload_locks where s3_key = $2 and holder = $3 and held_until > now())",
            event.0,
            s3_key,
            holder
        );
        bounded!(self, query, execute);
        Ok(())
    }

    async fn release_payload(&self, s3_key: &str, holder: Uuid) -> Result<()> {
        let query =
            sqlx::query!("delete from payload_locks where s3_key = $1 and holder = $2", s3_key, holder);
        bounded!(self, query, execute);
        Ok(())
    }
}
