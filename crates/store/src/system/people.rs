//! People: who logs in, what they are members of, and how they become so. What is asked here is a person's own business,
//! over all organizations.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use ravenpost_core::access::{InvitationToken, Role};
use ravenpost_core::audit::Author;
use ravenpost_core::ids::{OrganizationId, UserId};

use super::System;
use crate::decode::Row;
use crate::error::POSTGRES;
use crate::lease::bounded;
use crate::{Error, Result};

/// Most organizations of a person that one can be added to by themselves.
pub const MAX_ORGANIZATIONS: i64 = 50;

/// Somebody whom an issuer vouches for.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    /// The issuer (OpenID Connect Core, `iss`).
    pub issuer: &'a str,
    /// Who they are there (`sub`).
    pub subject: &'a str,
    /// The e-mail address, if it is verified.
    pub email: Option<&'a str>,
    /// Their name.
    pub name: Option<&'a str>,
}

/// An organization to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewOrganization<'a> {
    /// Its id.
    pub id: OrganizationId,
    /// Its name.
    pub name: &'a str,
}

/// What a person is in an organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    /// Which organization.
    pub organization_id: OrganizationId,
    /// As what.
    pub role: Role,
}

/// An organization as one of its members lists it.
#[derive(Debug, Clone)]
pub struct OrganizationOf {
    /// Its id.
    pub id: OrganizationId,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// What the person is there.
    pub role: Role,
}

/// What became of an invitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvitationAccepted {
    /// The person is a member of this organization now.
    Accepted(OrganizationId),
    /// There is no open invitation with this token.
    Missing,
    /// There is one, for another address.
    OfAnotherAddress,
}

