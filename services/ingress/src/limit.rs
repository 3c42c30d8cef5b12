//! How much is accepted: a token bucket for each endpoint and for each organization.
//!
//! A configured rate is that of the whole system. Each replica takes its share of it, configured / live replicas, so
//! nothing has to be asked for a request; a load balancer that spreads requests evenly makes the shares add up.
//!
//! A bucket is looked at before the body is read and taken from after the signature was verified. So whoever merely
//! knows the URL can't use up what the real producer may send: refused requests take nothing.

use std::hash::Hash;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue};
use moka::future::Cache;
use ravenpost_chassis::problem::{Kind, Problem};
use ravenpost_core::ids::{EndpointId, OrganizationId};
use ravenpost_core::limit::bucket::{Bucket, Rate};
use ravenpost_core::limit::{FILLED_WITHIN_SECONDS, RateLimit};
use ravenpost_store::system::Endpoint;

use crate::settings::LimitSettings;

/// Most buckets of each kind that are remembered. A forgotten one is full again.
const REMEMBERED: u64 = 100_000;
/// By then a bucket that nobody took from is full, so that forgetting it changes nothing.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(FILLED_WITHIN_SECONDS as u64);

/// What requests take from at the same time.
type Shared = Arc<Mutex<Bucket>>;

/// How many live replicas share the configured rates. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Replicas(Arc<AtomicU32>);

impl Default for Replicas {
    /// One: whoever knows of no other takes all.
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(1)))
    }
}

impl Replicas {
    /// From now on so many, this one included; 0 counts as 1. Takes effect with the next request.
    pub fn set(&self, live: u32) {
        self.0.store(live.max(1), Ordering::Relaxed);
    }

    fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whose limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The endpoint's.
    Endpoint,
    /// That of all endpoints of its organization.
    Organization,
}

impl Scope {
    /// Its name in headers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::Organization => "organization",
        }
    }
}

/// All limits of this process.
pub struct Limits {
    defaults: LimitSettings,
    replicas: Replicas,
    endpoints: Cache<EndpointId, Shared>,
    organizations: Cache<OrganizationId, Shared>,
}

impl Limits {
    /// With the defaults for endpoints and organizations that have no limit of their own.
    pub fn new(defaults: LimitSettings, replicas: Replicas) -> Self {
        Self { defaults, replicas, endpoints: buckets(), organizations: buckets() }
    }

    /// What limits an endpoint now.
    pub async fn of(&self, endpoint: &Endpoint) -> Meter {
        let replicas = self.replicas.get();
        let mut meter = Meter::default();
        if let Some(limit) = endpoint.rate_limit.or(self.defaults.endpoint_rate_limit) {
            let bucket = self.endpoints.get_with(endpoint.id, async { Arc::default() }).await;
            meter.add(Scope::Endpoint, limit, replicas, bucket);
        }
        if let Some(limit) = endpoint.organization_rate_limit.or(self.defaults.organization_rate_limit) {
            let bucket =
                self.organizations.get_with(endpoint.organization_id, async { Arc::default() }).await;
            meter.add(Scope::Organization, limit, replicas, bucket);
        }
        meter
    }
}

fn buckets<K: Hash + Eq + Send + Sync + 'static>() -> Cache<K, Shared> {
    Cache::builder().max_capacity(REMEMBERED).time_to_idle(FORGOTTEN_AFTER).build()
}

/// The limits that a request meets, at most one of each scope.
#[derive(Default)]
pub struct Meter(Vec<Limit>);

struct Limit {
    scope: Scope,
    configured: RateLimit,
    /// This replica's.
    share: Rate,
    bucket: Shared,
}

/// A limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// Whose.
    pub scope: Scope,
    /// When the next one is accepted.
    pub wait: Duration,
}

impl Meter {
    fn add(&mut self, scope: Scope, configured: RateLimit, replicas: u32, bucket: Shared) {
        self.0.push(Limit { scope, configured, share: Rate::share(configured, replicas), bucket });
    }

    /// Whether another one would be accepted now; takes nothing.
    pub fn check(&self, now: Instant) -> Result<(), Exceeded> {
        self.0.iter().try_for_each(|limit| limit.exceeded(limit.bucket().peek(limit.share, 1.0, now)))
    }

    /// Takes one from every limit, or from none.
    pub fn take(&self, now: Instant) -> Result<(), Exceeded> {
        for (taken, limit) in self.0.iter().enumerate() {
            if let Err(exceeded) = limit.exceeded(limit.bucket().take(limit.share, 1.0, now)) {
                self.0[..taken].iter().for_each(|limit| limit.bucket().give_back(1.0));
                return Err(exceeded);
            }
        }
        Ok(())
    }

    /// Gives back what was taken for an event that could not be accepted.
    pub fn give_back(&self) {
        self.0.iter().for_each(|limit| limit.bucket().give_back(1.0));
    }

    /// Says what is left, as draft-ietf-httpapi-ratelimit-headers-11 writes it. `q` and `w` are those of the whole
    /// system; `r` is what this replica would still accept, which is never too much.
    pub fn write_headers(&self, now: Instant, headers: &mut HeaderMap) {
        if self.0.is_empty() {
            return;
        }
        let list = |item: &dyn Fn(&Limit) -> String| self.0.iter().map(item).collect::<Vec<_>>().join(", ");
        for (name, text) in [
            ("ratelimit-policy", list(&Limit::policy)),
            ("ratelimit", list(&|limit: &Limit| limit.remaining(now))),
        ] {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(name, value);
            }
        }
    }
}

impl Limit {
    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exceeded(&self, wait: Result<(), Duration>) -> Result<(), Exceeded> {
        wait.map_err(|wait| Exceeded { scope: self.scope, wait })
    }

    /// A quota for a window says the lasting rate exactly when the window is as long as the bucket takes to fill.
    fn policy(&self) -> String {
        let RateLimit { per_second, burst } = self.configured;
        let window = burst.div_ceil(per_second).max(1);
        let quota = per_second.saturating_mul(window);
        format!("\"{}\";q={quota};w={window}", self.scope.as_str())
    }

    fn remaining(&self, now: Instant) -> String {
        let left = self.bucket().left(self.share, now);
        format!("\"{}\";r={};t={}", self.scope.as_str(), left.tokens, whole_seconds(left.reset))
    }
}

impl From<Exceeded> for Problem {
    fn from(exceeded: Exceeded) -> Self {
        let detail = match exceeded.scope {
            Scope::Endpoint => "more is sent to this endpoint than its rate limit allows",
            Scope::Organization => "more is sent to this organization's endpoints than its rate limit allows",
        };
        let wait = exceeded.wait.max(Duration::from_secs(1));
        Problem::new(Kind::TooManyRequests, detail).retry_after(wait)
    }
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests;
