//! Members: who they are, and as what. The schema keeps the last owner.

use chrono::{DateTime, Utc};
use ravenpost_core::access::{Role, Scope};
use ravenpost_core::audit::Action;
use ravenpost_core::ids::UserId;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Listed, Page, Tenant};
use crate::audit::Entry;
use crate::decode::Row;
use crate::{Error, Result};

/// The name under which the schema refuses to let the last owner go.
const LAST_OWNER: &str = "memberships_last_owner";

/// Somebody, as far as an organization gets to see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Their id.
    pub id: UserId,
    /// Their verified e-mail address.
    pub email: Option<String>,
    /// Their name.
    pub name: Option<String>,
}

/// A member of the organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub person: Person,
    /// As what.
    pub role: Role,
    /// Since when.
    pub created_at: DateTime<Utc>,
}

/// What became of a change to a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChanged {
    /// The member is like this now.
    Changed(Member),
    /// There is no such member.
    Missing,
    /// It is an owner, who is not the asker's to touch.
    IsOwner,
    /// It is the last owner.
    LastOwner,
}

/// What became of a member who goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberRemoved {
    /// Gone.
    Removed,
    /// There is no such member.
    Missing,
    /// It is an owner, who is not the asker's to touch.
    IsOwner,
    /// It is the last owner.
    LastOwner,
}

impl Tenant {
    /// The members, those who have logged in last for the first time first.
    pub async fn members(&self, page: Page) -> Result<Listed<Member>> {
        let mut transaction = self.begin().await?;
        let rows = sqlx::query_as!(
            MemberRow,
            r#"select u.id, u.email, u.name, m.role, m.created_at from memberships m join users u on u.id = m.user_id
             where m.organization_id = $1 and m.user_id < $2 order by m.user_id desc limit $3"#,
            self.organization.0,
            page.below(),
            page.to_read()
        )
        .fetch_all(&mut *transaction)
        .await?;
        let members = rows.into_iter().map(MemberRow::decode).collect::<Result<_>>()?;
        Ok(page.cut(members, |member: &Member| member.person.id.0))
    }

    /// Gives a member another role. An owner is touched only when `owners_too`.
    pub async fn change_role(
        &self,
        user: UserId,
        role: Role,
        owners_too: bool,
        now: DateTime<Utc>,
    ) -> Result<MemberChanged> {
        let mut transaction = self.begin_change().await?;
        let before = self.role_of(&mut transaction, user).await?;
        let changed = sqlx::query_as!(
            MemberRow,
            "with changed as (
                 update memberships set role = $3, updated_at = $4
                 where organization_id = $1 and user_id = $2 and (role <> 'owner' or $5)
                 returning user_id, role, created_at)
             select u.id, u.email, u.name, c.role, c.created_at from changed c join users u on u.id = c.user_id",
            self.organization.0,
            user.0,
            role.as_str(),
            now,
            owners_too
        )
        .fetch_optional(&mut *transaction)
        .await;
        match changed.map_err(Error::from) {
            Ok(Some(changed)) => {
                let revoked = self.revoke_invitations_by(&mut transaction, user, Some(role), now).await?;
                let entry = Entry::of(Action::MemberChanged, user).before(json!({ "role": before }));
                let after = json!({ "role": role.as_str(), "revoked_invitations": revoked });
                transaction.commit(&entry.after(after), now).await?;
                Ok(MemberChanged::Changed(changed.decode()?))
            }
            Ok(None) if self.belongs(&mut transaction, user).await? => Ok(MemberChanged::IsOwner),
            Ok(None) => Ok(MemberChanged::Missing),
            Err(error) if error.constraint() == Some(LAST_OWNER) => Ok(MemberChanged::LastOwner),
            Err(error) => Err(error),
        }
    }

    /// Lets a member go. An owner is touched only when `owners_too`.
    pub async fn remove_member(
        &self,
        user: UserId,
        owners_too: bool,
        now: DateTime<Utc>,
    ) -> Result<MemberRemoved> {
        let mut transaction = self.begin_change().await?;
        let before = self.role_of(&mut transaction, user).await?;
        let removed = sqlx::query!(
            "delete from memberships where organization_id = $1 and user_id = $2 and (role <> 'owner' or $3)",
            self.organization.0,
            user.0,
            owners_too
        )
        .execute(&mut *transaction)
        .await;
        match removed.map_err(Error::from) {
            Ok(removed) if removed.rows_affected() == 1 => {
                let revoked = self.revoke_invitations_by(&mut transaction, user, None, now).await?;
                let entry = Entry::of(Action::MemberRemoved, user).before(json!({ "role": before }));
                transaction.commit(&entry.after(json!({ "revoked_invitations": revoked })), now).await?;
                Ok(MemberRemoved::Removed)
            }
            Ok(_) if self.belongs(&mut transaction, user).await? => Ok(MemberRemoved::IsOwner),
            Ok(_) => Ok(MemberRemoved::Missing),
            Err(error) if error.constraint() == Some(LAST_OWNER) => Ok(MemberRemoved::LastOwner),
            Err(error) => Err(error),
        }
    }

    /// Whether somebody is a member.
    pub async fn is_member(&self, user: UserId) -> Result<bool> {
        let mut transaction = self.begin().await?;
        self.belongs(&mut transaction, user).await
    }

    /// Takes back the invitations of somebody who is only that from now on, or nothing, as far as they could not make them
    /// any more: nobody comes back by one of their own.
    async fn revoke_invitations_by(
        &self,
        connection: &mut PgConnection,
        user: UserId,
        role: Option<Role>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Uuid>> {
        let revoked = sqlx::query_scalar!(
            "update invitations set revoked_at = $3, sealed_token = null
             where organization_id = $1 and invited_by = $2 and accepted_at is null and revoked_at is null
                 and not ($4 and (role <> 'owner' or $5))
             returning id",
            self.organization.0,
            user.0,
            now,
            role.is_some_and(|role| role.carries(Scope::MembersWrite)),
            role == Some(Role::Owner)
        );
        Ok(revoked.fetch_all(connection).await?)
    }

    /// What somebody is here, held until the transaction ends; `None` for who is no member.
    async fn role_of(&self, connection: &mut PgConnection, user: UserId) -> Result<Option<String>> {
        let role = sqlx::query_scalar!(
            "select role from memberships where organization_id = $1 and user_id = $2 for update",
            self.organization.0,
            user.0
        );
        Ok(role.fetch_optional(connection).await?)
    }

    async fn belongs(&self, connection: &mut PgConnection, user: UserId) -> Result<bool> {
        let member = sqlx::query_scalar!(
            r#"select exists (select from memberships where organization_id = $1 and user_id = $2) as "member!""#,
            self.organization.0,
            user.0
        )
        .fetch_one(connection)
        .await?;
        Ok(member)
    }
}

struct MemberRow {
    id: Uuid,
    email: Option<String>,
    name: Option<String>,
    role: String,
    created_at: DateTime<Utc>,
}

impl MemberRow {
    fn decode(self) -> Result<Member> {
        let row = Row { table: "memberships", id: self.id };
        Ok(Member {
            role: row.word("role", &self.role, Role::parse)?,
            person: Person { id: self.id.into(), email: self.email, name: self.name },
            created_at: self.created_at,
        })
    }
}

/// Somebody who may have left no trace: a key made by the operator has no creator.
pub(super) fn person(id: Option<Uuid>, email: Option<String>, name: Option<String>) -> Option<Person> {
    id.map(|id| Person { id: id.into(), email, name })
}
