//! From an endpoint to its destinations, for the worker.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_core::destination::DestinationStatus;
use ravenpost_core::endpoint::EndpointStatus;
use ravenpost_core::ids::{DestinationId, EndpointId};
use ravenpost_core::retry::RetryPolicy;
use ravenpost_core::secret::Secret;
use url::Url;
use uuid::Uuid;

use super::{PaceSettings, System};
use crate::decode::{Damaged, Row};
use crate::lease::bounded;
use crate::{MAX_SKEW_SECONDS, Result};

const MAX_SKEW: TimeDelta = TimeDelta::seconds(MAX_SKEW_SECONDS);

/// Where an endpoint's events go.
#[derive(Debug, Clone)]
pub struct Route {
    /// The endpoint is paused: everything is held.
    pub paused: bool,
    /// Its destinations, deleted ones too: what waits for them is to be cancelled.
    pub destinations: Vec<Destination>,
}

/// One target URL.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Its id.
    pub id: DestinationId,
    /// Events accepted earlier are not for it.
    pub created_at: DateTime<Utc>,
    /// Deleted: nothing is sent any more.
    pub deleted: bool,
    /// Held by its owner, or by us.
    pub paused: bool,
    /// How fast it is sent to.
    pub pace: PaceSettings,
    /// How it is sent to. Damage here concerns this destination alone: its events wait until it is mended.
    pub delivery: std::result::Result<DeliveryConfig, Arc<Damaged>>,
}

/// How a destination is sent to.
#[derive(Debug, Clone)]
pub struct DeliveryConfig {
    /// Where to POST.
    pub url: Url,
    /// What we sign with.
    pub signing_secret: Secret,
    /// When to try again.
    pub retry_policy: RetryPolicy,
    /// How long it has to answer.
    pub timeout: Duration,
}

impl Route {
    /// The destination of that id.
    pub fn destination(&self, id: DestinationId) -> Option<&Destination> {
        self.destinations.iter().find(|destination| destination.id == id)
    }

    /// The destinations that an event accepted at `received_at` is for: those that existed then. Clocks may differ,
    /// so one made a moment later counts as well, rather than lose the first event sent to it.
    pub fn wanted_by(&self, received_at: DateTime<Utc>) -> impl Iterator<Item = &Destination> {
        self.destinations.iter().filter(move |destination| {
            !destination.deleted && destination.created_at <= received_at + MAX_SKEW
        })
    }

    /// Whether sending to `destination` waits for a person.
    pub fn holds(&self, destination: &Destination) -> bool {
        self.paused || destination.paused
    }
}

impl System {
    /// The route of an endpoint; `None` when there is no such endpoint.
    pub async fn route(&self, endpoint: EndpointId) -> Result<Option<Route>> {
        let status = sqlx::query_scalar!("select status from endpoints where id = $1", endpoint.0);
        let Some(status) = bounded!(self, status, fetch_optional) else { return Ok(None) };
        let paused = status != EndpointStatus::Active.as_str();
        Ok(Some(Route { paused, destinations: self.destinations(endpoint).await? }))
    }

    async fn destinations(&self, endpoint: EndpointId) -> Result<Vec<Destination>> {
        let query = sqlx::query_as!(
            StoredDestination,
            "select id, url, signing_secret, retry_policy, timeout_ms, status, created_at,
                 limits, disable_after_ms, resumed_at, deleted_at is not null as \"deleted!\"
             from destinations where endpoint_id = $1 order by id",
            endpoint.0
        );
        let rows = bounded!(self, query, fetch_all);
        Ok(rows.into_iter().map(|stored| self.destination(stored)).collect())
    }

    fn destination(&self, stored: StoredDestination) -> Destination {
        Destination {
            id: stored.id.into(),
            created_at: stored.created_at,
            deleted: stored.deleted,
            paused: stored.status != DestinationStatus::Active.as_str(),
            pace: PaceSettings::decode(
                Row { table: "destinations", id: stored.id },
                stored.limits.clone(),
                stored.disable_after_ms,
                stored.resumed_at,
            ),
            delivery: self.delivery_config(stored).map_err(Arc::new),
        }
    }

    fn delivery_config(&self, stored: StoredDestination) -> std::result::Result<DeliveryConfig, Damaged> {
        let row = Row { table: "destinations", id: stored.id };
        Ok(DeliveryConfig {
            url: row.value("url", Url::parse(&stored.url))?,
            signing_secret: self.open(row, "signing_secret", &stored.signing_secret, stored.id)?,
            retry_policy: row.json("retry_policy", stored.retry_policy)?,
            timeout: Duration::from_millis(row.value("timeout_ms", u64::try_from(stored.timeout_ms))?),
        })
    }
}

struct StoredDestination {
    id: Uuid,
    url: String,
    signing_secret: Vec<u8>,
    retry_policy: serde_json::Value,
    timeout_ms: i32,
    status: String,
    created_at: DateTime<Utc>,
    limits: Option<serde_json::Value>,
    disable_after_ms: Option<i64>,
    resumed_at: Option<DateTime<Utc>>,
    deleted: bool,
}
