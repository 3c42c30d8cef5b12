//! Channels: where alerts are sent. Their secrets are shown to nobody but who brings or makes them.

pub(super) mod body;

use axum::Json as Answer;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use ravenpost_chassis::problem::{Json, Kind, Path, Problem, Query};
use ravenpost_chassis::{clock, random};
use ravenpost_core::alert::ChannelConfig;
use ravenpost_core::ids::{ChannelId, NotificationId};
use ravenpost_store::tenant::{ChannelChange, ChannelChanged, Deleted, NewChannel};
use serde::Deserialize;
use utoipa::IntoParams;

use self::body::{ChannelBody, ChannelChangeBody, CreatedChannelBody, NewChannelBody, TestBody};
use super::alerts::body::NotificationBody;
use super::page::{List, PageQuery, all, list as listed};
use super::{BASE, Failure, checks};
use crate::auth::{AlertsRead, AlertsWrite, Caller};
use crate::conventions::preconditions::{Preconditions, answer, failed};

/// The path of one channel.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct ChannelPath {
    /// The channel's id.
    channel_id: ChannelId,
}

/// List channels.
#[utoipa::path(get, path = "/channels", tag = "alerts", operation_id = "list_channels", params(PageQuery), responses((status = 200, body = List<ChannelBody>)))]
pub(super) async fn list(
    caller: Caller<AlertsRead>,
    Query(query): Query<PageQuery>,
) -> Result<Answer<List<ChannelBody>>, Failure> {
    let channels = caller.tenant.channels(query.page()?).await?;
    Ok(Answer(listed(channels, ChannelBody::from)))
}

/// Create a channel.
///
/// Keys and URLs are sealed and never shown again. A `webhook` is signed as deliveries are; its secret is in this answer alone.
#[utoipa::path(post, path = "/channels", tag = "alerts", operation_id = "create_channel", request_body = NewChannelBody, responses((status = 201, body = CreatedChannelBody,
        headers(("Location" = String, description = "Its path."))), (status = 409)))]
pub(super) async fn create(
    caller: Caller<AlertsWrite>,
    Json(body): Json<NewChannelBody>,
) -> Result<impl IntoResponse, Failure> {
    let (name, config) = body.into_parts();
    if let Some(name) = &name {
        checks::name("name", name)?;
    }
    if let ChannelConfig::Email { address } = &config {
        checks::email("address", address)?;
    }
    config.check().map_err(|invalid| Problem::invalid_field(invalid.field, invalid.message))?;
    let now = clock::now();
    let id = ChannelId::new(now, random::bytes());
    let name = name.unwrap_or_default();
    let new = NewChannel { id, name: &name, config: &config, nonce: random::bytes(), now };
    let channel = caller.tenant.create_channel(&new).await?;
    let channel =
        channel.ok_or_else(|| Problem::new(Kind::Conflict, "there is a channel to this address already"))?;
    let location = format!("{BASE}/channels/{id}");
    let created = CreatedChannelBody::new(channel, &config);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Answer(created)))
}

/// Get a channel.
#[utoipa::path(get, path = "/channels/{channel_id}", tag = "alerts", operation_id = "get_channel", params(ChannelPath),
    responses((status = 200, body = ChannelBody), (status = 304)))]
pub(super) async fn get(
    caller: Caller<AlertsRead>,
    Path(path): Path<ChannelPath>,
    preconditions: Preconditions,
) -> Result<Response, Failure> {
    let channel = caller.tenant.channel(path.channel_id).await?.ok_or_else(missing)?;
    Ok(preconditions.answer(channel.version, &ChannelBody::from(channel)))
}

/// Change a channel.
///
/// A channel that refuses messages again and again is disabled by itself. Enabling it has open alerts told that it was not
/// told of.
#[utoipa::path(patch, path = "/channels/{channel_id}", tag = "alerts", operation_id = "change_channel",
    params(ChannelPath), request_body = ChannelChangeBody,
    responses((status = 200, body = ChannelBody), (status = 412)))]
pub(super) async fn change(
    caller: Caller<AlertsWrite>,
    Path(path): Path<ChannelPath>,
    preconditions: Preconditions,
    Json(body): Json<ChannelChangeBody>,
) -> Result<Response, Failure> {
    if let Some(name) = &body.name {
        checks::name("name", name)?;
    }
    let if_version = preconditions.version()?;
    let change = ChannelChange { if_version, name: body.name, enabled: body.enabled };
    match caller.tenant.change_channel(path.channel_id, &change, clock::now()).await? {
        ChannelChanged::Changed(channel) => Ok(answer(channel.version, &ChannelBody::from(channel))),
        ChannelChanged::Stale => Err(failed("channel").into()),
        ChannelChanged::Missing => Err(missing().into()),
    }
}

/// Send a test message to a channel.
///
/// What came of it is among the channel's notifications, under the id that is answered.
#[utoipa::path(post, path = "/channels/{channel_id}/test", tag = "alerts", operation_id = "test_channel",
    params(ChannelPath),
    responses((status = 202, body = TestBody), (status = 409)))]
pub(super) async fn test(
    caller: Caller<AlertsWrite>,
    Path(path): Path<ChannelPath>,
) -> Result<impl IntoResponse, Failure> {
    let channel = caller.tenant.channel(path.channel_id).await?;
    let channel = channel.ok_or_else(missing)?;
    let now = clock::now();
    let notification = NotificationId::new(now, random::bytes());
    if !channel.enabled || !caller.tenant.test_channel(channel.id, notification, now).await? {
        return Err(
            Problem::new(Kind::Conflict, "the channel is disabled: enable it before it is tried").into()
        );
    }
    Ok((StatusCode::ACCEPTED, Answer(TestBody { notification_id: notification })))
}

/// List what a channel was told last.
#[utoipa::path(get, path = "/channels/{channel_id}/notifications", tag = "alerts",
    operation_id = "list_channel_notifications", params(ChannelPath),
    responses((status = 200, body = List<NotificationBody>)))]
pub(super) async fn notifications(
    caller: Caller<AlertsRead>,
    Path(path): Path<ChannelPath>,
) -> Result<Answer<List<NotificationBody>>, Failure> {
    if caller.tenant.channel(path.channel_id).await?.is_none() {
        return Err(missing().into());
    }
    let told = caller.tenant.channel_notifications(path.channel_id).await?;
    Ok(Answer(all(told.into_iter().map(NotificationBody::from))))
}

/// Delete a channel.
///
/// What it was told is forgotten with it.
#[utoipa::path(delete, path = "/channels/{channel_id}", tag = "alerts", operation_id = "delete_channel",
    params(ChannelPath), responses((status = 204), (status = 412)))]
pub(super) async fn delete(
    caller: Caller<AlertsWrite>,
    Path(path): Path<ChannelPath>,
    preconditions: Preconditions,
) -> Result<StatusCode, Failure> {
    match caller.tenant.delete_channel(path.channel_id, preconditions.version()?, clock::now()).await? {
        Deleted::Deleted => Ok(StatusCode::NO_CONTENT),
        Deleted::Missing => Err(missing().into()),
        Deleted::Stale => Err(failed("channel").into()),
    }
}

fn missing() -> Problem {
    Problem::not_found("channel")
}
