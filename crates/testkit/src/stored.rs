//! Whether what was acknowledged is where it was promised to be: its row, its payload, its message.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use ravenpost_core::topic;
use rdkafka::{Message as _, message::Headers as _};
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;
use uuid::Uuid;

use crate::{kafka, s3, system::System};

/// So many payloads are read back and compared; of all of them it is only looked whether their objects are there and
/// long enough.
const SAMPLE: usize = 200;
/// A message may follow its acknowledgement when Kafka was away.
const MESSAGES_BOUND: Duration = Duration::from_secs(10);
const MESSAGES_INTERVAL: Duration = Duration::from_secs(1);

/// What is not there, or is wrong. Empty is as it should be.
#[derive(Clone, Debug, Default)]
pub struct Missing {
    /// Ids that were acknowledged more than once: two requests got the same event.
    pub repeated: Vec<Uuid>,
    /// Acknowledged events without a row.
    pub rows: Vec<Uuid>,
    /// Keys that rows name and that are not there, or shorter than the rows say.
    pub objects: Vec<String>,
    /// Sampled payloads that are not what was sent.
    pub payloads: Vec<Uuid>,
    /// Acknowledged events without a message.
    pub messages: Vec<Uuid>,
}

/// What was looked at.
#[derive(Clone, Debug)]
pub struct Report {
    pub acknowledged: usize,
    /// Rows altogether: more than was acknowledged when answers got lost, or a `503` was given after the commit.
    pub rows: usize,
    pub objects: usize,
    pub payloads_read: usize,
    /// Messages altogether, repeated ones too.
    pub messages: u64,
    pub missing: Missing,
}

impl Report {
    /// Nothing is missing.
    pub fn is_complete(&self) -> bool {
        let Missing { repeated, rows, objects, payloads, messages } = &self.missing;
        objects.is_empty() && [repeated, rows, payloads, messages].iter().all(|ids| ids.is_empty())
    }
}

/// A row's place in the payload store.
#[derive(sqlx::FromRow)]
struct Place {
    id: Uuid,
    s3_key: String,
    s3_offset: i64,
    s3_length: i64,
    body_sha256: Vec<u8>,
}

/// Looks for every acknowledged event in all three stores. `sent` has the SHA-256 of every body that was sent.
pub async fn check(system: &System, acknowledged: &[Uuid], sent: &BTreeSet<[u8; 32]>) -> Result<Report> {
    let pool = system.database.pool().await?;
    let mut missing = Missing { repeated: repeated(acknowledged), ..Missing::default() };
    let rows: HashSet<Uuid> =
        sqlx::query_scalar("SELECT id FROM events").fetch_all(&pool).await?.into_iter().collect();
    missing.rows = absent(acknowledged, &rows);
    let objects = check_objects(system, &pool, &mut missing).await?;
    let payloads_read = check_sample(system, &pool, acknowledged, sent, &mut missing).await?;
    let messages = check_messages(system, acknowledged, &mut missing).await?;
    let acknowledged = acknowledged.len();
    Ok(Report { acknowledged, rows: rows.len(), objects, payloads_read, messages, missing })
}

/// How many events from this id on are not recorded as `SUCCESS`: one that was refused and forgotten has arrived, too.
pub async fn undelivered(system: &System, first: Uuid) -> Result<i64> {
    let pool = system.database.pool().await?;
    let query = "SELECT count(*) FROM events WHERE id >= $1 AND status <> 'SUCCESS'";
    let count = sqlx::query_scalar(query).bind(first).fetch_one(&pool).await?;
    pool.close().await;
    Ok(count)
}

/// When the second attempts of events from this id on were due, by event, since the Unix epoch.
pub async fn second_attempts_due(system: &System, first: Uuid) -> Result<HashMap<Uuid, Duration>> {
    let pool = system.database.pool().await?;
    let query = "SELECT event_id, extract(epoch FROM next_retry_at)::float8 FROM deliveries
        WHERE event_id >= $1 AND run = 0 AND attempt_number = 1 AND next_retry_at IS NOT NULL";
    let due: Vec<(Uuid, f64)> = sqlx::query_as(query).bind(first).fetch_all(&pool).await?;
    pool.close().await;
    Ok(due.into_iter().map(|(id, seconds)| (id, Duration::from_secs_f64(seconds.max(0.0)))).collect())
}

