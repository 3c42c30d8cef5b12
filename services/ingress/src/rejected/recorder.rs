//! Writes what was rejected: twice a second at most, one statement whatever has come, then bodies, a few at once.
//!
//! Rows come first: an object without a row would be found by nobody. Nothing is tried again: what a store that is away
//! costs is a copy of something that was refused.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, stream};
use ravenpost_chassis::{Context, clock, random};
use ravenpost_core::event::PayloadLocation;
use ravenpost_core::ids::{EndpointId, OrganizationId, RejectedRequestId};
use ravenpost_store::system::{NewRejected, RejectedCount};
use ravenpost_store::{Payloads, System};
use sha2::{Digest, Sha256};
use tokio::sync::OwnedSemaphorePermit;
use tracing::warn;

use super::{Fate, RejectedRequests, Waiting};

/// How often it is looked whether anything has come.
const EVERY: Duration = Duration::from_millis(500);
const SOON: Duration = Duration::from_millis(20);
/// Bodies that are stored at once.
const BODIES_AT_ONCE: usize = 4;
/// No body of a batch is begun later. With the longest operation of the payload store it is half of what the removal
/// of rows waits for (`store::system::rejected`).
const BEGIN_WITHIN: Duration = Duration::from_secs(20);

/// A body to be stored, and whose it is.
struct Body {
    id: RejectedRequestId,
    organization_id: OrganizationId,
    endpoint_id: EndpointId,
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

struct Recorder {
    rejected: RejectedRequests,
    system: System,
    payloads: Payloads,
}

/// Starts the recorder.
pub(super) fn start(ctx: &Context, rejected: RejectedRequests, system: System, payloads: Payloads) {
    let stopping = ctx.stopping.clone();
    let recorder = Recorder { rejected, system, payloads };
    ctx.spawn("recorder of rejected requests", async move {
        loop {
            // Alone with its state, it has heard of everything.
            let last = stopping.is_cancelled() && std::sync::Arc::strong_count(&recorder.rejected.state) == 1;
            recorder.write().await;
            if last {
                return Ok(());
            }
            // A process that stops is not kept waiting.
            let pause = if stopping.is_cancelled() { SOON } else { EVERY };
            tokio::time::sleep(pause).await;
        }
    });
}

impl Recorder {
    async fn write(&self) {
        let (rejected, counts) = self.rejected.drain(clock::now(), Instant::now());
        if counts.is_empty() && rejected.is_empty() {
            return;
        }
        self.rejected.show_held();
        let (rows, bodies): (Vec<_>, Vec<_>) = rejected.into_iter().map(split).unzip();
        if let Err(error) = self.system.keep_rejected(&rows, &counts).await {
            warn!(
                requests = rows.len(),
                error = &error as &dyn std::error::Error,
                "rejected requests are not kept"
            );
            self.give_up(&rows, &counts);
            return;
        }
        self.store(bodies).await;
        self.rejected.show_held();
    }

    /// Nothing was written: what was to be kept is not, and the counts come with the next write.
    fn give_up(&self, rows: &[NewRejected], counts: &[RejectedCount]) {
        for count in counts {
            let not_kept = count.kept + count.not_kept;
            self.rejected.correct(count.organization_id, count.endpoint_id, 0, not_kept);
        }
        self.rejected.metrics.rejected_request(Fate::Failed, rows.len());
    }

    async fn store(&self, bodies: Vec<Body>) {
        let all = bodies.len();
        let deadline = Instant::now() + BEGIN_WITHIN;
        let failed: Vec<Body> = stream::iter(bodies)
            .map(|body| self.store_one(body, deadline))
            .buffer_unordered(BODIES_AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await;
        self.rejected.metrics.rejected_request(Fate::Kept, all - failed.len());
        if !failed.is_empty() {
            self.disown(&failed).await;
        }
    }

    /// Answers the body again when it could not be stored.
    async fn store_one(&self, body: Body, deadline: Instant) -> Option<Body> {
        // Nothing is stored of nothing.
        if body.bytes.is_empty() {
            return None;
        }
        if Instant::now() > deadline {
            return Some(body);
        }
        let key = PayloadLocation::of_rejected(body.id, 0).s3_key;
        match self.payloads.put(&key, body.bytes.clone()).await {
            Ok(()) => None,
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "the body of a rejected request is not kept");
                Some(body)
            }
        }
    }

    async fn disown(&self, failed: &[Body]) {
        for body in failed {
            self.rejected.correct(body.organization_id, body.endpoint_id, -1, 1);
        }
        self.rejected.metrics.rejected_request(Fate::Failed, failed.len());
        let ids: Vec<_> = failed.iter().map(|body| body.id).collect();
        if let Err(error) = self.system.disown_rejected(&ids, clock::now()).await {
            warn!(
                error = &error as &dyn std::error::Error,
                "rejected requests without their bodies stay until they are too old"
            );
        }
    }
}

/// Its row, and its body.
fn split(Waiting { rejected, room }: Waiting) -> (NewRejected, Body) {
    let id = RejectedRequestId::new(rejected.received_at, random::bytes());
    let row = NewRejected {
        id,
        organization_id: rejected.organization_id,
        endpoint_id: rejected.endpoint_id,
        received_at: rejected.received_at,
        reason: rejected.rejection.reason(),
        detail: rejected.rejection.to_string(),
        method: rejected.method,
        peer: rejected.peer,
        head: rejected.head,
        nonce: random::bytes(),
        body_length: i64::try_from(rejected.body.len()).unwrap_or(i64::MAX),
        body_sha256: Sha256::digest(&rejected.body).into(),
    };
    let body = Body {
        id,
        organization_id: rejected.organization_id,
        endpoint_id: rejected.endpoint_id,
        bytes: rejected.body,
        _room: room,
    };
    (row, body)
}
