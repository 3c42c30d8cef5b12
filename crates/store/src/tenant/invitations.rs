//! Invitations: made and revoked here, mailed by the notifier, accepted by the person.

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_core::access::{InvitationToken, Role};
use ravenpost_core::audit::Action;
use ravenpost_core::ids::{InvitationId, UserId};
use ravenpost_core::secret::Secret;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::members::{Person, person};
use super::{Listed, Page, Tenant, ToSeal};
use crate::Result;
use crate::audit::Entry;
use crate::decode::Row;

/// The constraint that keeps an address from being invited twice.
const OPEN: &str = "invitations_open";
/// Most invitations of an organization in a day, revoked ones too: each is a mail to somebody who has not asked for it.
pub const MAX_INVITATIONS_A_DAY: i64 = 100;

/// An invitation to be made.
#[derive(Debug)]
pub struct NewInvitation<'a> {
    /// Its id.
    pub id: InvitationId,
    /// To whom.
    pub email: &'a str,
    /// As what.
    pub role: Role,
    /// What it is accepted with; sealed until it has been mailed, and after that only its hash is kept.
    pub token: &'a InvitationToken,
    /// Fresh random bytes to seal it with.
    pub nonce: [u8; 12],
    /// Who invites; `None` for a program.
    pub invited_by: Option<UserId>,
    /// Until when it can be accepted.
    pub expires_at: DateTime<Utc>,
}

/// How far the mail is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mailing {
    /// It will be sent; why it was not so far.
    Waiting(Option<String>),
    /// It has left.
    Sent(DateTime<Utc>),
    /// It can't be sent, and why.
    Failed(String),
}

/// An invitation that was neither accepted nor revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Its id.
    pub id: InvitationId,
    /// To whom.
    pub email: String,
    /// As what.
    pub role: Role,
    /// Who invites; `None` for a program.
    pub invited_by: Option<Person>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Until when it can be accepted.
    pub expires_at: DateTime<Utc>,
    /// How far the mail is.
    pub mailing: Mailing,
}

/// What became of an invitation to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invited {
    /// Made; it will be mailed.
    Invited(Box<Invitation>),
    /// There is an open one for the address.
    Already,
    /// Whose address it is is a member.
    IsMember,
    /// There were [`MAX_INVITATIONS_A_DAY`]; when there is room again.
    TooMany(DateTime<Utc>),
}

/// What became of an invitation to be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvitationRevoked {
    /// It can't be accepted any more.
    Revoked,
    /// There is no open one.
    Missing,
    /// It is for an owner, who is not the asker's to touch.
    IsOwner,
}

impl Tenant {
    /// Invites somebody. An invitation of theirs that has expired is replaced.
    pub async fn invite(&self, new: &NewInvitation<'_>, now: DateTime<Utc>) -> Result<Invited> {
        let mut transaction = self.begin_change().await?;
        self.one_at_a_time(&mut transaction, "invitations").await?;
        if let Some(refused) = self.not_to_invite(&mut transaction, new.email, now).await? {
            return Ok(refused);
        }
        sqlx::query!(
            "update invitations set revoked_at = $3, sealed_token = null
             where organization_id = $1 and lower(email) = lower($2) and accepted_at is null and revoked_at is null
                 and expires_at <= $3",
            self.organization.0,
            new.email,
            now
        )
        .execute(&mut *transaction)
        .await?;
        match self.insert_invitation(&mut transaction, new, now).await {
            Ok(()) => {}
            Err(error) if error.constraint() == Some(OPEN) => return Ok(Invited::Already),
            Err(error) => return Err(error),
        }
        let row = sqlx::query_as!(
            InvitationRow,
            r#"select i.id, i.email, i.role, u.id as "inviter?", u.email as inviter_email, u.name as inviter_name,
                 i.created_at, i.expires_at, i.sent_at, i.send_error, i.sealed_token is not null as "waiting!"
             from invitations i left join users u on u.id = i.invited_by
             where i.organization_id = $1 and i.id = $2"#,
            self.organization.0,
            new.id.0
        )
        .fetch_one(&mut *transaction)
        .await?;
        let told = json!({ "email": new.email, "role": new.role.as_str(), "expires_at": new.expires_at });
        transaction.commit(&Entry::of(Action::InvitationCreated, new.id).after(told), now).await?;
        Ok(Invited::Invited(Box::new(row.decode()?)))
    }

