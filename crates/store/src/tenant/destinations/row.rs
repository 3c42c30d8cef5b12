//! How a destination is stored.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ravenpost_core::destination::authentication::Authentication;
use ravenpost_core::destination::headers::CustomHeaders;
use ravenpost_core::destination::tls::TlsSettings;
use ravenpost_core::destination::{DestinationStatus, Signing};
use ravenpost_core::pacing::{DisabledReason, Health, Limits};
use url::Url;

use super::Destination;
use crate::Result;
use crate::decode::Row;
use crate::system::DisableAfter;
use crate::tenant::{Tenant, unsigned};

/// A statement in two parts, and between them what a [`DestinationRow`] is made of.
macro_rules! destination_rows {
    ($before:literal, $after:literal, $($argument:expr),+ $(,)?) => {
        sqlx::query_as!(
            DestinationRow,
            $before + " id, endpoint_id, name, url, retry_policy, timeout_ms, first_byte_timeout_ms, headers,
                 authentication, tls, signing,
                 (select max(s.expires_at) from destination_secrets s
                     where s.destination_id = destinations.id) as former_secrets_expire_at,
                 filter, filter_error, status, replay_on_recovery, limits, disable_after_ms, disabled_reason, disabled_at, version,
                 created_at, updated_at,
                 (select to_jsonb(s) from destination_state s where s.destination_id = destinations.id
                     and s.follows is not distinct from destinations.resumed_at) as state,
                 (select count(*) from (select from scheduled_deliveries w where w.destination_id = destinations.id
                     limit 1001) as counted) as \"waiting!\" " + $after,
            $($argument),+
        )
    };
}

pub(super) use destination_rows;

/// A row as it is stored.
pub(super) struct DestinationRow {
    pub(super) id: uuid::Uuid,
    pub(super) endpoint_id: uuid::Uuid,
    pub(super) name: String,
    pub(super) url: String,
    pub(super) retry_policy: serde_json::Value,
    pub(super) timeout_ms: i32,
    pub(super) filter: Option<serde_json::Value>,
    pub(super) filter_error: Option<serde_json::Value>,
    pub(super) first_byte_timeout_ms: Option<i32>,
    pub(super) headers: Option<Vec<u8>>,
    pub(super) authentication: Option<Vec<u8>>,
    pub(super) tls: Option<Vec<u8>>,
    pub(super) signing: String,
    pub(super) former_secrets_expire_at: Option<DateTime<Utc>>,
    pub(super) status: String,
    pub(super) replay_on_recovery: bool,
    pub(super) limits: Option<serde_json::Value>,
    pub(super) disable_after_ms: Option<i64>,
    pub(super) disabled_reason: Option<String>,
    pub(super) disabled_at: Option<DateTime<Utc>>,
    pub(super) version: i64,
    pub(super) state: Option<serde_json::Value>,
    pub(super) waiting: i64,
    pub(super) created_at: DateTime<Utc>,
    pub(super) updated_at: DateTime<Utc>,
}

impl DestinationRow {
    pub(super) fn decode(self, tenant: &Tenant) -> Result<Destination> {
        let row = Row { table: "destinations", id: self.id };
        let state = Row { table: "destination_state", id: self.id };
        let status = row.word("status", &self.status, DestinationStatus::parse)?;
        let headers = tenant.opened(row, "headers", self.headers.as_deref(), CustomHeaders::from_secret)?;
        let authentication = self.authentication.as_deref();
        Ok(Destination {
            id: self.id.into(),
            endpoint_id: self.endpoint_id.into(),
            name: self.name,
            url: row.value("url", Url::parse(&self.url))?,
            retry_policy: row.json("retry_policy", self.retry_policy)?,
            timeout: Duration::from_millis(unsigned(row, "timeout_ms", self.timeout_ms)?),
            filter: self.filter.map(|filter| row.json("filter", filter)).transpose()?,
            filter_error: self.filter_error.map(|error| row.json("filter_error", error)).transpose()?,
            replay_on_recovery: self.replay_on_recovery,
            status,
            limits: self.limits.map_or(Ok(Limits::default()), |limits| row.json("limits", limits))?,
            disable_after: DisableAfter::decode(row, self.disable_after_ms)?,
            disabled: match (status, self.disabled_reason, self.disabled_at) {
                (DestinationStatus::Disabled, Some(reason), Some(at)) => {
                    Some((row.word("disabled_reason", &reason, DisabledReason::parse)?, at))
                }
                _ => None,
            },
            health: self.state.map_or(Ok(Health::default()), |health| state.json("*", health))?,
            waiting: row.value("waiting", u32::try_from(self.waiting))?,
            first_byte_timeout: self
                .first_byte_timeout_ms
                .map(|time| unsigned(row, "first_byte_timeout_ms", time).map(Duration::from_millis))
                .transpose()?,
            headers: headers.unwrap_or_default(),
            authentication: tenant.opened(
                row,
                "authentication",
                authentication,
                Authentication::from_secret,
            )?,
            tls: tenant.opened(row, "tls", self.tls.as_deref(), TlsSettings::from_secret)?,
            signing: row.word("signing", &self.signing, Signing::parse)?,
            former_secrets_expire_at: self.former_secrets_expire_at,
            version: self.version,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}
