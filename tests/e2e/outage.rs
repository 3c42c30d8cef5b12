//! A store that is away is told to the producer, ends no process, and takes nothing with it.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use ravenpost_core::topic;
use ravenpost_testkit::{
    fault::{FaultProxy, Mode, Silent},
    fragile::Fragile,
    process::Process,
    receiver,
    stack::{self, Addresses, Kafka, Options, Progress, WhenDropped},
    system::System,
    wait,
};
use serde_json::{Value, json};

use crate::support::{
    BOUND, Endpoint, column, deliveries, endpoint, ensure_problem, header, logs, number, on, post, retries,
    run, sample, send, text, until_all_succeed, until_status,
};

/// What is sent at 20 a second for longer than a session lasts.
const STEADY: usize = 400;
/// Twenty times what lies between two requests.
const QUIET: Duration = Duration::from_secs(1);
/// How long a producer may wait for its 503, and an operator for a process that is ready again.
const PROMPT: Duration = Duration::from_secs(20);

/// The shared stores, with Postgres behind a network that fails on command.
pub(crate) async fn behind_postgres() -> Result<(FaultProxy, Addresses)> {
    let mut stores = stack::shared().await?.clone();
    let url = stores.postgres_url.clone();
    let (_, rest) = url.split_once('@').context("the URL of Postgres")?;
    let (address, _) = rest.split_once('/').context("the URL of Postgres")?;
    let proxy = FaultProxy::start(address).await?;
    stores.postgres_url = url.replace(address, &proxy.address());
    Ok((proxy, stores))
}

/// The shared stores, with S3 behind a network that fails on command.
pub(crate) async fn behind_s3() -> Result<(FaultProxy, Addresses)> {
    let mut stores = stack::shared().await?.clone();
    let proxy = FaultProxy::start(stores.s3.endpoint.trim_start_matches("http://")).await?;
    stores.s3.endpoint = format!("http://{}", proxy.address());
    Ok((proxy, stores))
}

async fn until_ready(process: &Process, ready: bool) -> Result<()> {
    let what = format!("{} to be {}", process.name(), if ready { "ready" } else { "unready" });
    wait::until_true(&what, PROMPT, || async { Ok(process.is_ready().await == ready) }).await
}

/// The producer is told to come again, soon, and when.
async fn ensure_told_to_come_again(endpoint: &Endpoint) -> Result<()> {
    let answered = tokio::time::timeout(PROMPT, post(&endpoint.hook_url, &[], "{}")).await;
    let answer = answered.context("no answer while a store is away")??;
    ensure_problem(&answer, 503, "unavailable")?;
    let seconds: u32 = header(&answer.headers, "retry-after").context("no Retry-After")?.parse()?;
    ensure!((1..=60).contains(&seconds), "to come again in {seconds} s");
    Ok(())
}

/// The first event that is accepted again, within the bound.
async fn accepted_again(endpoint: &Endpoint) -> Result<String> {
    wait::until("an event to be accepted again", PROMPT, || async {
        let answer = post(&endpoint.hook_url, &[], "{}").await?;
        Ok(if answer.status == 202 { Some(text(&answer.json()?, "/id")?) } else { None })
    })
    .await
}

/// Neither has been started anew.
fn pids(system: &mut System) -> Vec<i32> {
    let processes = [&mut system.ingress, &mut system.workers, &mut system.management, &mut system.notifiers];
    processes.into_iter().flatten().map(|process| process.daemon().pid()).collect()
}

