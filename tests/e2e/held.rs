//! Very much is held for one destination: the retries of its neighbours are on time all the same, and when it is resumed
//! it is sent the oldest first (PROTOCOLS W7).

use std::{cell::Cell, io::Write as _, time::Instant};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_core::ids::{EndpointId, Slot};
use ravenpost_testkit::{
    held::{self, Held},
    kafka,
    receiver::Answer,
    system::System,
    wait,
};
use serde_json::json;
use uuid::Uuid;

use crate::support::{
    BOUND, Endpoint, alone, column, deliveries, endpoint, number, retries, sample, send, until_status,
};

/// How late a retry may be, and how early: not at all.
const ON_TIME: TimeDelta = TimeDelta::seconds(1);
/// Destinations whose retries are timed; the first is of the same partition as the one that is held.
const NEIGHBOURS: usize = 6;
/// How often each fails, and how long it waits after each time.
const WAITS: [&str; 4] = ["1s", "2s", "1500ms", "3s"];
/// What is looked at of what the resumed one is sent.
const FIRST: usize = 200;

#[test]
fn what_is_held_for_one_delays_no_retry_of_others_and_comes_oldest_first() {
    // One request at once, so that the order in which they are taken is the order in which they arrive.
    let one_by_one = System::builder().setting("RAVENPOST_LANE_CONCURRENCY", "1");
    alone(one_by_one, async |system| {
        let system = &*system;
        let held = endpoint(system, "/held", json!({})).await?;
        let like = send(&held, "held").await?;
        until_status(system, &like, "SUCCESS").await?;
        system.api.patch(&held.path(), &json!({ "status": "paused" })).await?;
        let count = hold(system, &held, &like, held::count()).await?;

        let late = retries_of_neighbours(system, &held).await?;
        let longest = late.iter().max().context("no retry")?;
        let count_late = late.len();
        writeln!(
            std::io::stderr(),
            "{count} held rows: {count_late} retries, the latest {longest} after its time"
        )?;
        for late in &late {
            ensure!((TimeDelta::zero()..=ON_TIME).contains(late), "a retry {late} after its time");
        }

        system.receiver.clear();
        let resumed = Instant::now();
        system.api.patch(&held.path(), &json!({ "status": "active" })).await?;
        let received = system.receiver.wait_for(FIRST, BOUND).await?;
        writeln!(
            std::io::stderr(),
            "{count} held rows: the first {FIRST} arrived within {:.1?}",
            resumed.elapsed()
        )?;
        let ids: Vec<&str> =
            received.iter().take(FIRST).filter_map(|request| request.header("webhook-id")).collect();
        ensure!(ids == oldest(system).await?, "not oldest first: {ids:?}");
        ensure!(received.iter().all(|request| request.path == "/held" && request.body.as_ref() == b"held"));
        Ok(())
    });
}

/// What a filter refuses takes no time and no receiver: only what is recorded of it holds it back.
#[test]
fn what_a_filter_refuses_of_a_backlog_does_not_run_ahead_of_what_is_recorded() {
    const COUNT: i64 = 20_000;
    alone(System::builder(), async |system| {
        let system = &*system;
        let held = endpoint(system, "/refused", json!({})).await?;
        let like = send(&held, "held").await?;
        until_status(system, &like, "SUCCESS").await?;
        system.api.patch(&held.path(), &json!({ "status": "paused" })).await?;
        let nothing = json!({ "filter": { "event_types": ["nothing.*"] } });
        system.api.patch(&held.destination_path(), &nothing).await?;
        hold(system, &held, &like, COUNT).await?;

        let pool = system.database.pool().await?;
        let mut standstill = pool.begin().await?;
        sqlx::query("select from partitions for update").execute(&mut *standstill).await?;
        system.api.patch(&held.path(), &json!({ "status": "active" })).await?;
        let refused = async || -> Result<f64> {
            let metrics = system.workers[0].metrics().await?;
            Ok(sample(&metrics, "ravenpost_delivery_filtered_total{by=\"event_type\"}").unwrap_or_default())
        };
        let (last, looks) = (Cell::new(0.0), Cell::new(0));
        let most = wait::until("the worker to refuse no more", BOUND, || async {
            let now = refused().await?;
            looks.set(if last.replace(now) < now { 0 } else { looks.get() + 1 });
            Ok((now > 1_000.0 && looks.get() > 50).then_some(now))
        })
        .await?;
        ensure!(most < 6_000.0, "{most} were refused while nothing could be recorded");
        standstill.rollback().await?;
        pool.close().await;
        // The filter of a moment ago may have let some pass.
        let dropped = "select count(*) from events where status = 'DROPPED'";
        let left = "select count(*) from events where status = 'PENDING'";
        wait::until_true("all of them to be recorded", BOUND, || async {
            Ok(number(system, left).await? == 0)
        })
        .await?;
        ensure!(number(system, dropped).await? > COUNT / 2);
        Ok(())
    });
}

