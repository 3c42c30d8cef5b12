//! What is committed is published, by whoever can: late when Kafka was away, by a peer when a process has died.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use ravenpost_core::topic;
use ravenpost_testkit::{
    stack::{self, Addresses, Kafka, Options, Progress},
    system::{Service, System},
    wait,
};
use serde_json::json;
use tokio::sync::Mutex;

use crate::support::{
    BOUND, Endpoint, alone, by_event, endpoint, ensure_problem, header, number, on, post, run, sample, send,
    text, until_all_succeed, until_status,
};

/// A Kafka of one's own: clients of Kafka connect to where the broker says that it is, past any proxy.
pub(crate) async fn own_kafka(folder: &tempfile::TempDir) -> Result<(Kafka, Addresses)> {
    let kafka = Kafka::start(folder.path(), &Options::for_tests(), &Progress::silent()).await?;
    let stores = Addresses { kafka_brokers: kafka.brokers(), ..stack::shared().await?.clone() };
    Ok((kafka, stores))
}

/// The sum of a metric over all ingresses.
pub(crate) async fn total(system: &System, metric: &str) -> Result<f64> {
    let mut sum = 0.0;
    for ingress in &system.ingress {
        sum += sample(&ingress.metrics().await?, metric).with_context(|| metric.to_owned())?;
    }
    Ok(sum)
}

/// Each arrived once.
pub(crate) fn ensure_once(system: &System, events: &BTreeSet<String>) {
    let arrived = by_event(system.receiver.received());
    for id in events {
        assert_eq!(arrived.get(id).map_or(0, Vec::len), 1, "{id} arrived so often");
    }
}

/// Of each of these lists, events are in Kafka in the order of the list, some perhaps once more later.
pub(crate) async fn ensure_in_order(system: &System, accepted: &[Vec<String>]) -> Result<()> {
    let messages = system.messages(topic::INGEST).await?;
    for accepted in accepted {
        let own: BTreeSet<&str> = accepted.iter().map(String::as_str).collect();
        let mut seen = BTreeSet::new();
        let ids = messages.iter().filter_map(|message| message.header("ce_id"));
        let order: Vec<&str> = ids.filter(|id| own.contains(id) && seen.insert(*id)).collect();
        assert_eq!(order, *accepted, "not in the order in which they were accepted");
    }
    Ok(())
}

#[test]
fn kafka_is_away_and_what_was_accepted_follows_in_order() {
    const EVENTS: usize = 60;
    run(async {
        let folder = tempfile::tempdir()?;
        let (mut kafka, stores) = own_kafka(&folder).await?;
        on(System::builder().stores(stores), async |system| {
            let endpoint = endpoint(system, "/kafka", json!({})).await?;
            let before = send(&endpoint, "before").await?;
            until_status(system, &before, "SUCCESS").await?;
            let pid = system.ingress[0].daemon().pid();
            kafka.daemon().kill9()?;
            let mut accepted = Vec::new();
            for event in 0..EVENTS {
                accepted.push(send(&endpoint, event.to_string()).await?);
            }
            // Longer than a message lives in the client: it is Postgres that remembers.
            wait::until_true("messages to expire", BOUND, || async {
                Ok(sample(&system.ingress[0].metrics().await?, "ravenpost_kafka_producer_queue") == Some(0.0))
            })
            .await?;
            accepted.push(send(&endpoint, "late").await?);
            assert!(system.ingress[0].is_ready().await, "Kafka away is no reason to be unready");
            kafka.restart().await?;
            accepted.push(send(&endpoint, "after").await?);
            let all: BTreeSet<String> = accepted.iter().cloned().collect();
            assert_eq!(all.len(), EVENTS + 2);
            until_all_succeed(system, &all, BOUND).await?;
            ensure_once(system, &all);
            ensure_in_order(system, &[accepted]).await?;
            assert!(total(system, "ravenpost_ingress_relayed_total").await? >= 1.0);
            assert_eq!(system.ingress[0].daemon().pid(), pid);
            Ok(())
        })
        .await
    });
}

