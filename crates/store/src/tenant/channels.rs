//! Channels: where alerts are sent.

use chrono::{DateTime, Utc};
use ravenpost_core::alert::{ChannelConfig, ChannelType};
use ravenpost_core::audit::Action;
use ravenpost_core::ids::{ChannelId, NotificationId};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;

use super::{Deleted, Listed, Page, Tenant, ToSeal};
use crate::audit::{Entry, Of, snapshot};
use crate::decode::Row;
use crate::system::leave_untold;
use crate::{Error, Result};

/// The constraint that keeps an address from being told twice.
const ADDRESS_TAKEN: &str = "channels_address_key";

/// Where alerts are sent.
#[derive(Debug, Clone)]
pub struct Channel {
    /// Its id.
    pub id: ChannelId,
    /// How it reaches people.
    pub kind: ChannelType,
    /// What people call it; may be empty.
    pub name: String,
    /// The e-mail address, or what tells it apart from others of its type; no secret.
    pub address: String,
    /// Whether it is sent to.
    pub enabled: bool,
    /// Why it was disabled.
    pub disabled_reason: Option<String>,
    /// When it last took a message.
    pub last_sent_at: Option<DateTime<Utc>>,
    /// Of which version it is.
    pub version: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// A channel to be made.
#[derive(Debug)]
pub struct NewChannel<'a> {
    /// Its id.
    pub id: ChannelId,
    /// What people call it.
    pub name: &'a str,
    /// Where it leads.
    pub config: &'a ChannelConfig,
    /// To seal that with.
    pub nonce: [u8; 12],
    /// When it is made.
    pub now: DateTime<Utc>,
}

/// What to change of a channel.
#[derive(Debug, Clone, Default)]
pub struct ChannelChange {
    /// Only if it is of this version.
    pub if_version: Option<i64>,
    /// What people call it.
    pub name: Option<String>,
    /// Whether it is sent to. Enabling one has open alerts told that it was not told of.
    pub enabled: Option<bool>,
}

/// What became of a change.
#[derive(Debug)]
pub enum ChannelChanged {
    /// It is changed: as it is now.
    Changed(Channel),
    /// There is none.
    Missing,
    /// It is of another version than the change is for.
    Stale,
}

struct ChannelRow {
    id: uuid::Uuid,
    kind: String,
    name: String,
    address: String,
    state: String,
    disabled_reason: Option<String>,
    last_sent_at: Option<DateTime<Utc>>,
    version: i64,
    created_at: DateTime<Utc>,
}

fn decode(found: ChannelRow) -> Result<Channel> {
    let row = Row { table: "channels", id: found.id };
    // What keeps two channels to the same place apart follows a mark that no host has.
    let shown = found.address.split('#').next().unwrap_or_default().to_owned();
    let kind = row.word("type", &found.kind, ChannelType::parse)?;
    Ok(Channel {
        id: found.id.into(),
        kind,
        name: found.name,
        address: if kind == ChannelType::Email { found.address } else { shown },
        enabled: found.state == "enabled",
        disabled_reason: found.disabled_reason,
        last_sent_at: found.last_sent_at,
        version: found.version,
        created_at: found.created_at,
    })
}

/// What is unique of a channel: an address, or what is shown with the hash of what is not.
fn address(config: &ChannelConfig) -> String {
    match config.to_sealed() {
        None => config.shown(),
        Some(sealed) => {
            // A generated secret must not make the same URL another one.
            let identity = match config {
                ChannelConfig::Webhook { url, .. } => url.reveal().to_owned(),
                _ => sealed.reveal().to_owned(),
            };
            let hash = Sha256::digest(identity.as_bytes());
            let short = hash.first_chunk().copied().map_or(0, u64::from_be_bytes);
            format!("{}#{short:016x}", config.shown())
        }
    }
}

