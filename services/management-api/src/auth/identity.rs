//! Who asks, as their credentials prove it.

use std::sync::Arc;

use axum::http::request::Parts;
use ravenpost_chassis::clock;
use ravenpost_core::access::Actor;
use ravenpost_store::system::ApiKeyRecord;
use uuid::Uuid;

use super::Person;
use crate::api::{Api, Failure};
use crate::conventions::origin::Origin;

/// Somebody who has proven who they are. A layer keeps it with the request, for those behind it.
#[derive(Debug, Clone)]
pub enum Identity {
    /// A program, by its API key.
    Program(Arc<ApiKeyRecord>),
    /// A person, by an access token.
    Person(Person),
}

impl Identity {
    /// Whoever sent a request, as a layer has recognised them or by its headers; a problem of 401 unless they prove it.
    pub(crate) async fn of(parts: &Parts, api: &Api) -> Result<Self, Failure> {
        match parts.extensions.get::<Self>() {
            Some(identity) => Ok(identity.clone()),
            None => {
                api.auth.identify(&parts.headers, Origin::of(&parts.extensions).address, clock::now()).await
            }
        }
    }

    /// Who they are.
    pub(crate) fn actor(&self) -> Actor {
        match self {
            Self::Program(key) => Actor::ApiKey(key.id),
            Self::Person(person) => Actor::User(person.id),
        }
    }

    /// The id of the key or the person.
    pub(crate) fn actor_id(&self) -> Uuid {
        match self.actor() {
            Actor::ApiKey(key) => key.0,
            Actor::User(user) => user.0,
        }
    }
}
