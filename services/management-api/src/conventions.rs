//! What holds for every operation, whoever writes it: layers around the handlers, in the order in which a request passes
//! them.
//!
//! ```text
//! headers (CORS, security) ──▶ origin (from where) ──▶ parameters (none unknown) ──▶ rates (guesses, caller)
//!     ──▶ once (Idempotency-Key of a POST) ──▶ handler, which may ask for `Preconditions` (If-Match, If-None-Match)
//! ```
//!
//! A handler can't forget them: they lie around the routes, and what they need to know of an operation they take from the
//! document that is made of the handlers.

pub(crate) mod headers;
pub(crate) mod once;
pub(crate) mod origin;
pub(crate) mod parameters;
pub(crate) mod preconditions;
pub(crate) mod rates;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use ravenpost_core::signature::Network;
use utoipa::openapi::OpenApi;

use crate::api::Api;
use crate::settings::ConventionSettings;
use parameters::Parameters;
use rates::Rates;

/// What the layers keep. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Conventions {
    pub(crate) trusted_proxies: Arc<[Network]>,
    pub(crate) rates: Rates,
}

impl Conventions {
    pub(crate) fn new(settings: &ConventionSettings) -> Self {
        Self { trusted_proxies: settings.trusted_proxies.as_slice().into(), rates: Rates::new(settings) }
    }
}

/// Lays them around `routes`, whose operations `document` describes.
pub(crate) fn around(routes: Router<Api>, api: &Api, document: &OpenApi) -> Router<Api> {
    routes
        .route_layer(from_fn_with_state(api.clone(), once::once))
        .route_layer(from_fn_with_state(api.clone(), rates::bound))
        .route_layer(from_fn_with_state(Arc::new(Parameters::of(document)), parameters::refuse_unknown))
        .route_layer(from_fn_with_state(api.clone(), origin::tell))
}