#[test]
fn postgres_is_away() {
    run(async {
        let (proxy, stores) = behind_postgres().await?;
        on(System::builder().stores(stores), async |system| {
            let processes = pids(system);
            system.receiver.script("/slow", [receiver::Answer::ok().after(Duration::from_millis(500))]);
            let endpoint = endpoint(system, "/slow", json!({})).await?;
            let in_the_air = send(&endpoint, "before").await?;
            system.receiver.wait_for(1, BOUND).await?;
            proxy.set(Mode::Cut);

            ensure_told_to_come_again(&endpoint).await?;
            for process in
                [&system.ingress[0], &system.workers[0], &system.management[0], &system.notifiers[0]]
            {
                until_ready(process, false).await?;
            }
            let answer = system.api.send(http::Method::GET, "/api/v1/events", None).await?;
            ensure_problem(&answer, 503, "unavailable")?;
            ensure!(header(&answer.headers, "retry-after").is_some(), "no Retry-After");

            proxy.set(Mode::Pass);
            let after = accepted_again(&endpoint).await?;
            for process in
                [&system.ingress[0], &system.workers[0], &system.management[0], &system.notifiers[0]]
            {
                until_ready(process, true).await?;
            }
            until_all_succeed(system, &BTreeSet::from([in_the_air.clone(), after]), BOUND).await?;
            // The answer came while it could not be recorded; it was kept.
            assert_eq!(column(&deliveries(system, &in_the_air).await?, "outcome"), ["success"]);
            let received = system.receiver.received();
            let repeats =
                received.iter().filter(|request| request.header("webhook-id") == Some(&in_the_air)).count();
            assert_eq!(repeats, 1, "nothing is sent again only because it could not be recorded");
            assert_eq!(pids(system), processes);
            Ok(())
        })
        .await
    });
}

#[test]
fn postgres_falls_silent() {
    run(async {
        let (proxy, stores) = behind_postgres().await?;
        on(System::builder().stores(stores), async |system| {
            let endpoint = endpoint(system, "/silent", json!({})).await?;
            let before = send(&endpoint, "before").await?;
            until_status(system, &before, "SUCCESS").await?;
            proxy.set(Mode::HalfOpen(Silent::Both));
            // Many at once: some find a connection that was good a moment ago.
            let told = (0..8).map(|_| ensure_told_to_come_again(&endpoint));
            futures::future::try_join_all(told).await?;
            until_ready(&system.ingress[0], false).await?;
            proxy.set(Mode::Pass);
            let after = accepted_again(&endpoint).await?;
            until_status(system, &after, "SUCCESS").await?;
            until_ready(&system.ingress[0], true).await
        })
        .await
    });
}

#[test]
fn s3_is_away() {
    run(async {
        let (proxy, stores) = behind_s3().await?;
        on(System::builder().stores(stores), async |system| {
            let processes = pids(system);
            let endpoint = endpoint(system, "/s3", json!({ "retry_policy": retries(&[]) })).await?;
            // What doesn't travel inline is held, so that the worker has to fetch it while S3 is away.
            let held =
                crate::support::endpoint(system, "/held", json!({ "retry_policy": retries(&[]) })).await?;
            system.api.patch(&held.path(), &json!({ "status": "paused" })).await?;
            let large = send(&held, vec![b'x'; 100_000]).await?;
            wait::until_true("the large event to be held", BOUND, || async {
                Ok(deliveries(system, &large).await?["waiting"][0]["reason"] == "held")
            })
            .await?;
            let before = send(&endpoint, "before").await?;
            until_status(system, &before, "SUCCESS").await?;

            proxy.set(Mode::Cut);
            ensure_told_to_come_again(&endpoint).await?;
            for process in [&system.ingress[0], &system.workers[0], &system.management[0]] {
                until_ready(process, false).await?;
            }
            system.api.patch(&held.path(), &json!({ "status": "active" })).await?;
            let answer =
                system.api.send(http::Method::GET, &format!("/api/v1/events/{large}/payload"), None).await?;
            ensure_problem(&answer, 503, "unavailable")?;
            let put_off = "select count(*) from scheduled_deliveries where reason = 'parked'";
            wait::until_true("the worker to have looked for the payload", BOUND, || async {
                Ok(number(system, put_off).await? == 1)
            })
            .await?;
            assert_eq!(
                number(system, "select count(*) from events").await?,
                2,
                "what was refused is not there"
            );

            proxy.set(Mode::Pass);
            let after = accepted_again(&endpoint).await?;
            for process in [&system.ingress[0], &system.workers[0], &system.management[0]] {
                until_ready(process, true).await?;
            }
            until_all_succeed(system, &BTreeSet::from([large.clone(), after]), BOUND).await?;
            assert_eq!(
                column(&deliveries(system, &large).await?, "attempt_number"),
                [1],
                "a fetch is no attempt"
            );
            assert_eq!(pids(system), processes);
            Ok(())
        })
        .await
    });
}

