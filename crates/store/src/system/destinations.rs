//! From an endpoint to its destinations, for the worker.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_core::destination::authentication::Authentication;
use ravenpost_core::destination::headers::CustomHeaders;
use ravenpost_core::destination::tls::TlsSettings;
use ravenpost_core::destination::{DestinationStatus, Signing};
use ravenpost_core::endpoint::EndpointStatus;
use ravenpost_core::filter::Filter;
use ravenpost_core::ids::{DestinationId, EndpointId, EventId, OrganizationId};
use ravenpost_core::retry::RetryPolicy;
use ravenpost_core::secret::Secret;
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use super::signing_keys::{Keys, OrganizationKey};
use super::{PaceSettings, System};
use crate::decode::{Damaged, Row};
use crate::lease::bounded;
use crate::{MAX_SKEW_SECONDS, Result};

const MAX_SKEW: TimeDelta = TimeDelta::seconds(MAX_SKEW_SECONDS);

/// Where an endpoint's events go.
#[derive(Debug, Clone)]
pub struct Route {
    /// What the endpoint is called.
    pub endpoint_name: String,
    /// The endpoint is paused: everything is held.
    pub paused: bool,
    /// Its destinations, and those that were deleted lately. Whatever is to go to one that is not here is cancelled.
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

/// That a destination's filter has failed for an event, which was delivered therefore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterError {
    /// Why.
    pub message: String,
    /// For which event.
    pub event_id: EventId,
    /// When.
    pub failed_at: DateTime<Utc>,
}

/// How a destination is sent to.
#[derive(Debug, Clone)]
pub struct DeliveryConfig {
    /// Where to POST.
    pub url: Url,
    /// How we sign.
    pub signing: Signing,
    /// The secret that we sign with.
    pub signing_secret: Secret,
    /// Secrets of before, with which we sign as well until they expire; the one that stays longest first.
    pub former_secrets: Vec<FormerSecret>,
    /// The organization's key pairs, oldest first; none where they are not signed with.
    pub keys: Arc<[OrganizationKey]>,
    /// What goes with each request.
    pub headers: CustomHeaders,
    /// How we prove who we are.
    pub authentication: Option<Authentication>,
    /// What it wants of TLS.
    pub tls: Option<TlsSettings>,
    /// When to try again.
    pub retry_policy: RetryPolicy,
    /// How long it has to answer.
    pub timeout: Duration,
    /// What it wants; `None` for everything.
    pub filter: Option<Filter>,
    /// How long it has to begin to, within `timeout`; `None`: as the operator has set it.
    pub first_byte_timeout: Option<Duration>,
}

