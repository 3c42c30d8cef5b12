//! Who the caller is, and what they may where: what a console asks first.

use axum::Json as Answer;
use axum::extract::State;
use ravenpost_core::access::{Role, Scope};
use ravenpost_core::audit::Author;
use ravenpost_core::ids::OrganizationId;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Api, Failure};
use crate::auth::{Identity, Known, Standing};

/// Whoever asks.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Me)]
pub(super) struct MeBody {
    /// A person, or a program with an API key.
    #[serde(rename = "type")]
    kind: MeType,
    /// The person's id, or the key's.
    id: Uuid,
    /// The person's verified e-mail address.
    #[schema(required = true, format = Email)]
    email: Option<String>,
    /// The person's name.
    #[schema(required = true)]
    name: Option<String>,
    /// What they belong to, newest first.
    organizations: Vec<MembershipBody>,
}

/// What somebody is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum MeType {
    /// Somebody who has logged in.
    User,
    /// A program.
    ApiKey,
}

/// What somebody is and may in an organization.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Membership)]
pub(super) struct MembershipBody {
    /// The organization's id.
    id: OrganizationId,
    /// Its name.
    name: String,
    /// The person's role; null for a program.
    #[schema(required = true)]
    role: Option<Role>,
    /// What they may do there.
    scopes: Vec<Scope>,
}

/// See who you are.
///
/// For a person with all organizations, whichever the request names.
#[utoipa::path(get, path = "/me", tag = "identity", operation_id = "get_me", responses((status = 200, body = MeBody)))]
pub(super) async fn get(State(api): State<Api>, Known(identity): Known) -> Result<Answer<MeBody>, Failure> {
    match identity {
        Identity::Person(person) => {
            let organizations = api.store.system().organizations_of(person.id).await?;
            let organizations = organizations.into_iter().map(|of| MembershipBody {
                id: of.id,
                name: of.name,
                role: Some(of.role),
                scopes: of.role.scopes(),
            });
            Ok(Answer(MeBody {
                kind: MeType::User,
                id: person.id.0,
                email: person.email,
                name: person.name,
                organizations: organizations.collect(),
            }))
        }
        Identity::Program(key) => {
            let organization = api.store.tenant(key.organization_id, Author::SYSTEM).organization().await?;
            let scopes = Standing::Scopes(key.scopes.clone()).scopes();
            let organizations = organization.into_iter().map(|organization| MembershipBody {
                id: organization.id,
                name: organization.name,
                role: None,
                scopes: scopes.clone(),
            });
            let organizations = organizations.collect();
            Ok(Answer(MeBody { kind: MeType::ApiKey, id: key.id.0, email: None, name: None, organizations }))
        }
    }
}
