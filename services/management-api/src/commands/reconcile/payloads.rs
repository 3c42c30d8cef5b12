//! Whether payloads are there, long enough, and what was accepted.

use std::ops::Range;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use ravenpost_core::event;
use ravenpost_core::ledger::{Fault, Finding};
use ravenpost_store::system::StoredPayload;
use ravenpost_store::{Payloads, Result};

/// Reads that are under way at once.
const AT_ONCE: usize = 8;
/// Neighbours in one object are read together, up to so many bytes and with so many between them.
const MOST_BYTES: i64 = 4 * 1024 * 1024;
const MOST_BETWEEN: i64 = 64 * 1024;

/// Payloads that lie side by side in one object.
struct Span {
    key: String,
    bytes: Range<i64>,
    payloads: Vec<StoredPayload>,
}

/// Reads all of these and tells what is wrong. An error when the payload store can't be read.
pub(super) async fn check(payloads: &Payloads, stored: Vec<StoredPayload>) -> Result<Vec<Finding>> {
    let found: Vec<Vec<Finding>> = stream::iter(spans(stored))
        .map(|span| check_span(payloads, span))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().collect())
}

fn spans(mut stored: Vec<StoredPayload>) -> Vec<Span> {
    stored.sort_unstable_by(|one, other| place(one).cmp(&place(other)));
    let mut spans: Vec<Span> = Vec::new();
    for payload in stored {
        let (key, from, to) = place(&payload);
        match spans.last_mut() {
            Some(span) if span.reaches(key, from, to) => {
                span.bytes.end = span.bytes.end.max(to);
                span.payloads.push(payload);
            }
            _ => spans.push(Span { key: key.to_owned(), bytes: from..to, payloads: vec![payload] }),
        }
    }
    spans
}

/// A row that was altered may say anything.
fn place(payload: &StoredPayload) -> (&str, i64, i64) {
    let location = &payload.location;
    (&location.s3_key, location.s3_offset, location.s3_offset.saturating_add(location.s3_length))
}

impl Span {
    fn reaches(&self, key: &str, from: i64, to: i64) -> bool {
        self.key == key
            && from.saturating_sub(self.bytes.end) <= MOST_BETWEEN
            && to.saturating_sub(self.bytes.start) <= MOST_BYTES
    }
}

async fn check_span(payloads: &Payloads, span: Span) -> Result<Vec<Finding>> {
    let Range { start, end } = span.bytes;
    let read = payloads.get_range(&span.key, start, end.saturating_sub(start)).await?;
    let judge = |payload: &StoredPayload| match &read {
        None => Some(Fault::PayloadMissing),
        Some(bytes) => judge(payload, start, bytes),
    };
    let finding = |payload: &StoredPayload| {
        judge(payload).map(|fault| Finding {
            fault,
            organization_id: payload.organization_id,
            event_id: payload.event_id,
            destination_id: None,
        })
    };
    Ok(span.payloads.iter().filter_map(finding).collect())
}

/// `bytes` are those of its object from `start` on.
fn judge(payload: &StoredPayload, start: i64, bytes: &[u8]) -> Option<Fault> {
    let (_, from, to) = place(payload);
    let within = |offset: i64| usize::try_from(offset.saturating_sub(start)).ok();
    let body = within(from).zip(within(to)).and_then(|(from, to)| bytes.get(from..to));
    match body {
        None => Some(Fault::PayloadShort),
        Some(body) if event::digest(body).as_slice() != payload.sha256 => Some(Fault::PayloadAltered),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use ravenpost_core::event::PayloadLocation;
    use ravenpost_core::ids::{EventId, OrganizationId};
    use uuid::Uuid;

    use super::*;

    fn stored(key: &str, offset: usize, body: &[u8]) -> StoredPayload {
        StoredPayload {
            event_id: EventId(Uuid::nil()),
            organization_id: OrganizationId(Uuid::nil()),
            location: PayloadLocation::within(key.to_owned(), offset, body.len()),
            sha256: event::digest(body).to_vec(),
        }
    }

    #[test]
    fn neighbours_are_read_together_and_what_is_far_apart_is_not() {
        let far = usize::try_from(MOST_BYTES).unwrap();
        let spans = spans(vec![
            stored("b", 3, b"def"),
            stored("a", 0, b"x"),
            stored("b", 0, b"abc"),
            stored("b", far, b"y"),
        ]);
        let told: Vec<_> =
            spans.iter().map(|span| (span.key.as_str(), span.bytes.clone(), span.payloads.len())).collect();
        assert_eq!(told, [("a", 0..1, 1), ("b", 0..6, 2), ("b", MOST_BYTES..MOST_BYTES + 1, 1)]);
    }

    #[test]
    fn each_is_judged_by_its_own_bytes() {
        let bytes = b"abcdeX";
        assert_eq!(judge(&stored("b", 10, b"abc"), 10, bytes), None);
        assert_eq!(judge(&stored("b", 13, b"def"), 10, bytes), Some(Fault::PayloadAltered));
        assert_eq!(judge(&stored("b", 14, b"eXY"), 10, bytes), Some(Fault::PayloadShort));
        assert_eq!(judge(&stored("b", 0, b""), 0, b""), None);
        let mut altered = stored("b", 10, b"abc");
        altered.location.s3_length = -3;
        assert_eq!(judge(&altered, 10, bytes), Some(Fault::PayloadShort));
        altered.location.s3_length = i64::MAX;
        assert_eq!(judge(&altered, 10, bytes), Some(Fault::PayloadShort));
    }
}