/// A secret that was replaced.
#[derive(Debug, Clone)]
pub struct FormerSecret {
    /// Itself.
    pub secret: Secret,
    /// When we no longer sign with it.
    pub expires_at: DateTime<Utc>,
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
        let found =
            sqlx::query!("select name, organization_id, status from endpoints where id = $1", endpoint.0);
        let Some(found) = bounded!(self, found, fetch_optional) else { return Ok(None) };
        let paused = found.status != EndpointStatus::Active.as_str();
        let destinations = self.destinations(found.organization_id.into(), endpoint).await?;
        Ok(Some(Route { endpoint_name: found.name, paused, destinations }))
    }

    /// Deleted ones are bounded as those that are not: whoever makes and deletes them must not make the route long.
    async fn destinations(
        &self,
        organization: OrganizationId,
        endpoint: EndpointId,
    ) -> Result<Vec<Destination>> {
        let query = sqlx::query_as!(
            StoredDestination,
            "select d.id, d.url, d.signing, d.signing_secret, d.headers, d.authentication, d.tls, d.retry_policy,
                 d.timeout_ms, d.first_byte_timeout_ms, d.filter, d.status, d.created_at,
                 d.limits, d.disable_after_ms, d.resumed_at, d.deleted_at is not null as \"deleted!\",
                 array(select s.secret from destination_secrets s
                     where s.destination_id = d.id and s.expires_at > now()
                     order by s.expires_at desc, s.id desc) as \"former_secrets!\",
                 array(select s.expires_at from destination_secrets s
                     where s.destination_id = d.id and s.expires_at > now()
                     order by s.expires_at desc, s.id desc) as \"former_expiries!\"
             from destinations d where d.endpoint_id = $1 and (d.deleted_at is null or d.id = any (array(
                     select r.id from destinations r
                     where r.endpoint_id = $1 and r.deleted_at > now() - interval '1 day'
                     order by r.deleted_at desc limit 100)))
             order by d.id",
            endpoint.0
        );
        let rows = bounded!(self, query, fetch_all);
        let by_key = rows.iter().any(|row| Signing::parse(&row.signing).is_some_and(Signing::by_key));
        let keys = if by_key { self.organization_keys(organization).await? } else { Ok(Arc::default()) };
        Ok(rows.into_iter().map(|stored| self.destination(stored, &keys)).collect())
    }

    /// Tells a destination's owner that its filter has failed for an event, unless that was told within the last minute
    /// or the filter is another one by now.
    pub async fn report_filter_error(
        &self,
        destination: DestinationId,
        filter: &Filter,
        error: &FilterError,
    ) -> Result<()> {
        let as_json = |value: serde_json::Result<serde_json::Value>| value.expect("texts and a time");
        bounded!(
            self,
            sqlx::query!(
                "update destinations set filter_error = $3
                 where id = $1 and filter = $2 and (filter_error is null
                     or (filter_error ->> 'failed_at')::timestamptz <= $4::timestamptz - interval '1 minute')",
                destination.0,
                as_json(serde_json::to_value(filter)),
                as_json(serde_json::to_value(error)),
                error.failed_at
            ),
            execute
        );
        Ok(())
    }

    fn destination(&self, stored: StoredDestination, keys: &Keys) -> Destination {
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
                stored.timeout_ms,
            ),
            delivery: self.delivery_config(stored, keys),
        }
    }

    fn delivery_config(
        &self,
        stored: StoredDestination,
        keys: &Keys,
    ) -> std::result::Result<DeliveryConfig, Arc<Damaged>> {
        let row = Row { table: "destinations", id: stored.id };
        let signing = row.word("signing", &stored.signing, Signing::parse)?;
        let keys = if signing.by_key() { keys.clone()? } else { Arc::default() };
        if signing.by_key() && keys.is_empty() {
            return Err(row.damaged("signing", &"the organization has no key to sign with").into());
        }
        let headers = self.opened(row, "headers", stored.headers.as_deref(), CustomHeaders::from_secret)?;
        let authentication = stored.authentication.as_deref();
        Ok(DeliveryConfig {
            url: row.value("url", Url::parse(&stored.url))?,
            signing,
            signing_secret: self.open(row, "signing_secret", &stored.signing_secret, stored.id)?,
            former_secrets: self.former_secrets(&stored)?,
            keys,
            headers: headers.unwrap_or_default(),
            authentication: self.opened(
                row,
                "authentication",
                authentication,
                Authentication::from_secret,
            )?,
            tls: self.opened(row, "tls", stored.tls.as_deref(), TlsSettings::from_secret)?,
            retry_policy: row.json("retry_policy", stored.retry_policy)?,
            filter: stored.filter.map(|filter| row.json("filter", filter)).transpose()?,
            timeout: milliseconds(row, "timeout_ms", stored.timeout_ms)?,
            first_byte_timeout: stored
                .first_byte_timeout_ms
                .map(|time| milliseconds(row, "first_byte_timeout_ms", time))
                .transpose()?,
        })
    }

    /// What is sealed for the row in a column that may be null.
    fn opened<T>(
        &self,
        row: Row,
        column: &'static str,
        sealed: Option<&[u8]>,
        read: fn(&Secret) -> std::result::Result<T, &'static str>,
    ) -> std::result::Result<Option<T>, Damaged> {
        let Some(sealed) = sealed else { return Ok(None) };
        let secret = self.open(row, column, sealed, row.id)?;
        row.value(column, read(&secret)).map(Some)
    }

    fn former_secrets(&self, stored: &StoredDestination) -> std::result::Result<Vec<FormerSecret>, Damaged> {
        let row = Row { table: "destination_secrets", id: stored.id };
        let former = stored.former_secrets.iter().zip(&stored.former_expiries);
        former
            .map(|(sealed, expires_at)| {
                let secret = self.open(row, "secret", sealed, stored.id)?;
                Ok(FormerSecret { secret, expires_at: *expires_at })
            })
            .collect()
    }
}

fn milliseconds(row: Row, column: &'static str, time: i32) -> std::result::Result<Duration, Damaged> {
    Ok(Duration::from_millis(row.value(column, u64::try_from(time))?))
}

struct StoredDestination {
    id: Uuid,
    url: String,
    signing: String,
    signing_secret: Vec<u8>,
    former_secrets: Vec<Vec<u8>>,
    former_expiries: Vec<DateTime<Utc>>,
    headers: Option<Vec<u8>>,
    authentication: Option<Vec<u8>>,
    tls: Option<Vec<u8>>,
    retry_policy: serde_json::Value,
    timeout_ms: i32,
    filter: Option<serde_json::Value>,
    first_byte_timeout_ms: Option<i32>,
    status: String,
    created_at: DateTime<Utc>,
    limits: Option<serde_json::Value>,
    disable_after_ms: Option<i64>,
    resumed_at: Option<DateTime<Utc>>,
    deleted: bool,
}
