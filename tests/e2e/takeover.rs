//! A worker that was stopped for a while finds that another has taken over: nothing is lost, and nothing that was
//! delivered becomes anything else.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Result, ensure};
use ravenpost_testkit::{
    kafka,
    receiver::Answer,
    system::{Service, System},
    wait,
};
use serde_json::json;

use crate::support::{
    BOUND, alone, endpoint, partitions, retries, sample, send, successes, until_all_succeed, until_balanced,
    until_status, uuids,
};

const ENDPOINTS: usize = 24;

#[test]
fn a_worker_that_was_stopped_changes_nothing_when_it_goes_on() {
    let two = System::builder().replicas(Service::DeliveryWorker, 2);
    alone(two, async |system| {
        let system = &*system;
        let all = usize::try_from(kafka::PARTITIONS)?;
        until_balanced(system).await?;
        let mut endpoints = Vec::new();
        for number in 0..ENDPOINTS {
            let path = format!("/{number}");
            system.receiver.script(&path, [Answer::ok().after(Duration::from_millis(700))]);
            endpoints.push(endpoint(system, &path, json!({})).await?);
        }
        let mut sent = BTreeSet::new();
        for endpoint in &endpoints {
            sent.insert(send(endpoint, "in the air").await?);
        }
        system.receiver.wait_for(ENDPOINTS / 2, BOUND).await?;
        system.workers[0].pause()?;
        for endpoint in &endpoints {
            sent.insert(send(endpoint, "while it is stopped").await?);
        }

        let is_over = AtomicBool::new(false);
        let story = async {
            wait::until_true("the other worker to have all partitions", BOUND, || async {
                Ok(partitions(system, 1)? == all)
            })
            .await?;
            for endpoint in &endpoints {
                sent.insert(send(endpoint, "to the other one").await?);
            }
            system.workers[0].resume()?;
            until_all_succeed(system, &sent, 3 * BOUND).await?;
            until_balanced(system).await?;
            for endpoint in &endpoints {
                sent.insert(send(endpoint, "to both of them").await?);
            }
            until_all_succeed(system, &sent, BOUND).await?;
            is_over.store(true, Ordering::Relaxed);
            Ok(())
        };
        tokio::try_join!(story, successes_only_grow(system, &is_over))?;

        let pool = system.database.pool().await?;
        assert_eq!(successes(&pool).await?, uuids(&sent)?, "every event is delivered, and stays so");
        for process in &system.workers {
            assert!(process.is_ready().await, "{} is not ready", process.name());
        }
        Ok(())
    });
}

/// As if another had taken the partition late: the group still gives it to the worker, which takes it again (PROTOCOLS W2).
#[test]
fn what_was_decided_under_an_epoch_that_has_passed_is_decided_anew() {
    alone(System::builder(), async |system| {
        let failing = Answer::status(500).after(Duration::from_secs(4));
        system.receiver.script("/late", [failing, Answer::ok()]);
        let endpoint = endpoint(system, "/late", json!({ "retry_policy": retries(&["1h"]) })).await?;
        let event = send(&endpoint, "{}").await?;
        system.receiver.wait_for(1, BOUND).await?;
        system.database.execute("update partitions set epoch = epoch + 1").await?;
        // Neither the row for what is slow nor the retry counts, so that the log is gone on with at the event, and not behind it.
        until_status(system, &event, "SUCCESS").await?;
        assert_eq!(system.receiver.received_on("/late").len(), 2);
        let swept = sample(&system.workers[0].metrics().await?, "ravenpost_delivery_swept_total");
        assert_eq!(swept, Some(0.0), "nobody had to find it");
        Ok(())
    });
}

/// Watches that no delivered event becomes anything else.
async fn successes_only_grow(system: &System, is_over: &AtomicBool) -> Result<()> {
    let pool = system.database.pool().await?;
    let mut look = tokio::time::interval(Duration::from_millis(20));
    let mut before = BTreeSet::new();
    while !is_over.load(Ordering::Relaxed) {
        look.tick().await;
        let now = successes(&pool).await?;
        ensure!(now.is_superset(&before), "no longer delivered: {:?}", before.difference(&now));
        before = now;
    }
    Ok(())
}
