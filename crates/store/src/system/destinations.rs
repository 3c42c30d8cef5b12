//! From an endpoint to its destinations, for the worker.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_core::destination::DestinationStatus;
use ravenpost_core::endpoint::EndpointStatus;
use ravenpost_core::ids::{DestinationId, EndpointId, OrganizationId};
use ravenpost_core::retry::RetryPolicy;
use ravenpost_core::secret::Secret;
use url::Url;

use super::System;
use crate::decode::Row;
use crate::{MAX_SKEW_SECONDS, Result};

const MAX_SKEW: TimeDelta = TimeDelta::seconds(MAX_SKEW_SECONDS);

/// Where an endpoint's events go.
#[derive(Debug, Clone)]
pub struct Route {
    /// Whose endpoint it is.
    pub organization_id: OrganizationId,
    /// Whether the endpoint is paused or deleted.
    pub endpoint_status: EndpointStatus,
    /// Its destinations, deleted ones too: what waits for them is to be cancelled.
    pub destinations: Vec<Destination>,
}

/// One target URL.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Its id.
    pub id: DestinationId,
    /// Where to POST.
    pub url: Url,
    /// What we sign with.
    pub signing_secret: Secret,
    /// When to try again.
    pub retry_policy: RetryPolicy,
    /// How long it has to answer.
    pub timeout: Duration,
    /// Sent to, or held.
    pub status: DestinationStatus,
    /// Events accepted earlier are not for it.
    pub created_at: DateTime<Utc>,
    /// Deleted: nothing is sent any more.
    pub deleted: bool,
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
        self.endpoint_status == EndpointStatus::Paused || destination.status == DestinationStatus::Paused
    }
}

impl System {
    /// The route of an endpoint; `None` when there is no such endpoint.
    pub async fn route(&self, endpoint: EndpointId) -> Result<Option<Route>> {
        let found = sqlx::query!("select organization_id, status from endpoints where id = $1", endpoint.0)
            .fetch_optional(&self.pool)
            .await?;
        let Some(found) = found else { return Ok(None) };
        let row = Row { table: "endpoints", id: endpoint.0 };
        Ok(Some(Route {
            organization_id: found.organization_id.into(),
            endpoint_status: row.word("status", &found.status, EndpointStatus::parse)?,
            destinations: self.destinations(endpoint).await?,
        }))
    }

    async fn destinations(&self, endpoint: EndpointId) -> Result<Vec<Destination>> {
        let rows = sqlx::query!(
            "select id, url, signing_secret, retry_policy, timeout_ms, status, created_at,
                 deleted_at is not null as \"deleted!\"
             from destinations where endpoint_id = $1 order by id",
            endpoint.0
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|found| {
                let row = Row { table: "destinations", id: found.id };
                Ok(Destination {
                    id: found.id.into(),
                    url: row.value("url", Url::parse(&found.url))?,
                    signing_secret: self.open(row, "signing_secret", &found.signing_secret, found.id)?,
                    retry_policy: row.json("retry_policy", found.retry_policy)?,
                    timeout: Duration::from_millis(row.value("timeout_ms", u64::try_from(found.timeout_ms))?),
                    status: row.word("status", &found.status, DestinationStatus::parse)?,
                    created_at: found.created_at,
                    deleted: found.deleted,
                })
            })
            .collect()
    }
}