#[test]
fn more_than_may_wait_for_kafka_is_refused() {
    run(async {
        let folder = tempfile::tempdir()?;
        let (mut kafka, stores) = own_kafka(&folder).await?;
        let builder = System::builder().stores(stores).setting("RAVENPOST_OUTBOX_EVENTS", "10");
        on(builder, async |system| {
            let endpoint = endpoint(system, "/full", json!({})).await?;
            let before = send(&endpoint, "before").await?;
            until_status(system, &before, "SUCCESS").await?;
            kafka.daemon().kill9()?;
            let accepted = Mutex::new(BTreeSet::new());
            let refused = wait::until("the outbox to be full", BOUND, || async {
                let answer = post(&endpoint.hook_url, &[], "{}").await?;
                if answer.status == 202 {
                    accepted.lock().await.insert(text(&answer.json()?, "/id")?);
                    return Ok(None);
                }
                Ok(Some(answer))
            })
            .await?;
            let mut accepted = accepted.into_inner();
            ensure_problem(&refused, 503, "unavailable")?;
            wait::until_true("ingress to be unready", BOUND, || async {
                Ok(!system.ingress[0].is_ready().await)
            })
            .await?;
            kafka.restart().await?;
            system.ingress[0].wait_until_ready().await?;
            accepted.insert(send(&endpoint, "after").await?);
            assert!(accepted.len() >= 10, "{} were accepted", accepted.len());
            until_all_succeed(system, &accepted, BOUND).await?;
            ensure_once(system, &accepted);
            Ok(())
        })
        .await
    });
}

#[test]
fn what_waits_for_kafka_too_long_has_others_refused() {
    const AGE: Duration = Duration::from_secs(4);
    run(async {
        let folder = tempfile::tempdir()?;
        let (mut kafka, stores) = own_kafka(&folder).await?;
        let builder = System::builder()
            .stores(stores)
            .setting("RAVENPOST_KAFKA_TIMEOUT", "1s")
            .setting("RAVENPOST_OUTBOX_AGE", format!("{}s", AGE.as_secs()));
        on(builder, async |system| {
            let endpoint = endpoint(system, "/old", json!({})).await?;
            let before = send(&endpoint, "before").await?;
            until_status(system, &before, "SUCCESS").await?;
            kafka.daemon().kill9()?;
            let first_sent = Instant::now();
            let mut accepted = vec![send(&endpoint, "first").await?];
            let mut pace = tokio::time::interval(Duration::from_millis(20));
            let refused = loop {
                pace.tick().await;
                ensure!(first_sent.elapsed() < BOUND, "nothing is refused");
                let answer = post(&endpoint.hook_url, &[], "{}").await?;
                if answer.status != 202 {
                    break answer;
                }
                accepted.push(text(&answer.json()?, "/id")?);
            };
            ensure!(first_sent.elapsed() >= AGE, "refused after {:?}", first_sent.elapsed());
            ensure!(accepted.len() >= 2, "only the first was accepted");
            let problem = ensure_problem(&refused, 503, "unavailable")?;
            ensure!(problem["detail"] == "too much waits for its delivery to begin", "{problem}");
            ensure!(header(&refused.headers, "retry-after").is_some(), "no Retry-After");
            wait::until_true("ingress to be unready", BOUND, || async {
                Ok(!system.ingress[0].is_ready().await)
            })
            .await?;
            ensure_problem(&post(&endpoint.hook_url, &[], "{}").await?, 503, "unavailable")?;

            kafka.restart().await?;
            system.ingress[0].wait_until_ready().await?;
            accepted.push(send(&endpoint, "after").await?);
            let all: BTreeSet<String> = accepted.iter().cloned().collect();
            until_all_succeed(system, &all, BOUND).await?;
            ensure_once(system, &all);
            ensure_in_order(system, &[accepted]).await?;
            let rows = number(system, "select count(*) from events").await?;
            assert_eq!(usize::try_from(rows)?, all.len() + 1, "what was refused is not there");
            Ok(())
        })
        .await
    });
}

