//! A destination that never answers holds up nobody: neither its endpoint's other destination, nor its partition's
//! other endpoints, nor the offsets.

use std::cell::Cell;
use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use ravenpost_core::{
    ids::{EndpointId, Slot},
    topic,
};
use ravenpost_testkit::{kafka, receiver::Answer, system::System, wait};
use serde_json::{Value, json};

use crate::support::{
    BOUND, Endpoint, alone, destination, endpoint, number, retries, sample, send, until_all_succeed,
};

const EVENTS: usize = 150;
/// What a lane has in the air.
const LANE: usize = 16;
/// What a lane of one of these tests may hold beside that.
const QUEUE: u32 = 8;

#[test]
fn a_destination_that_never_answers_holds_up_nobody() {
    alone(System::builder(), async |system| {
        system.receiver.script("/hangs", [Answer::hang()]);
        let (both, neighbour) = of_one_partition(system).await?;
        // Long enough for all of this to happen before its first attempt is over.
        let patience = json!({ "timeout": "25s", "retry_policy": retries(&["50ms"; 10]) });
        let hanging = destination(system, &both, "/hangs", patience).await?;

        let endpoints = (0..2 * EVENTS).map(|number| if number % 2 == 0 { &both } else { &neighbour });
        let sent: Vec<String> =
            stream::iter(endpoints).map(|endpoint| send(endpoint, "{}")).buffered(LANE).try_collect().await?;
        let sent: BTreeSet<String> = sent.into_iter().collect();
        for path in ["/beside", "/neighbour"] {
            system.receiver.wait_until(path, BOUND, |all| on(all, path) == EVENTS).await?;
        }
        until_parked(system, async || Ok(())).await?;
        offsets_have_moved_on(system).await?;
        let path = format!("{}/destinations/{hanging}", both.path());
        let status: Value = system.api.get(&path).await?;
        assert_eq!(status["status"], "active");
        assert_eq!(number(system, "select count(*) from deliveries where outcome <> 'success'").await?, 0);
        assert!(system.receiver.received_on("/hangs").len() <= LANE, "no more than its lane has room for");

        // It wakes up: all of it comes.
        system.receiver.script("/hangs", [Answer::ok()]);
        until_all_succeed(system, &sent, 2 * BOUND).await
    });
}

#[test]
fn a_lane_holds_no_more_than_it_may_and_the_rest_is_parked() {
    alone(System::builder().setting("RAVENPOST_LANE_QUEUE", QUEUE.to_string()), async |system| {
        system.receiver.script("/hangs", [Answer::hang()]);
        let endpoint =
            endpoint(system, "/hangs", json!({ "timeout": "25s", "retry_policy": retries(&["1s"; 10]) }))
                .await?;
        let sending = async {
            stream::iter(0..EVENTS).map(|_| send(&endpoint, "{}")).buffered(LANE).try_collect().await
        };
        let most = Cell::new(0.0_f64);
        let looking = until_parked(system, async || {
            let metrics = system.workers[0].metrics().await?;
            let now = sample(&metrics, "ravenpost_delivery_queued").context("no such metric")?;
            most.set(most.get().max(now));
            Ok(())
        });
        let (sent, ()): (BTreeSet<String>, ()) = futures::try_join!(sending, looking)?;
        // And as many that have arrived while older ones were being read back.
        assert!(most.get() <= f64::from(2 * QUEUE), "{} were held in memory", most.get());
        system.receiver.script("/hangs", [Answer::ok()]);
        until_all_succeed(system, &sent, 3 * BOUND).await
    });
}

fn on(received: &[ravenpost_testkit::receiver::Received], path: &str) -> usize {
    received.iter().filter(|request| request.path == path).count()
}

/// Two endpoints whose events stand in the same partition.
async fn of_one_partition(system: &System) -> Result<(Endpoint, Endpoint)> {
    let first = endpoint(system, "/beside", json!({})).await?;
    for _ in 0..20 * kafka::PARTITIONS {
        let second = endpoint(system, "/neighbour", json!({})).await?;
        if partition(&second)? == partition(&first)? {
            return Ok((first, second));
        }
    }
    anyhow::bail!("no endpoint came into the partition of another one")
}

fn partition(endpoint: &Endpoint) -> Result<i32> {
    let id: EndpointId = endpoint.id.parse()?;
    Ok(Slot::of(id).partition(kafka::PARTITIONS))
}

/// Waits until everything is parked, and looks at something else with each look.
async fn until_parked(system: &System, look: impl AsyncFn() -> Result<()>) -> Result<()> {
    let parked = "select count(*) from scheduled_deliveries where reason = 'parked'";
    let all = i64::try_from(EVENTS)?;
    wait::until_true("all events to have a row", BOUND, || async {
        look().await?;
        Ok(number(system, parked).await? == all)
    })
    .await
}

/// By what Kafka knows of the group, and by what the worker tells.
async fn offsets_have_moved_on(system: &System) -> Result<()> {
    let (group, topic) = (system.topic("ravenpost.delivery-worker"), system.topic(topic::INGEST));
    wait::until_true("the offsets to be committed", BOUND, || async {
        Ok(kafka::lag(&system.stores.kafka_brokers, &group, &topic).await? == 0)
    })
    .await?;
    wait::until_true("the worker to tell no lag", BOUND, || async {
        let metrics = system.workers[0].metrics().await?;
        let lags: Vec<&str> =
            metrics.lines().filter(|line| line.starts_with("ravenpost_delivery_lag_messages{")).collect();
        ensure!(!lags.is_empty(), "no partition has a lag yet");
        Ok(lags.iter().all(|line| line.ends_with(" 0")))
    })
    .await
    .context("although Kafka knows of none")
}
