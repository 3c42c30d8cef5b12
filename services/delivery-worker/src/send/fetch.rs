//! The payload's bytes: inline where the message brought them, with its neighbours where those wait, too, otherwise from
//! the payload store.

use bytes::Bytes;
use ravenpost_bus::message::INLINE_LIMIT;
use ravenpost_store::Payloads;
use tracing::{error, warn};

use super::{Done, Job};
use crate::budget::{Budget, Part};

/// A body, and what it takes of the shared memory while it is there.
type Fetched = (Bytes, Option<Part>);

/// The body of an event; otherwise what becomes of the job. A failed fetch is no attempt (PROTOCOLS W10).
pub(super) async fn body(payloads: &Payloads, budget: &Budget, job: &Job) -> Result<Fetched, Done> {
    if let Some(body) = &job.event.body {
        return Ok((body.clone(), None));
    }
    // Large, and needless for most: it would be copied with each attempt.
    Box::pin(stored(payloads, budget, job)).await
}

async fn stored(payloads: &Payloads, budget: &Budget, job: &Job) -> Result<Fetched, Done> {
    let location = &job.event.payload;
    if let Some(body) = with_neighbours(payloads, job).await {
        return Ok((body, None));
    }
    let length = usize::try_from(location.s3_length).unwrap_or(usize::MAX);
    let part = match length {
        ..=INLINE_LIMIT => None,
        _ => Some(budget.payload(job.event.organization_id, length).await),
    };
    match payloads.get(location).await {
        Ok(Some(body)) => Ok((body, part)),
        Ok(None) => {
            error!(
                s3_key = location.s3_key,
                "the payload of an accepted event is not in the payload store, or not all of it"
            );
            Err(Done::PayloadMissing)
        }
        Err(cause) => {
            warn!(error = &cause as &dyn std::error::Error, "a payload can't be fetched");
            Err(Done::NotSent)
        }
    }
}

async fn with_neighbours(payloads: &Payloads, job: &Job) -> Option<Bytes> {
    let read = job.neighbours.as_ref()?.get(payloads, &job.event.payload).await;
    read.unwrap_or_else(|cause| {
        // By itself it may be had all the same.
        warn!(error = &cause as &dyn std::error::Error, "payloads can't be fetched together");
        None
    })
}
