//! Invitations: by e-mail, to become a member. The mail is the notifier's to send.

use std::time::Duration;

use axum::Json as Answer;
use axum::extract::{Extension, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_chassis::problem::{Json, Kind, Path, Problem, Query};
use ravenpost_chassis::{clock, random};
use ravenpost_core::access::{Actor, InvitationToken, Role};
use ravenpost_core::duration;
use ravenpost_core::ids::InvitationId;
use ravenpost_store::system::InvitationAccepted;
use ravenpost_store::tenant::{
    Invitation, InvitationRevoked, Invited, MAX_INVITATIONS_A_DAY, Mailing, NewInvitation,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::members::{PersonBody, check_gift, is_owner};
use super::organizations::OrganizationBody;
use super::page::{List, PageQuery, list as listed};
use super::{Api, BASE, Failure, checks};
use crate::auth::{Caller, MembersRead, MembersWrite, Person};
use crate::conventions::origin::Origin;

/// How long an invitation can be accepted unless the request says otherwise, and what it may say.
const LASTS: Duration = Duration::from_hours(24 * 7);
const LASTS_BOUNDS: (Duration, Duration) = (Duration::from_hours(1), Duration::from_hours(24 * 30));

/// The path of one invitation.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct InvitationPath {
    /// The invitation's id.
    invitation_id: InvitationId,
}

/// Whom to invite.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewInvitation)]
pub(super) struct NewInvitationBody {
    /// Their e-mail address. Only who has verified it can accept.
    #[schema(format = Email, example = "ada@example.com")]
    email: String,
    /// What they become. Only an owner invites owners.
    role: Role,
    /// How long they can accept, `1h` to `30d`; `7d` unless given.
    #[schema(example = "7d")]
    expires_in: Option<String>,
}

/// What an invitation is accepted with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = InvitationAcceptance)]
pub(super) struct AcceptanceBody {
    /// The token out of the mail.
    #[schema(example = "rvi_11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")]
    token: String,
}

/// How far the mail of an invitation is.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum MailStatus {
    /// It is about to be sent, or to be sent again.
    Waiting,
    /// The mail server has taken it.
    Sent,
    /// It can't be sent.
    Failed,
}

/// An invitation that was neither accepted nor revoked.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Invitation)]
pub(super) struct InvitationBody {
    /// Its id.
    id: InvitationId,
    /// To whom.
    #[schema(format = Email)]
    email: String,
    /// What they become.
    role: Role,
    /// Who invites; null for a program.
    #[schema(required = true)]
    invited_by: Option<PersonBody>,
    /// When it was made.
    created_at: DateTime<Utc>,
    /// Until when it can be accepted. It is listed after that as well, until it is revoked or made anew.
    expires_at: DateTime<Utc>,
    /// How far its mail is.
    mail: MailStatus,
    /// When the mail has left.
    #[schema(required = true)]
    mailed_at: Option<DateTime<Utc>>,
    /// Why the mail has not left so far.
    #[schema(required = true)]
    mail_error: Option<String>,
}

impl From<Invitation> for InvitationBody {
    fn from(invitation: Invitation) -> Self {
        let (mail, mailed_at, mail_error) = match invitation.mailing {
            Mailing::Waiting(error) => (MailStatus::Waiting, None, error),
            Mailing::Sent(at) => (MailStatus::Sent, Some(at), None),
            Mailing::Failed(error) => (MailStatus::Failed, None, Some(error)),
        };
        Self {
            id: invitation.id,
            email: invitation.email,
            role: invitation.role,
            invited_by: invitation.invited_by.map(PersonBody::from),
            created_at: invitation.created_at,
            expires_at: invitation.expires_at,
            mail,
            mailed_at,
            mail_error,
        }
    }
}

/// List invitations.
#[utoipa::path(get, path = "/invitations", tag = "identity", operation_id = "list_invitations", params(PageQuery),
    responses((status = 200, body = List<InvitationBody>)))]
pub(super) async fn list(
    caller: Caller<MembersRead>,
    Query(query): Query<PageQuery>,
) -> Result<Answer<List<InvitationBody>>, Failure> {
    let invitations = caller.tenant.invitations(query.page()?).await?;
    Ok(Answer(listed(invitations, InvitationBody::from)))
}

/// Invite somebody.
///
/// They get a mail with a link, log in or register with that address, and accept. The token in the link is told to nobody
/// else.
#[utoipa::path(post, path = "/invitations", tag = "identity", operation_id = "create_invitation",
    request_body = NewInvitationBody, responses((status = 201, body = InvitationBody,
        headers(("Location" = String, description = "Its path."))), (status = 409),
        (status = 429, description = "Too many invitations today.")))]
