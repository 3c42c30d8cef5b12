//! The REST API: a file per resource; each handler is a recipe of named steps.

mod body;
mod checks;
mod failure;
mod page;

mod alert_rules;
mod api_keys;
mod invitations;
mod me;
mod members;
mod organizations;

mod alerts;
mod analytics;
mod audit_log;
mod channels;
mod dead_letters;
mod deliveries;
mod destinations;
mod endpoints;
mod events;
mod live;
mod providers;
mod reference;
mod rejected_requests;
mod replay;
mod replays;
mod scheduled;
mod secrets;
mod signing_keys;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use ravenpost_chassis::problem;
use ravenpost_egress::{Certificates, OperatorClient};
use ravenpost_store::{Payloads, Store};
use url::Url;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) use checks::MAX_ADDRESS;
pub use failure::Failure;
use signing_keys::KeySets;

use crate::auth::{Auth, Demands};
use crate::conventions::{self, Conventions};
use crate::live::Live;
use crate::maintenance::statistics::Kept;
use crate::metrics::{Metrics, measure};
use crate::openapi;
use crate::settings::ConventionSettings;

/// The largest request body, in bytes.
pub(crate) const MAX_BODY: usize = 64 * 1_024;
/// Where the API begins.
pub const BASE: &str = "/api/v1";

/// What handlers share. Each layer around them clones it for each request, so it is one pointer.
#[derive(Clone)]
pub struct Api(Arc<Shared>);

/// See [`Api`].
#[derive(Clone)]
pub struct Shared {
    pub(crate) store: Store,
    pub(crate) auth: Auth,
    /// What each route demands of its callers.
    pub(crate) demands: Demands,
    payloads: Payloads,
    hook_base_url: Arc<str>,
    /// How long a producer's retry is recognised.
    deduplication_window: Duration,
    /// What verifying a request again needs from providers.
    certificates: Arc<Certificates>,
    pub(crate) conventions: Conventions,
    consoles: Arc<[Url]>,
    behind_tls: bool,
    /// The way to our own ingress.
    operator: OperatorClient,
    live: Live,
    statistics: Kept,
    key_sets: KeySets,
}

impl Deref for Api {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// What else handlers share.
pub struct Beside {
    /// Whoever is recognised.
    pub auth: Auth,
    /// The way to the operator's own URLs.
    pub operator: OperatorClient,
    /// Whoever listens.
    pub live: Live,
    /// What is kept of statistics.
    pub statistics: Kept,
}

impl Api {
    /// An API over these stores, with endpoints whose URLs begin with `hook_base_url` and recognise their producers'
    /// retries for as long as `deduplication_window`; for whom `auth` recognises.
    pub fn new(
        store: Store,
        payloads: Payloads,
        hook_base_url: &Url,
        deduplication_window: Duration,
        certificates: Certificates,
        beside: Beside,
    ) -> Self {
        let hook_base_url = hook_base_url.as_str().trim_end_matches('/').into();
        let (demands, certificates) = (Demands::default(), Arc::new(certificates));
        let Beside { auth, operator, live, statistics } = beside;
        let conventions = ConventionSettings::default();
        Self(Arc::new(Shared {
            store,
            auth,
            demands,
            payloads,
            hook_base_url,
            deduplication_window,
            certificates,
            operator,
            live,
            statistics,
            key_sets: KeySets::default(),
            conventions: Conventions::new(&conventions),
            consoles: conventions.console_url.as_slice().into(),
            behind_tls: conventions.api_behind_tls,
        }))
    }

