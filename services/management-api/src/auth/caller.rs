//! The caller, with the right that a handler needs as a type in its signature, and what the table of operations demands.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, RawPathParams};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use chrono::{DateTime, Utc};
use ravenpost_chassis::problem::{Kind, Problem};
use ravenpost_core::access::{Actor, Demand, Role, Scope, demand_of};
use ravenpost_core::ids::{OrganizationId, UserId};
use ravenpost_store::Tenant;
use ravenpost_store::system::ApiKeyRecord;
use utoipa::openapi::OpenApi;

use super::{Identity, Person};
use crate::api::{Api, Failure};
use crate::conventions::origin::Origin;

/// Which of their organizations a person means, by its id. A program's key says so by itself.
pub const ORGANIZATION_HEADER: &str = "Ravenpost-Organization";
/// The path parameter that says so where the organization is what a path is about.
const ORGANIZATION_PARAMETER: &str = "organization_id";

/// A right as a type.
pub trait Right: Send + Sync + 'static {
    /// The scope that grants it.
    const SCOPE: Scope;
}

macro_rules! rights {
    ($($name:ident)+) => {
        $(
            #[doc = concat!("See [`Scope::", stringify!($name), "`].")]
            #[derive(Debug, Clone, Copy)]
            pub struct $name;

            impl Right for $name {
                const SCOPE: Scope = Scope::$name;
            }
        )+
    };
}

rights! {
    OrganizationRead OrganizationWrite MembersRead MembersWrite ApiKeysRead ApiKeysWrite
    EndpointsRead EndpointsWrite EventsRead EventsReplay AlertsRead AlertsWrite AuditRead
}

/// What each route demands, by method and path: the table of `ravenpost_core::access`, joined by the document.
#[derive(Debug, Clone, Default)]
pub(crate) struct Demands(Arc<HashMap<(Method, String), Demand>>);

/// The demands of every operation of a document that has a row in the table.
pub fn demands(document: &OpenApi) -> HashMap<(Method, String), Demand> {
    let mut demands = HashMap::new();
    for (path, item) in &document.paths.paths {
        let operations = [
            (Method::GET, &item.get),
            (Method::POST, &item.post),
            (Method::PUT, &item.put),
            (Method::PATCH, &item.patch),
            (Method::DELETE, &item.delete),
        ];
        for (method, operation) in operations {
            let id = operation.as_ref().and_then(|operation| operation.operation_id.as_deref());
            if let Some(demand) = id.and_then(demand_of) {
                demands.insert((method, path.clone()), demand);
            }
        }
    }
    demands
}

impl Demands {
    pub(crate) fn of(document: &OpenApi) -> Self {
        Self(Arc::new(demands(document)))
    }

    /// What the route of a request demands; a fault of ours when nothing is said of it, and then nobody may.
    fn of_request(&self, parts: &Parts) -> Result<Demand, Failure> {
        let path = parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
        // What answers GET answers HEAD.
        let method = if parts.method == Method::HEAD { &Method::GET } else { &parts.method };
        let demand = self.0.get(&(method.clone(), path.to_owned())).copied();
        demand.ok_or_else(|| fault(format!("{method} {path} is not in the table of operations")))
    }
}

fn fault(what: String) -> Failure {
    Problem::internal(&std::io::Error::other(what)).into()
}

/// What somebody may do in an organization, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// By an API key's scopes.
    Scopes(Vec<Scope>),
    /// By their role.
    Role(Role),
}

impl Standing {
    /// Whether it brings a scope.
    pub fn carries(&self, scope: Scope) -> bool {
        match self {
            Self::Scopes(scopes) => scopes.contains(&scope),
            Self::Role(role) => role.carries(scope),
        }
    }

    /// All scopes that it brings.
    pub fn scopes(&self) -> Vec<Scope> {
        Scope::ALL.iter().copied().filter(|scope| self.carries(*scope)).collect()
    }

    /// The role; a program has none.
    pub fn role(&self) -> Option<Role> {
        match self {
            Self::Scopes(_) => None,
            Self::Role(role) => Some(*role),
        }
    }

    /// Whether owners are the caller's to touch. A program never acts for an owner.
    pub fn governs_owners(&self) -> bool {
        self.role() == Some(Role::Owner)
    }

