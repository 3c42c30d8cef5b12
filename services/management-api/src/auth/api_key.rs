//! From the key in a request to its row, remembered for a moment so that not every request asks the database.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use chrono::{DateTime, Utc};
use moka::future::Cache;
use ravenpost_chassis::problem::{Kind, Problem};
use ravenpost_core::access::ApiKey;
use ravenpost_store::Store;
use ravenpost_store::system::ApiKeyRecord;

use crate::api::Failure;

/// How long a key (or that there is none of a prefix) is remembered: a revoked one works so much longer.
const REMEMBERED: Duration = Duration::from_secs(5);
/// How many are remembered; guesses push others out, and can't fill the memory.
const MOST: u64 = 10_000;

/// The API keys of all organizations, by prefix. Cheap to clone.
#[derive(Clone)]
pub struct Keys {
    store: Store,
    records: Cache<String, Option<Arc<ApiKeyRecord>>>,
}

impl Keys {
    /// Keys out of the store.
    pub fn new(store: Store) -> Self {
        let records = Cache::builder().max_capacity(MOST).time_to_live(REMEMBERED).build();
        Self { store, records }
    }

    /// The record of the key that a request presents, proven and not expired.
    pub async fn identify(
        &self,
        headers: &HeaderMap,
        now: DateTime<Utc>,
    ) -> Result<Arc<ApiKeyRecord>, Failure> {
        let key = presented(headers)?;
        let record = self.record(&key).await?.filter(|record| key.matches(&record.hash));
        // One answer for all: it tells no guesser how far they got.
        let record = record.ok_or_else(|| refused("the API key is not known"))?;
        match record.expires_at {
            Some(expires_at) if expires_at <= now => Err(refused("the API key has expired").into()),
            _ => Ok(record),
        }
    }

    async fn record(&self, key: &ApiKey) -> Result<Option<Arc<ApiKeyRecord>>, Failure> {
        if let Some(record) = self.records.get(key.prefix()).await {
            return Ok(record);
        }
        let record = self.store.system().api_key(key.prefix()).await?.map(Arc::new);
        self.records.insert(key.prefix().to_owned(), record.clone()).await;
        Ok(record)
    }
}

fn presented(headers: &HeaderMap) -> Result<ApiKey, Problem> {
    let value = headers
        .get(header::AUTHORIZATION)
        .ok_or_else(|| refused("the request carries no API key: send Authorization: Bearer rvp_…"))?;
    let text = value.to_str().unwrap_or_default();
    let (scheme, token) = text.split_once(' ').unwrap_or_default();
    let key = ApiKey::parse(token.trim()).filter(|_| scheme.eq_ignore_ascii_case("bearer"));
    key.ok_or_else(|| refused("the Authorization header is not of the form Bearer rvp_…"))
}

fn refused(detail: &str) -> Problem {
    Problem::new(Kind::ApiKeyInvalid, detail)
}