/// What lies side by side in one object is read together, before it is needed (PROTOCOLS W7).
#[test]
fn what_was_read_with_its_neighbours_needs_s3_no_more() {
    const NEIGHBOURS: u32 = 20;
    run(async {
        let (proxy, stores) = behind_s3().await?;
        let one_by_one = System::builder()
            .stores(stores)
            .setting("RAVENPOST_COMMIT_LANES", "1")
            .setting("RAVENPOST_LANE_CONCURRENCY", "1");
        on(one_by_one, async |system| {
            let [first, beside] =
                [endpoint(system, "/first", json!({})).await?, endpoint(system, "/beside", json!({})).await?];
            system.api.patch(&beside.path(), &json!({ "status": "paused" })).await?;
            let counted = async |metric: &str, count: f64| {
                wait::until_true(&format!("{metric} to be {count}"), BOUND, || async {
                    Ok(sample(&system.ingress[0].metrics().await?, metric) == Some(count))
                })
                .await
            };
            // While another one is being stored, they wait for their turn and have it together.
            proxy.set(Mode::HalfOpen(Silent::Both));
            let together = async {
                counted("ravenpost_ingress_batch_events_count", 1.0).await?;
                let all = (0..NEIGHBOURS).map(|number| send(&beside, format!("{number}")));
                let let_go = async {
                    counted("ravenpost_ingress_queue_events", f64::from(NEIGHBOURS)).await?;
                    proxy.set(Mode::Pass);
                    Ok(())
                };
                tokio::try_join!(futures::future::try_join_all(all), let_go)
            };
            let (first, (all, ())) = tokio::try_join!(send(&first, "first"), together)?;
            until_status(system, &first, "SUCCESS").await?;
            let held = "select count(*) from scheduled_deliveries where reason = 'held'";
            wait::until_true("all to be held", BOUND, || async {
                Ok(number(system, held).await? == i64::from(NEIGHBOURS))
            })
            .await?;
            let objects = number(system, "select count(distinct s3_key) from events").await?;
            ensure!(objects == 2, "they lie in {objects} objects");

            system.receiver.clear();
            system.receiver.script("/beside", [receiver::Answer::ok().after(Duration::from_millis(50))]);
            system.api.patch(&beside.path(), &json!({ "status": "active" })).await?;
            system.receiver.wait_for(1, BOUND).await?;
            proxy.set(Mode::Cut);
            let received = system.receiver.wait_for(all.len(), BOUND).await?;
            let bodies: BTreeSet<&[u8]> = received.iter().map(|request| request.body.as_ref()).collect();
            ensure!(bodies.len() == all.len(), "some bodies are those of others");
            proxy.set(Mode::Pass);
            until_all_succeed(system, &all.into_iter().collect(), BOUND).await
        })
        .await
    });
}