    /// Whether the caller may make somebody that: nobody gives what they have not.
    pub fn may_give(&self, role: Role) -> bool {
        let governs = role != Role::Owner || self.governs_owners();
        governs && role.scopes().into_iter().all(|scope| self.carries(scope))
    }

    fn lacks(&self, scope: Scope) -> Problem {
        let who = match self {
            Self::Scopes(_) => "the API key lacks".to_owned(),
            Self::Role(role) => format!("the role {} does not carry", role.as_str()),
        };
        Problem::new(Kind::Forbidden, format!("{who} the scope {}", scope.as_str()))
    }
}

/// Somebody who has proven to have the right `R`, and all that they can reach: one organization.
pub struct Caller<R> {
    /// The organization's rows.
    pub tenant: Tenant,
    /// Who they are.
    pub actor: Actor,
    /// By what they may.
    pub standing: Standing,
    /// Until when they are believed, if that is known: an API key's end.
    pub until: Option<DateTime<Utc>>,
    right: PhantomData<R>,
}

impl<R> Caller<R> {
    /// The person, if it is one.
    pub fn user_id(&self) -> Option<UserId> {
        match self.actor {
            Actor::User(id) => Some(id),
            Actor::ApiKey(_) => None,
        }
    }
}

impl<R: Right> FromRequestParts<Api> for Caller<R> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Failure> {
        // The table says what is demanded, the handler's type what it was written for: both, or nobody may.
        let demand = api.demands.of_request(parts)?;
        if demand != Demand::Scope(R::SCOPE) {
            return Err(fault(format!("a handler wants {:?} where the table demands {demand:?}", R::SCOPE)));
        }
        let identity = Identity::of(parts, api).await?;
        let (organization, actor, standing) = belonging(&identity, parts, api).await?;
        if !standing.carries(R::SCOPE) {
            return Err(standing.lacks(R::SCOPE).into());
        }
        let tenant = api.store.tenant(organization, Origin::of(&parts.extensions).author(actor));
        let until = match &identity {
            Identity::Program(key) => key.expires_at,
            Identity::Person(_) => None,
        };
        Ok(Self { tenant, actor, standing, until, right: PhantomData })
    }
}

/// The organization of a request that is about one, and what its sender is there, who may do what it asks for; `None`
/// when it is about none.
pub(crate) async fn admitted(
    identity: &Identity,
    parts: &mut Parts,
    api: &Api,
) -> Result<Option<Admitted>, Failure> {
    match api.demands.of_request(parts)? {
        Demand::Scope(scope) => {
            let admitted = belonging(identity, parts, api).await?;
            if admitted.2.carries(scope) { Ok(Some(admitted)) } else { Err(admitted.2.lacks(scope).into()) }
        }
        Demand::Known | Demand::Person => Ok(None),
    }
}

async fn belonging(identity: &Identity, parts: &mut Parts, api: &Api) -> Result<Admitted, Failure> {
    let named = Named::by(parts, api).await?;
    match identity {
        Identity::Program(key) => of_program(key, named),
        Identity::Person(person) => of_person(person, named, api).await,
    }
}

/// How a request says which organization it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    /// By its path.
    Path(OrganizationId),
    /// By the header.
    Header(OrganizationId),
    Not,
}

impl Named {
    async fn by(parts: &mut Parts, api: &Api) -> Result<Self, Failure> {
        let parameters = RawPathParams::from_request_parts(parts, api).await;
        let of_path = parameters.iter().flatten().find(|(name, _)| *name == ORGANIZATION_PARAMETER);
        if let Some((name, id)) = of_path {
            return Ok(Self::Path(parsed(name, Some(id))?));
        }
        Self::by_header(&parts.headers)
    }

    fn by_header(headers: &HeaderMap) -> Result<Self, Failure> {
        let mut values = headers.get_all(ORGANIZATION_HEADER).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(Self::Not),
            (Some(id), None) => Ok(Self::Header(parsed(ORGANIZATION_HEADER, id.to_str().ok())?)),
            (Some(_), Some(_)) => {
                Err(Problem::invalid_parameter(ORGANIZATION_HEADER, "given more than once").into())
            }
        }
    }

    fn id(self) -> Option<OrganizationId> {
        match self {
            Self::Path(id) | Self::Header(id) => Some(id),
            Self::Not => None,
        }
    }

    /// Not one of the caller's. Whether it exists is not told.
    fn refused(self) -> Failure {
        if matches!(self, Self::Path(_)) {
            return Problem::not_found("organization").into();
        }
        let detail = format!("the caller does not belong to the organization in {ORGANIZATION_HEADER}");
        Problem::new(Kind::Forbidden, detail).into()
    }
}

