//! The way of a request, and what its producer is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use ravenpost_chassis::problem::{self, Kind, Problem};
use ravenpost_chassis::{clock, trace};
use ravenpost_core::handshake as asked;
use ravenpost_core::signature::{Network, Rejection};
use ravenpost_core::trace::Traceparent;
use ravenpost_egress::Certificates;
use ravenpost_store::System;
use tracing::{Instrument, Span, info_span};

use crate::admit::{self, Budget};
use crate::answer;
use crate::commit::Committer;
use crate::handshake::{self, Asked};
use crate::limit::{Exceeded, Limits, Meter, Scope};
use crate::metrics::IngressMetrics;
use crate::rejected::RejectedRequests;
use crate::resolve::Endpoints;
use crate::verify::{self, Aside, Unbelieved, Verified};

/// What a request meets on its way.
pub struct Ingress {
    /// From tokens to endpoints.
    pub endpoints: Arc<Endpoints>,
    /// How much is accepted.
    pub limits: Limits,
    /// Where producers reach us: scheme and host, no slash at the end.
    pub hook_base_url: String,
    /// Proxies that are believed about where a request comes from.
    pub trusted_proxies: Vec<Network>,
    /// What providers have us fetch.
    pub certificates: Certificates,
    /// Where large bodies are verified.
    pub aside: Aside,
    /// Keeps the secrets that handshakes bring.
    pub system: System,
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
    problem::guard(Router::new().route("/h/{token}", post(handle).get(handle)).with_state(ingress))
}

/// What became of a request that was not refused, with its answer.
enum Received {
    /// An event, which is durable.
    Event(Response),
    /// A handshake.
    Handshake(Response),
}

async fn handle(
    State(ingress): State<Arc<Ingress>>,
    token: Result<problem::Path<String>, Problem>,
    request: Request,
) -> Response {
    let started = Instant::now();
    let incoming = Traceparent::of(request.headers());
    let span = info_span!("receive", event_id = tracing::field::Empty, endpoint_id = tracing::field::Empty);
    trace::follow(&span, incoming.as_ref());
    // Boxed: each layer above would copy it.
    let received = Box::pin(async { receive(&ingress, &token?.0, request, incoming).await });
    match received.instrument(span).await {
        Ok(Received::Handshake(answer)) => {
            ingress.metrics.handshakes.inc();
            answer
        }
        Ok(Received::Event(response)) => {
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
) -> Result<Received, Refused> {
    let endpoint = ingress.endpoints.resolve(token).await?;
    Span::current().record("endpoint_id", tracing::field::display(endpoint.id));
    handshake::allow(&endpoint, request.method())?;
    let meter = ingress.limits.of(&endpoint).await;
    meter.check(Instant::now()).map_err(|exceeded| limited(ingress, exceeded, &meter))?;
    let admitted = admit::admit(ingress, Arc::clone(&endpoint), request, clock::now()).await?;
    let verified = match handshake::unsigned(ingress, token, &admitted).await? {
        Asked::Nothing => verify::verify(ingress, admitted).await.map_err(|it| disbelieved(ingress, *it))?,
        Asked::Answered(answer) => return Ok(Received::Handshake(answer)),
        Asked::Shown => Verified::by_first_secret(admitted),
    };
    if let Some(answer) = handshake::signed(ingress, token, &verified).await? {
        return Ok(Received::Handshake(answer));
    }
    meter.take(Instant::now()).map_err(|exceeded| limited(ingress, exceeded, &meter))?;
    let traceparent = trace::current(&Span::current(), incoming.as_ref());
    let committed = ingress.committer.commit(verified, traceparent).await;
    let id = committed.inspect_err(|_| meter.give_back())?;
    Span::current().record("event_id", tracing::field::display(id));
    let mut response = answer::accepted(&endpoint, id);
    meter.write_headers(Instant::now(), response.headers_mut());
    Ok(Received::Event(response))
}

/// Why a request is not accepted, and what its producer is told beside it.
struct Refused {
    problem: Problem,
    headers: HeaderMap,
    /// The provider takes nothing but an empty answer.
    empty: bool,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        let mut headers = HeaderMap::new();
        if problem.kind == Kind::MethodNotAllowed {
            headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        Self { problem, headers, empty: false }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = self.problem.kind.status();
        let mut response = if self.empty { status.into_response() } else { self.problem.into_response() };
        response.headers_mut().extend(self.headers);
        response
    }
}

/// A request that failed verification is kept, unless it was us who could not verify it.
fn disbelieved(ingress: &Ingress, unbelieved: Unbelieved) -> Refused {
    let verification = &unbelieved.admitted.endpoint.verification;
    let empty = asked::of(verification).wants_empty_answers();
    let challenge = verify::challenge(verification);
    if matches!(unbelieved.rejection, Rejection::CertificateUnavailable) {
        return verify::problem(&unbelieved.rejection).into();
    }
    let mut refused = Refused { empty, ..ingress.rejected.keep(unbelieved).into() };
    refused.headers.insert(header::WWW_AUTHENTICATE, challenge);
    refused
}

fn limited(ingress: &Ingress, exceeded: Exceeded, meter: &Meter) -> Refused {
    ingress.metrics.limited(match exceeded.scope {
        Scope::Endpoint => "endpoint_rate",
        Scope::Organization => "organization_rate",
    });
    let mut refused = Refused::from(Problem::from(exceeded));
    meter.write_headers(Instant::now(), &mut refused.headers);
    refused
}
