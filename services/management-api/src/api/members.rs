//! Members of the organization, and their roles.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use ravenpost_chassis::clock;
use ravenpost_chassis::problem::{Json, Kind, Path, Problem, Query};
use ravenpost_core::access::Role;
use ravenpost_core::ids::UserId;
use ravenpost_store::tenant::{Member, MemberChanged, MemberRemoved, Person};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::page::{List, PageQuery, list as listed};
use super::{Api, Failure};
use crate::auth::{Caller, MembersRead, MembersWrite, Standing};

/// The path of one member.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct MemberPath {
    /// The person's id.
    user_id: UserId,
}

/// What to make of a member.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MemberChange)]
pub(super) struct MemberChangeBody {
    /// Another role. Only an owner makes owners, or something else of them.
    role: Role,
}

/// Somebody, as far as the organization gets to see them.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Person)]
pub(super) struct PersonBody {
    /// Their id.
    id: UserId,
    /// Their verified e-mail address.
    #[schema(required = true, format = Email)]
    email: Option<String>,
    /// Their name.
    #[schema(required = true)]
    name: Option<String>,
}

impl From<Person> for PersonBody {
    fn from(Person { id, email, name }: Person) -> Self {
        Self { id, email, name }
    }
}

/// A member of the organization.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Member)]
pub(super) struct MemberBody {
    /// Who.
    user: PersonBody,
    /// What they are here.
    role: Role,
    /// Since when.
    created_at: DateTime<Utc>,
}

impl From<Member> for MemberBody {
    fn from(member: Member) -> Self {
        Self { user: member.person.into(), role: member.role, created_at: member.created_at }
    }
}

/// The organization would be without an owner.
pub(super) fn last_owner() -> Problem {
    let detail =
        "an organization keeps an owner, and this is the last one: make somebody else an owner first";
    Problem::new(Kind::Conflict, detail)
}

/// Owners are the business of owners.
pub(super) fn is_owner() -> Problem {
    Problem::new(Kind::Forbidden, "only an owner may do this to an owner")
}

/// Nobody gives what they have not.
pub(super) fn check_gift(standing: &Standing, role: Role) -> Result<(), Problem> {
    if standing.may_give(role) {
        return Ok(());
    }
    let detail = match role {
        Role::Owner => "only an owner makes owners".to_owned(),
        other => format!("the role {} carries scopes that you lack", other.as_str()),
    };
    Err(Problem::new(Kind::Forbidden, detail))
}

/// List members.
#[utoipa::path(get, path = "/members", tag = "identity", operation_id = "list_members", params(PageQuery),
    responses((status = 200, body = List<MemberBody>)))]
pub(super) async fn list(
    caller: Caller<MembersRead>,
    Query(query): Query<PageQuery>,
) -> Result<Answer<List<MemberBody>>, Failure> {
    let members = caller.tenant.members(query.page()?).await?;
    Ok(Answer(listed(members, MemberBody::from)))
}

/// Change a member's role.
///
/// It takes effect everywhere within a second.
#[utoipa::path(patch, path = "/members/{user_id}", tag = "identity", operation_id = "change_member",
    params(MemberPath), request_body = MemberChangeBody,
    responses((status = 200, body = MemberBody), (status = 409)))]
pub(super) async fn change(
    State(api): State<Api>,
    caller: Caller<MembersWrite>,
    Path(path): Path<MemberPath>,
    Json(body): Json<MemberChangeBody>,
) -> Result<Answer<MemberBody>, Failure> {
    if let Err(problem) = check_gift(&caller.standing, body.role) {
        // Of a stranger it is not told what they could not be made.
        let member = caller.tenant.is_member(path.user_id).await?;
        return Err(if member { problem } else { Problem::not_found("member") }.into());
    }
    let owners_too = caller.standing.governs_owners();
    let changed = caller.tenant.change_role(path.user_id, body.role, owners_too, clock::now()).await?;
    api.auth.people().forget(path.user_id);
    match changed {
        MemberChanged::Changed(member) => Ok(Answer(member.into())),
        MemberChanged::IsOwner => Err(is_owner().into()),
        MemberChanged::LastOwner => Err(last_owner().into()),
        MemberChanged::Missing => Err(Problem::not_found("member").into()),
    }
}

/// Remove a member.
///
/// They lose all access within a second. API keys that they have made go on working: revoke those too, if need be.
#[utoipa::path(delete, path = "/members/{user_id}", tag = "identity", operation_id = "remove_member",
    params(MemberPath), responses((status = 204), (status = 409)))]
pub(super) async fn remove(
    State(api): State<Api>,
    caller: Caller<MembersWrite>,
    Path(path): Path<MemberPath>,
) -> Result<StatusCode, Failure> {
    let owners_too = caller.standing.governs_owners();
    let removed = caller.tenant.remove_member(path.user_id, owners_too, clock::now()).await?;
    api.auth.people().forget(path.user_id);
    match removed {
        MemberRemoved::Removed => Ok(StatusCode::NO_CONTENT),
        MemberRemoved::Missing => Err(Problem::not_found("member").into()),
        MemberRemoved::IsOwner => Err(is_owner().into()),
        MemberRemoved::LastOwner => Err(last_owner().into()),
    }
}