fn parsed(name: &str, id: Option<&str>) -> Result<OrganizationId, Problem> {
    let id = id.and_then(|id| id.parse().ok());
    id.ok_or_else(|| Problem::invalid_parameter(name, "it is not a valid UUID"))
}

pub(crate) type Admitted = (OrganizationId, Actor, Standing);

fn of_program(key: &ApiKeyRecord, named: Named) -> Result<Admitted, Failure> {
    if named.id().is_some_and(|id| id != key.organization_id) {
        return Err(named.refused());
    }
    Ok((key.organization_id, Actor::ApiKey(key.id), Standing::Scopes(key.scopes.clone())))
}

async fn of_person(person: &Person, named: Named, api: &Api) -> Result<Admitted, Failure> {
    let pick = |memberships: &[ravenpost_store::system::Membership]| match named.id() {
        Some(id) => memberships.iter().find(|membership| membership.organization_id == id).copied(),
        None if memberships.len() == 1 => memberships.first().copied(),
        None => None,
    };
    let mut picked = pick(&person.memberships);
    let mut count = person.memberships.len();
    if picked.is_none() && (named != Named::Not || count == 0) {
        // They may have become a member by another replica a moment ago.
        let memberships = api.auth.people().memberships_now(person.id).await?;
        (picked, count) = (pick(&memberships), memberships.len());
    }
    match (picked, named) {
        (Some(membership), _) => {
            Ok((membership.organization_id, Actor::User(person.id), Standing::Role(membership.role)))
        }
        (None, Named::Not) => Err(unnamed(count).into()),
        (None, named) => Err(named.refused()),
    }
}

fn unnamed(memberships: usize) -> Problem {
    if memberships == 0 {
        let detail = "you are a member of no organization: create one, or accept an invitation";
        return Problem::new(Kind::Forbidden, detail);
    }
    let detail = format!(
        "you are a member of {memberships} organizations: name the one you mean in {ORGANIZATION_HEADER}"
    );
    Problem::new(Kind::OrganizationRequired, detail)
}

/// Somebody who is known, whatever they may: for what is about themselves.
pub struct Known(pub Identity);

impl FromRequestParts<Api> for Known {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Failure> {
        match api.demands.of_request(parts)? {
            Demand::Known => Ok(Self(Identity::of(parts, api).await?)),
            other => Err(fault(format!("a handler wants anybody where the table demands {other:?}"))),
        }
    }
}

impl FromRequestParts<Api> for Person {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Failure> {
        let demand = api.demands.of_request(parts)?;
        if demand != Demand::Person {
            return Err(fault(format!("a handler wants a person where the table demands {demand:?}")));
        }
        match Identity::of(parts, api).await? {
            Identity::Person(person) => Ok(person),
            Identity::Program(_) => {
                let detail = "only a person who has logged in can do this, not an API key";
                Err(Problem::new(Kind::Forbidden, detail).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gives_what_they_have_not() {
        let (owner, admin) = (Standing::Role(Role::Owner), Standing::Role(Role::Admin));
        assert!(Role::ALL.into_iter().all(|role| owner.may_give(role)));
        assert!(admin.may_give(Role::Admin) && !admin.may_give(Role::Owner) && !admin.governs_owners());
        let everything = Standing::Scopes(Scope::ALL.to_vec());
        assert!(everything.may_give(Role::Admin) && !everything.may_give(Role::Owner));
        let members = Standing::Scopes(vec![Scope::MembersRead, Scope::MembersWrite]);
        assert!(Role::ALL.into_iter().all(|role| !members.may_give(role)));
    }

    #[test]
    fn a_program_has_the_scopes_of_its_key_and_no_role() {
        let key = Standing::Scopes(vec![Scope::EventsRead]);
        assert_eq!((key.scopes(), key.role()), (vec![Scope::EventsRead], None));
        assert_eq!(Standing::Role(Role::Viewer).scopes(), Role::Viewer.scopes());
    }
}
