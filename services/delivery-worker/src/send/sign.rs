//! The headers of a delivery: the producer's own, and ours over them.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue};
use ravenpost_bus::message::EventMessage;
use ravenpost_core::headers;
use ravenpost_core::signature::{hub, standard_webhooks};
use ravenpost_core::trace::Traceparent;
use ravenpost_store::system::DeliveryConfig;
use tracing::error;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Everything that goes with the body.
pub(super) fn headers(
    event: &EventMessage,
    destination: &DeliveryConfig,
    now: DateTime<Utc>,
    body: &Bytes,
    traceparent: &Traceparent,
) -> HeaderMap {
    let mut headers = headers::decode(&event.headers).unwrap_or_else(|damaged| {
        error!(
            error = &damaged as &dyn std::error::Error,
            "an event is delivered without its producer's headers"
        );
        HeaderMap::new()
    });
    for ours in headers::OURS {
        headers.remove(ours);
    }
    let id = event.id.to_string();
    match standard_webhooks::sign(&destination.signing_secret, &id, now.timestamp(), body) {
        Ok(signature) => insert(&mut headers, standard_webhooks::SIGNATURE, &signature),
        Err(invalid) => {
            error!(error = &invalid as &dyn std::error::Error, "a destination's secret can't sign");
        }
    }
    insert(&mut headers, standard_webhooks::ID, &id);
    insert(&mut headers, standard_webhooks::TIMESTAMP, &now.timestamp().to_string());
    insert(&mut headers, hub::SIGNATURE, &hub::sign(&destination.signing_secret, body));
    insert(&mut headers, TRACEPARENT, &traceparent.to_string());
    headers
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    let value = HeaderValue::from_str(value).expect("ids, numbers and signatures are visible ASCII");
    headers.insert(name, value);
}
