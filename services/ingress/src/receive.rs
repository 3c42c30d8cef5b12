//! The way of a request, and what its producer is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use ravenpost_chassis::problem::{self, Problem};
use ravenpost_chassis::{clock, trace};
use ravenpost_core::ids::EventId;
use ravenpost_core::trace::Traceparent;
use serde::Serialize;
use tracing::{Instrument, Span, info_span};

use crate::admit::{self, Budget};
use crate::commit::Committer;
use crate::metrics::IngressMetrics;
use crate::rejected::RejectedRequests;
use crate::resolve::Endpoints;
use crate::verify;

/// What a request meets on its way.
pub struct Ingress {
    /// From tokens to endpoints.
    pub endpoints: Endpoints,
    /// The memory that bodies in flight may take.
    pub budget: Budget,
    /// The largest body in bytes where the endpoint does not say.
    pub max_body_bytes: u32,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// Keeps what is not believed.
    pub rejected: RejectedRequests,
    /// Makes events durable.
    pub committer: Committer,
    /// What is counted.
    pub metrics: IngressMetrics,
}

/// The only route that producers have.
pub fn router(ingress: Arc<Ingress>) -> Router {
    problem::guard(Router::new().route("/h/{token}", post(handle)).with_state(ingress))
}

/// The body of a `202`.
#[derive(Serialize)]
struct Answer {
    id: EventId,
}

async fn handle(
    State(ingress): State<Arc<Ingress>>,
    token: Result<problem::Path<String>, Problem>,
    request: Request,
) -> Response {
    let started = Instant::now();
    let incoming = traceparent(request.headers());
    let span = info_span!("receive", event_id = tracing::field::Empty, endpoint_id = tracing::field::Empty);
    trace::follow(&span, incoming.as_ref());
    let received = async { receive(&ingress, &token?.0, request, incoming).await };
    match received.instrument(span.clone()).await {
        Ok(id) => {
            span.record("event_id", tracing::field::display(id));
            ingress.metrics.accepted(started.elapsed());
            (StatusCode::ACCEPTED, Json(Answer { id })).into_response()
        }
        Err(problem) => {
            ingress.metrics.rejected(problem.kind);
            problem.into_response()
        }
    }
}

async fn receive(
    ingress: &Ingress,
    token: &str,
    request: Request,
    incoming: Option<Traceparent>,
) -> Result<EventId, Problem> {
    let endpoint = ingress.endpoints.resolve(token).await?;
    Span::current().record("endpoint_id", tracing::field::display(endpoint.id));
    let admitted = admit::admit(ingress, endpoint, request, clock::now()).await?;
    let verified = verify::verify(admitted).map_err(|unbelieved| ingress.rejected.keep(*unbelieved))?;
    let traceparent = trace::current(&Span::current(), incoming.as_ref());
    ingress.committer.commit(verified, traceparent).await
}

fn traceparent(headers: &HeaderMap) -> Option<Traceparent> {
    headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(Traceparent::parse)
}