#[test]
fn kafka_is_away() {
    run(async {
        // Its own: clients of Kafka connect to where the broker says that it is, past any proxy.
        let folder = tempfile::tempdir()?;
        let mut kafka = Kafka::start(folder.path(), &Options::for_tests(), &Progress::silent()).await?;
        let stores = Addresses { kafka_brokers: kafka.brokers(), ..stack::shared().await?.clone() };
        on(System::builder().stores(stores), async |system| {
            let processes = pids(system);
            let endpoint = endpoint(system, "/kafka", json!({})).await?;
            let before = send(&endpoint, "before").await?;
            until_status(system, &before, "SUCCESS").await?;
            system.receiver.script("/kafka", [receiver::Answer::ok().after(Duration::from_millis(500))]);
            let in_the_air = send(&endpoint, "in the air").await?;
            system.receiver.wait_for(2, BOUND).await?;

            kafka.daemon().kill9()?;
            until_ready(&system.workers[0], false).await?;
            // The relay's own tests tell what becomes of it.
            let after = send(&endpoint, "meanwhile").await?;
            kafka.restart().await?;
            until_ready(&system.workers[0], true).await?;
            until_all_succeed(system, &BTreeSet::from([in_the_air, after]), BOUND).await?;
            let reports = system.messages(topic::DELIVERIES).await?;
            assert!(reports.len() >= 3, "every outcome is told in the end");
            assert_eq!(pids(system), processes);
            Ok(())
        })
        .await
    });
}

/// Kafka is told first (PROTOCOLS W9): the other way round a worker that dies in between has recorded what nobody hears of.
#[test]
fn what_is_recorded_was_told_though_the_worker_died_in_between() {
    run(async {
        let (postgres, stores) = behind_postgres().await?;
        on(System::builder().stores(stores), async |system| {
            // Sooner than what is under way gets a row, which would be recorded before it.
            let slow = receiver::Answer::ok().after(Duration::from_millis(700));
            system.receiver.script("/told", [slow]);
            let endpoint = endpoint(system, "/told", json!({})).await?;
            let mut sent = 0;
            let id = loop {
                sent += 1;
                ensure!(
                    sent <= 5,
                    "each attempt was recorded before Postgres was cut off, or not told at all"
                );
                if let Some(id) = told_and_not_recorded(system, &endpoint, &postgres, sent).await? {
                    break id;
                }
            };
            until_status(system, &id, "SUCCESS").await?;

            let mut told = BTreeSet::new();
            for report in system.messages(topic::DELIVERIES).await? {
                let report: Value = serde_json::from_slice(&report.value)?;
                if report["event_id"] == id {
                    told.insert((report["run"].to_string(), report["attempt_number"].to_string()));
                }
            }
            let recorded = deliveries(system, &id).await?;
            let recorded = column(&recorded, "run").into_iter().zip(column(&recorded, "attempt_number"));
            let recorded: BTreeSet<_> =
                recorded.map(|(run, attempt)| (run.to_string(), attempt.to_string())).collect();
            // Sent again, since nobody knew; whoever listens knows by its key that it is the same attempt.
            assert!(!recorded.is_empty());
            assert_eq!(told, recorded);
            Ok(())
        })
        .await
    });
}

/// Kills the worker when Kafka knows of an attempt and Postgres does not; `None` if Postgres was quicker.
async fn told_and_not_recorded(
    system: &mut System,
    endpoint: &Endpoint,
    postgres: &FaultProxy,
    sent: usize,
) -> Result<Option<String>> {
    let before = system.messages(topic::DELIVERIES).await?.len();
    let id = send(endpoint, "{}").await?;
    system.receiver.wait_for(sent, BOUND).await?;
    // That it has met its destination is recorded before: records of a partition follow each other.
    wait::until_true("its route to be recorded", BOUND, || async {
        Ok(number(system, "select count(*) from events where pending is null").await? == 0)
    })
    .await?;
    postgres.set(Mode::Cut);
    let told = wait::until_true("the attempt to be told", Duration::from_secs(5), || async {
        Ok(system.messages(topic::DELIVERIES).await?.len() > before)
    });
    let told = told.await.is_ok();
    system.workers[0].kill9()?;
    postgres.set(Mode::Pass);
    let recorded = !deliveries(system, &id).await?["data"].as_array().is_none_or(Vec::is_empty);
    system.workers[0].restart().await?;
    Ok(Some(id).filter(|_| told && !recorded))
}

/// What `worker` has under way.
async fn in_flight(worker: &Process) -> Result<f64> {
    sample(&worker.metrics().await?, "ravenpost_delivery_in_flight ").context("no such metric")
}