pub(super) async fn create(
    caller: Caller<MembersWrite>,
    Json(body): Json<NewInvitationBody>,
) -> Result<impl IntoResponse, Failure> {
    checks::email("email", &body.email)?;
    let lasts = lasts(body.expires_in.as_deref())?;
    check_gift(&caller.standing, body.role)?;
    let now = clock::now();
    let new = NewInvitation {
        id: InvitationId::new(now, random::bytes()),
        email: &body.email,
        role: body.role,
        token: &InvitationToken::new(random::bytes()),
        nonce: random::bytes(),
        invited_by: caller.user_id(),
        expires_at: now + lasts,
    };
    let invitation = match caller.tenant.invite(&new, now).await? {
        Invited::Invited(invitation) => *invitation,
        refused => return Err(not_invited(&refused, now).into()),
    };
    let location = format!("{BASE}/invitations/{}", invitation.id);
    let body = InvitationBody::from(invitation);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Answer(body)))
}

fn lasts(text: Option<&str>) -> Result<TimeDelta, Problem> {
    let wrong = |message: String| Problem::invalid_field("expires_in", message);
    let lasts = text.map_or(Ok(LASTS), duration::parse).map_err(|error| wrong(error.to_string()))?;
    let (least, most) = LASTS_BOUNDS;
    if !(least..=most).contains(&lasts) {
        return Err(wrong(format!("from {} to {}", duration::format(least), duration::format(most))));
    }
    TimeDelta::from_std(lasts).map_err(|error| wrong(error.to_string()))
}

fn not_invited(refused: &Invited, now: DateTime<Utc>) -> Problem {
    match refused {
        Invited::TooMany(room_at) => {
            let detail = format!(
                "there were {MAX_INVITATIONS_A_DAY} invitations within a day, which is the most: each is a mail to \
                 somebody who has not asked for it"
            );
            let wait = (*room_at - now).to_std().unwrap_or(Duration::from_secs(1));
            Problem::new(Kind::TooManyRequests, detail).retry_after(wait)
        }
        Invited::IsMember => Problem::new(Kind::Conflict, "somebody with this address is a member already"),
        _ => {
            let detail = "this address has an open invitation: revoke it first, to invite anew";
            Problem::new(Kind::Conflict, detail)
        }
    }
}

/// Revoke an invitation.
#[utoipa::path(delete, path = "/invitations/{invitation_id}", tag = "identity", operation_id = "revoke_invitation",
    params(InvitationPath), responses((status = 204)))]
pub(super) async fn revoke(
    caller: Caller<MembersWrite>,
    Path(path): Path<InvitationPath>,
) -> Result<StatusCode, Failure> {
    let owners_too = caller.standing.governs_owners();
    match caller.tenant.revoke_invitation(path.invitation_id, owners_too, clock::now()).await? {
        InvitationRevoked::Revoked => Ok(StatusCode::NO_CONTENT),
        InvitationRevoked::Missing => Err(Problem::not_found("invitation").into()),
        InvitationRevoked::IsOwner => Err(is_owner().into()),
    }
}

/// Accept an invitation.
///
/// As the person who is logged in, with a verified e-mail address that is the invitation's. Who is a member already keeps
/// their role.
#[utoipa::path(post, path = "/invitations/accept", tag = "identity", operation_id = "accept_invitation",
    request_body = AcceptanceBody,
    responses((status = 200, body = OrganizationBody), (status = 404, description = "There is no open invitation with this token.")))]
pub(super) async fn accept(
    State(api): State<Api>,
    person: Person,
    Extension(origin): Extension<Origin>,
    Json(body): Json<AcceptanceBody>,
) -> Result<Answer<OrganizationBody>, Failure> {
    let gone = || {
        Problem::new(
            Kind::NotFound,
            "there is no open invitation with this token: it may have expired, or been revoked or used",
        )
    };
    let token = InvitationToken::parse(&body.token).ok_or_else(gone)?;
    let email = person.email.as_deref().ok_or_else(|| {
        let detail =
            "your e-mail address is not verified, so it can't be told whether the invitation is yours";
        Problem::new(Kind::Forbidden, detail)
    })?;
    let (system, author) = (api.store.system(), origin.author(Actor::User(person.id)));
    let organization = match system.accept_invitation(&token, person.id, email, &author, clock::now()).await?
    {
        InvitationAccepted::Accepted(organization) => organization,
        InvitationAccepted::Missing => return Err(gone().into()),
        InvitationAccepted::OfAnotherAddress => {
            let detail = "the invitation is for another e-mail address than the one you have logged in with";
            return Err(Problem::new(Kind::Forbidden, detail).into());
        }
    };
    api.auth.people().forget(person.id);
    let organizations = system.organizations_of(person.id).await?;
    let joined = organizations.into_iter().find(|found| found.id == organization);
    // Removed again in the same moment.
    Ok(Answer(OrganizationBody::of(joined.ok_or_else(|| Problem::not_found("organization"))?)))
}
