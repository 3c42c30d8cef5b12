//! How fast a caller may ask and how much at once, and how fast an address may guess at keys.
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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::origin::Origin;
use crate::api::Api;
use crate::settings::ConventionSettings;

/// How many callers, and addresses, are remembered; who is forgotten begins anew.
const REMEMBERED: u64 = 100_000;

/// How long a request waits until it is worked on.
const PATIENCE: Duration = Duration::from_secs(5);
/// The part of all that is worked on that one caller can have.
const SHARE: u32 = 4;

type Shared = Arc<Mutex<Bucket>>;

/// What is known of a caller.
struct Known {
    bucket: Shared,
    /// What is worked on of theirs.
    at_once: Arc<Semaphore>,
}

/// What a request holds while it is worked on.
struct Slot {
    _own: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

/// The buckets of all callers and addresses. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rates {
    caller: RateLimit,
    guesses: RateLimit,
    callers: Cache<Actor, Arc<Known>>,
    addresses: Cache<Option<IpAddr>, Shared>,
    at_once: Arc<Semaphore>,
    at_once_of_caller: usize,
}

impl Rates {
    pub(super) fn new(settings: &ConventionSettings) -> Self {
        Self {
            caller: settings.api_rate_limit,
            guesses: settings.api_guess_limit,
            callers: cache(),
            addresses: cache(),
            at_once: Arc::new(Semaphore::new(settings.api_at_once as usize)),
            at_once_of_caller: (settings.api_at_once / SHARE).max(1) as usize,
        }
    }

    fn caller(&self, actor: Actor) -> Arc<Known> {
        let new =
            || Known { bucket: Shared::default(), at_once: Arc::new(Semaphore::new(self.at_once_of_caller)) };
        self.callers.get_with(actor, || Arc::new(new()))
    }

    /// Leave to work on a request; `None` when that does not come in time. So memory has a bound, and nobody's pile of
    /// slow requests keeps others waiting.
    async fn slot(&self, caller: &Known) -> Option<Slot> {
        let slot = async {
            // Its own first: who waits for themselves keeps nobody else waiting.
            let own = Arc::clone(&caller.at_once).acquire_owned().await.ok()?;
            let of_all = Arc::clone(&self.at_once).acquire_owned().await.ok()?;
            Some(Slot { _own: own, _of_all: of_all })
        };
        tokio::time::timeout(PATIENCE, slot).await.ok().flatten()
    }
}

fn cache<K, V>() -> Cache<K, V>
where
    K: Eq + std::hash::Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
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

fn busy() -> Response {
    let detail = "too many requests are being worked on";
    Problem::new(Kind::Unavailable, detail).retry_after(PATIENCE).into_response()
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
    let known = rates.caller(identity.actor());
    let caller = Meter { name: "caller", limit: rates.caller, bucket: Arc::clone(&known.bucket) };
    request.extensions_mut().insert(identity);
    let mut response = match caller.take() {
        Ok(()) => match rates.slot(&known).await {
            Some(_slot) => next.run(request).await,
            None => busy(),
        },
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

    #[tokio::test]
    async fn one_caller_has_a_quarter_and_the_others_the_rest() {
        let rates = Rates::new(&ConventionSettings { api_at_once: 8, ..ConventionSettings::default() });
        let caller = |number| rates.caller(Actor::ApiKey(uuid::Uuid::from_u128(number).into()));
        let (greedy, modest) = (caller(1), caller(2));
        let mut held = vec![rates.slot(&greedy).await.unwrap(), rates.slot(&greedy).await.unwrap()];
        {
            let third = rates.slot(&greedy);
            let mut third = std::pin::pin!(third);
            assert!(futures::poll!(third.as_mut()).is_pending(), "it waits for its own");
            held.push(rates.slot(&modest).await.unwrap());
            held.swap_remove(0);
            held.push(third.await.unwrap());
        }
        assert_eq!(rates.at_once.available_permits(), 8 - held.len());
        drop(held);
        assert_eq!(rates.at_once.available_permits(), 8);
    }

    #[test]
    fn an_address_of_version_6_stands_for_its_network() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("203.0.113.7"), of("203.0.113.8"));
    }
}
