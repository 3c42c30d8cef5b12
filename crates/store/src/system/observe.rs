//! What the notifier knows of destinations, and the alerts that follow.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ravenpost_core::ids::{AlertId, DestinationId, EndpointId, OrganizationId};
use ravenpost_core::replay::OUTAGE_FAILURES;
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::System;
use crate::Result;
use crate::lease::bounded;

/// The outcome of one attempt as the notifier read it.
#[derive(Debug, Clone)]
pub struct Observation {
    /// Whose destination it is.
    pub organization_id: OrganizationId,
    /// Its endpoint.
    pub endpoint_id: EndpointId,
    /// Which one.
    pub destination_id: DestinationId,
    /// Whether the attempt succeeded.
    pub success: bool,
    /// Why not.
    pub error: Option<String>,
    /// Where the message stood: what was observed before is not observed again.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// The id of an alert that this observation may open.
    pub alert_id: AlertId,
}

/// How a destination fares after an observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Failures since the last success.
    pub failures_in_a_row: i32,
    /// This observation opened an alert.
    pub opened: bool,
    /// This observation closed one.
    pub resolved: bool,
}

/// An alert that nobody has been told of yet.
#[derive(Debug, Clone)]
pub struct DueAlert {
    /// Its id.
    pub id: AlertId,
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// The organization's name.
    pub organization_name: String,
    /// Which endpoint.
    pub endpoint_id: EndpointId,
    /// The endpoint's name.
    pub endpoint_name: String,
    /// Which destination.
    pub destination_id: DestinationId,
    /// Its URL.
    pub destination_url: String,
    /// Failures in a row when it was opened.
    pub failures: i32,
    /// Why the last of them failed.
    pub last_error: Option<String>,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// E-mail addresses of the organization's channels that were not told yet.
    pub addresses: Vec<String>,
}

impl System {
    /// Takes observations in their order. An alert opens when a destination has failed `threshold` times in a row,
    /// and resolves with its next success, which ends an outage if there was one. Observations that were taken before change nothing.
    pub async fn observe(&self, observations: &[Observation], threshold: i32) -> Result<Vec<Health>> {
        let mut transaction = self.pool.begin().await?;
        let mut healths = Vec::with_capacity(observations.len());
        for observation in observations {
            healths.push(observe_one(&mut transaction, observation, threshold).await?);
        }
        transaction.commit().await?;
        Ok(healths)
    }

    /// Forgets offsets beyond the end of a partition: its topic was made anew.
    pub async fn forget_observed_beyond(&self, partition: i32, end: i64) -> Result<()> {
        bounded!(
            self,
            sqlx::query!(
                "update destination_health set observed_offset = -1 where observed_partition = $1 and observed_offset >= $2",
                partition,
                end
            ),
            execute
        );
        Ok(())
    }

    /// Open alerts that nobody has been told of and that somebody can be told of, at most `limit`, those that have waited longest first. Those
    /// of an organization without a channel wait for one.
    pub async fn due_alerts(&self, limit: i64) -> Result<Vec<DueAlert>> {
        let rows = bounded!(
            self,
            sqlx::query!(
                r#"select a.id, a.organization_id, o.name as organization_name, a.endpoint_id, e.name as endpoint_name,
                a.destination_id, d.url as destination_url, a.failures, a.last_error, a.opened_at,
                array(select c.address from channels c where c.organization_id = a.organization_id
                    and c.type = 'email' and c.address <> all (a.told) order by c.id) as "addresses!"
            from alerts a
            join organizations o on o.id = a.organization_id
            join endpoints e on e.id = a.endpoint_id
            join destinations d on d.id = a.destination_id
            where a.notified_at is null and a.resolved_at is null and a.tell_at <= now()
                and exists (select from channels c where c.organization_id = a.organization_id)
            order by a.tell_at limit $1"#,
                limit
            ),
            fetch_all
        );
        Ok(rows
            .into_iter()
            .map(|row| DueAlert {
                id: row.id.into(),
                organization_id: row.organization_id.into(),
                organization_name: row.organization_name,
                endpoint_id: row.endpoint_id.into(),
                endpoint_name: row.endpoint_name,
                destination_id: row.destination_id.into(),
                destination_url: row.destination_url,
                failures: row.failures,
                last_error: row.last_error,
                opened_at: row.opened_at,
                addresses: row.addresses,
            })
            .collect())
    }

