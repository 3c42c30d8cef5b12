//! From the key in a request to its row, remembered until it changes so that not every request asks the database.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use ravenpost_chassis::problem::{Kind, Problem};
use ravenpost_core::access::ApiKey;
use ravenpost_store::System;
use ravenpost_store::system::ApiKeyRecord;

use super::news::{News, Remembered};
use crate::api::Failure;

/// The API keys of all organizations, by prefix. Cheap to clone.
#[derive(Clone)]
pub(super) struct Keys {
    system: System,
    /// Also that there is none.
    records: Arc<Remembered<String, Option<Arc<ApiKeyRecord>>>>,
}

impl Keys {
    pub(super) fn new(system: System, news: Arc<News>) -> Self {
        Self { system, records: Arc::new(Remembered::new(news)) }
    }

    /// The record of a key, proven, neither expired nor revoked.
    pub(super) async fn identify(
        &self,
        key: &ApiKey,
        now: DateTime<Utc>,
    ) -> Result<Arc<ApiKeyRecord>, Failure> {
        let prefix = key.prefix().to_owned();
        let read = async { Ok::<_, Failure>(self.system.api_key(&prefix).await?.map(Arc::new)) };
        let record = self.records.get(&prefix, read).await?.filter(|record| key.matches(&record.hash));
        // One answer for all: it tells no guesser how far they got.
        let record = record.ok_or_else(|| refused("the API key is not known"))?;
        if record.revoked_at.is_some() {
            return Err(refused("the API key was revoked").into());
        }
        match record.expires_at {
            Some(expires_at) if expires_at <= now => Err(refused("the API key has expired").into()),
            _ => Ok(record),
        }
    }

    /// It may have changed.
    pub(super) fn forget(&self, prefix: &str) {
        self.records.forget(&prefix.to_owned());
    }
}

fn refused(detail: &str) -> Problem {
    Problem::new(Kind::ApiKeyInvalid, detail)
}