#[test]
fn what_was_not_sent_while_its_row_was_being_written_is_sent_soon() {
    run(async {
        let (postgres, mut stores) = behind_postgres().await?;
        let (s3, stores_behind_s3) = behind_s3().await?;
        stores.s3 = stores_behind_s3.s3;
        on(System::builder().stores(stores), async |system| {
            let worker = &system.workers[0];
            let endpoint = endpoint(system, "/put-off", json!({})).await?;
            worker.pause()?;
            let large = send(&endpoint, vec![b'x'; 100_000]).await?;
            // Its payload doesn't come, and after a second its row is written: due when an attempt would be over.
            s3.set(Mode::HalfOpen(Silent::Both));
            worker.resume()?;
            wait::until_true("the event to be under way", BOUND, || async {
                Ok(in_flight(worker).await? > 0.0)
            })
            .await?;
            postgres.set(Mode::Cut);
            wait::until_true("its row to be on the way", BOUND, || async {
                let parked =
                    sample(&worker.metrics().await?, r#"ravenpost_delivery_parked_total{reason="parked"}"#);
                Ok(parked == Some(1.0))
            })
            .await?;
            assert!(in_flight(worker).await? > 0.0, "it still waits for its payload");
            s3.set(Mode::Cut);
            wait::until_true("the fetch to fail", BOUND, || async { Ok(in_flight(worker).await? < 1.0) })
                .await?;

            postgres.set(Mode::Pass);
            s3.set(Mode::Pass);
            // Two minutes would be for what is in the air.
            until_all_succeed(system, &BTreeSet::from([large]), BOUND).await
        })
        .await
    });
}

/// Others may have its partitions when its session is over, so it must have stopped to send before (PROTOCOLS W2).
#[test]
fn a_worker_that_kafka_does_not_answer_stops_sending_before_its_session_is_over() {
    run(async {
        let folder = tempfile::tempdir()?;
        let options = Options { when_dropped: WhenDropped::Kill, ..Options::for_tests() };
        let stores = Fragile::start(folder.path(), &options).await?;
        let builder =
            System::builder().stores(stores.direct().clone()).services_see(stores.through().clone());
        on(builder, async |system| {
            let endpoint = endpoint(system, "/steady", json!({})).await?;
            let steadily = json!({ "limits": { "rate": { "per_second": 20, "burst": 1 } } });
            system.api.patch(&endpoint.destination_path(), &steadily).await?;
            system.api.post(&format!("{}/pause", endpoint.destination_path()), &json!(null)).await?;
            let mut sent = BTreeSet::new();
            for _ in 0..STEADY {
                sent.insert(send(&endpoint, "{}").await?);
            }
            wait::until_true("all to be held", BOUND, || async {
                let held = number(system, "select count(*) from scheduled_deliveries").await?;
                Ok(usize::try_from(held)? == STEADY)
            })
            .await?;
            system.api.post(&format!("{}/resume", endpoint.destination_path()), &json!(null)).await?;
            system.receiver.wait_for(20, BOUND).await?;
            // Without a word: a connection that is reset is noticed.
            stores.network.kafka.set(Mode::HalfOpen(Silent::Both));
            let came = wait::until("nothing to be sent any more", BOUND, || async {
                let before = system.receiver.received().len();
                tokio::time::sleep(QUIET).await;
                Ok(Some(before).filter(|before| system.receiver.received().len() == *before))
            })
            .await?;
            ensure!(came < STEADY, "all was sent");
            let log = logs(system.logs())?;
            let over = |line: &str| line.contains("partition revoked") || line.contains("partition let go");
            ensure!(
                !log["delivery-worker-0"].lines().any(over),
                "its partitions were gone before it stopped"
            );
            stores.network.kafka.set(Mode::Pass);
            until_all_succeed(system, &sent, 2 * BOUND).await
        })
        .await
    });
}
