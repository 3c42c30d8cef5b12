//! Test events: a sample of the endpoint's provider, sent to the endpoint's own URL as its producer would.

use std::time::Duration;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use ravenpost_chassis::problem::{Kind, Path, Problem};
use ravenpost_chassis::{clock, random};
use ravenpost_core::ids::EventId;
use ravenpost_core::signature::sample::{For, Sample, sample};
use ravenpost_egress::Request;
use serde::Serialize;
use url::Url;
use utoipa::ToSchema;

use super::{EndpointPath, missing};
use crate::api::{Api, Failure};
use crate::auth::{Caller, EndpointsWrite};

/// How long ingress has to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// When to try again after ingress was away.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// A test event that was accepted.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TestEvent)]
pub(in crate::api) struct TestEventBody {
    /// The event; `GET /events/{event_id}` tells what becomes of it.
    event_id: EventId,
}

/// Send a test event.
///
/// A sample payload, signed as the endpoint's producer signs, is posted to the endpoint's URL and goes the way of any
/// other event, destinations included. 409 when no sample can be signed: the provider alone has the private key, signs by
/// a scheme of its own, or the endpoint has no secret yet; and when the endpoint refuses it, such as for its content type.
#[utoipa::path(post, path = "/endpoints/{endpoint_id}/test-event", tag = "endpoints", operation_id = "send_test_event",
    params(EndpointPath), security(("api_key" = ["endpoints:write"])),
    responses((status = 202, body = TestEventBody), (status = 409)))]
pub(in crate::api) async fn send(
    caller: Caller<EndpointsWrite>,
    State(api): State<Api>,
    Path(path): Path<EndpointPath>,
) -> Result<(StatusCode, Answer<TestEventBody>), Failure> {
    let token = caller.tenant.endpoint(path.endpoint_id).await?.ok_or_else(missing)?.token;
    let endpoint = api.store.system().endpoint_by_token(&token).await?.ok_or_else(missing)?;
    let hook = format!("/h/{token}");
    let id = format!("test-{}", hex::encode(random::bytes::<16>()));
    let (base, now) = (&*api.hook_base_url, clock::now());
    let (verification, secrets) = (&endpoint.verification, endpoint.secrets.as_slice());
    let made = sample(For { verification, secrets, base, path: &hook, id: &id, now });
    let made = made.map_err(|error| Problem::new(Kind::Conflict, error.to_string()))?;
    caller.tenant.note_test_event(path.endpoint_id, &id, now).await?;
    let event_id = post(&api, &hook, made).await?;
    Ok((StatusCode::ACCEPTED, Answer(TestEventBody { event_id })))
}

/// Posts a sample; answers as which event it was accepted.
async fn post(api: &Api, hook: &str, sample: Sample) -> Result<EventId, Problem> {
    let query = sample.query.map(|query| format!("?{query}")).unwrap_or_default();
    let url = Url::parse(&format!("{}{hook}{query}", api.hook_base_url));
    let url = url.map_err(|error| Problem::internal(&error))?;
    let request = Request {
        url,
        headers: sample.headers,
        body: sample.body.into(),
        timeout: TIMEOUT,
        first_byte_timeout: None,
        tls: None,
    };
    let answer = api.operator.send(request).await;
    let response = answer.result.map_err(|failure| {
        Problem::unavailable(format!("ingress can't be reached: {}", failure.message), RETRY_AFTER)
    })?;
    match (response.status, response.event_id) {
        (200..=299, Some(event)) => Ok(event),
        (500.. | 429, _) => {
            Err(Problem::unavailable(format!("ingress answered {}", response.status), RETRY_AFTER))
        }
        (status, _) => {
            let body = String::from_utf8_lossy(&response.body).chars().take(500).collect::<String>();
            Err(Problem::new(Kind::Conflict, format!("the endpoint refused it with {status}: {body}")))
        }
    }
}
