//! How fast destinations are sent to, how they fare, and whether something waits for them: what an owner has to know
//! before its first send (PROTOCOLS W6).

use std::time::Duration;

use chrono::{DateTime, Utc};
use ravenpost_core::ids::{DestinationId, OrganizationId};
use ravenpost_core::pacing::{Health, Limits};
use tracing::error;

use super::System;
use crate::Result;
use crate::decode::{Damaged, Row};
use crate::lease::bounded;

/// How fast a destination is sent to, as its owner has set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PaceSettings {
    /// Its limits.
    pub limits: Limits,
    /// After how long of failures only it is disabled.
    pub disable_after: DisableAfter,
    /// When a person resumed it: what its state says of the time before is void.
    pub resumed_at: Option<DateTime<Utc>>,
    /// How long it has to answer.
    pub timeout: Duration,
}

/// After how long of failures only a destination is disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DisableAfter {
    /// As the operator has set it.
    #[default]
    Operator,
    /// Never.
    Never,
    /// After so long.
    After(Duration),
}

/// A destination as its owner meets it.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Which one.
    pub destination_id: DestinationId,
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// How fast it is sent to.
    pub settings: PaceSettings,
    /// How it fares.
    pub health: Health,
    /// Paused, disabled, or of a paused endpoint: none of its rows are due.
    pub held: bool,
    /// Something is due, whether held or not.
    pub behind: bool,
    /// When something is due next that is not yet.
    pub next_due_at: Option<DateTime<Utc>>,
}

impl DisableAfter {
    /// As it is stored, in milliseconds: null and 0 have their meanings.
    pub fn stored(self) -> Option<i64> {
        match self {
            Self::Operator => None,
            Self::Never => Some(0),
            Self::After(time) => Some(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)),
        }
    }

    pub(crate) fn decode(row: Row, stored: Option<i64>) -> std::result::Result<Self, Damaged> {
        Ok(match stored {
            None => Self::Operator,
            Some(0) => Self::Never,
            Some(time) => {
                Self::After(Duration::from_millis(row.value("disable_after_ms", u64::try_from(time))?))
            }
        })
    }
}

impl PaceSettings {
    /// What is damaged is as the operator has set it: a destination is not stopped by its limits.
    pub(crate) fn decode(
        row: Row,
        limits: Option<serde_json::Value>,
        disable_after_ms: Option<i64>,
        resumed_at: Option<DateTime<Utc>>,
        timeout_ms: i32,
    ) -> Self {
        let limits = limits.map(|limits| row.json("limits", limits)).transpose();
        let disable_after = DisableAfter::decode(row, disable_after_ms);
        Self {
            limits: or_default(limits).unwrap_or_default(),
            disable_after: or_default(disable_after),
            resumed_at,
            timeout: Duration::from_millis(u64::try_from(timeout_ms).unwrap_or_default()),
        }
    }
}

fn or_default<T: Default>(decoded: std::result::Result<T, Damaged>) -> T {
    decoded.unwrap_or_else(|damaged| {
        error!(
            error = &damaged as &dyn std::error::Error,
            "a destination is paced by the operator's settings"
        );
        T::default()
    })
}

impl System {
    /// How fast each of `destinations` is sent to and how it fares; those that are not there are absent. A state that
    /// comes before its destination was resumed is void.
    pub async fn paces(&self, destinations: &[DestinationId], now: DateTime<Utc>) -> Result<Vec<Pace>> {
        let ids: Vec<_> = destinations.iter().map(|id| id.0).collect();
        let rows = bounded!(
            self,
            sqlx::query!(
                r#"select d.id as "id!", d.organization_id as "organization_id!", d.limits, d.disable_after_ms, d.resumed_at, d.timeout_ms,
                d.deleted_at is null and (d.status <> 'active' or e.status <> 'active') as "held!",
                to_jsonb(s) as state,
                exists (select from scheduled_deliveries w where w.destination_id = d.id and w.due_at <= $2) as "behind!",
                (select min(w.due_at) from scheduled_deliveries w where w.destination_id = d.id and w.due_at > $2) as next_due_at
            from destinations d
            join endpoints e on e.id = d.endpoint_id
            left join destination_state s on s.destination_id = d.id and s.follows is not distinct from d.resumed_at
            where d.id = any ($1)"#,
                &ids,
                now
            ),
            fetch_all
        );
        let decoded = rows.into_iter().map(|row| {
            let of = |table| Row { table, id: row.id };
            let stored = row.state.map(|state| of("destination_state").json("*", state)).transpose();
            Pace {
                destination_id: row.id.into(),
                organization_id: row.organization_id.into(),
                settings: PaceSettings::decode(
                    of("destinations"),
                    row.limits,
                    row.disable_after_ms,
                    row.resumed_at,
                    row.timeout_ms,
                ),
                health: or_default(stored).unwrap_or_else(|| Health::new(row.resumed_at)),
                held: row.held,
                behind: row.behind,
                next_due_at: row.next_due_at,
            }
        });
        Ok(decoded.collect())
    }
}
