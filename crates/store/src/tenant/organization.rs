//! The organization itself.

use chrono::{DateTime, Utc};
use ravenpost_core::ids::OrganizationId;

use super::Tenant;
use crate::Result;

/// An organization.
#[derive(Debug, Clone)]
pub struct Organization {
    /// Its id.
    pub id: OrganizationId,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was changed last.
    pub updated_at: DateTime<Utc>,
}

impl Tenant {
    /// The organization.
    pub async fn organization(&self) -> Result<Option<Organization>> {
        let mut transaction = self.begin().await?;
        let found = sqlx::query_as!(
            Organization,
            "select id, name, created_at, updated_at from organizations where id = $1",
            self.organization.0
        )
        .fetch_optional(&mut *transaction)
        .await?;
        Ok(found)
    }

    /// Gives the organization another name; `None` when it is not there.
    pub async fn rename_organization(&self, name: &str, now: DateTime<Utc>) -> Result<Option<Organization>> {
        let mut transaction = self.begin().await?;
        let renamed = sqlx::query_as!(
            Organization,
            "update organizations set name = $2, updated_at = $3 where id = $1
             returning id, name, created_at, updated_at",
            self.organization.0,
            name,
            now
        )
        .fetch_optional(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(renamed)
    }
}