    /// The same with other conventions than the default ones.
    #[must_use]
    pub fn with(self, settings: &ConventionSettings) -> Self {
        let (conventions, consoles) = (Conventions::new(settings), settings.console_url.as_slice().into());
        let behind_tls = settings.api_behind_tls;
        Self(Arc::new(Shared { conventions, consoles, behind_tls, ..Arc::unwrap_or_clone(self.0) }))
    }
}

/// The whole service as a router.
pub fn router(api: Api, metrics: Metrics) -> Router {
    let (routes, mut document) = resources().split_for_parts();
    openapi::complete(&mut document);
    let api = Api(Arc::new(Shared { demands: Demands::of(&document), ..Arc::unwrap_or_clone(api.0) }));
    let routes = conventions::around(routes, &api, &document);
    let document: Arc<str> = openapi::to_json(&document).into();
    let routes = routes
        .route(&format!("{BASE}/openapi.json"), get(async move || json(&document)))
        .route(reference::PATH, get(reference::folder))
        .route(&format!("{}/", reference::PATH), get(reference::index))
        .route(&format!("{}/{{*file}}", reference::PATH), get(reference::file))
        .route(signing_keys::JWKS_PATH, get(signing_keys::jwks))
        .layer(DefaultBodyLimit::max(MAX_BODY));
    let (consoles, behind_tls) = (api.consoles.clone(), api.behind_tls);
    let routes = problem::guard(routes).with_state(api);
    conventions::headers::around(routes, &consoles, behind_tls).layer(from_fn_with_state(metrics, measure))
}

/// Whether somebody can be mailed to at this address, as far as can be told by its form.
pub(crate) fn check_email(address: &str) -> Result<(), problem::Problem> {
    checks::email("email", address)
}

/// The document of the API, made of its handlers.
pub fn document() -> OpenApi {
    let (_, mut document) = resources().split_for_parts();
    openapi::complete(&mut document);
    document
}

/// The document as handlers declare it, before anything is added.
#[cfg(test)]
pub(crate) fn declared() -> OpenApi {
    resources().split_for_parts().1
}

fn resources() -> OpenApiRouter<Api> {
    let resources = OpenApiRouter::new()
        .routes(routes!(me::get))
        .routes(routes!(organizations::list, organizations::create))
        .routes(routes!(organizations::get, organizations::change))
        .routes(routes!(organizations::leave))
        .routes(routes!(members::list))
        .routes(routes!(members::change, members::remove))
        .routes(routes!(invitations::list, invitations::create))
        .routes(routes!(invitations::revoke))
        .routes(routes!(invitations::accept))
        .routes(routes!(api_keys::list, api_keys::create))
        .routes(routes!(api_keys::revoke))
        .routes(routes!(endpoints::list, endpoints::create))
        .routes(routes!(endpoints::get, endpoints::change, endpoints::delete))
        .routes(routes!(endpoints::steer::pause))
        .routes(routes!(endpoints::steer::activate))
        .routes(routes!(endpoints::steer::rotate_token))
        .routes(routes!(endpoints::health::health))
        .routes(routes!(endpoints::test_event::send))
        .routes(routes!(secrets::list, secrets::add))
        .routes(routes!(secrets::remove))
        .routes(routes!(providers::list))
        .routes(routes!(destinations::list, destinations::create))
        .routes(routes!(destinations::get, destinations::change, destinations::delete))
        .routes(routes!(destinations::rotate::rotate))
        .routes(routes!(destinations::steer::pause))
        .routes(routes!(destinations::steer::resume))
        .routes(routes!(destinations::steer::enable))
        .routes(routes!(destinations::try_filter::try_filter))
        .routes(routes!(signing_keys::list))
        .routes(routes!(signing_keys::rotate))
        .routes(routes!(events::list))
        .routes(routes!(live::stream))
        .routes(routes!(events::get))
        .routes(routes!(events::payload, events::expunge::expunge))
        .routes(routes!(deliveries::list))
        .routes(routes!(scheduled::list))
        .routes(routes!(scheduled::run))
        .routes(routes!(scheduled::cancel))
        .routes(routes!(analytics::series))
        .routes(routes!(analytics::endpoints))
        .routes(routes!(replay::replay))
        .routes(routes!(dead_letters::list))
        .routes(routes!(replays::list, replays::create))
        .routes(routes!(replays::get))
        .routes(routes!(replays::pause))
        .routes(routes!(replays::resume))
        .routes(routes!(replays::cancel))
        .routes(routes!(replays::recover_destination))
        .routes(routes!(replays::recover_endpoint))
        .routes(routes!(rejected_requests::list))
        .routes(routes!(rejected_requests::get, rejected_requests::delete))
        .routes(routes!(rejected_requests::payload))
        .routes(routes!(rejected_requests::accept::verify))
        .routes(routes!(rejected_requests::accept::accept))
        .routes(routes!(rejected_requests::accept::accept_all))
        .routes(routes!(rejected_requests::counts))
        .routes(routes!(channels::list, channels::create))
        .routes(routes!(channels::get, channels::change, channels::delete))
        .routes(routes!(channels::test))
        .routes(routes!(channels::notifications))
        .routes(routes!(alert_rules::list, alert_rules::create))
        .routes(routes!(alert_rules::get, alert_rules::change, alert_rules::delete))
        .routes(routes!(alerts::list))
        .routes(routes!(alerts::get))
        .routes(routes!(alerts::acknowledge))
        .routes(routes!(alerts::resolve))
        .routes(routes!(alerts::mute))
        .routes(routes!(audit_log::list));
    OpenApiRouter::with_openapi(openapi::outline()).nest(BASE, resources)
}

fn json(document: &str) -> ([(header::HeaderName, &'static str); 1], String) {
    ([(header::CONTENT_TYPE, "application/json")], document.to_owned())
}
