//! Making a job: for which destinations, up to which event.

use chrono::{DateTime, Utc};
use ravenpost_core::audit::Action;
use ravenpost_core::ids::ReplayJobId;
use ravenpost_core::replay::{ReplayFilter, ReplayKind};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::candidates::{Matched, Sought, count};
use crate::Result;
use crate::audit::Entry;

/// Most destinations of one job.
pub(crate) const MOST_DESTINATIONS: usize = 1_000;

/// A destination that a job replays to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) destination: Uuid,
    pub(crate) endpoint: Uuid,
}

/// A job as it is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) organization: Uuid,
    pub(crate) id: ReplayJobId,
    pub(crate) kind: ReplayKind,
    pub(crate) filter: &'a ReplayFilter,
    /// Deliveries a second to each destination.
    pub(crate) rate: Option<u32>,
    pub(crate) died_before: Option<DateTime<Utc>>,
    pub(crate) runs_below: Option<i32>,
}

/// The current destinations that a filter names, at most one more than [`MOST_DESTINATIONS`].
pub(crate) async fn targets(
    connection: &mut PgConnection,
    organization: Uuid,
    filter: &ReplayFilter,
) -> Result<Vec<Target>> {
    let limit = i64::try_from(MOST_DESTINATIONS + 1).unwrap_or(i64::MAX);
    let targets = sqlx::query_as!(
        Target,
        "select d.id as destination, d.endpoint_id as endpoint
         from destinations d join endpoints e on e.organization_id = d.organization_id and e.id = d.endpoint_id
         where d.organization_id = $1 and d.deleted_at is null and e.deleted_at is null
             and ($2::uuid is null or d.endpoint_id = $2) and ($3::uuid is null or d.id = $3)
         order by d.id limit $4",
        organization,
        filter.endpoint_id.map(|endpoint| endpoint.0),
        filter.destination_id.map(|destination| destination.0),
        limit
    )
    .fetch_all(connection)
    .await?;
    Ok(targets)
}

impl Job<'_> {
    /// What it would find now.
    pub(crate) async fn count(&self, connection: &mut PgConnection, targets: &[Target]) -> Result<Matched> {
        let through = last_event(&mut *connection, self.organization).await?;
        let sought: Vec<Sought<'_>> = targets
            .iter()
            .map(|target| Sought {
                organization: self.organization,
                endpoint: target.endpoint,
                destination: target.destination,
                filter: self.filter,
                through,
                died_before: self.died_before,
                runs_below: self.runs_below,
            })
            .collect();
        count(connection, &sought).await
    }

    /// What the audit log says of it.
    pub(crate) fn told(&self, matched: Matched) -> Entry {
        let made = json!({
            "kind": self.kind.as_str(), "filter": self.filter, "rate": self.rate, "matched": matched.count,
        });
        Entry::of(Action::ReplayCreated, self.id).after(made)
    }

    /// Writes it, queued.
    pub(crate) async fn insert(
        &self,
        connection: &mut PgConnection,
        targets: &[Target],
        matched: Matched,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let through = last_event(&mut *connection, self.organization).await?;
        let filter = serde_json::to_value(self.filter).expect("a filter holds only words, ids and times");
        sqlx::query!(
            "insert into replay_jobs (organization_id, id, kind, filter, through, died_before, runs_below, rate, matched,
                 matched_exactly, created_at, updated_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)",
            self.organization,
            self.id.0,
            self.kind.as_str(),
            filter,
            through,
            self.died_before,
            self.runs_below,
            self.rate.map(|rate| i32::try_from(rate).unwrap_or(i32::MAX)),
            i64::try_from(matched.count).unwrap_or(i64::MAX),
            matched.exact,
            now
        )
        .execute(&mut *connection)
        .await?;
        let (destinations, endpoints): (Vec<Uuid>, Vec<Uuid>) =
            targets.iter().map(|target| (target.destination, target.endpoint)).unzip();
        sqlx::query!(
            "insert into replay_job_destinations (organization_id, job_id, destination_id, endpoint_id, reached)
             select $1, $2, t.destination_id, t.endpoint_id, $5
             from unnest($3::uuid[], $4::uuid[]) t (destination_id, endpoint_id)",
            self.organization,
            self.id.0,
            &destinations,
            &endpoints,
            Uuid::nil()
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// The last event that was accepted by now. Those that come later have higher ids or may as well be of this moment.
async fn last_event(connection: &mut PgConnection, organization: Uuid) -> Result<Uuid> {
    let last = sqlx::query_scalar!(
        "select id from events where organization_id = $1 order by id desc limit 1",
        organization
    )
    .fetch_optional(connection)
    .await?;
    Ok(last.unwrap_or(Uuid::nil()))
}