    /// Notes that an address was told of an alert, or can't ever be.
    pub async fn mark_told(&self, alert: AlertId, address: &str) -> Result<()> {
        bounded!(
            self,
            sqlx::query!("update alerts set told = told || $2::text where id = $1", alert.0, address),
            execute
        );
        Ok(())
    }

    /// Puts an alert off: those who are not told yet are tried again after `wait`.
    pub async fn tell_later(&self, alert: AlertId, wait: Duration) -> Result<()> {
        let seconds = wait.as_secs_f64();
        bounded!(
            self,
            sqlx::query!(
                "update alerts set tell_at = now() + make_interval(secs => $2) where id = $1",
                alert.0,
                seconds
            ),
            execute
        );
        Ok(())
    }

    /// Notes that everybody was told of an alert.
    pub async fn mark_notified(&self, alert: AlertId) -> Result<()> {
        bounded!(
            self,
            sqlx::query!(
                "update alerts set notified_at = now() where id = $1 and notified_at is null",
                alert.0
            ),
            execute
        );
        Ok(())
    }
}

async fn observe_one(
    transaction: &mut Transaction<'_, Postgres>,
    observation: &Observation,
    threshold: i32,
) -> Result<Health> {
    let failures = sqlx::query_scalar!(
        "insert into destination_health as h
            (destination_id, organization_id, endpoint_id, failures_in_a_row, observed_partition, observed_offset)
         values ($1, $2, $3, case when $4 then 0 else 1 end, $5, $6)
         on conflict (destination_id) do update
         set failures_in_a_row = case when $4 then 0 else h.failures_in_a_row + 1 end,
             recovered_at = case when $4 and h.failures_in_a_row >= $7 then now() else h.recovered_at end,
             observed_partition = $5, observed_offset = $6, updated_at = now()
         where h.observed_partition <> $5 or h.observed_offset < $6
         returning failures_in_a_row",
        observation.destination_id.0,
        observation.organization_id.0,
        observation.endpoint_id.0,
        observation.success,
        observation.partition,
        observation.offset,
        OUTAGE_FAILURES
    )
    .fetch_optional(&mut **transaction)
    .await?;
    let Some(failures_in_a_row) = failures else {
        return Ok(Health { failures_in_a_row: 0, opened: false, resolved: false });
    };
    let resolved = observation.success && resolve(transaction, observation.destination_id.0).await?;
    let opened = failures_in_a_row >= threshold && open(transaction, observation, failures_in_a_row).await?;
    Ok(Health { failures_in_a_row, opened, resolved })
}

async fn resolve(transaction: &mut Transaction<'_, Postgres>, destination: Uuid) -> Result<bool> {
    let done = sqlx::query!(
        "update alerts set resolved_at = now()
         where destination_id = $1 and kind = 'consecutive_failures' and resolved_at is null",
        destination
    )
    .execute(&mut **transaction)
    .await?;
    Ok(done.rows_affected() > 0)
}

async fn open(
    transaction: &mut Transaction<'_, Postgres>,
    observation: &Observation,
    failures: i32,
) -> Result<bool> {
    let done = sqlx::query!(
        "insert into alerts (organization_id, id, endpoint_id, destination_id, kind, failures, last_error)
         values ($1, $2, $3, $4, 'consecutive_failures', $5, $6)
         on conflict (destination_id, kind) where resolved_at is null do nothing",
        observation.organization_id.0,
        observation.alert_id.0,
        observation.endpoint_id.0,
        observation.destination_id.0,
        failures,
        observation.error
    )
    .execute(&mut **transaction)
    .await?;
    Ok(done.rows_affected() == 1)
}
