//! From an endpoint to its destinations, remembered until it changes.
//!
//! No event goes by a route that is older than itself: a destination that was made before the event belongs to it. What
//! was remembered is good for an event only if the store has been asked since the event was taken whether anything has
//! changed ([`Routes::catch_up`]). One small question is enough for all endpoints and all that was taken together.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use moka::future::Cache;
use ravenpost_chassis::clock;
use ravenpost_core::ids::{DestinationId, EndpointId};
use ravenpost_store::system::{Route, RouteChanges, RouteMark};
use ravenpost_store::{Error, System};
use tokio::sync::Mutex;

/// A change takes effect within this time, also for events that came before it.
const HEEDED: TimeDelta = TimeDelta::seconds(1);
/// Nothing is believed for longer, whatever is asked: well below the time for which the store remembers changes.
const FRESH: Duration = Duration::from_mins(10);
/// Routes remembered at once.
const REMEMBERED: u64 = 20_000;
/// Changed endpoints remembered at once.
const CHANGED: usize = 10_000;

/// Routes by endpoint. Cloning shares them.
#[derive(Clone)]
pub struct Routes {
    system: System,
    known: Cache<EndpointId, Known>,
    changes: Arc<Changes>,
}

#[derive(Clone)]
struct Known {
    read_at: DateTime<Utc>,
    /// How many changes had been told of before it was read.
    after: u64,
    route: Option<Arc<Route>>,
}

/// What has been heard of changes.
#[derive(Default)]
struct Changes {
    /// Rises with each answer that tells of changes.
    told: AtomicU64,
    latest: RwLock<Latest>,
    /// How far was asked. Held while somebody asks: those who come meanwhile have their answer with his.
    mark: Mutex<RouteMark>,
}

#[derive(Default)]
struct Latest {
    /// When was asked last.
    asked_at: DateTime<Utc>,
    /// When each endpoint was last told of, in the count of `told`.
    by_endpoint: HashMap<EndpointId, u64>,
    /// When something was that may concern any.
    everything: u64,
}

impl Routes {
    /// Reads through to the store.
    pub fn new(system: System) -> Self {
        let known = Cache::builder().max_capacity(REMEMBERED).time_to_live(FRESH).build();
        Self { system, known, changes: Arc::default() }
    }

    /// The route of an endpoint as it was at `needed` or later; `None` when the endpoint is not there at all.
    pub async fn of(
        &self,
        endpoint: EndpointId,
        needed: DateTime<Utc>,
    ) -> Result<Option<Arc<Route>>, Arc<Error>> {
        if let Some(known) = self.known.get(&endpoint).await {
            if self.is_good(endpoint, &known, needed) {
                return Ok(known.route);
            }
            // Rare, and large: it would be copied with each event.
            Box::pin(self.catch_up(needed)).await?;
            if self.is_good(endpoint, &known, needed) {
                return Ok(known.route);
            }
            self.known.invalidate(&endpoint).await;
        }
        let known = Box::pin(self.known.try_get_with(endpoint, self.read(endpoint))).await?;
        if self.is_good(endpoint, &known, needed) {
            return Ok(known.route);
        }
        // Somebody had begun to read it before, and this is what they saw.
        let known = Box::pin(self.read(endpoint)).await?;
        self.known.insert(endpoint, known.clone()).await;
        Ok(known.route)
    }

    /// Whether what is remembered was so at `needed` or later.
    fn is_good(&self, endpoint: EndpointId, known: &Known, needed: DateTime<Utc>) -> bool {
        known.read_at >= needed || self.changes.rule_out(endpoint, known, needed)
    }

    /// The route that leads to `destination`, as it was a moment ago. It is read again before it is told that the
    /// destination is not there at all: what waits for it would be cancelled.
    pub async fn to(
        &self,
        destination: DestinationId,
        endpoint: EndpointId,
    ) -> Result<Option<Arc<Route>>, Arc<Error>> {
        let now = clock::now();
        let route = self.of(endpoint, now - HEEDED).await?;
        if route.as_ref().is_some_and(|route| route.destination(destination).is_some()) {
            return Ok(route);
        }
        self.of(endpoint, now).await
    }

    /// Asks the store what has changed, unless somebody has asked since `needed`.
    async fn catch_up(&self, needed: DateTime<Utc>) -> Result<(), Arc<Error>> {
        let mut mark = self.changes.mark.lock().await;
        let asked_at = self.changes.latest.read().unwrap_or_else(PoisonError::into_inner).asked_at;
        if asked_at >= needed {
            return Ok(());
        }
        let now = clock::now();
        // After a long silence the store may have forgotten what there was to tell.
        if (now - asked_at).to_std().is_ok_and(|silence| silence >= FRESH) {
            *mark = RouteMark::default();
        }
        let news = self.system.route_changes(&mut mark).await?;
        self.changes.heed(&news, now);
        Ok(())
    }

    async fn read(&self, endpoint: EndpointId) -> Result<Known, Error> {
        // Both taken before it is read: what is made or told meanwhile may be missing.
        let (read_at, after) = (clock::now(), self.changes.told.load(Ordering::SeqCst));
        Ok(Known { read_at, after, route: self.system.route(endpoint).await?.map(Arc::new) })
    }
}

impl Changes {
    /// Takes in what was told to somebody who asked at `asked_at`.
    fn heed(&self, news: &RouteChanges, asked_at: DateTime<Utc>) {
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        latest.asked_at = asked_at;
        if news.endpoints.is_empty() && !news.everything {
            return;
        }
        let told = self.told.fetch_add(1, Ordering::SeqCst) + 1;
        latest.by_endpoint.extend(news.endpoints.iter().map(|endpoint| (*endpoint, told)));
        if news.everything || latest.by_endpoint.len() > CHANGED {
            latest.by_endpoint.clear();
            latest.everything = told;
        }
    }

    /// Whether somebody has asked since `needed`, and nothing was told since `known` was read that concerns it.
    fn rule_out(&self, endpoint: EndpointId, known: &Known, needed: DateTime<Utc>) -> bool {
        let latest = self.latest.read().unwrap_or_else(PoisonError::into_inner);
        let told = latest.by_endpoint.get(&endpoint).copied().unwrap_or_default().max(latest.everything);
        latest.asked_at >= needed && told <= known.after
    }
}