/// Writes the rows.
async fn hold(system: &System, endpoint: &Endpoint, like: &str, count: i64) -> Result<i64> {
    let (destination_id, like) = (Uuid::parse_str(&endpoint.destination)?, Uuid::parse_str(like)?);
    let started = Instant::now();
    system.database.execute(&Held { destination_id, like, count }.statement(1)).await?;
    writeln!(std::io::stderr(), "{count} held rows were written in {:.1?}", started.elapsed())?;
    let rows = number(system, "select count(*) from scheduled_deliveries where reason = 'held'").await?;
    ensure!(rows == count, "{rows} rows");
    Ok(count)
}

/// The oldest of what was written.
async fn oldest(system: &System) -> Result<Vec<String>> {
    let pool = system.database.pool().await?;
    let query = "select id from events order by id limit $1";
    let ids: Vec<Uuid> = sqlx::query_scalar(query).bind(i64::try_from(FIRST)?).fetch_all(&pool).await?;
    pool.close().await;
    Ok(ids.iter().map(Uuid::to_string).collect())
}

fn partition(endpoint: &Endpoint) -> Result<i32> {
    let id: EndpointId = endpoint.id.parse()?;
    Ok(Slot::of(id).partition(kafka::PARTITIONS))
}

/// Endpoints that fail at first, the first of them of the same partition as the one that is held.
async fn neighbours(system: &System, held: &Endpoint) -> Result<Vec<Endpoint>> {
    let mut neighbours = Vec::new();
    for number in 0..20 * usize::try_from(kafka::PARTITIONS)? {
        let path = format!("/fails-{number}");
        let fails = WAITS.iter().map(|_| Answer::status(500));
        system.receiver.script(&path, fails.chain([Answer::ok()]));
        let neighbour = endpoint(system, &path, json!({ "retry_policy": retries(&WAITS) })).await?;
        if !neighbours.is_empty() || partition(&neighbour)? == partition(held)? {
            neighbours.push(neighbour);
        }
        if neighbours.len() == NEIGHBOURS {
            return Ok(neighbours);
        }
    }
    anyhow::bail!("no endpoint came into the partition of another one")
}

/// How much later than it was to be each retry began.
async fn retries_of_neighbours(system: &System, held: &Endpoint) -> Result<Vec<TimeDelta>> {
    let mut sent = Vec::new();
    for neighbour in neighbours(system, held).await? {
        sent.push(send(&neighbour, "{}").await?);
    }
    let mut late = Vec::new();
    for id in &sent {
        until_status(system, id, "SUCCESS").await?;
        let told = deliveries(system, id).await?;
        let (began, due) = (times(&told, "attempted_at")?, times(&told, "next_retry_at")?);
        ensure!(began.len() == WAITS.len() + 1 && due.len() == WAITS.len(), "{told}");
        late.extend(began[1..].iter().zip(&due).map(|(began, due)| *began - *due));
    }
    Ok(late)
}

/// A time of each attempt that has one.
fn times(told: &serde_json::Value, field: &str) -> Result<Vec<DateTime<Utc>>> {
    let column = column(told, field);
    let texts = column.iter().filter_map(serde_json::Value::as_str);
    texts.map(|text| text.parse().with_context(|| text.to_owned())).collect()
}
