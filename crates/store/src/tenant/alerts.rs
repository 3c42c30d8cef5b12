//! Alerts: what is going wrong, or went.

use chrono::{DateTime, Utc};
use ravenpost_core::ids::{AlertId, DestinationId, EndpointId};

use super::{Listed, Page, Tenant, unsigned};
use crate::Result;
use crate::decode::Row;

/// A destination that has failed too often in a row.
#[derive(Debug, Clone)]
pub struct Alert {
    /// Its id.
    pub id: AlertId,
    /// Whose destination it is.
    pub endpoint_id: EndpointId,
    /// Which one.
    pub destination_id: DestinationId,
    /// What kind of trouble.
    pub kind: String,
    /// How many attempts had failed in a row when it was opened.
    pub failures: u32,
    /// What the last of them said.
    pub last_error: Option<String>,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// When people were told.
    pub notified_at: Option<DateTime<Utc>>,
    /// When the destination worked again.
    pub resolved_at: Option<DateTime<Utc>>,
}

impl Tenant {
    /// The alerts, newest first; `open` leaves out what is resolved.
    pub async fn alerts(&self, open: bool, page: Page) -> Result<Listed<Alert>> {
        let mut transaction = self.begin().await?;
        let rows = sqlx::query!(
            "select id, endpoint_id, destination_id, kind, failures, last_error, opened_at, notified_at, resolved_at
             from alerts where organization_id = $1 and id < $2 and (not $4 or resolved_at is null)
             order by id desc limit $3",
            self.organization.0,
            page.below(),
            page.to_read(),
            open
        )
        .fetch_all(&mut *transaction)
        .await?;
        let alerts = rows
            .into_iter()
            .map(|found| {
                let row = Row { table: "alerts", id: found.id };
                Ok(Alert {
                    id: found.id.into(),
                    endpoint_id: found.endpoint_id.into(),
                    destination_id: found.destination_id.into(),
                    kind: found.kind,
                    failures: unsigned(row, "failures", found.failures)?,
                    last_error: found.last_error,
                    opened_at: found.opened_at,
                    notified_at: found.notified_at,
                    resolved_at: found.resolved_at,
                })
            })
            .collect::<Result<_>>()?;
        Ok(page.cut(alerts, |alert: &Alert| alert.id.0))
    }
}
