//! The caller, with the right that a handler needs as a type in its signature.

use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use ravenpost_chassis::problem::{Kind, Problem};
use ravenpost_core::access::{Actor, Scope};
use ravenpost_store::Tenant;

use super::Identity;
use crate::api::{Api, Failure};
use crate::conventions::origin::Origin;

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

rights! { EndpointsRead EndpointsWrite EventsRead EventsReplay AlertsRead AlertsWrite AuditRead }

/// Somebody who has proven to have the right `R`, and all that they can reach: their organization.
pub struct Caller<R> {
    /// Their organization's rows.
    pub tenant: Tenant,
    /// Who they are.
    pub actor: Actor,
    right: PhantomData<R>,
}

impl<R: Right> FromRequestParts<Api> for Caller<R> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Failure> {
        let identity = match parts.extensions.get::<Identity>() {
            Some(identity) => identity.clone(),
            None => Identity::of(&parts.headers, api).await?,
        };
        if !identity.scopes.contains(&R::SCOPE) {
            let detail = format!("the API key lacks the scope {}", R::SCOPE.as_str());
            return Err(Problem::new(Kind::Forbidden, detail).into());
        }
        let actor = identity.actor;
        let author = Origin::of(&parts.extensions).author(actor);
        let tenant = api.store.tenant(identity.organization_id, author);
        Ok(Self { tenant, actor, right: PhantomData })
    }
}
