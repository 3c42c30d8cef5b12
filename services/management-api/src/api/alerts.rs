//! Alerts: what is going wrong, or went; firing, acknowledged, resolved.

pub(super) mod body;

use std::time::Duration;

use axum::Json as Answer;
use ravenpost_chassis::clock;
use ravenpost_chassis::problem::{Kind, Path, Problem, Query};
use ravenpost_core::alert::Severity;
use ravenpost_core::ids::{AlertId, DestinationId, EndpointId};
use ravenpost_store::tenant::{Alert, AlertFilter};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use self::body::{AlertBody, AlertStateBody, AlertWithNotificationsBody, NotificationBody};
use super::body::OptionalJson;
use super::page::{List, list as listed, page};
use super::{Failure, checks};
use crate::auth::{AlertsRead, AlertsWrite, Caller};

/// How long an alert is muted unless the request says otherwise.
const MUTED: Duration = Duration::from_hours(1);

/// Which alerts to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AlertQuery {
    /// `true` leaves out what is resolved.
    #[serde(default)]
    open: bool,
    /// Those in this state.
    state: Option<AlertStateBody>,
    /// Those that are this bad.
    severity: Option<Severity>,
    /// Those of this endpoint and its destinations.
    endpoint_id: Option<EndpointId>,
    /// Those of this destination.
    destination_id: Option<DestinationId>,
    /// Most entries of the page.
    #[param(minimum = 1, maximum = 250, default = 50)]
    limit: Option<u16>,
    /// The `next` of the page before; absent for the first one.
    next: Option<String>,
}

/// The path of one alert.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct AlertPath {
    /// The alert's id.
    alert_id: AlertId,
}

/// For how long nobody is to be told.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = AlertMute)]
pub(super) struct MuteBody {
    /// From now, `0s` to `90d`; `1h` unless given. `0s` ends it.
    #[schema(example = "1h")]
    duration: Option<String>,
}

/// List alerts.
#[utoipa::path(get, path = "/alerts", tag = "alerts", operation_id = "list_alerts", params(AlertQuery), responses((status = 200, body = List<AlertBody>)))]
pub(super) async fn list(
    caller: Caller<AlertsRead>,
    Query(query): Query<AlertQuery>,
) -> Result<Answer<List<AlertBody>>, Failure> {
    let page = page(query.limit, query.next.as_deref())?;
    let filter = AlertFilter {
        open: query.open,
        state: query.state.map(Into::into),
        severity: query.severity,
        endpoint_id: query.endpoint_id,
        destination_id: query.destination_id,
    };
    let alerts = caller.tenant.alerts(filter, page).await?;
    Ok(Answer(listed(alerts, AlertBody::from)))
}

/// Get an alert, with what channels were told of it.
#[utoipa::path(get, path = "/alerts/{alert_id}", tag = "alerts", operation_id = "get_alert", params(AlertPath), responses((status = 200, body = AlertWithNotificationsBody)))]
pub(super) async fn get(
    caller: Caller<AlertsRead>,
    Path(path): Path<AlertPath>,
) -> Result<Answer<AlertWithNotificationsBody>, Failure> {
    let alert = found(&caller, path.alert_id).await?;
    let told = caller.tenant.alert_notifications(path.alert_id).await?;
    Ok(Answer(AlertWithNotificationsBody {
        alert: alert.into(),
        notifications: told.into_iter().map(NotificationBody::from).collect(),
    }))
}

/// Acknowledge an alert.
///
/// Somebody sees to it. Pagers and webhooks are told.
#[utoipa::path(post, path = "/alerts/{alert_id}/acknowledge", tag = "alerts", operation_id = "acknowledge_alert",
    params(AlertPath),
    responses((status = 200, body = AlertBody), (status = 409)))]
pub(super) async fn acknowledge(
    caller: Caller<AlertsWrite>,
    Path(path): Path<AlertPath>,
) -> Result<Answer<AlertBody>, Failure> {
    let done = caller.tenant.acknowledge_alert(path.alert_id, clock::now()).await?;
    changed(&caller, path.alert_id, done, "the alert is acknowledged or resolved already").await
}

/// Resolve an alert.
///
/// It opens again when the same trouble begins anew, and not while it lasts.
#[utoipa::path(post, path = "/alerts/{alert_id}/resolve", tag = "alerts", operation_id = "resolve_alert",
    params(AlertPath),
    responses((status = 200, body = AlertBody), (status = 409)))]
pub(super) async fn resolve(
    caller: Caller<AlertsWrite>,
    Path(path): Path<AlertPath>,
) -> Result<Answer<AlertBody>, Failure> {
    let done = caller.tenant.resolve_alert(path.alert_id, clock::now()).await?;
    changed(&caller, path.alert_id, done, "the alert is resolved already").await
}

/// Mute an alert.
///
/// Nobody is told of it for a while. What was sent already is not called back.
#[utoipa::path(post, path = "/alerts/{alert_id}/mute", tag = "alerts", operation_id = "mute_alert",
    params(AlertPath), request_body = Option<MuteBody>,
    responses((status = 200, body = AlertBody), (status = 409)))]
pub(super) async fn mute(
    caller: Caller<AlertsWrite>,
    Path(path): Path<AlertPath>,
    OptionalJson(body): OptionalJson<MuteBody>,
) -> Result<Answer<AlertBody>, Failure> {
    let now = clock::now();
    let until = checks::after("duration", body.duration.as_deref(), MUTED, now)?;
    let done = caller.tenant.mute_alert(path.alert_id, (until > now).then_some(until), now).await?;
    changed(&caller, path.alert_id, done, "the alert is resolved already").await
}

async fn found<R>(caller: &Caller<R>, id: AlertId) -> Result<Alert, Failure> {
    let alert = caller.tenant.alert(id).await?;
    Ok(alert.ok_or_else(|| Problem::not_found("alert"))?)
}

async fn changed(
    caller: &Caller<AlertsWrite>,
    id: AlertId,
    done: bool,
    why_not: &str,
) -> Result<Answer<AlertBody>, Failure> {
    let alert = found(caller, id).await?;
    if done { Ok(Answer(alert.into())) } else { Err(Problem::new(Kind::Conflict, why_not).into()) }
}
