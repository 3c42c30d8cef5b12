//! The payload's bytes: inline where the message brought them, otherwise from the payload store.

use bytes::Bytes;
use ravenpost_bus::message::EventMessage;
use ravenpost_store::Payloads;
use tracing::{error, warn};

/// The body of an event; `None` when it can't be had now. A failed fetch is no attempt (PROTOCOLS W10).
pub(super) async fn body(payloads: &Payloads, event: &EventMessage) -> Option<Bytes> {
    if let Some(body) = &event.body {
        return Some(body.clone());
    }
    match payloads.get(&event.payload).await {
        Ok(Some(body)) => Some(body),
        Ok(None) => {
            error!(
                s3_key = event.payload.s3_key,
                "the payload of an accepted event is not in the payload store"
            );
            None
        }
        Err(cause) => {
            warn!(error = &cause as &dyn std::error::Error, "a payload can't be fetched");
            None
        }
    }
}
