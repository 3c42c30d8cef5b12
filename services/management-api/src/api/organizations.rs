//! Organizations: those of the caller, by their id in the path.
//!
//! There is no operation that deletes one: what it has received is kept as long as its endpoints have promised, and goes
//! with its days. An organization that nobody wants any more has its endpoints deleted and its keys revoked, and then
//! costs nothing.

use axum::Json as Answer;
use axum::extract::{Extension, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use ravenpost_chassis::problem::{Json, Kind, Path, Problem};
use ravenpost_chassis::{clock, random};
use ravenpost_core::access::{Actor, Role};
use ravenpost_core::audit::Author;
use ravenpost_core::ids::OrganizationId;
use ravenpost_store::system::{MAX_ORGANIZATIONS, NewOrganization, OrganizationOf};
use ravenpost_store::tenant::{MemberRemoved, Organization};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::body::given;
use super::members::last_owner;
use super::page::{List, all};
use super::{Api, BASE, Failure, checks};
use crate::auth::{Caller, Identity, Known, OrganizationRead, OrganizationWrite, Person};
use crate::conventions::origin::Origin;

/// The path of one organization.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OrganizationPath {
    /// The organization's id.
    organization_id: OrganizationId,
}

/// What an organization is called.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewOrganization)]
pub(super) struct NewOrganizationBody {
    /// 1 to 200 characters.
    #[schema(example = "Acme")]
    name: String,
}

/// What to change of an organization.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = OrganizationChange)]
pub(super) struct OrganizationChangeBody {
    /// Another name.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = String, example = "Acme")]
    name: Option<String>,
}

/// The tenant: whose endpoints, events and members these are.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Organization)]
pub(super) struct OrganizationBody {
    /// Its id.
    id: OrganizationId,
    /// Its name.
    name: String,
    /// When it was made.
    created_at: DateTime<Utc>,
    /// The caller's role in it; null for a program.
    #[schema(required = true)]
    role: Option<Role>,
}

impl OrganizationBody {
    fn new(organization: Organization, role: Option<Role>) -> Self {
        let Organization { id, name, created_at, .. } = organization;
        Self { id, name, created_at, role }
    }

    pub(super) fn of(organization: OrganizationOf) -> Self {
        let OrganizationOf { id, name, created_at, role } = organization;
        Self { id, name, created_at, role: Some(role) }
    }
}

/// List your organizations.
///
/// A program has one. All are on one page.
#[utoipa::path(get, path = "/organizations", tag = "identity", operation_id = "list_organizations",
    responses((status = 200, body = List<OrganizationBody>)))]
pub(super) async fn list(
    State(api): State<Api>,
    Known(identity): Known,
) -> Result<Answer<List<OrganizationBody>>, Failure> {
    Ok(Answer(match identity {
        Identity::Person(person) => {
            let organizations = api.store.system().organizations_of(person.id).await?;
            all(organizations.into_iter().map(OrganizationBody::of))
        }
        Identity::Program(key) => {
            let organization = api.store.tenant(key.organization_id, Author::SYSTEM).organization().await?;
            all(organization.into_iter().map(|organization| OrganizationBody::new(organization, None)))
        }
    }))
}

/// Create an organization.
///
/// You become its owner.
#[utoipa::path(post, path = "/organizations", tag = "identity", operation_id = "create_organization",
    request_body = NewOrganizationBody, responses((status = 201, body = OrganizationBody,
        headers(("Location" = String, description = "Its path."))), (status = 409)))]
pub(super) async fn create(
    State(api): State<Api>,
    person: Person,
    Extension(origin): Extension<Origin>,
    Json(body): Json<NewOrganizationBody>,
) -> Result<impl IntoResponse, Failure> {
    let name = checks::name("name", &body.name)?;
    let now = clock::now();
    let new = NewOrganization { id: OrganizationId::new(now, random::bytes()), name };
    let author = origin.author(Actor::User(person.id));
    if !api.store.system().create_organization(person.id, &new, &author, now).await? {
        let detail = format!("you are a member of {MAX_ORGANIZATIONS} organizations, which is the most");
        return Err(Problem::new(Kind::Conflict, detail).into());
    }
    api.auth.people().forget(person.id);
    let location = format!("{BASE}/organizations/{}", new.id);
    let body = OrganizationBody { id: new.id, name: body.name, created_at: now, role: Some(Role::Owner) };
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Answer(body)))
}

/// See an organization.
#[utoipa::path(get, path = "/organizations/{organization_id}", tag = "identity", operation_id = "get_organization",
    params(OrganizationPath), responses((status = 200, body = OrganizationBody)))]
pub(super) async fn get(
    caller: Caller<OrganizationRead>,
    Path(path): Path<OrganizationPath>,
) -> Result<Answer<OrganizationBody>, Failure> {
    let found = caller.tenant.organization().await?.filter(|found| found.id == path.organization_id);
    let found = found.ok_or_else(|| Problem::not_found("organization"))?;
    Ok(Answer(OrganizationBody::new(found, caller.standing.role())))
}

/// Rename an organization.
#[utoipa::path(patch, path = "/organizations/{organization_id}", tag = "identity",
    operation_id = "change_organization", params(OrganizationPath), request_body = OrganizationChangeBody,
    responses((status = 200, body = OrganizationBody)))]
pub(super) async fn change(
    caller: Caller<OrganizationWrite>,
    _path: Path<OrganizationPath>,
    Json(body): Json<OrganizationChangeBody>,
) -> Result<Answer<OrganizationBody>, Failure> {
    let changed = match &body.name {
        Some(name) => {
            let name = checks::name("name", name)?;
            caller.tenant.rename_organization(name, clock::now()).await?
        }
        None => caller.tenant.organization().await?,
    };
    let changed = changed.ok_or_else(|| Problem::not_found("organization"))?;
    Ok(Answer(OrganizationBody::new(changed, caller.standing.role())))
}

/// Leave an organization.
///
/// The last owner can't leave: make somebody else an owner first. API keys that you have made go on working.
#[utoipa::path(post, path = "/organizations/{organization_id}/leave", tag = "identity",
    operation_id = "leave_organization", params(OrganizationPath),
    responses((status = 204), (status = 409)))]
pub(super) async fn leave(
    State(api): State<Api>,
    person: Person,
    Extension(origin): Extension<Origin>,
    Path(path): Path<OrganizationPath>,
) -> Result<StatusCode, Failure> {
    let tenant = api.store.tenant(path.organization_id, origin.author(Actor::User(person.id)));
    let left = tenant.remove_member(person.id, true, clock::now()).await?;
    api.auth.people().forget(person.id);
    match left {
        MemberRemoved::Removed => Ok(StatusCode::NO_CONTENT),
        MemberRemoved::LastOwner => Err(last_owner().into()),
        // `IsOwner` is said only to those who may not touch owners.
        MemberRemoved::Missing | MemberRemoved::IsOwner => Err(Problem::not_found("organization").into()),
    }
}
