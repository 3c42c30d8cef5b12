//! The way of a request, and what its producer is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use ravenpost_chassis::problem::{self, Problem};
use ravenpost_chassis::{clock, trace};
use ravenpost_core::trace::Traceparent;
use tracing::{Instrument, Span, info_span};

use crate::admit::{self, Budget};
use crate::answer;
use crate::commit::Committer;
use crate::limit::{Exceeded, Limits, Meter, Scope};
use crate::metrics::IngressMetrics;
use crate::rejected::RejectedRequests;
use crate::resolve::Endpoints;
use crate::verify;

/// What a request meets on its way.
pub struct Ingress {
    /// From tokens to endpoints.
    pub endpoints: Arc<Endpoints>,
    /// How much is accepted.
    pub limits: Limits,
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
    match received.instrument(span).await {
        Ok(response) => {
            ingress.metrics.accepted(started.elapsed());
            response
        }
        Err(refused) => {
            ingress.metrics.rejected(refused.problem.kind);
            refused.into_response()
        }
    }
}

async fn receive(
    ingress: &Ingress,
    token: &str,
    request: Request,
    incoming: Option<Traceparent>,
) -> Result<Response, Refused> {
    let endpoint = ingress.endpoints.resolve(token).await?;
    Span::current().record("endpoint_id", tracing::field::display(endpoint.id));
    let meter = ingress.limits.of(&endpoint).await;
    meter.check(Instant::now()).map_err(|exceeded| limited(ingress, exceeded, &meter))?;
    let admitted = admit::admit(ingress, Arc::clone(&endpoint), request, clock::now()).await?;
    let verified = verify::verify(admitted).map_err(|unbelieved| ingress.rejected.keep(*unbelieved))?;
    meter.take(Instant::now()).map_err(|exceeded| limited(ingress, exceeded, &meter))?;
    let traceparent = trace::current(&Span::current(), incoming.as_ref());
    let committed = ingress.committer.commit(verified, traceparent).await;
    let id = committed.inspect_err(|_| meter.give_back())?;
    Span::current().record("event_id", tracing::field::display(id));
    let mut response = answer::accepted(&endpoint, id);
    meter.write_headers(Instant::now(), response.headers_mut());
    Ok(response)
}

/// Why a request is not accepted, and what is left of its limits where that is the reason.
struct Refused {
    problem: Problem,
    limits: HeaderMap,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self { problem, limits: HeaderMap::new() }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = self.problem.into_response();
        response.headers_mut().extend(self.limits);
        response
    }
}

fn limited(ingress: &Ingress, exceeded: Exceeded, meter: &Meter) -> Refused {
    ingress.metrics.limited(match exceeded.scope {
        Scope::Endpoint => "endpoint_rate",
        Scope::Organization => "organization_rate",
    });
    let mut limits = HeaderMap::new();
    meter.write_headers(Instant::now(), &mut limits);
    Refused { problem: exceeded.into(), limits }
}

fn traceparent(headers: &HeaderMap) -> Option<Traceparent> {
    headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(Traceparent::parse)
}
