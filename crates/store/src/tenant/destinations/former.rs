//! A destination's signing secret is replaced: the former ones sign as well, until they expire. As with an endpoint's
//! secrets the newest stands in the row itself, so that a replica of the release before goes on with it.

use chrono::{DateTime, Utc};
use ravenpost_core::audit::Action;
use ravenpost_core::ids::{DestinationId, EndpointId, SecretId};
use sqlx::PgConnection;

use super::{Tenant, ToSeal};
use crate::Result;
use crate::audit::{Entry, Of, snapshot};

/// Most former secrets that a destination has at once: each is one more signature in every delivery.
pub const MAX_FORMER_SECRETS: usize = 4;

/// A secret that takes the place of the present one.
#[derive(Debug, Clone, Copy)]
pub struct NewSigningSecret<'a> {
    /// Itself.
    pub secret: ToSeal<'a>,
    /// What the row of the present one is to be called.
    pub former_id: SecretId,
    /// When the present one stops to count, and those before it that don't sooner.
    pub former_expires_at: DateTime<Utc>,
}

/// What became of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretRotated {
    /// We sign with the new one from now on.
    Rotated,
    /// There is no such destination.
    Missing,
    /// It has [`MAX_FORMER_SECRETS`] already.
    TooMany,
}

impl Tenant {
    /// Replaces the secret that a destination's deliveries are signed with.
    pub async fn rotate_signing_secret(
        &self,
        endpoint: EndpointId,
        id: DestinationId,
        new: &NewSigningSecret<'_>,
        now: DateTime<Utc>,
    ) -> Result<SecretRotated> {
        let sealed = self.seal(new.secret, id.0)?;
        let mut transaction = self.begin_change().await?;
        let before = snapshot(&mut transaction, self.organization, Of::Destination(id.0)).await?;
        // Locked until the commit: two rotations at once would both keep the same one and lose the other's.
        let present = sqlx::query_scalar!(
            "select signing_secret from destinations
             where organization_id = $1 and endpoint_id = $2 and id = $3 and deleted_at is null for update",
            self.organization.0,
            endpoint.0,
            id.0
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(present) = present else { return Ok(SecretRotated::Missing) };
        if !self.retire(&mut transaction, id, &present, new, now).await? {
            return Ok(SecretRotated::TooMany);
        }
        sqlx::query!(
            "update destinations set signing_secret = $3, updated_at = $4
             where organization_id = $1 and id = $2",
            self.organization.0,
            id.0,
            sealed,
            now
        )
        .execute(&mut *transaction)
        .await?;
        let after = snapshot(&mut transaction, self.organization, Of::Destination(id.0)).await?;
        let entry = Entry::of(Action::DestinationSecretRotated, id).before(before).after(after);
        transaction.commit(&entry, now).await?;
        Ok(SecretRotated::Rotated)
    }

    /// The present secret joins the former ones. `false`: there are too many.
    async fn retire(
        &self,
        connection: &mut PgConnection,
        id: DestinationId,
        present: &[u8],
        new: &NewSigningSecret<'_>,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        sqlx::query!(
            "insert into destination_secrets (organization_id, id, destination_id, secret, retired_at, expires_at)
             values ($1, $2, $3, $4, $5, $6)",
            self.organization.0,
            new.former_id.0,
            id.0,
            present,
            now,
            new.former_expires_at
        )
        .execute(&mut *connection)
        .await?;
        sqlx::query!(
            "update destination_secrets set expires_at = least(expires_at, $3)
             where organization_id = $1 and destination_id = $2",
            self.organization.0,
            id.0,
            new.former_expires_at
        )
        .execute(&mut *connection)
        .await?;
        sqlx::query!(
            "delete from destination_secrets
             where organization_id = $1 and destination_id = $2 and expires_at <= $3",
            self.organization.0,
            id.0,
            now
        )
        .execute(&mut *connection)
        .await?;
        let left = sqlx::query_scalar!(
            "select count(*) as \"count!\" from destination_secrets
             where organization_id = $1 and destination_id = $2",
            self.organization.0,
            id.0
        )
        .fetch_one(connection)
        .await?;
        Ok(usize::try_from(left).is_ok_and(|left| left <= MAX_FORMER_SECRETS))
    }
}
