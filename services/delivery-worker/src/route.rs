//! From an endpoint to its destinations, remembered for a moment.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use moka::future::Cache;
use ravenpost_chassis::clock;
use ravenpost_core::ids::{DestinationId, EndpointId};
use ravenpost_store::system::Route;
use ravenpost_store::{Error, System};

/// How long a route is believed to be as it was read: a change takes effect within this time.
const FRESH: Duration = Duration::from_secs(1);
/// A route must not be older than the event by more: a destination that was made before the event came belongs to it.
const OLDER: TimeDelta = TimeDelta::milliseconds(50);
/// Routes remembered at once.
const REMEMBERED: u64 = 20_000;

/// Routes by endpoint. Cloning shares them.
#[derive(Clone)]
pub struct Routes {
    system: System,
    known: Cache<EndpointId, Known>,
}

#[derive(Clone)]
struct Known {
    read_at: DateTime<Utc>,
    route: Option<Arc<Route>>,
}

impl Routes {
    /// Reads through to the store.
    pub fn new(system: System) -> Self {
        Self { system, known: Cache::builder().max_capacity(REMEMBERED).time_to_live(FRESH).build() }
    }

    /// The route of an endpoint for an event received at `received_at`; `None` when the endpoint is not there at all.
    pub async fn of(
        &self,
        endpoint: EndpointId,
        received_at: DateTime<Utc>,
    ) -> Result<Option<Arc<Route>>, Arc<Error>> {
        let known = self.known.try_get_with(endpoint, self.read(endpoint)).await?;
        if known.read_at >= received_at - OLDER {
            return Ok(known.route);
        }
        self.known.invalidate(&endpoint).await;
        Ok(self.known.try_get_with(endpoint, self.read(endpoint)).await?.route)
    }

    /// As [`Routes::of`], for one of the endpoint's destinations: what is remembered may be older than the destination,
    /// and destinations that are not there at all would be cancelled.
    pub async fn to(
        &self,
        destination: DestinationId,
        endpoint: EndpointId,
        received_at: DateTime<Utc>,
    ) -> Result<Option<Arc<Route>>, Arc<Error>> {
        let route = self.of(endpoint, received_at).await?;
        if route.as_ref().is_some_and(|route| route.destination(destination).is_some()) {
            return Ok(route);
        }
        self.known.invalidate(&endpoint).await;
        self.of(endpoint, received_at).await
    }

    async fn read(&self, endpoint: EndpointId) -> Result<Known, Error> {
        // Taken before it is read: what is made meanwhile may be missing.
        let read_at = clock::now();
        Ok(Known { read_at, route: self.system.route(endpoint).await?.map(Arc::new) })
    }
}
