//! The REST API: a file per resource; each handler is a recipe of named steps.

mod body;
mod checks;
mod failure;
mod page;

mod alerts;
mod audit_log;
mod channels;
mod dead_letters;
mod deliveries;
mod destinations;
mod endpoints;
mod events;
mod providers;
mod reference;
mod rejected_requests;
mod replay;
mod replays;
mod secrets;
mod signing_keys;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use ravenpost_chassis::problem;
use ravenpost_egress::Certificates;
use ravenpost_store::{Payloads, Store};
use url::Url;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use failure::Failure;

use crate::auth::Keys;
use crate::conventions::{self, Conventions};
use crate::metrics::{Metrics, measure};
use crate::openapi;
use crate::settings::ConventionSettings;

/// The largest request body, in bytes.
pub(crate) const MAX_BODY: usize = 64 * 1_024;
/// Where the API begins.
pub const BASE: &str = "/api/v1";

/// What handlers share. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    pub(crate) store: Store,
    pub(crate) keys: Keys,
    payloads: Payloads,
    hook_base_url: Arc<str>,
    /// How long a producer's retry is recognised.
    deduplication_window: Duration,
    /// What verifying a request again needs from providers.
    certificates: Arc<Certificates>,
    pub(crate) conventions: Conventions,
    consoles: Arc<[Url]>,
    behind_tls: bool,
}

impl Api {
    /// An API over these stores, with endpoints whose URLs begin with `hook_base_url` and recognise their producers'
    /// retries for as long as `deduplication_window`.
    pub fn new(
        store: Store,
        payloads: Payloads,
        hook_base_url: &Url,
        deduplication_window: Duration,
        certificates: Certificates,
    ) -> Self {
        let hook_base_url = hook_base_url.as_str().trim_end_matches('/').into();
        let (keys, certificates) = (Keys::new(store.clone()), Arc::new(certificates));
        let api = Self {
            store,
            keys,
            payloads,
            hook_base_url,
            deduplication_window,
            certificates,
            conventions: Conventions::new(&ConventionSettings::default()),
            consoles: Arc::default(),
            behind_tls: false,
        };
        api.with(&ConventionSettings::default())
    }

    /// The same with other conventions than the default ones.
    #[must_use]
    pub fn with(self, settings: &ConventionSettings) -> Self {
        let (conventions, consoles) = (Conventions::new(settings), settings.console_url.as_slice().into());
        Self { conventions, consoles, behind_tls: settings.api_behind_tls, ..self }
    }
}

/// The whole service as a router.
pub fn router(api: Api, metrics: Metrics) -> Router {
    let (routes, mut document) = resources().split_for_parts();
    openapi::complete(&mut document);
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

/// The document of the API, made of its handlers.
pub fn document() -> OpenApi {
    let (_, mut document) = resources().split_for_parts();
    openapi::complete(&mut document);
    document
}

fn resources() -> OpenApiRouter<Api> {
    let resources = OpenApiRouter::new()
        .routes(routes!(endpoints::list, endpoints::create))
        .routes(routes!(endpoints::get, endpoints::change, endpoints::delete))
        .routes(routes!(secrets::list, secrets::add))
        .routes(routes!(secrets::remove))
        .routes(routes!(providers::list))
        .routes(routes!(destinations::list, destinations::create))
        .routes(routes!(destinations::get, destinations::change, destinations::delete))
        .routes(routes!(destinations::rotate::rotate))
        .routes(routes!(signing_keys::list))
        .routes(routes!(signing_keys::rotate))
        .routes(routes!(events::list))
        .routes(routes!(events::get))
        .routes(routes!(events::payload))
        .routes(routes!(deliveries::list))
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
        .routes(routes!(channels::delete))
        .routes(routes!(alerts::list))
        .routes(routes!(audit_log::list));
    OpenApiRouter::with_openapi(openapi::outline()).nest(BASE, resources)
}

fn json(document: &str) -> ([(header::HeaderName, &'static str); 1], String) {
    ([(header::CONTENT_TYPE, "application/json")], document.to_owned())
}
