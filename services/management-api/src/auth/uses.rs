//! When keys were used last, to the minute: noted in memory with each request, and written beside them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use ravenpost_chassis::{Context, clock};
use ravenpost_core::ids::ApiKeyId;
use ravenpost_store::System;
use ravenpost_store::system::ApiKeyUse;

/// How often it is looked at what is to be written.
const EVERY: Duration = Duration::from_secs(5);
/// Each key is written of once in so long.
const MINUTE: TimeDelta = TimeDelta::minutes(1);

/// The uses of keys.
#[derive(Default)]
pub(super) struct Uses {
    keys: Mutex<HashMap<ApiKeyId, Use>>,
}

#[derive(Clone, Copy)]
struct Use {
    /// The minute of the last use.
    last: DateTime<Utc>,
    written: bool,
}

impl Uses {
    /// A key was used.
    pub(super) fn add(&self, id: ApiKeyId, at: DateTime<Utc>) {
        let last = at.duration_trunc(MINUTE).unwrap_or(at);
        let mut keys = self.lock();
        let known = keys.entry(id).or_insert(Use { last, written: false });
        if known.last < last {
            *known = Use { last, written: false };
        }
    }

    /// What is to be written. Keys that nobody has used for a while are forgotten.
    fn due(&self, now: DateTime<Utc>) -> Vec<ApiKeyUse> {
        let mut keys = self.lock();
        keys.retain(|_, known| !known.written || now - known.last < MINUTE * 2);
        let due = keys.iter().filter(|(_, known)| !known.written);
        due.map(|(id, known)| ApiKeyUse { id: *id, at: known.last }).collect()
    }

    fn written(&self, uses: &[ApiKeyUse]) {
        let mut keys = self.lock();
        for ApiKeyUse { id, at } in uses {
            if let Some(known) = keys.get_mut(id).filter(|known| known.last == *at) {
                known.written = true;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ApiKeyId, Use>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes uses until the process stops, and a last time then. What could not be written is tried again.
pub(super) async fn note(uses: Arc<Uses>, system: System, ctx: Context) -> anyhow::Result<()> {
    let mut going_on = true;
    while going_on {
        going_on = ctx.stopping.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some();
        let due = uses.due(clock::now());
        if due.is_empty() {
            continue;
        }
        match system.note_api_key_uses(&due).await {
            Ok(()) => uses.written(&due),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the uses of API keys can't be noted"
                );
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: ApiKeyId = ApiKeyId(uuid::Uuid::nil());

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn a_key_is_written_of_once_a_minute_however_often_it_is_used() {
        let uses = Uses::default();
        let mut written = Vec::new();
        for second in 0..150 {
            uses.add(KEY, at(second));
            let due = uses.due(at(second));
            written.extend(due.iter().map(|due| due.at.timestamp()));
            uses.written(&due);
        }
        assert_eq!(written, [0, 60, 120]);
        assert!(uses.due(at(400)).is_empty());
        assert!(uses.lock().is_empty(), "it is forgotten when it is not used");
    }

    #[test]
    fn what_could_not_be_written_stays_due() {
        let uses = Uses::default();
        uses.add(KEY, at(0));
        assert_eq!(uses.due(at(5)).len(), 1);
        uses.add(KEY, at(70));
        let due = uses.due(at(500));
        assert_eq!(due.iter().map(|due| due.at).collect::<Vec<_>>(), [at(60)]);
        // Used again while it was being written.
        uses.add(KEY, at(510));
        uses.written(&due);
        assert_eq!(uses.due(at(511)).len(), 1);
    }
}
