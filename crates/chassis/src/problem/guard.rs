//! What a router must answer when no handler does.

use std::any::Any;

use axum::Router;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;

use super::{Kind, Problem};

/// The router with problems for unknown paths (404), wrong methods (405, with `Allow`) and handlers that panic (500).
///
/// Call it last: it covers the routes added before.
pub fn guard<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router.fallback(no_route).method_not_allowed_fallback(no_method).layer(CatchPanicLayer::custom(panicked))
}

async fn no_route(uri: Uri) -> Problem {
    Problem::new(Kind::NotFound, format!("there is nothing at {}", uri.path()))
}

async fn no_method(method: Method, uri: Uri) -> Problem {
    Problem::new(Kind::MethodNotAllowed, format!("{method} is not allowed at {}", uri.path()))
}

/// The panic hook has logged it.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    Problem::new(Kind::Internal, "something went wrong on our side").into_response()
}
