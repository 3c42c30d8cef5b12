//! The operator's port: `/livez`, `/readyz` and `/metrics`, apart from the service's traffic.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use crate::lifecycle::Context;
use crate::problem::{self, Kind, Problem};

/// The routes of the admin port.
///
/// - `GET /livez`: 200 while the runtime turns.
/// - `GET /readyz`: 200 or 503, with the state of every check ([`crate::health::Report`]).
/// - `GET /metrics`: Prometheus' text format.
pub fn router(ctx: Context) -> Router {
    let routes = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(ctx);
    problem::guard(routes)
}

async fn readyz(State(ctx): State<Context>) -> Response {
    let report = ctx.health.report();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report)).into_response()
}

async fn metrics(State(ctx): State<Context>) -> Response {
    match ctx.metrics.render() {
        Ok(text) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "metrics can't be rendered");
            Problem::new(Kind::Internal, "the metrics can't be rendered").into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn get_text(ctx: &Context, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router(ctx.clone()).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_names_what_fails() {
        let ctx = Context::detached();
        let check = ctx.health.register("s3");
        check.fail("no such bucket");
        insta::assert_debug_snapshot!(get_text(&ctx, "/readyz").await, @r#"
        (
            503,
            "{\"ready\":false,\"stopping\":false,\"checks\":{\"s3\":{\"ok\":false,\"error\":\"no such bucket\"}}}",
        )
        "#);
        check.ok();
        assert_eq!(get_text(&ctx, "/readyz").await.0, 200);
        assert_eq!(get_text(&ctx, "/livez").await, (200, "ok\n".to_owned()));
        assert_eq!(get_text(&ctx, "/nothing").await.0, 404);
    }
}