impl System {
    /// The person who logs in, made when they are new, with a first organization that they own and a channel to their
    /// address, so that somebody hears of its alerts. However many requests of a new person come at once, one of each is
    /// made.
    pub async fn sign_in(
        &self,
        login: &Login<'_>,
        id: UserId,
        first: &NewOrganization<'_>,
        address: Option<IpAddr>,
        now: DateTime<Utc>,
    ) -> Result<UserId> {
        if let Some(known) = self.recognised(login, now).await? {
            return Ok(known);
        }
        let made = bounded!(
            self,
            sqlx::query!(
                "with person as (
                     insert into users (id, issuer, subject, email, name, created_at, updated_at)
                     values ($1, $2, $3, $4, $5, $8, $8) on conflict (issuer, subject) do nothing returning id),
                 organization as (
                     insert into organizations (id, name, created_at, updated_at) select $6, $7, $8, $8 from person
                     returning id),
                 membership as (
                     insert into memberships (organization_id, user_id, role, created_at, updated_at)
                     select organization.id, person.id, 'owner', $8, $8 from organization, person),
                 channel as (
                     insert into channels (organization_id, id, type, address, name, created_at)
                     select id, uuidv7(), 'email', $4::text, 'Owner', $8 from organization where $4::text is not null)
                 select person.id, append_audit(organization.id, $8, 'user', person.id, $9, 'organization.created',
                     organization.id, null, json_build_object('name', $7::text, 'channel', $4::text)) as \"sequence!\"
                 from person, organization",
                id.0,
                login.issuer,
                login.subject,
                login.email,
                login.name,
                first.id.0,
                first.name,
                now,
                address.map(|address| address.to_string())
            ),
            fetch_optional
        );
        match made {
            Some(made) => Ok(made.id.into()),
            // Made by another request, whose commit was waited for.
            None => self.recognised(login, now).await?.ok_or_else(|| Error::Refused {
                store: POSTGRES,
                cause: "a person who was there a moment ago is gone".into(),
            }),
        }
    }

    /// A person who has logged in before, with what the issuer tells of them today.
    async fn recognised(&self, login: &Login<'_>, now: DateTime<Utc>) -> Result<Option<UserId>> {
        let found = bounded!(
            self,
            sqlx::query!(
                "select id, email, name from users where issuer = $1 and subject = $2",
                login.issuer,
                login.subject
            ),
            fetch_optional
        );
        let Some(found) = found else { return Ok(None) };
        if found.email.as_deref() != login.email || found.name.as_deref() != login.name {
            bounded!(
                self,
                sqlx::query!(
                    "update users set email = $2, name = $3, updated_at = $4 where id = $1",
                    found.id,
                    login.email,
                    login.name,
                    now
                ),
                execute
            );
        }
        Ok(Some(found.id.into()))
    }

    /// What a person is a member of.
    pub async fn memberships(&self, user: UserId) -> Result<Vec<Membership>> {
        let rows = bounded!(
            self,
            sqlx::query!(
                "select organization_id, role from memberships where user_id = $1 order by organization_id",
                user.0
            ),
            fetch_all
        );
        rows.into_iter()
            .map(|found| {
                let row = Row { table: "memberships", id: user.0 };
                let role = row.word("role", &found.role, Role::parse)?;
                Ok(Membership { organization_id: found.organization_id.into(), role })
            })
            .collect()
    }

    /// The organizations of a person, newest first.
    pub async fn organizations_of(&self, user: UserId) -> Result<Vec<OrganizationOf>> {
        let rows = bounded!(
            self,
            sqlx::query!(
                "select o.id, o.name, o.created_at, m.role from memberships m
                 join organizations o on o.id = m.organization_id where m.user_id = $1 order by o.id desc",
                user.0
            ),
            fetch_all
        );
        rows.into_iter()
            .map(|found| {
                let row = Row { table: "memberships", id: user.0 };
                Ok(OrganizationOf {
                    id: found.id.into(),
                    name: found.name,
                    created_at: found.created_at,
                    role: row.word("role", &found.role, Role::parse)?,
                })
            })
            .collect()
    }

    /// Makes one more organization, which the person owns, with a channel to their address; `false` when they have [`MAX_ORGANIZATIONS`] already.
    pub async fn create_organization(
        &self,
        owner: UserId,
        new: &NewOrganization<'_>,
        author: &Author,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let made = bounded!(
            self,
            sqlx::query!(
                "with organization as (
                     insert into organizations (id, name, created_at, updated_at)
                     select $2, $3, $4, $4 where (select count(*) from memberships where user_id = $1) < $5
                     returning id),
                 membership as (
                     insert into memberships (organization_id, user_id, role, created_at, updated_at)
                     select id, $1, 'owner', $4, $4 from organization),
                 owner as (select email from users where id = $1),
                 channel as (
                     insert into channels (organization_id, id, type, address, name, created_at)
                     select id, uuidv7(), 'email', email, 'Owner', $4 from organization, owner where email is not null)
                 select append_audit(id, $4, 'user', $1, $6, 'organization.created', id, null,
                     json_build_object('name', $3::text, 'channel', email)) as \"sequence!\", carry_out($7) is null as carried
                 from organization, owner",
                owner.0,
                new.id.0,
                new.name,
                now,
                MAX_ORGANIZATIONS,
                author.address.map(|address| address.to_string()),
                author.request
            ),
            fetch_optional
        );
        Ok(made.is_some())
    }

    /// Makes the person a member by an invitation to their verified address. Who is one already keeps their role.
    pub async fn accept_invitation(
        &self,
        token: &InvitationToken,
        user: UserId,
        email: &str,
        author: &Author,
        now: DateTime<Utc>,
    ) -> Result<InvitationAccepted> {
        let hash = token.hash();
        let accepted = bounded!(
            self,
            sqlx::query!(
                "with accepted as (
                     update invitations set accepted_at = $4, accepted_by = $2, sealed_token = null
                     where token_hash = $1 and accepted_at is null and revoked_at is null and expires_at > $4
                         and lower(email) = lower($3)
                     returning organization_id, id, role),
                 member as (
                     insert into memberships (organization_id, user_id, role, created_at, updated_at)
                     select organization_id, $2, role, $4, $4 from accepted
                     on conflict (organization_id, user_id) do nothing returning role)
                 select organization_id, append_audit(organization_id, $4, 'user', $2, $5, 'invitation.accepted', id,
                     null, json_build_object('user_id', $2, 'role', m.role, 'already_member', m.role is null))
                     as \"sequence!\", carry_out($6) is null as carried
                 from accepted left join member m on true",
                &hash[..],
                user.0,
                email,
                now,
                author.address.map(|address| address.to_string()),
                author.request
            ),
            fetch_optional
        );
        if let Some(accepted) = accepted {
            return Ok(InvitationAccepted::Accepted(accepted.organization_id.into()));
        }
        let open = bounded!(
            self,
            sqlx::query_scalar!(
                r#"select exists (select from invitations where token_hash = $1 and accepted_at is null
                       and revoked_at is null and expires_at > $2) as "open!""#,
                &hash[..],
                now
            ),
            fetch_one
        );
        Ok(if open { InvitationAccepted::OfAnotherAddress } else { InvitationAccepted::Missing })
    }
}
