//! What fails verification is kept for its endpoint's owner to look at, and costs nobody else anything.
//!
//! ```text
//! keep() ──▶ allowance of the endpoint, of the process ──▶ bounded memory ──▶ recorder ──▶ rows, then bodies
//!   └── what is too much is only counted ──────────────────────────────────────┘  (one statement for all of it)
//! ```
//!
//! Nobody has proven who they are here, so whatever this does for one request, an attacker can have done as often as
//! they like. Hence: a request's way through [`RejectedRequests::keep`] touches memory only, and what is written, and how
//! often, depends on time and not on requests.

mod recorder;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ravenpost_chassis::Context;
use ravenpost_chassis::problem::Problem;
use ravenpost_core::ids::{EndpointId, OrganizationId};
use ravenpost_core::limit::bucket::{Bucket, Rate};
use ravenpost_core::rejected::Head;
use ravenpost_core::signature::Rejection;
use ravenpost_store::system::RejectedCount;
use ravenpost_store::{Payloads, System};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::IngressMetrics;
use crate::verify::{Unbelieved, problem};

/// What one endpoint may have kept by this process. A request costs one, and one more for each [`COST_BYTES`] of its
/// body, so that an endpoint is good for 64 KiB a second at most.
const OF_ENDPOINT: Rate = Rate { burst: 20.0, per_second: 1.0 };
const COST_BYTES: usize = 64 * 1_024;
/// What all endpoints together may have kept.
const OF_PROCESS: Rate = Rate { burst: 200.0, per_second: 50.0 };
/// The largest body that is kept: the default limit of bodies, and within an endpoint's burst.
const MAX_BODY: usize = 1_024 * 1_024;
/// Memory in bytes for what waits to be written.
const MAX_HELD: usize = 8 * 1_024 * 1_024;
/// What a request without headers and body counts for.
const EMPTY: usize = 1_024;
/// Most requests that wait to be written.
const MAX_WAITING: usize = 256;
/// Most endpoints that are counted between two writes; those beyond are in the metric alone.
const MAX_ENDPOINTS: usize = 10_000;

/// What became of a request that failed verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It can be looked at.
    Kept,
    /// Its body is larger than what is kept.
    TooLarge,
    /// Its endpoint, or this process, has had its share.
    OverAllowance,
    /// What waits to be written is too much already.
    NoRoom,
    /// A store was away.
    Failed,
}

impl Fate {
    /// As a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::TooLarge => "too_large",
            Self::OverAllowance => "over_allowance",
            Self::NoRoom => "no_room",
            Self::Failed => "failed",
        }
    }
}

/// Takes rejected requests and has them written in the background. Cheap to clone.
#[derive(Clone)]
pub struct RejectedRequests {
    state: Arc<Mutex<State>>,
    room: Arc<Semaphore>,
    metrics: IngressMetrics,
}

/// What is remembered between two writes.
struct State {
    endpoints: HashMap<EndpointId, Tally>,
    process: Bucket,
    waiting: Vec<Waiting>,
}

/// What an endpoint has had.
struct Tally {
    organization_id: OrganizationId,
    bucket: Bucket,
    kept: i64,
    not_kept: i64,
}

/// A request that is not believed. What it had of the memory for bodies in flight is given back.
struct Rejected {
    organization_id: OrganizationId,
    endpoint_id: EndpointId,
    received_at: DateTime<Utc>,
    method: String,
    peer: Option<IpAddr>,
    head: Head,
    body: Bytes,
    rejection: Rejection,
}

/// A request that waits to be written, and its room in our own memory.
struct Waiting {
    rejected: Rejected,
    room: OwnedSemaphorePermit,
}

impl RejectedRequests {
    /// Starts the recorder. It ends with the process, once nobody can reject anything any more.
    pub fn start(ctx: &Context, system: System, payloads: Payloads, metrics: IngressMetrics) -> Self {
        let rejected = Self::new(metrics);
        recorder::start(ctx, rejected.clone(), system, payloads);
        rejected
    }

    fn new(metrics: IngressMetrics) -> Self {
        let state = State { endpoints: HashMap::new(), process: Bucket::default(), waiting: Vec::new() };
        Self { state: Arc::new(Mutex::new(state)), room: Arc::new(Semaphore::new(MAX_HELD)), metrics }
    }

    /// Keeps a request if it may be kept, and says what its producer is told. Does not wait for anything.
    pub fn keep(&self, unbelieved: Unbelieved) -> Problem {
        let told = problem(&unbelieved.rejection);
        let fate = self.take(Rejected::from(unbelieved), Instant::now());
        // What is kept is counted when it is.
        if fate != Fate::Kept {
            self.metrics.rejected_request(fate, 1);
        }
        told
    }

