//! Requests of one batch that repeat each other meet in memory: a statement can't take a key twice (PROTOCOLS I7).

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ravenpost_core::ids::EventId;
use ravenpost_store::system::Winner;
use sha2::{Digest, Sha256};

use super::{NotCommitted, Pending};

/// A batch in which every key occurs once.
pub(super) struct Met {
    pub(super) batch: Vec<Pending>,
    /// Those that repeat one of the batch, by its place there.
    pub(super) repeats: Vec<(usize, Pending)>,
}

/// Sets apart what repeats another request of the batch.
pub(super) fn meet(pending: Vec<Pending>) -> Met {
    let mut first = HashMap::new();
    let mut met = Met { batch: Vec::with_capacity(pending.len()), repeats: Vec::new() };
    for request in pending {
        let Some(key) = request.deduplication else {
            met.batch.push(request);
            continue;
        };
        match first.entry((request.endpoint.id, key.hash)) {
            Entry::Occupied(place) => met.repeats.push((*place.get(), request)),
            Entry::Vacant(place) => {
                place.insert(met.batch.len());
                met.batch.push(request);
            }
        }
    }
    met
}

/// What a request is told that repeats an event: its id, unless an `Idempotency-Key` was used for another body.
pub(super) fn answer(repeat: &Pending, winner: Winner) -> Result<EventId, NotCommitted> {
    let same_body = repeat.deduplication.is_none_or(|key| !key.same_body)
        || Sha256::digest(&repeat.body).as_slice() == winner.body_sha256;
    if same_body { Ok(winner.event_id) } else { Err(NotCommitted::KeyReused) }
}
