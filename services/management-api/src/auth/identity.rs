//! Who asks, as their credentials prove it.

use axum::http::HeaderMap;
use ravenpost_chassis::clock;
use ravenpost_core::access::{Actor, Scope};
use ravenpost_core::ids::OrganizationId;
use uuid::Uuid;

use crate::api::{Api, Failure};

/// A caller whose credentials were checked. A layer keeps it with the request, for those behind it.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) organization_id: OrganizationId,
    pub(crate) actor: Actor,
    pub(crate) scopes: Vec<Scope>,
}

impl Identity {
    /// Whoever sends these headers; a problem of 401 unless they prove it.
    pub(crate) async fn of(headers: &HeaderMap, api: &Api) -> Result<Self, Failure> {
        let key = api.keys.identify(headers, clock::now()).await?;
        let (organization_id, actor) = (key.organization_id, Actor::ApiKey(key.id));
        Ok(Self { organization_id, actor, scopes: key.scopes.clone() })
    }

    /// The id of the key or the person.
    pub(crate) fn actor_id(&self) -> Uuid {
        match self.actor {
            Actor::ApiKey(key) => key.0,
            Actor::User(user) => user.0,
        }
    }
}
