//! The way of a request, and what its producer is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use ravenpost_chassis::problem::{self, Kind, Problem};
use ravenpost_chassis::{clock, trace};
use ravenpost_core::handshake as asked;
use ravenpost_core::ids::EventId;
use ravenpost_core::signature::Network;
use ravenpost_core::trace::Traceparent;
use ravenpost_store::System;
use serde::Serialize;
use tracing::{Instrument, Span, info_span};

use crate::admit::{self, Budget};
use crate::certificates::Certificates;
use crate::commit::Committer;
use crate::handshake::{self, Asked};
use crate::metrics::IngressMetrics;
use crate::resolve::Endpoints;
use crate::verify::{self, Verified};

/// What a request meets on its way.
pub struct Ingress {
    /// From tokens to endpoints.
    pub endpoints: Endpoints,
    /// Where producers reach us: scheme and host, no slash at the end.
    pub hook_base_url: String,
    /// Proxies that are believed about where a request comes from.
    pub trusted_proxies: Vec<Network>,
    /// What providers have us fetch.
    pub certificates: Certificates,
    /// Keeps the secrets that handshakes bring.
    pub system: System,
    /// The memory that bodies in flight may take.
    pub budget: Budget,
    /// The largest body in bytes where the endpoint does not say.
    pub max_body_bytes: u32,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// Makes events durable.
    pub committer: Committer,
    /// What is counted.
    pub metrics: IngressMetrics,
}

/// The only route that producers have.
pub fn router(ingress: Arc<Ingress>) -> Router {
    problem::guard(Router::new().route("/h/{token}", post(handle).get(handle)).with_state(ingress))
}

/// What became of a request that was not refused.
enum Received {
    /// An event, which is durable.
    Event(EventId),
    /// The same, from a provider that takes nothing but an empty 200.
    Quietly(EventId),
    /// A handshake, with its answer.
    Handshake(Response),
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
        Ok(Received::Handshake(answer)) => {
            ingress.metrics.handshakes.inc();
            answer
        }
        Ok(Received::Event(id)) => {
            span.record("event_id", tracing::field::display(id));
            ingress.metrics.accepted(started.elapsed());
            (StatusCode::ACCEPTED, Json(Answer { id })).into_response()
        }
        Ok(Received::Quietly(id)) => {
            span.record("event_id", tracing::field::display(id));
            ingress.metrics.accepted(started.elapsed());
            StatusCode::OK.into_response()
        }
        Err(problem) => {
            ingress.metrics.rejected(problem.kind);
            let method_not_allowed = problem.kind == Kind::MethodNotAllowed;
            let mut response = problem.into_response();
            if method_not_allowed {
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            }
            response
        }
    }
}

async fn receive(
    ingress: &Ingress,
    token: &str,
    request: Request,
    incoming: Option<Traceparent>,
) -> Result<Received, Problem> {
    let endpoint = ingress.endpoints.resolve(token).await?;
    Span::current().record("endpoint_id", tracing::field::display(endpoint.id));
    handshake::allow(&endpoint, request.method())?;
    let admitted = admit::admit(ingress, endpoint, request, clock::now()).await?;
    let traceparent = trace::current(&Span::current(), incoming.as_ref());
    match handshake::unsigned(ingress, token, &admitted).await? {
        Asked::Nothing => {}
        Asked::Answered(answer) => return Ok(Received::Handshake(answer)),
        Asked::Shown => {
            let shown = Verified::by_first_secret(admitted);
            return ingress.committer.commit(shown, traceparent).await.map(Received::Event);
        }
    }
    let empty = asked::of(&admitted.endpoint.verification).wants_empty_answers();
    let verified = match verify::verify(ingress, admitted).await {
        Ok(verified) => verified,
        Err(problem) if empty && problem.kind.status() == StatusCode::UNAUTHORIZED => {
            ingress.metrics.rejected(problem.kind);
            return Ok(Received::Handshake(StatusCode::UNAUTHORIZED.into_response()));
        }
        Err(problem) => return Err(problem),
    };
    if let Some(answer) = handshake::signed(ingress, token, &verified).await? {
        return Ok(Received::Handshake(answer));
    }
    let id = ingress.committer.commit(verified, traceparent).await?;
    Ok(if empty { Received::Quietly(id) } else { Received::Event(id) })
}

fn traceparent(headers: &HeaderMap) -> Option<Traceparent> {
    headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(Traceparent::parse)
}
