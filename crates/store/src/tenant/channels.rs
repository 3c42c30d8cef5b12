//! Channels: where alerts are sent.

use chrono::{DateTime, Utc};
use ravenpost_core::audit::Action;
use ravenpost_core::ids::ChannelId;

use super::{Listed, Page, Tenant};
use crate::audit::{Entry, Of, snapshot};
use crate::{Error, Result};

/// The constraint that keeps an address from being told twice.
const ADDRESS_TAKEN: &str = "channels_address_key";

/// Where alerts are sent; an e-mail address.
#[derive(Debug, Clone)]
pub struct Channel {
    /// Its id.
    pub id: ChannelId,
    /// The e-mail address.
    pub address: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl Tenant {
    /// Makes an e-mail channel and answers it; `None` when the address has one already.
    pub async fn create_email_channel(
        &self,
        id: ChannelId,
        address: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Channel>> {
        let mut transaction = self.begin_change().await?;
        let inserted = sqlx::query_as!(
            Channel,
            "insert into channels (organization_id, id, type, address, created_at) values ($1, $2, 'email', $3, $4)
             returning id, address, created_at",
            self.organization.0,
            id.0,
            address,
            now
        )
        .fetch_one(&mut *transaction)
        .await;
        match inserted.map_err(Error::from) {
            Ok(channel) => {
                let made = snapshot(&mut transaction, self.organization, Of::Channel(id.0)).await?;
                transaction.commit(&Entry::of(Action::ChannelCreated, id).after(made), now).await?;
                Ok(Some(channel))
            }
            Err(error) if error.constraint() == Some(ADDRESS_TAKEN) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The channels, newest first.
    pub async fn channels(&self, page: Page) -> Result<Listed<Channel>> {
        let mut transaction = self.begin().await?;
        let rows = sqlx::query_as!(
            Channel,
            "select id, address, created_at from channels
             where organization_id = $1 and id < $2 order by id desc limit $3",
            self.organization.0,
            page.below(),
            page.to_read()
        )
        .fetch_all(&mut *transaction)
        .await?;
        Ok(page.cut(rows, |channel| channel.id.0))
    }

    /// Deletes a channel; `false` when there is none.
    pub async fn delete_channel(&self, id: ChannelId, now: DateTime<Utc>) -> Result<bool> {
        let mut transaction = self.begin_change().await?;
        let before = snapshot(&mut transaction, self.organization, Of::Channel(id.0)).await?;
        let deleted = sqlx::query!(
            "delete from channels where organization_id = $1 and id = $2",
            self.organization.0,
            id.0
        )
        .execute(&mut *transaction)
        .await?;
        if deleted.rows_affected() == 0 {
            return Ok(false);
        }
        transaction.commit(&Entry::of(Action::ChannelDeleted, id).before(before), now).await?;
        Ok(true)
    }
}
