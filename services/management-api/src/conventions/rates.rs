//! How fast a caller may ask, and how fast an address may guess at keys.
//!
//! Each replica counts for itself, so that nobody waits for another process; so many replicas allow so many times as much.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use moka::sync::Cache;
use ravenpost_chassis::clock;
use ravenpost_chassis::problem::{Kind, Problem};
use ravenpost_core::access::Actor;
use ravenpost_core::limit::bucket::{Bucket, Rate};
use ravenpost_core::limit::{FILLED_WITHIN_SECONDS, RateLimit};

use super::origin::Origin;
use crate::api::Api;
use crate::settings::ConventionSettings;

/// How many callers, and addresses, are remembered; who is forgotten begins anew.
const REMEMBERED: u64 = 100_000;

type Shared = Arc<Mutex<Bucket>>;

/// The buckets of all callers and addresses. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rates {
    caller: RateLimit,
    guesses: RateLimit,
    callers: Cache<Actor, Shared>,
    addresses: Cache<Option<IpAddr>, Shared>,
}

impl Rates {
    pub(super) fn new(settings: &ConventionSettings) -> Self {
        Self {
            caller: settings.api_rate_limit,
            guesses: settings.api_guess_limit,
            callers: cache(),
            addresses: cache(),
        }
    }
}

fn cache<K: Eq + std::hash::Hash + Send + Sync + 'static>() -> Cache<K, Shared> {
    // By then it is full again: forgetting it changes nothing.
    let idle = Duration::from_secs(FILLED_WITHIN_SECONDS.into());
    Cache::builder().max_capacity(REMEMBERED).time_to_idle(idle).build()
}

/// A bucket of a request, with its limit.
struct Meter {
    name: &'static str,
    limit: RateLimit,
    bucket: Shared,
}

impl Meter {
    fn take(&self) -> Result<(), Duration> {
        self.with(|bucket, rate| bucket.take(rate, 1.0, Instant::now()))
    }

    fn peek(&self) -> Result<(), Duration> {
        self.with(|bucket, rate| bucket.peek(rate, 1.0, Instant::now()))
    }

    fn with<T>(&self, with: impl FnOnce(&mut Bucket, Rate) -> T) -> T {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        with(&mut bucket, Rate::share(self.limit, 1))
    }

    /// Says what is left, as draft-ietf-httpapi-ratelimit-headers-11 writes it.
    fn write(&self, headers: &mut HeaderMap) {
        let RateLimit { per_second, burst } = self.limit;
        // A quota for a window says the lasting rate exactly when the window is as long as the bucket takes to fill.
        let window = burst.div_ceil(per_second).max(1);
        let quota = per_second.saturating_mul(window);
        let left = self.with(|bucket, rate| bucket.left(rate, Instant::now()));
        let reset = left.reset.as_secs() + u64::from(left.reset.subsec_nanos() > 0);
        for (name, text) in [
            ("ratelimit-policy", format!("\"{}\";q={quota};w={window}", self.name)),
            ("ratelimit", format!("\"{}\";r={};t={reset}", self.name, left.tokens)),
        ] {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(name, value);
            }
        }
    }
}

fn exceeded(detail: &str, wait: Duration) -> Response {
    Problem::new(Kind::TooManyRequests, detail).retry_after(wait.max(Duration::from_secs(1))).into_response()
}

/// Whoever asks is known from here on, and has not asked too often.
pub(super) async fn bound(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let rates = &api.conventions.rates;
    let address = Origin::of(request.extensions()).address;
    let bucket = rates.addresses.get_with(address.map(network), Shared::default);
    let guesses = Meter { name: "address", limit: rates.guesses, bucket };
    if let Err(wait) = guesses.peek() {
        return exceeded("too many requests without a valid API key came from this address", wait);
    }
    let identity = match api.auth.identify(request.headers(), address, clock::now()).await {
        Ok(identity) => identity,
        Err(failure) => {
            let response = failure.into_response();
            if response.status() == StatusCode::UNAUTHORIZED {
                let _ = guesses.take();
            }
            return response;
        }
    };
    let bucket = rates.callers.get_with(identity.actor(), Shared::default);
    let caller = Meter { name: "caller", limit: rates.caller, bucket };
    request.extensions_mut().insert(identity);
    let mut response = match caller.take() {
        Ok(()) => next.run(request).await,
        Err(wait) => exceeded("more requests come from this caller than its rate limit allows", wait),
    };
    caller.write(response.headers_mut());
    response
}

/// Who has an address of version 6 has a network of them.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_said() {
        let limit = RateLimit { per_second: 10, burst: 25 };
        let meter = Meter { name: "caller", limit, bucket: Shared::default() };
        for _ in 0..5 {
            meter.take().unwrap();
        }
        let mut headers = HeaderMap::new();
        meter.write(&mut headers);
        assert_eq!(headers["ratelimit-policy"], "\"caller\";q=30;w=3");
        assert_eq!(headers["ratelimit"], "\"caller\";r=20;t=1");
    }

    #[test]
    fn an_address_of_version_6_stands_for_its_network() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("203.0.113.7"), of("203.0.113.8"));
    }
}
