//! From an endpoint to its destinations, remembered for a moment.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use ravenpost_core::ids::EndpointId;
use ravenpost_store::system::Route;
use ravenpost_store::{Error, System};

/// How long a route is believed to be as it was read: a change takes effect within this time.
const FRESH: Duration = Duration::from_secs(1);
/// Routes remembered at once.
const REMEMBERED: u64 = 20_000;

/// Routes by endpoint. Cloning shares them.
#[derive(Clone)]
pub struct Routes {
    system: System,
    known: Cache<EndpointId, Option<Arc<Route>>>,
}

impl Routes {
    /// Reads through to the store.
    pub fn new(system: System) -> Self {
        Self { system, known: Cache::builder().max_capacity(REMEMBERED).time_to_live(FRESH).build() }
    }

    /// The route of an endpoint; `None` when the endpoint is not there at all.
    pub async fn of(&self, endpoint: EndpointId) -> Result<Option<Arc<Route>>, Arc<Error>> {
        let load = async { Ok(self.system.route(endpoint).await?.map(Arc::new)) };
        self.known.try_get_with(endpoint, load).await
    }
}
