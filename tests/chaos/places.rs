//! What is in the three stores and at the destinations, read from outside when all is whole again.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use ravenpost_core::topic;
use ravenpost_testkit::{ledger, s3, system::System, wait};
use serde_json::Value;
use uuid::Uuid;

use crate::producer::Original;

/// Objects that are read at the same time.
const AT_ONCE: usize = 16;
/// How long a store that is whole may take for one answer, with the attempts that it needs.
const ANSWERED: Duration = Duration::from_secs(10);

/// Which original some bytes are, or what is wrong with them.
pub(crate) type Found = Result<Original, String>;

/// Everything, by event.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    pub(crate) rows: BTreeMap<Uuid, Row>,
    pub(crate) messages: BTreeMap<Uuid, Vec<Message>>,
    pub(crate) deliveries: BTreeMap<Uuid, Vec<Delivery>>,
    pub(crate) recorded: BTreeMap<Uuid, Recorded>,
    pub(crate) ledger: Ledger,
    /// What the workers have said of events that they had to sweep up, those that were killed included.
    pub(crate) swept: Vec<String>,
    /// Messages and deliveries without an event's id.
    pub(crate) nameless: Vec<String>,
}

/// An event in Postgres, and its payload in S3.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) status: String,
    pub(crate) payload: Found,
}

/// An event in Kafka.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// `None` when it does not travel inline.
    pub(crate) body: Option<Found>,
}

/// A request that a destination got.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) path: String,
    /// Since the Unix epoch.
    pub(crate) at: Duration,
    /// When the attempt began, as it says itself (`webhook-timestamp`), to the second; since the Unix epoch.
    pub(crate) begun: Duration,
    pub(crate) body: Found,
}

/// What Postgres knows of the attempts to deliver an event.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recorded {
    pub(crate) attempts: usize,
    /// When its success was recorded, since the Unix epoch.
    pub(crate) succeeded: Option<Duration>,
}

/// What `management-api reconcile` says of all events.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) events: u64,
    /// Pairs of an event and a destination.
    pub(crate) delivered: u64,
    pub(crate) payloads_read: u64,
    /// Events and what is wrong with them.
    pub(crate) faults: Vec<(Uuid, String)>,
}

/// Reads all places of a system whose stores are whole.
pub(crate) async fn read(system: &System) -> Result<Places> {
    let (rows, recorded) = (rows(system).await?, recorded(system).await?);
    let mut places = Places { rows, recorded, ..Places::default() };
    messages(system, &mut places).await?;
    deliveries(system, &mut places);
    places.ledger = ledger(system).await?;
    places.swept = ledger::said_of_sweeping(system)?;
    Ok(places)
}

fn found(body: &[u8]) -> Found {
    Original::of(body).map_err(|error| format!("{error:#}"))
}

/// Where a payload is: offset and length in its object.
type Range = (i64, i64);

async fn rows(system: &System) -> Result<BTreeMap<Uuid, Row>> {
    let pool = system.database.pool().await?;
    let events: Vec<(Uuid, String, String, i64, i64)> =
        sqlx::query_as("select id, status, s3_key, s3_offset, s3_length from events")
            .fetch_all(&pool)
            .await?;
    pool.close().await;
    let mut objects: BTreeMap<String, Vec<(Uuid, String, Range)>> = BTreeMap::new();
    for (id, status, key, offset, length) in events {
        objects.entry(key).or_default().push((id, status, (offset, length)));
    }
    let client = s3::client(&system.stores.s3);
    let read = stream::iter(objects).map(|(key, events)| {
        let client = client.clone();
        async move {
            let object = object(system, &client, &key).await?;
            Ok::<_, anyhow::Error>(events.into_iter().map(move |(id, status, range)| {
                let payload = match &object {
                    Some(object) => slice(object, range).and_then(found),
                    None => Err(format!("there is no object {key}")),
                };
                (id, Row { status, payload })
            }))
        }
    });
    let rows: Vec<_> = read.buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(rows.into_iter().flatten().collect())
}

async fn recorded(system: &System) -> Result<BTreeMap<Uuid, Recorded>> {
    let pool = system.database.pool().await?;
    let query = "select event_id, count(*), \
        (extract(epoch from min(created_at) filter (where outcome = 'success')))::float8 \
        from deliveries group by event_id";
    let events: Vec<(Uuid, i64, Option<f64>)> = sqlx::query_as(query).fetch_all(&pool).await?;
    pool.close().await;
    let recorded = |attempts: i64, succeeded: Option<f64>| -> Result<Recorded> {
        Ok(Recorded { attempts: attempts.try_into()?, succeeded: succeeded.map(Duration::from_secs_f64) })
    };
    events.into_iter().map(|(id, attempts, at)| Ok((id, recorded(attempts, at)?))).collect()
}

async fn object(system: &System, client: &s3::Client, key: &str) -> Result<Option<Bytes>> {
    let prefix = system.settings.get("RAVENPOST_S3_KEY_PREFIX").context("the key prefix")?;
    let (bucket, key) = (&system.stores.s3.bucket, format!("{prefix}{key}"));
    wait::until(&format!("the object {key}"), ANSWERED, || async {
        Ok(Some(s3::read(client, bucket, &key).await?))
    })
    .await
}

fn slice(object: &Bytes, (offset, length): Range) -> Result<&[u8], String> {
    let bounds = usize::try_from(offset).ok().zip(usize::try_from(offset + length).ok());
    let slice = bounds.and_then(|(start, end)| object.get(start..end));
    slice.ok_or_else(|| format!("{length} bytes from {offset} are not in an object of {}", object.len()))
}

async fn messages(system: &System, places: &mut Places) -> Result<()> {
    for message in system.messages(topic::INGEST).await? {
        let Some(id) = message.header("ce_id").and_then(|id| id.parse().ok()) else {
            let (partition, offset) = (message.partition, message.offset);
            places.nameless.push(format!("a message without `ce_id` at {partition}/{offset}"));
            continue;
        };
        let body = (!message.value.is_empty()).then(|| found(&message.value));
        places.messages.entry(id).or_default().push(Message { body });
    }
    Ok(())
}

async fn ledger(system: &System) -> Result<Ledger> {
    let told = ledger::ledger(system, &[]).await?;
    let count = |pointer: &str| told.pointer(pointer).and_then(Value::as_u64).context(pointer.to_owned());
    let faults = ledger::findings(&told).into_iter().map(|(id, fault)| Ok((id.parse()?, fault)));
    Ok(Ledger {
        events: count("/total/events")?,
        delivered: count("/total/delivered")?,
        payloads_read: count("/payloads_read")?,
        faults: faults.collect::<Result<_>>()?,
    })
}

fn deliveries(system: &System, places: &mut Places) {
    for request in system.receiver.received() {
        let Some(id) = request.header("webhook-id").and_then(|id| id.parse().ok()) else {
            places.nameless.push(format!("a delivery without a usable `webhook-id` to {}", request.path));
            continue;
        };
        let Some(seconds) = request.header("webhook-timestamp").and_then(|at| at.parse().ok()) else {
            places.nameless.push(format!("a delivery of {id} without a usable `webhook-timestamp`"));
            continue;
        };
        let (begun, body) = (Duration::from_secs(seconds), found(&request.body));
        let delivery = Delivery { body, path: request.path, at: request.at, begun };
        places.deliveries.entry(id).or_default().push(delivery);
    }
}
