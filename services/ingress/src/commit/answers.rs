//! What everybody of a batch is told; for those who repeat an event, of their own batch or committed before, see PROTOCOLS
//! I7.

use std::collections::HashMap;

use ravenpost_core::ids::EventId;
use ravenpost_store::system::Winner;
use tracing::error;

use super::batch::{Row, Writer};
use super::{NotCommitted, Pending};

impl Writer {
    /// Answers everybody of a batch: first those whose events are committed, then those who repeat an event that was
    /// committed before, since that has to be read.
    pub(super) async fn answer(
        &self,
        ids: &[EventId],
        batch: Vec<Pending>,
        repeats: Vec<(usize, Pending)>,
        rows: &[Row],
    ) {
        let mut waiting = Vec::new();
        for (place, repeat) in repeats {
            match rows[place] {
                Row::Committed => {
                    let body_sha256 = batch[place].draft.content.body_sha256;
                    let told = told(&repeat, Winner { event_id: ids[place], body_sha256 });
                    self.metrics.duplicates.inc();
                    repeat.answer(told);
                }
                Row::Repeats => waiting.push(repeat),
                // Its own fate is open: it is tried when it comes again.
                Row::Refused => repeat.answer(Err(NotCommitted::Unavailable)),
            }
        }
        for ((pending, id), row) in batch.into_iter().zip(ids).zip(rows) {
            match row {
                Row::Committed => pending.answer(Ok(*id)),
                Row::Refused => pending.answer(Err(NotCommitted::Refused)),
                Row::Repeats => waiting.push(pending),
            }
        }
        if !waiting.is_empty() {
            self.answer_repeats(waiting).await;
        }
    }

    /// Answers those who repeat events that were committed before. Where there is none, it was never committed, and a
    /// producer that is told 503 tries again.
    async fn answer_repeats(&self, repeats: Vec<Pending>) {
        self.metrics.duplicates.inc_by(u64::try_from(repeats.len()).unwrap_or(0));
        let keys: Vec<_> = repeats.iter().filter_map(Pending::key).collect();
        let winners = self.system.winners(&keys).await.unwrap_or_else(|cause| {
            error!(error = &cause as &dyn std::error::Error, "the events that requests repeat can't be read");
            HashMap::new()
        });
        for repeat in repeats {
            let winner = repeat.key().and_then(|key| winners.get(&key)).copied();
            let told = winner.map_or(Err(NotCommitted::Unavailable), |winner| told(&repeat, winner));
            repeat.answer(told);
        }
    }
}

/// What a request is told that repeats an event: its id, unless an `Idempotency-Key` was used for another body.
fn told(repeat: &Pending, winner: Winner) -> Result<EventId, NotCommitted> {
    let body_sha256 = &repeat.draft.content.body_sha256;
    let repeats = repeat.draft.key().is_none_or(|key| key.is_repeated(body_sha256, &winner.body_sha256));
    if repeats { Ok(winner.event_id) } else { Err(NotCommitted::KeyReused) }
}