fn repeated(acknowledged: &[Uuid]) -> Vec<Uuid> {
    let mut seen = HashSet::with_capacity(acknowledged.len());
    acknowledged.iter().filter(|id| !seen.insert(**id)).copied().collect()
}

fn absent(wanted: &[Uuid], present: &HashSet<Uuid>) -> Vec<Uuid> {
    wanted.iter().filter(|id| !present.contains(id)).copied().collect()
}

/// The object of every row is there and reaches as far as its rows say; gives how many objects there are.
async fn check_objects(system: &System, pool: &PgPool, missing: &mut Missing) -> Result<usize> {
    let sizes = s3::sizes(&system.stores.s3, &system.key_prefix()).await?;
    let named: Vec<(String, i64)> =
        sqlx::query_as("SELECT s3_key, max(s3_offset + s3_length) FROM events GROUP BY s3_key")
            .fetch_all(pool)
            .await?;
    let prefix = system.key_prefix();
    let is_there =
        |key: &str, length: i64| sizes.get(&format!("{prefix}{key}")).is_some_and(|size| *size >= length);
    missing.objects =
        named.into_iter().filter(|(key, length)| !is_there(key, *length)).map(|(key, _)| key).collect();
    Ok(sizes.len())
}

/// Some payloads, evenly spread over the acknowledged events, are what was sent; gives how many were read.
async fn check_sample(
    system: &System,
    pool: &PgPool,
    acknowledged: &[Uuid],
    sent: &BTreeSet<[u8; 32]>,
    missing: &mut Missing,
) -> Result<usize> {
    let step = acknowledged.len().div_ceil(SAMPLE).max(1);
    let sample: Vec<Uuid> = acknowledged.iter().step_by(step).copied().collect();
    let places: Vec<Place> =
        sqlx::query_as("SELECT id, s3_key, s3_offset, s3_length, body_sha256 FROM events WHERE id = ANY($1)")
            .bind(&sample)
            .fetch_all(pool)
            .await?;
    for place in &places {
        // A missing object is told as an error of the store, with its key.
        let hash: Option<[u8; 32]> = read(system, place).await.ok().map(|body| Sha256::digest(&body).into());
        if !hash.is_some_and(|hash| hash[..] == place.body_sha256 && sent.contains(&hash)) {
            missing.payloads.push(place.id);
        }
    }
    Ok(places.len())
}

async fn read(system: &System, place: &Place) -> Result<Bytes> {
    let object = s3::get(&system.stores.s3, &format!("{}{}", system.key_prefix(), place.s3_key)).await?;
    let (from, length) = (usize::try_from(place.s3_offset)?, usize::try_from(place.s3_length)?);
    object.get(from..from + length).map(Bytes::copy_from_slice).context("the object is too short")
}

/// Every acknowledged event has a message; gives how many messages there are.
async fn check_messages(system: &System, acknowledged: &[Uuid], missing: &mut Missing) -> Result<u64> {
    let deadline = Instant::now() + MESSAGES_BOUND;
    loop {
        let messages = read_messages(system).await?;
        missing.messages = absent(acknowledged, &messages.ids);
        if missing.messages.is_empty() || Instant::now() > deadline {
            return Ok(messages.count);
        }
        tokio::time::sleep(MESSAGES_INTERVAL).await;
    }
}

#[derive(Default)]
struct Messages {
    ids: HashSet<Uuid>,
    count: u64,
}

async fn read_messages(system: &System) -> Result<Messages> {
    let topic = system.topic(topic::INGEST);
    kafka::visit(&system.stores.kafka_brokers, &topic, Messages::default(), |messages, message| {
        messages.count += 1;
        let id = message.headers().and_then(|headers| headers.iter().find(|header| header.key == "ce_id"));
        messages.ids.extend(id.and_then(|id| Uuid::try_parse_ascii(id.value?).ok()));
    })
    .await
}