impl Tenant {
    /// Makes a channel; `None` when there is one to the same place already.
    pub async fn create_channel(&self, new: &NewChannel<'_>) -> Result<Option<Channel>> {
        let secret = new.config.to_sealed();
        let sealed =
            self.seal_if(secret.as_ref().map(|secret| ToSeal { secret, nonce: new.nonce }), new.id.0)?;
        let mut transaction = self.begin_change().await?;
        let inserted = sqlx::query_as!(
            ChannelRow,
            "insert into channels (organization_id, id, type, address, name, config, created_at)
             values ($1, $2, $3, $4, $5, $6, $7)
             returning id, type as kind, name, address, state, disabled_reason, last_sent_at, version, created_at",
            self.organization.0,
            new.id.0,
            new.config.kind().as_str(),
            address(new.config),
            new.name,
            sealed,
            new.now
        )
        .fetch_one(&mut *transaction)
        .await;
        match inserted.map_err(Error::from) {
            Ok(channel) => {
                let after = snapshot(&mut transaction, self.organization, Of::Channel(new.id.0)).await?;
                let entry = Entry::of(Action::ChannelCreated, new.id).after(after);
                transaction.commit(&entry, new.now).await?;
                decode(channel).map(Some)
            }
            Err(error) if error.constraint() == Some(ADDRESS_TAKEN) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The channels, newest first.
    pub async fn channels(&self, page: Page) -> Result<Listed<Channel>> {
        let mut transaction = self.begin().await?;
        let rows = sqlx::query_as!(
            ChannelRow,
            "select id, type as kind, name, address, state, disabled_reason, last_sent_at, version, created_at from channels
             where organization_id = $1 and id < $2 order by id desc limit $3",
            self.organization.0,
            page.below(),
            page.to_read()
        )
        .fetch_all(&mut *transaction)
        .await?;
        let channels = rows.into_iter().map(decode).collect::<Result<_>>()?;
        Ok(page.cut(channels, |channel: &Channel| channel.id.0))
    }

    /// One channel.
    pub async fn channel(&self, id: ChannelId) -> Result<Option<Channel>> {
        let mut transaction = self.begin().await?;
        let row = sqlx::query_as!(
            ChannelRow,
            "select id, type as kind, name, address, state, disabled_reason, last_sent_at, version, created_at
             from channels where organization_id = $1 and id = $2",
            self.organization.0,
            id.0
        )
        .fetch_optional(&mut *transaction)
        .await?;
        row.map(decode).transpose()
    }

    /// Changes a channel, if it is of a version.
    pub async fn change_channel(
        &self,
        id: ChannelId,
        change: &ChannelChange,
        now: DateTime<Utc>,
    ) -> Result<ChannelChanged> {
        let mut transaction = self.begin_change().await?;
        let Some(before) = snapshot(&mut transaction, self.organization, Of::Channel(id.0)).await? else {
            return Ok(ChannelChanged::Missing);
        };
        let row = sqlx::query_as!(
            ChannelRow,
            "update channels set name = coalesce($3, name),
                 state = case $4::boolean when true then 'enabled' when false then 'disabled' else state end,
                 failures = case when $4 then 0 else failures end,
                 disabled_reason = case when $4 is not null then null else disabled_reason end
             where organization_id = $1 and id = $2 and version = coalesce($5, version)
             returning id, type as kind, name, address, state, disabled_reason, last_sent_at, version, created_at",
            self.organization.0,
            id.0,
            change.name,
            change.enabled,
            change.if_version
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(row) = row else { return Ok(ChannelChanged::Stale) };
        match change.enabled {
            Some(true) => self.tell_again(&mut transaction, id, now).await?,
            Some(false) => leave_untold(&mut transaction, self.organization.0, id.0).await?,
            None => {}
        }
        let after = snapshot(&mut transaction, self.organization, Of::Channel(id.0)).await?;
        let entry = Entry::of(Action::ChannelChanged, id).before(before).after(after);
        transaction.commit(&entry, now).await?;
        Ok(ChannelChanged::Changed(decode(row)?))
    }

    /// A channel that is enabled is told of open alerts that it was not told of.
    async fn tell_again(
        &self,
        connection: &mut PgConnection,
        id: ChannelId,
        now: DateTime<Utc>,
    ) -> Result<()> {
        sqlx::query!(
            "update notifications n set state = 'pending', next_at = $3
             where n.organization_id = $1 and n.channel_id = $2 and n.state = 'failed' and n.kind = 'fired'
                 and exists (select from alerts a where a.organization_id = n.organization_id and a.id = n.alert_id
                     and a.resolved_at is null)",
            self.organization.0,
            id.0,
            now
        )
        .execute(&mut *connection)
        .await?;
        sqlx::query!(
            "insert into notifications (organization_id, channel_id, alert_id, kind)
             select a.organization_id, $2, a.id, 'fired' from alerts a
             where a.organization_id = $1 and a.resolved_at is null and a.tell_at = 'infinity'
                 and (a.channel_ids is null or $2 = any (a.channel_ids))
             on conflict do nothing",
            self.organization.0,
            id.0
        )
        .execute(connection)
        .await?;
        Ok(())
    }

    /// Has a channel sent a message that says nothing; `false` when there is no such channel, or it is disabled.
    pub async fn test_channel(
        &self,
        id: ChannelId,
        notification: NotificationId,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let mut transaction = self.begin_change().await?;
        let inserted = sqlx::query!(
            "insert into notifications (organization_id, id, channel_id, kind)
             select organization_id, $3, id, 'test' from channels
             where organization_id = $1 and id = $2 and state = 'enabled'",
            self.organization.0,
            id.0,
            notification.0
        )
        .execute(&mut *transaction)
        .await?;
        if inserted.rows_affected() == 0 {
            return Ok(false);
        }
        transaction.commit(&Entry::of(Action::ChannelTested, id), now).await?;
        Ok(true)
    }

    /// Deletes a channel, if it is of a version, with what it was told.
    pub async fn delete_channel(
        &self,
        id: ChannelId,
        if_version: Option<i64>,
        now: DateTime<Utc>,
    ) -> Result<Deleted> {
        let mut transaction = self.begin_change().await?;
        let Some(before) = snapshot(&mut transaction, self.organization, Of::Channel(id.0)).await? else {
            return Ok(Deleted::Missing);
        };
        leave_untold(&mut transaction, self.organization.0, id.0).await?;
        let deleted = sqlx::query!(
            "delete from channels where organization_id = $1 and id = $2 and version = coalesce($3, version)",
            self.organization.0,
            id.0,
            if_version
        )
        .execute(&mut *transaction)
        .await?;
        if deleted.rows_affected() == 0 {
            return Ok(Deleted::Stale);
        }
        transaction.commit(&Entry::of(Action::ChannelDeleted, id).before(before), now).await?;
        Ok(Deleted::Deleted)
    }
}
