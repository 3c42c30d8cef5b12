//! What a browser is told: who may call the API from a page (CORS), and how little it may make of an answer.

use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use tower_http::cors::{AllowOrigin, CorsLayer};
use url::Url;

use super::once::{IDEMPOTENCY_KEY, IDEMPOTENCY_REPLAYED};

/// How long a browser remembers what it was allowed.
const PREFLIGHT_REMEMBERED: Duration = Duration::from_mins(10);
/// An answer of the API is no page, and stands in none.
const POLICY: &str = "default-src 'none'; frame-ancestors 'none'";
/// A year.
const TRANSPORT: &str = "max-age=31536000";

/// Lays them around everything that is served. `consoles` are the pages from which the API may be called; its own origin
/// needs no leave.
pub(crate) fn around(router: Router, consoles: &[Url], encrypted: bool) -> Router {
    router.layer(from_fn_with_state(encrypted, secure)).layer(cors(consoles))
}

fn cors(consoles: &[Url]) -> CorsLayer {
    // No cookie ever says who asks, so there are no credentials to allow: a page has to hold the token itself.
    let origins = consoles.iter().filter_map(|url| url.origin().ascii_serialization().parse().ok());
    let origins: Vec<HeaderValue> = origins.collect();
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            HeaderName::from_static(IDEMPOTENCY_KEY),
            HeaderName::from_static("last-event-id"),
            HeaderName::from_static("ravenpost-organization"),
        ])
        .expose_headers([
            header::ETAG,
            header::LOCATION,
            header::RETRY_AFTER,
            HeaderName::from_static("ratelimit"),
            HeaderName::from_static("ratelimit-policy"),
            HeaderName::from_static(IDEMPOTENCY_REPLAYED),
        ])
        .max_age(PREFLIGHT_REMEMBERED)
}

async fn secure(State(encrypted): State<bool>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        // Answers hold secrets and other people's payloads.
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if encrypted {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(TRANSPORT));
    }
    response
}
