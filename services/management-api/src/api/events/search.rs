//! Text in payloads: a bounded scan of the latest events, their segments read a stretch at a time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use ravenpost_core::event::PayloadLocation;
use ravenpost_store::tenant::{Event, EventFilter, Page};
use ravenpost_store::{Payloads, Result, Tenant};
use uuid::Uuid;

/// Events of one page of the scan, and most of all.
const PAGE: u16 = 250;
const MOST_EVENTS: usize = 5_000;
/// Most bytes of all payloads that are read, and of one: beyond it the rest of a payload is not looked at.
const MOST_BYTES: i64 = 64 * 1_024 * 1_024;
const MOST_OF_ONE: i64 = 1_024 * 1_024;
/// How long a scan takes, at most about so.
const PATIENCE: Duration = Duration::from_secs(3);
/// Objects that are read at once.
const AT_ONCE: usize = 4;
/// Two payloads of an object are read together when no more than this lies between them.
const BETWEEN: i64 = 64 * 1_024;

/// What a scan has found.
pub(in crate::api) struct Found {
    /// The events whose payload has the text, newest first.
    pub(in crate::api) events: Vec<Event>,
    /// The oldest event that was looked at.
    pub(in crate::api) through: Option<Event>,
    /// There are older ones that were not.
    pub(in crate::api) more: bool,
    /// It has ended at a bound, not since the page is full.
    pub(in crate::api) bounded: bool,
}

/// Looks for `text` in the payloads of the events that match, from `after` down, until `limit` are found or a bound is
/// reached.
pub(in crate::api) async fn search(
    tenant: &Tenant,
    payloads: &Payloads,
    filter: &EventFilter<'_>,
    text: &str,
    page: Page,
) -> Result<Found> {
    let (started, limit) = (Instant::now(), usize::from(page.limit));
    let (mut looked, mut bytes, mut after) = (0, 0, page.after);
    let mut found = Found { events: Vec::new(), through: None, more: true, bounded: false };
    loop {
        let events = tenant.events(filter, Page { after, limit: PAGE }).await?;
        after = events.next;
        let mut wanted: Vec<Event> = events.rows;
        if let Some(last) = within(&mut wanted, MOST_BYTES - bytes) {
            after = Some(last);
        }
        let mut texts = contents(payloads, &wanted).await?;
        for event in wanted {
            looked += 1;
            bytes += event.payload.s3_length.min(MOST_OF_ONE);
            let has_it = texts.remove(&event.id.0).is_some_and(|body| contains(&body, text.as_bytes()));
            found.through = Some(event.clone());
            if has_it {
                found.events.push(event);
                if found.events.len() == limit {
                    return Ok(found);
                }
            }
        }
        if after.is_none() {
            return Ok(Found { more: false, ..found });
        }
        if looked >= MOST_EVENTS || bytes >= MOST_BYTES || started.elapsed() >= PATIENCE {
            return Ok(Found { bounded: true, ..found });
        }
    }
}

/// Cuts a page off behind the event that reaches so many bytes: they are in memory together. Answers where to go on.
fn within(events: &mut Vec<Event>, most: i64) -> Option<Uuid> {
    let mut left = most;
    let reached = events.iter().position(|event| {
        left -= event.payload.s3_length.min(MOST_OF_ONE);
        left <= 0
    })?;
    if reached + 1 == events.len() {
        return None;
    }
    events.truncate(reached + 1);
    events.last().map(|event| event.id.0)
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    !text.is_empty() && memchr::memmem::find(body, text).is_some()
}

/// A stretch of an object that holds the payloads of these events.
struct Stretch {
    s3_key: String,
    begin: i64,
    end: i64,
    events: Vec<(Uuid, PayloadLocation)>,
}

/// The payloads of events, or their beginnings; without those that were expunged or are gone.
async fn contents(payloads: &Payloads, events: &[Event]) -> Result<BTreeMap<Uuid, Bytes>> {
    let read = stream::iter(stretches(events)).map(|stretch| async move {
        let bytes = payloads.get_range(&stretch.s3_key, stretch.begin, stretch.end - stretch.begin).await?;
        Ok::<_, ravenpost_store::Error>((stretch, bytes.unwrap_or_default()))
    });
    let read: Vec<(Stretch, Bytes)> = read.buffer_unordered(AT_ONCE).try_collect().await?;
    let mut contents = BTreeMap::new();
    for (stretch, bytes) in read {
        for (id, place) in stretch.events {
            let begin =
                usize::try_from(place.s3_offset - stretch.begin).unwrap_or(usize::MAX).min(bytes.len());
            let length = usize::try_from(place.s3_length).unwrap_or(usize::MAX);
            let end = begin.saturating_add(length).min(bytes.len());
            contents.insert(id, bytes.slice(begin..end));
        }
    }
    Ok(contents)
}

fn stretches(events: &[Event]) -> Vec<Stretch> {
    let mut places: Vec<(Uuid, PayloadLocation)> = events
        .iter()
        .filter(|event| event.expunged_at.is_none() && event.payload.s3_length > 0)
        .map(|event| {
            let s3_length = event.payload.s3_length.min(MOST_OF_ONE);
            (event.id.0, PayloadLocation { s3_length, ..event.payload.clone() })
        })
        .collect();
    places
        .sort_by(|(_, one), (_, other)| (&one.s3_key, one.s3_offset).cmp(&(&other.s3_key, other.s3_offset)));
    let mut stretches: Vec<Stretch> = Vec::new();
    for (id, place) in places {
        let end = place.s3_offset + place.s3_length;
        match stretches.last_mut() {
            Some(last) if last.s3_key == place.s3_key && place.s3_offset <= last.end + BETWEEN => {
                last.end = last.end.max(end);
                last.events.push((id, place));
            }
            _ => stretches.push(Stretch {
                s3_key: place.s3_key.clone(),
                begin: place.s3_offset,
                end,
                events: vec![(id, place)],
            }),
        }
    }
    stretches
}
