//! Invitations that are to be mailed: taken by whichever notifier comes first, and tried again until they have left.

use chrono::{DateTime, Utc};
use ravenpost_core::access::Role;
use ravenpost_core::ids::InvitationId;
use ravenpost_core::secret::Secret;

use super::System;
use crate::Result;
use crate::decode::{Damaged, Row};
use crate::lease::bounded;

/// An invitation that nobody was told of yet.
#[derive(Debug)]
pub struct DueInvitation {
    /// Its id.
    pub id: InvitationId,
    /// What its organization is called.
    pub organization_name: String,
    /// Whom to tell.
    pub email: String,
    /// As what they are invited.
    pub role: Role,
    /// What they accept it with, or why it can't be read.
    pub token: std::result::Result<Secret, Damaged>,
    /// Who invites, by name or address.
    pub inviter: Option<String>,
    /// Until when it can be accepted.
    pub expires_at: DateTime<Utc>,
}

impl System {
    /// Takes invitations that are to be mailed, at most `limit`, those that have waited longest first. Each is left alone
    /// by everybody else for 15 seconds, and for twice as long with each time that it was taken before, an hour at most.
    pub async fn take_invitations(&self, limit: i64) -> Result<Vec<DueInvitation>> {
        let rows = bounded!(
            self,
            sqlx::query!(
                r#"with due as (
                     select organization_id, id from invitations
                     where sealed_token is not null and send_at <= now() and expires_at > now()
                     order by send_at limit $1 for update skip locked),
                 taken as (
                     update invitations i set attempts = i.attempts + 1,
                         send_at = now() + least(interval '1 hour', interval '15 seconds' * 2 ^ least(i.attempts, 10))
                     from due where i.organization_id = due.organization_id and i.id = due.id
                     returning i.organization_id, i.id, i.email, i.role, i.sealed_token, i.invited_by, i.expires_at)
                 select t.id, o.name as organization_name, t.email, t.role, t.sealed_token as "sealed_token!",
                     coalesce(u.name, u.email) as inviter, t.expires_at
                 from taken t join organizations o on o.id = t.organization_id
                 left join users u on u.id = t.invited_by"#,
                limit
            ),
            fetch_all
        );
        rows.into_iter()
            .map(|found| {
                let row = Row { table: "invitations", id: found.id };
                Ok(DueInvitation {
                    id: found.id.into(),
                    organization_name: found.organization_name,
                    email: found.email,
                    role: row.word("role", &found.role, Role::parse)?,
                    token: self.open(row, "sealed_token", &found.sealed_token, found.id),
                    inviter: found.inviter,
                    expires_at: found.expires_at,
                })
            })
            .collect()
    }

    /// Notes that an invitation was mailed, and forgets its token.
    pub async fn mark_invitation_sent(&self, id: InvitationId) -> Result<()> {
        bounded!(
            self,
            sqlx::query!(
                "update invitations set sent_at = now(), sealed_token = null, send_error = null
                 where id = $1 and sent_at is null",
                id.0
            ),
            execute
        );
        Ok(())
    }

    /// Notes why an invitation was not mailed. Once `given_up` it is not tried again, and its token is forgotten.
    pub async fn mark_invitation_unsent(&self, id: InvitationId, error: &str, given_up: bool) -> Result<()> {
        bounded!(
            self,
            sqlx::query!(
                "update invitations set send_error = $2, sealed_token = case when not $3 then sealed_token end
                 where id = $1 and sent_at is null",
                id.0,
                error,
                given_up
            ),
            execute
        );
        Ok(())
    }

    /// Forgets the tokens of invitations that could not be mailed before they expired. Answers how many.
    pub async fn forget_expired_invitations(&self) -> Result<u64> {
        let done = bounded!(
            self,
            sqlx::query!(
                "update invitations set sealed_token = null, send_error = coalesce(send_error, 'it expired first')
                 where sealed_token is not null and expires_at <= now()"
            ),
            execute
        );
        Ok(done.rows_affected())
    }
}