#[test]
fn what_a_process_that_died_has_not_published_is_adopted() {
    run(async {
        let folder = tempfile::tempdir()?;
        let (mut kafka, stores) = own_kafka(&folder).await?;
        let builder = System::builder()
            .stores(stores)
            .setting("RAVENPOST_KAFKA_TIMEOUT", "2s")
            .setting("RAVENPOST_ADOPT_AFTER", "7s");
        on(builder, async |system| {
            let endpoint = endpoint(system, "/adopted", json!({})).await?;
            let before = send(&endpoint, "before").await?;
            until_status(system, &before, "SUCCESS").await?;
            kafka.daemon().kill9()?;
            let mut accepted = BTreeSet::new();
            for event in 0..20 {
                accepted.insert(send(&endpoint, event.to_string()).await?);
            }
            system.ingress[0].kill9()?;
            kafka.restart().await?;
            // A successor adopts it, being the only one.
            system.ingress[0].restart().await?;
            until_all_succeed(system, &accepted, BOUND).await?;
            ensure_once(system, &accepted);
            wait::until_true("the dead one to be off the books", BOUND, || async {
                Ok(number(system, "select count(*) from ingress_instances").await? == 1)
            })
            .await
        })
        .await
    });
}

#[test]
fn who_stops_with_something_unpublished_leaves_it_to_a_peer_at_once() {
    run(async {
        let folder = tempfile::tempdir()?;
        let (mut kafka, stores) = own_kafka(&folder).await?;
        let builder = System::builder().stores(stores).setting("RAVENPOST_ADOPT_AFTER", "10m");
        on(builder, async |system| {
            let endpoint = endpoint(system, "/left", json!({})).await?;
            let before = send(&endpoint, "before").await?;
            until_status(system, &before, "SUCCESS").await?;
            kafka.daemon().kill9()?;
            let accepted = BTreeSet::from([send(&endpoint, "left").await?]);
            assert_eq!(system.ingress[0].terminate(BOUND)?.code(), Some(0));
            kafka.restart().await?;
            system.ingress[0].restart().await?;
            until_all_succeed(system, &accepted, BOUND).await?;
            ensure_once(system, &accepted);
            Ok(())
        })
        .await
    });
}

/// Sends until told to stop; gives what was acknowledged.
async fn keep_sending(endpoint: &Endpoint, stop: &std::sync::atomic::AtomicBool) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        // One that is not answered, because its ingress stands still, may arrive or not.
        if let Ok(Ok(id)) = tokio::time::timeout(Duration::from_secs(30), send(endpoint, "{}")).await {
            acknowledged.insert(id);
        }
    }
    acknowledged
}

#[test]
fn an_ingress_that_was_stopped_past_its_lease_goes_on_and_nothing_is_lost() {
    let builder = System::builder()
        .replicas(Service::Ingress, 2)
        .setting("RAVENPOST_KAFKA_TIMEOUT", "2s")
        .setting("RAVENPOST_ADOPT_AFTER", "7s");
    alone(builder, async |system| {
        let system = &*system;
        let first = endpoint(system, "/stopped", json!({})).await?;
        let hook_url = first.hook_url.replace(&system.ingress[0].url(), &system.ingress[1].url());
        let second = Endpoint { hook_url, ..first.clone() };
        let stop = std::sync::atomic::AtomicBool::new(false);
        let producers =
            (0..6).map(|producer| keep_sending(if producer % 2 == 0 { &first } else { &second }, &stop));
        let story = async {
            system.receiver.wait_for(200, BOUND).await?;
            system.ingress[0].pause()?;
            wait::until_true("a peer to adopt the stopped one", BOUND, || async {
                let metrics = system.ingress[1].metrics().await?;
                Ok(sample(&metrics, "ravenpost_ingress_adopted_total") >= Some(1.0))
            })
            .await?;
            system.ingress[0].resume()?;
            wait::until_true("it to go on under a new id", BOUND, || async {
                Ok(number(system, "select count(distinct instance_id) from ingress_lanes").await? == 2)
            })
            .await?;
            let again = send(&first, "again").await;
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            again
        };
        let (acknowledged, again) = tokio::join!(futures::future::join_all(producers), story);
        let mut acknowledged: BTreeSet<String> = acknowledged.into_iter().flatten().collect();
        acknowledged.insert(again?);
        until_all_succeed(system, &acknowledged, BOUND).await?;
        ensure_once(system, &acknowledged);
        wait::until_true("no event to be left pending", BOUND, || async {
            Ok(number(system, "select count(*) from events where status = 'PENDING'").await? == 0)
        })
        .await
    });
}
