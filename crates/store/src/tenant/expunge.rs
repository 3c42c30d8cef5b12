//! Expunging one payload: nothing reads or sends it from now on, and its bytes are overwritten (PROTOCOLS D2).

use chrono::{DateTime, Utc};
use ravenpost_core::audit::Action;
use ravenpost_core::ids::EventId;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Tenant;
use super::yielding::{TRIES, has_yielded};
use crate::Result;
use crate::audit::Entry;

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expunged {
    /// It is, since then; [`crate::System::erase`] is what remains.
    Since(DateTime<Utc>),
    /// There is no such event.
    Missing,
    /// The event has not met its destinations: workers may be about to send what they have of it in memory.
    NotRouted,
}

impl Tenant {
    /// Marks an event's payload as expunged, gives up what waits of it (dead letters with the reason `expunged`, which can't
    /// be replayed), forgets what was said of it, and leaves the overwriting to be done. May be repeated.
    pub async fn expunge(&self, event: EventId, now: DateTime<Utc>) -> Result<Expunged> {
        for _ in 1..TRIES {
            match self.try_expunge(event, now).await {
                Err(error) if has_yielded(&error) => {}
                done => return done,
            }
        }
        self.try_expunge(event, now).await
    }

    async fn try_expunge(&self, event: EventId, now: DateTime<Utc>) -> Result<Expunged> {
        let mut transaction = self.begin_yielding().await?;
        let found = sqlx::query!(
            r#"select pending is not null as "routed!", expunged_at from events where organization_id = $1 and id = $2"#,
            self.organization.0,
            event.0
        )
        .fetch_optional(&mut *transaction)
        .await?;
        match found {
            None => return Ok(Expunged::Missing),
            Some(found) if !found.routed => return Ok(Expunged::NotRouted),
            Some(found) => {
                if let Some(since) = found.expunged_at {
                    // What was in the air then may have been answered since.
                    self.forget_words(&mut transaction, event, now).await?;
                    transaction.commit_unaudited("that it was expunged is told already").await?;
                    return Ok(Expunged::Since(since));
                }
            }
        }
        let waited = self.take_schedule(&mut transaction, event).await?;
        let given_up = self.mark_expunged(&mut transaction, event, now).await?;
        self.bury_expunged(&mut transaction, event, &given_up, &waited, now).await?;
        self.forget_words(&mut transaction, event, now).await?;
        sqlx::query!(
            "insert into expunged_payloads (organization_id, event_id, s3_key, s3_offset, s3_length, expunged_at)
             select organization_id, id, s3_key, s3_offset, s3_length, $3 from events
             where organization_id = $1 and id = $2 on conflict do nothing",
            self.organization.0,
            event.0,
            now
        )
        .execute(&mut *transaction)
        .await?;
        let given_up = json!({ "given_up_for": given_up });
        transaction.commit(&Entry::of(Action::EventExpunged, event).after(given_up), now).await?;
        Ok(Expunged::Since(now))
    }

    /// Answers for whom the event waited, and in which run.
    async fn take_schedule(&self, connection: &mut PgConnection, event: EventId) -> Result<Vec<(Uuid, i32)>> {
        let rows = sqlx::query!(
            "delete from scheduled_deliveries where organization_id = $1 and event_id = $2 returning destination_id, run",
            self.organization.0,
            event.0
        )
        .fetch_all(connection)
        .await?;
        Ok(rows.into_iter().map(|row| (row.destination_id, row.run)).collect())
    }

    /// Answers for whom the event was given up by it.
    async fn mark_expunged(
        &self,
        connection: &mut PgConnection,
        event: EventId,
        now: DateTime<Utc>,
    ) -> Result<Vec<Uuid>> {
        let given_up = sqlx::query_scalar!(
            r#"update events set pending = '{}', dead = dead || pending, expunged_at = $3, updated_at = $3,
                 status = case when cardinality(dead || pending) > 0 then 'FAILED' else status end
             where organization_id = $1 and id = $2 returning old.pending as "given_up!""#,
            self.organization.0,
            event.0,
            now
        )
        .fetch_one(connection)
        .await?;
        Ok(given_up)
    }

    async fn bury_expunged(
        &self,
        connection: &mut PgConnection,
        event: EventId,
        given_up: &[Uuid],
        waited: &[(Uuid, i32)],
        now: DateTime<Utc>,
    ) -> Result<()> {
        let (waiting, runs): (Vec<Uuid>, Vec<i32>) = waited.iter().copied().unzip();
        sqlx::query!(
            "insert into dead_letters (event_id, destination_id, organization_id, endpoint_id, run, reason, created_at)
             select e.id, g.id, e.organization_id, e.endpoint_id, coalesce(w.run, (select max(d.run) from deliveries d
                 where d.organization_id = $1 and d.event_id = $2 and d.destination_id = g.id), 0), 'expunged', $6
             from events e cross join unnest($3::uuid[]) as g (id)
             left join unnest($4::uuid[], $5::int[]) as w (id, run) on w.id = g.id
             where e.organization_id = $1 and e.id = $2 order by g.id
             on conflict (event_id, destination_id) do nothing",
            self.organization.0,
            event.0,
            given_up,
            &waiting,
            &runs,
            now
        )
        .execute(connection)
        .await?;
        Ok(())
    }

    /// Forgets what receivers have answered to the event, and why filters have failed for it: both may repeat parts of its
    /// payload.
    async fn forget_words(
        &self,
        connection: &mut PgConnection,
        event: EventId,
        now: DateTime<Utc>,
    ) -> Result<()> {
        sqlx::query!(
            "update deliveries set response_body_snippet = null, filter_error = null, updated_at = $3
             where organization_id = $1 and event_id = $2
                 and (response_body_snippet is not null or filter_error is not null)",
            self.organization.0,
            event.0,
            now
        )
        .execute(&mut *connection)
        .await?;
        sqlx::query!(
            "update destinations set filter_error = null
             where organization_id = $1 and (filter_error ->> 'event_id')::uuid = $2",
            self.organization.0,
            event.0
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}