    fn take(&self, rejected: Rejected, now: Instant) -> Fate {
        let endpoint = rejected.endpoint_id;
        let mut state = self.state();
        let fate = match state.allow(&rejected, now) {
            Fate::Kept => state.wait(rejected, &self.room),
            refused => refused,
        };
        state.count(endpoint, fate);
        fate
    }

    /// What is to be written now: requests, and counts by endpoint.
    fn drain(&self, at: DateTime<Utc>, now: Instant) -> (Vec<Waiting>, Vec<RejectedCount>) {
        let mut state = self.state();
        let mut counts = Vec::new();
        state.endpoints.retain(|endpoint_id, tally| {
            let (kept, not_kept) = (std::mem::take(&mut tally.kept), std::mem::take(&mut tally.not_kept));
            if kept != 0 || not_kept != 0 {
                let (organization_id, endpoint_id) = (tally.organization_id, *endpoint_id);
                counts.push(RejectedCount { organization_id, endpoint_id, at, kept, not_kept });
            }
            // An endpoint with a full bucket is as good as unknown.
            !tally.bucket.is_full(OF_ENDPOINT, now)
        });
        (std::mem::take(&mut state.waiting), counts)
    }

    /// Takes back that so many of an endpoint were kept; with the next write they are counted as not kept.
    fn correct(&self, organization_id: OrganizationId, endpoint_id: EndpointId, kept: i64, not_kept: i64) {
        let mut state = self.state();
        let tally = state.endpoints.entry(endpoint_id).or_insert_with(|| Tally::new(organization_id));
        tally.kept += kept;
        tally.not_kept += not_kept;
    }

    /// Tells how much waits to be written.
    fn show_held(&self) {
        let held = MAX_HELD.saturating_sub(self.room.available_permits());
        self.metrics.rejected_held_bytes.set(i64::try_from(held).unwrap_or(i64::MAX));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether it may be kept, as far as it is for allowances to say.
    fn allow(&mut self, rejected: &Rejected, now: Instant) -> Fate {
        let endpoint = rejected.endpoint_id;
        if self.endpoints.len() >= MAX_ENDPOINTS && !self.endpoints.contains_key(&endpoint) {
            return Fate::OverAllowance;
        }
        let new = || Tally::new(rejected.organization_id);
        let tally = self.endpoints.entry(endpoint).or_insert_with(new);
        let body = rejected.body.len();
        if body > MAX_BODY {
            return Fate::TooLarge;
        }
        let cost = f64::from(1 + u32::try_from(body / COST_BYTES).unwrap_or(u32::MAX - 1));
        let allowed = tally.bucket.take(OF_ENDPOINT, cost, now);
        let allowed = allowed.and_then(|()| self.process.take(OF_PROCESS, 1.0, now));
        if allowed.is_ok() { Fate::Kept } else { Fate::OverAllowance }
    }

    fn wait(&mut self, rejected: Rejected, room: &Arc<Semaphore>) -> Fate {
        let bytes = u32::try_from(EMPTY + rejected.head.size() + rejected.body.len()).unwrap_or(u32::MAX);
        match Arc::clone(room).try_acquire_many_owned(bytes) {
            Ok(room) if self.waiting.len() < MAX_WAITING => {
                self.waiting.push(Waiting { rejected, room });
                Fate::Kept
            }
            Ok(_) | Err(_) => Fate::NoRoom,
        }
    }

    fn count(&mut self, endpoint: EndpointId, fate: Fate) {
        let Some(tally) = self.endpoints.get_mut(&endpoint) else { return };
        if fate == Fate::Kept { tally.kept += 1 } else { tally.not_kept += 1 }
    }
}

impl Tally {
    fn new(organization_id: OrganizationId) -> Self {
        Self { organization_id, bucket: Bucket::default(), kept: 0, not_kept: 0 }
    }
}

impl From<Unbelieved> for Rejected {
    fn from(Unbelieved { admitted, rejection }: Unbelieved) -> Self {
        let credential_header = admitted.endpoint.verification.credential_header();
        Self {
            organization_id: admitted.endpoint.organization_id,
            endpoint_id: admitted.endpoint.id,
            received_at: admitted.received_at,
            method: admitted.method.to_string(),
            peer: admitted.peer,
            // Without the path: the token stands in it.
            head: Head {
                query: admitted.uri.query().map(str::to_owned),
                headers: admitted.headers,
                credential_header: credential_header.map(str::to_ascii_lowercase),
            },
            body: admitted.body,
            rejection,
        }
    }
}

#[cfg(test)]
mod tests;
