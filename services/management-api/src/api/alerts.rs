//! Alerts: what is going wrong, or went.

use axum::Json as Answer;
use chrono::{DateTime, Utc};
use ravenpost_chassis::problem::Query;
use ravenpost_core::ids::{AlertId, DestinationId, EndpointId};
use ravenpost_store::tenant::Alert;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Failure;
use super::page::{List, list as listed, page};
use crate::auth::{AlertsRead, Caller};

/// Which alerts to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AlertQuery {
    /// `true` leaves out what is resolved.
    #[serde(default)]
    open: bool,
    /// Most entries of the page.
    #[param(minimum = 1, maximum = 250, default = 50)]
    limit: Option<u16>,
    /// The `next` of the page before; absent for the first one.
    next: Option<String>,
}

/// Something that is going wrong, or went.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Alert)]
pub(super) struct AlertBody {
    /// Its id.
    id: AlertId,
    /// What kind of trouble.
    #[schema(example = "consecutive_failures")]
    kind: String,
    /// Whose destination it is.
    endpoint_id: EndpointId,
    /// Which one.
    destination_id: DestinationId,
    /// How many attempts had failed in a row.
    failures: u32,
    /// What the last of them said.
    #[schema(required = true)]
    last_error: Option<String>,
    /// When it was opened.
    opened_at: DateTime<Utc>,
    /// When people were told.
    #[schema(required = true)]
    notified_at: Option<DateTime<Utc>>,
    /// When the destination worked again.
    #[schema(required = true)]
    resolved_at: Option<DateTime<Utc>>,
}

impl From<Alert> for AlertBody {
    fn from(alert: Alert) -> Self {
        Self {
            id: alert.id,
            kind: alert.kind,
            endpoint_id: alert.endpoint_id,
            destination_id: alert.destination_id,
            failures: alert.failures,
            last_error: alert.last_error,
            opened_at: alert.opened_at,
            notified_at: alert.notified_at,
            resolved_at: alert.resolved_at,
        }
    }
}

/// List alerts.
#[utoipa::path(get, path = "/alerts", tag = "alerts", operation_id = "list_alerts", params(AlertQuery),
    security(("api_key" = ["alerts:read"])), responses((status = 200, body = List<AlertBody>)))]
pub(super) async fn list(
    caller: Caller<AlertsRead>,
    Query(query): Query<AlertQuery>,
) -> Result<Answer<List<AlertBody>>, Failure> {
    let page = page(query.limit, query.next.as_deref())?;
    let alerts = caller.tenant.alerts(query.open, page).await?;
    Ok(Answer(listed(alerts, AlertBody::from)))
}
