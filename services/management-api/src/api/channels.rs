//! Channels: where alerts are sent.

use axum::Json as Answer;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use ravenpost_chassis::problem::{Json, Kind, Path, Problem, Query};
use ravenpost_chassis::{clock, random};
use ravenpost_core::ids::ChannelId;
use ravenpost_store::tenant::Channel;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::page::{List, PageQuery, list as listed};
use super::{BASE, Failure, checks};
use crate::auth::{AlertsRead, AlertsWrite, Caller};

/// The path of one channel.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct ChannelPath {
    /// The channel's id.
    channel_id: ChannelId,
}

/// How a channel reaches people.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ChannelType {
    /// By e-mail.
    Email,
}

/// A channel to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewChannel)]
pub(super) struct NewChannelBody {
    /// How it reaches people.
    #[serde(rename = "type")]
    #[expect(dead_code, reason = "there is one type; it is checked when it is read")]
    kind: ChannelType,
    /// The e-mail address.
    #[schema(format = Email, example = "oncall@example.com")]
    address: String,
}

/// Where alerts are sent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Channel)]
pub(super) struct ChannelBody {
    /// Its id.
    id: ChannelId,
    /// How it reaches people.
    #[serde(rename = "type")]
    kind: ChannelType,
    /// The e-mail address.
    address: String,
    /// When it was made.
    created_at: DateTime<Utc>,
}

impl From<Channel> for ChannelBody {
    fn from(channel: Channel) -> Self {
        Self {
            id: channel.id,
            kind: ChannelType::Email,
            address: channel.address,
            created_at: channel.created_at,
        }
    }
}

/// List channels.
#[utoipa::path(get, path = "/channels", tag = "alerts", operation_id = "list_channels", params(PageQuery),
    security(("api_key" = ["alerts:read"])), responses((status = 200, body = List<ChannelBody>)))]
pub(super) async fn list(
    caller: Caller<AlertsRead>,
    Query(query): Query<PageQuery>,
) -> Result<Answer<List<ChannelBody>>, Failure> {
    let channels = caller.tenant.channels(query.page()?).await?;
    Ok(Answer(listed(channels, ChannelBody::from)))
}

/// Create a channel.
#[utoipa::path(post, path = "/channels", tag = "alerts", operation_id = "create_channel", request_body = NewChannelBody,
    security(("api_key" = ["alerts:write"])), responses((status = 201, body = ChannelBody,
        headers(("Location" = String, description = "Its path."))), (status = 409)))]
pub(super) async fn create(
    caller: Caller<AlertsWrite>,
    Json(body): Json<NewChannelBody>,
) -> Result<impl IntoResponse, Failure> {
    checks::email("address", &body.address)?;
    let now = clock::now();
    let id = ChannelId::new(now, random::bytes());
    let created = caller.tenant.create_email_channel(id, &body.address, now).await?;
    let channel =
        created.ok_or_else(|| Problem::new(Kind::Conflict, "there is a channel to this address already"))?;
    let location = format!("{BASE}/channels/{id}");
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Answer(ChannelBody::from(channel))))
}

/// Delete a channel.
#[utoipa::path(delete, path = "/channels/{channel_id}", tag = "alerts", operation_id = "delete_channel",
    params(ChannelPath), security(("api_key" = ["alerts:write"])), responses((status = 204)))]
pub(super) async fn delete(
    caller: Caller<AlertsWrite>,
    Path(path): Path<ChannelPath>,
) -> Result<StatusCode, Failure> {
    let deleted = caller.tenant.delete_channel(path.channel_id, clock::now()).await?;
    if deleted { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::not_found("channel").into()) }
}
