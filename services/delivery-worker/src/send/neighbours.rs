//! Payloads of a backlog that lie side by side in one object: fetched by one ranged read (PROTOCOLS W7).

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use ravenpost_core::event::PayloadLocation;
use ravenpost_store::{Payloads, Result};
use tokio::sync::OnceCell;

/// What lies between is read, too: no more than this many times what is wanted.
const SPARSE: i64 = 2;
/// Objects that are read at once before they are needed.
const AT_ONCE: usize = 4;

/// Payloads that lie side by side in one object.
#[derive(Debug)]
pub struct Neighbours {
    s3_key: String,
    offset: i64,
    length: i64,
    bytes: OnceCell<Option<Bytes>>,
}

impl Neighbours {
    /// Those of the objects that hold several of these payloads close together, by object.
    pub fn of<'a>(payloads: impl IntoIterator<Item = &'a PayloadLocation>) -> HashMap<String, Arc<Self>> {
        /// Begin, end, bytes wanted, payloads.
        type Stretch = (i64, i64, i64, usize);
        let mut stretches: HashMap<&str, Stretch> = HashMap::new();
        for payload in payloads.into_iter().filter(|payload| payload.is_in_segment()) {
            let (begin, end) = (payload.s3_offset, payload.s3_offset.saturating_add(payload.s3_length));
            let stretch = stretches.entry(&payload.s3_key).or_insert((begin, end, 0, 0));
            *stretch =
                (stretch.0.min(begin), stretch.1.max(end), stretch.2 + payload.s3_length, stretch.3 + 1);
        }
        stretches
            .into_iter()
            .filter(|(_, (begin, end, wanted, payloads))| *payloads > 1 && end - begin <= wanted * SPARSE)
            .map(|(s3_key, (offset, end, ..))| {
                let neighbours =
                    Self { s3_key: s3_key.to_owned(), offset, length: end - offset, bytes: OnceCell::new() };
                (s3_key.to_owned(), Arc::new(neighbours))
            })
            .collect()
    }

    /// Reads them before they are needed, in their order and some at once. Those that nobody needs any more are left.
    pub async fn prefetch(all: Vec<Arc<Self>>, payloads: &Payloads) {
        let wanted = all.into_iter().filter(|one| Arc::strong_count(one) > 1);
        stream::iter(wanted)
            // Who needs them asks again when it fails.
            .for_each_concurrent(AT_ONCE, |one| async move { drop(one.read(payloads).await) })
            .await;
    }

    /// One of them; `None` when the object is gone or ends before. Read once, whoever asks first.
    pub(super) async fn get(&self, payloads: &Payloads, location: &PayloadLocation) -> Result<Option<Bytes>> {
        let bytes = self.read(payloads).await?;
        Ok(bytes.as_ref().and_then(|bytes| self.slice(bytes, location)))
    }

    async fn read(&self, payloads: &Payloads) -> Result<&Option<Bytes>> {
        self.bytes.get_or_try_init(|| payloads.get_range(&self.s3_key, self.offset, self.length)).await
    }

    fn slice(&self, bytes: &Bytes, location: &PayloadLocation) -> Option<Bytes> {
        let begin = usize::try_from(location.s3_offset - self.offset).ok()?;
        let end = begin.checked_add(usize::try_from(location.s3_length).ok()?)?;
        (location.s3_key == self.s3_key && end <= bytes.len()).then(|| bytes.slice(begin..end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravenpost_core::ids::EventId;
    use uuid::Uuid;

    fn within(segment: u128, offset: usize, length: usize) -> PayloadLocation {
        PayloadLocation::within(
            PayloadLocation::segment_key(EventId(Uuid::from_u128(segment))),
            offset,
            length,
        )
    }

    #[test]
    fn neighbours_share_a_read_and_nobody_else_does() {
        let lone = PayloadLocation::of_event(EventId(Uuid::from_u128(9)), 10);
        let all =
            [within(1, 20, 10), within(1, 0, 10), within(2, 0, 10), within(3, 0, 1), within(3, 90, 1), lone];
        let found = Neighbours::of(&all);
        assert_eq!(found.len(), 1, "one is alone, others are far apart, and one has an object of its own");
        let neighbours = &found[&all[0].s3_key];
        assert_eq!((neighbours.offset, neighbours.length), (0, 30));
        let bytes = (0..30).collect::<Bytes>();
        assert_eq!(neighbours.slice(&bytes, &all[0]).unwrap(), (20..30).collect::<Bytes>());
        assert_eq!(neighbours.slice(&bytes.slice(..29), &all[0]), None, "the object ends before");
        assert_eq!(neighbours.slice(&bytes, &within(2, 0, 10)), None);
    }
}