    async fn not_to_invite(
        &self,
        connection: &mut PgConnection,
        email: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Invited>> {
        let day = TimeDelta::days(1);
        let of_today = sqlx::query!(
            r#"select count(*) as "count!", min(created_at) as first,
                 exists (select from memberships m join users u on u.id = m.user_id
                     where m.organization_id = $1 and lower(u.email) = lower($2)) as "is_member!"
             from invitations where organization_id = $1 and created_at > $3"#,
            self.organization.0,
            email,
            now - day
        )
        .fetch_one(connection)
        .await?;
        if of_today.is_member {
            return Ok(Some(Invited::IsMember));
        }
        let room_at = of_today.first.unwrap_or(now) + day;
        Ok((of_today.count >= MAX_INVITATIONS_A_DAY).then_some(Invited::TooMany(room_at)))
    }

    async fn insert_invitation(
        &self,
        connection: &mut PgConnection,
        new: &NewInvitation<'_>,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let token = Secret::new(new.token.reveal());
        let sealed = self.seal(ToSeal { secret: &token, nonce: new.nonce }, new.id.0)?;
        sqlx::query!(
            "insert into invitations (organization_id, id, email, role, token_hash, sealed_token, invited_by,
                 created_at, expires_at, send_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $8)",
            self.organization.0,
            new.id.0,
            new.email,
            new.role.as_str(),
            &new.token.hash()[..],
            sealed,
            new.invited_by.map(|user| user.0),
            now,
            new.expires_at
        )
        .execute(connection)
        .await?;
        Ok(())
    }

    /// The invitations that were neither accepted nor revoked, newest first; also those that have expired.
    pub async fn invitations(&self, page: Page) -> Result<Listed<Invitation>> {
        let mut transaction = self.begin().await?;
        let rows = sqlx::query_as!(
            InvitationRow,
            r#"select i.id, i.email, i.role, u.id as "inviter?", u.email as inviter_email, u.name as inviter_name,
                 i.created_at, i.expires_at, i.sent_at, i.send_error, i.sealed_token is not null as "waiting!"
             from invitations i left join users u on u.id = i.invited_by
             where i.organization_id = $1 and i.id < $2 and i.accepted_at is null and i.revoked_at is null
             order by i.id desc limit $3"#,
            self.organization.0,
            page.below(),
            page.to_read()
        )
        .fetch_all(&mut *transaction)
        .await?;
        let invitations = rows.into_iter().map(InvitationRow::decode).collect::<Result<_>>()?;
        Ok(page.cut(invitations, |invitation: &Invitation| invitation.id.0))
    }

    /// Takes an invitation back. One for an owner is touched only when `owners_too`.
    pub async fn revoke_invitation(
        &self,
        id: InvitationId,
        owners_too: bool,
        now: DateTime<Utc>,
    ) -> Result<InvitationRevoked> {
        let mut transaction = self.begin_change().await?;
        let open = sqlx::query!(
            "select email, role from invitations where organization_id = $1 and id = $2 and accepted_at is null
                 and revoked_at is null for update",
            self.organization.0,
            id.0
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(open) = open else { return Ok(InvitationRevoked::Missing) };
        if open.role == Role::Owner.as_str() && !owners_too {
            return Ok(InvitationRevoked::IsOwner);
        }
        sqlx::query!(
            "update invitations set revoked_at = $3, sealed_token = null where organization_id = $1 and id = $2",
            self.organization.0,
            id.0,
            now
        )
        .execute(&mut *transaction)
        .await?;
        let before = json!({ "email": open.email, "role": open.role });
        transaction.commit(&Entry::of(Action::InvitationRevoked, id).before(before), now).await?;
        Ok(InvitationRevoked::Revoked)
    }
}

struct InvitationRow {
    id: Uuid,
    email: String,
    role: String,
    inviter: Option<Uuid>,
    inviter_email: Option<String>,
    inviter_name: Option<String>,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    sent_at: Option<DateTime<Utc>>,
    send_error: Option<String>,
    waiting: bool,
}

impl InvitationRow {
    fn decode(self) -> Result<Invitation> {
        let row = Row { table: "invitations", id: self.id };
        let mailing = match (self.sent_at, self.waiting) {
            (Some(sent_at), _) => Mailing::Sent(sent_at),
            (None, true) => Mailing::Waiting(self.send_error),
            (None, false) => Mailing::Failed(self.send_error.unwrap_or_default()),
        };
        Ok(Invitation {
            id: self.id.into(),
            role: row.word("role", &self.role, Role::parse)?,
            email: self.email,
            invited_by: person(self.inviter, self.inviter_email, self.inviter_name),
            created_at: self.created_at,
            expires_at: self.expires_at,
            mailing,
        })
    }
}
