//! The organization itself.

use chrono::{DateTime, Utc};
use ravenpost_core::audit::Action;
use ravenpost_core::ids::OrganizationId;
use serde_json::json;

use super::Tenant;
use crate::Result;
use crate::audit::Entry;

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
        let mut transaction = self.begin_change().await?;
        let before = sqlx::query_scalar!(
            "select name from organizations where id = $1 for update",
            self.organization.0
        )
        .fetch_optional(&mut *transaction)
        .await?;
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
        if renamed.is_some() {
            let entry = Entry::of(Action::OrganizationChanged, self.organization);
            let entry = entry.before(json!({ "name": before })).after(json!({ "name": name }));
            transaction.commit(&entry, now).await?;
        }
        Ok(renamed)
    }
}
