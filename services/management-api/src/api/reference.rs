//! The reference that a person reads in a browser: Swagger UI over the document. Everything that it loads is compiled in,
//! and its policy lets it load nothing else.

use std::sync::{Arc, LazyLock};

use axum::extract::Path;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};
use ravenpost_chassis::problem::Problem;
use utoipa_swagger_ui::{Config, serve};

use super::BASE;

/// Where it is.
pub(super) const PATH: &str = "/api/v1/docs";
/// Scripts and pictures of its own, requests to the API, and styles, which its script writes into elements.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// It comes with the release.
const CACHED: &str = "public, max-age=3600";

static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    let config = Config::from(format!("{BASE}/openapi.json"));
    // A key that is kept in the browser outlives the tab.
    Arc::new(config.persist_authorization(false).try_it_out_enabled(false).deep_linking(true))
});

/// Names of files are relative to a folder.
pub(super) async fn folder() -> Redirect {
    Redirect::permanent(&format!("{PATH}/"))
}

pub(super) async fn index() -> Response {
    show("index.html")
}

pub(super) async fn file(Path(file): Path<String>) -> Response {
    show(&file)
}

fn show(file: &str) -> Response {
    let found = match serve(file, CONFIG.clone()) {
        Ok(found) => found,
        Err(error) => {
            tracing::error!(error, file, "a file of the reference can't be shown");
            None
        }
    };
    let Some(found) = found else { return Problem::not_found("file").into_response() };
    let mut response = found.bytes.into_owned().into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, found.content_type.as_str()),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, CACHED),
    ] {
        insert(headers, name, value);
    }
    if found.gzpipped {
        insert(headers, header::CONTENT_ENCODING, "gzip");
    }
    response
}

fn insert(headers: &mut axum::http::HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
