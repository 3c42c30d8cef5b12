//! How an endpoint fares: what came last, what waits, what was given up. Each count has a bound.

use chrono::{DateTime, Utc};
use ravenpost_core::delivery::WaitingReason;
use ravenpost_core::ids::EndpointId;
use sqlx::PgConnection;

use super::Tenant;
use super::destinations::MOST_WAITING_COUNTED;
use crate::Result;
use crate::decode::Row;

/// What is known of an endpoint at a glance.
#[derive(Debug, Clone)]
pub struct EndpointHealth {
    /// When its last event was received.
    pub last_event_at: Option<DateTime<Utc>>,
    /// What waits, by reason: counted up to [`MOST_WAITING_COUNTED`] of each destination, and one more.
    pub waiting: Vec<(WaitingReason, u64)>,
    /// Of some destination more wait.
    pub waiting_more: bool,
    /// When the first of what waits is, or was, due.
    pub oldest_due_at: Option<DateTime<Utc>>,
    /// What was given up: counted up to [`MOST_WAITING_COUNTED`] and one more.
    pub dead: u32,
}

impl Tenant {
    /// How an endpoint fares.
    pub async fn endpoint_health(&self, endpoint: EndpointId) -> Result<EndpointHealth> {
        let mut transaction = self.begin_reading().await?;
        let last_event_at = sqlx::query_scalar!(
            "select received_at from events where organization_id = $1 and endpoint_id = $2 order by id desc limit 1",
            self.organization.0,
            endpoint.0
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let dead = sqlx::query_scalar!(
            r#"select count(*) as "dead!" from (
                 select from dead_letters where organization_id = $1 and endpoint_id = $2 limit $3) as few"#,
            self.organization.0,
            endpoint.0,
            i64::from(MOST_WAITING_COUNTED) + 1
        )
        .fetch_one(&mut *transaction)
        .await?;
        let mut health = EndpointHealth {
            last_event_at,
            waiting: Vec::new(),
            waiting_more: false,
            oldest_due_at: None,
            dead: u32::try_from(dead).unwrap_or(u32::MAX),
        };
        self.count_waiting(&mut transaction, endpoint, &mut health).await?;
        Ok(health)
    }

    async fn count_waiting(
        &self,
        connection: &mut PgConnection,
        endpoint: EndpointId,
        health: &mut EndpointHealth,
    ) -> Result<()> {
        let rows = sqlx::query!(
            r#"select d.id, s.reason as "reason!", count(*) as "count!", min(s.due_at) as "due_at!",
                 sum(count(*)) over (partition by d.id) > $3::bigint as "more!"
             from destinations d cross join lateral (
                 select reason, due_at from scheduled_deliveries s
                 where s.organization_id = $1 and s.destination_id = d.id order by s.due_at, s.event_id limit $3::bigint + 1) as s
             where d.organization_id = $1 and d.endpoint_id = $2 and d.deleted_at is null
             group by d.id, s.reason"#,
            self.organization.0,
            endpoint.0,
            i64::from(MOST_WAITING_COUNTED)
        )
        .fetch_all(connection)
        .await?;
        for found in rows {
            let row = Row { table: "scheduled_deliveries", id: found.id };
            let reason = row.word("reason", &found.reason, WaitingReason::parse)?;
            let count = u64::try_from(found.count).unwrap_or_default();
            match health.waiting.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, known)) => *known += count,
                None => health.waiting.push((reason, count)),
            }
            health.waiting_more |= found.more;
            let oldest = health.oldest_due_at.map_or(found.due_at, |oldest| oldest.min(found.due_at));
            health.oldest_due_at = Some(oldest);
        }
        Ok(())
    }
}
