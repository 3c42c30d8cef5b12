//! Several ingresses: they share what is configured for all, and take nobody for dead who lives.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::future::{join_all, try_join_all};
use ravenpost_testkit::{
    fault::{Mode, Silent},
    system::{Builder, Service, System},
    wait,
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    limits::until_refused,
    outage::behind_postgres,
    relay::{ensure_in_order, ensure_once, own_kafka, total},
    support::{
        BOUND, Endpoint, alone, endpoint, ensure_problem, header, number, on, post, run, send, text,
        until_all_succeed,
    },
};

/// After how long a peer counts as dead: the least that ingress takes beside this timeout of Kafka's.
const LEASE: Duration = Duration::from_secs(6);

/// Between two events of a producer.
const PACE: Duration = Duration::from_millis(50);
const PRODUCERS: usize = 6;

fn two() -> Builder {
    System::builder()
        .replicas(Service::Ingress, 2)
        .setting("RAVENPOST_KAFKA_TIMEOUT", "1s")
        .setting("RAVENPOST_ADOPT_AFTER", format!("{}s", LEASE.as_secs()))
}

/// The endpoint, as a producer knows it who is sent to this replica.
fn at(system: &System, replica: usize, endpoint: &Endpoint) -> Endpoint {
    let hook_url = endpoint.hook_url.replace(&system.ingress[0].url(), &system.ingress[replica].url());
    Endpoint { hook_url, ..endpoint.clone() }
}

/// How many more this replica would accept, by its `RateLimit`.
async fn remaining(endpoint: &Endpoint) -> Result<u32> {
    let answer = post(&endpoint.hook_url, &[], "{}").await?;
    answer.expect(202)?;
    let text = header(&answer.headers, "ratelimit").context("no RateLimit")?;
    let parameter = text.split(';').find_map(|parameter| parameter.strip_prefix("r="));
    Ok(parameter.with_context(|| text.to_owned())?.parse()?)
}

#[test]
fn one_rate_is_shared_and_who_dies_leaves_its_share_to_the_other() {
    const BURST: u32 = 40;
    /// More than a full bucket, so that it shows how fast it is filled.
    const ENOUGH: u32 = BURST + 6;
    alone(two(), async |system| {
        let wide = json!({ "rate_limit": { "per_second": 1_000, "burst": 2_000 } });
        let narrow = json!({ "rate_limit": { "per_second": 1, "burst": BURST } });
        let probe = endpoint(system, "/probe", wide).await?;
        let shared = endpoint(system, "/shared", narrow.clone()).await?;
        let whole = endpoint(system, "/whole", narrow).await?;
        for replica in 0..2 {
            let probe = at(system, replica, &probe);
            wait::until_true("replicas to know of each other", BOUND, || async {
                Ok(remaining(&probe).await? <= 1_000)
            })
            .await?;
        }
        let (started, accepted) = (Instant::now(), AtomicU32::new(0));
        let producers = (0..2).map(|replica| exhaust(at(system, replica, &shared), &accepted, ENOUGH));
        try_join_all(producers).await?;
        let most = f64::from(BURST) + started.elapsed().as_secs_f64();
        let accepted = accepted.into_inner();
        ensure!(f64::from(accepted) <= most, "{accepted} over both, at most {most}");

        system.ingress[1].kill9()?;
        wait::until_true("the one that is left to take the whole rate", BOUND, || async {
            Ok(remaining(&probe).await? > 1_000)
        })
        .await?;
        let started = Instant::now();
        let (refused, accepted) = until_refused(&whole).await?;
        ensure_problem(&refused, 429, "too-many-requests")?;
        let most = f64::from(BURST) + started.elapsed().as_secs_f64();
        ensure!(accepted >= BURST, "only {accepted} of a bucket of {BURST}");
        ensure!(f64::from(accepted) <= most, "{accepted} alone, at most {most}");
        Ok(())
    });
}

/// Sends to one replica until that has refused, and so has given its share, and all together have accepted enough.
async fn exhaust(endpoint: Endpoint, accepted: &AtomicU32, enough: u32) -> Result<()> {
    let (started, mut was_refused) = (Instant::now(), false);
    while !was_refused || accepted.load(Ordering::Relaxed) < enough {
        ensure!(started.elapsed() < BOUND, "{accepted:?} of {enough} were accepted");
        let answer = post(&endpoint.hook_url, &[], "{}").await?;
        if answer.status == 202 {
            accepted.fetch_add(1, Ordering::Relaxed);
        } else {
            ensure_problem(&answer, 429, "too-many-requests")?;
            was_refused = true;
            tokio::time::sleep(PACE).await;
        }
    }
    Ok(())
}

/// How often the heart of each registered run of ingress has beaten: about once a second.
async fn heartbeats(system: &System) -> Result<BTreeMap<Uuid, i64>> {
    let pool = system.database.pool().await?;
    let rows: Vec<(Uuid, i64)> =
        sqlx::query_as("select id, heartbeat from ingress_instances").fetch_all(&pool).await?;
    pool.close().await;
    Ok(rows.into_iter().collect())
}

/// Waits until these runs have beaten so often again, and nobody else has come and none of them has gone.
async fn ensure_the_same_live(system: &System, before: &BTreeMap<Uuid, i64>, beats: i64) -> Result<()> {
    let now = wait::until("all hearts to beat", BOUND, || async {
        let now = heartbeats(system).await?;
        let same = now.keys().eq(before.keys());
        let beaten = before.iter().all(|(id, count)| now.get(id) >= Some(&(count + beats)));
        Ok((!same || beaten).then_some(now))
    })
    .await?;
    ensure!(now.keys().eq(before.keys()), "{before:?} became {now:?}");
    let adopted = total(system, "ravenpost_ingress_adopted_total").await?;
    ensure!(adopted < 1.0, "{adopted} instances were adopted");
    Ok(())
}

/// Sends one event after the other at a steady pace until all is over; tells which were accepted, in their order. Each
/// has to be, unless refusals are expected.
async fn produce(endpoint: Endpoint, may_be_refused: bool, over: &AtomicBool) -> Result<Vec<String>> {
    let (mut pace, mut accepted) = (tokio::time::interval(PACE), Vec::new());
    while !over.load(Ordering::Relaxed) {
        pace.tick().await;
        let answer = post(&endpoint.hook_url, &[], accepted.len().to_string()).await?;
        if may_be_refused && answer.status != 202 {
            ensure_problem(&answer, 503, "unavailable")?;
        } else {
            accepted.push(text(&answer.expect(202)?, "/id")?);
        }
    }
    Ok(accepted)
}

/// Lets producers send to both replicas, each to an endpoint of its own, while a story happens; tells, for each of them,
/// what was accepted.
async fn under_load(
    system: &System,
    may_be_refused: bool,
    story: impl Future<Output = Result<()>>,
) -> Result<Vec<Vec<String>>> {
    let over = AtomicBool::new(false);
    let mut producers = Vec::new();
    for number in 0..PRODUCERS {
        let endpoint = endpoint(system, &format!("/{number}"), json!({})).await?;
        producers.push(produce(at(system, number % 2, &endpoint), may_be_refused, &over));
    }
    let story = async {
        let outcome = story.await;
        over.store(true, Ordering::Relaxed);
        outcome
    };
    let (accepted, outcome) = tokio::join!(join_all(producers), story);
    outcome?;
    accepted.into_iter().collect()
}

#[test]
fn kafka_is_away_for_longer_than_any_lease_and_nobody_is_taken_for_dead() {
    run(async {
        let folder = tempfile::tempdir()?;
        let (mut kafka, stores) = own_kafka(&folder).await?;
        on(two().stores(stores), async |system| {
            let system = &*system;
            let story = async {
                system.receiver.wait_for(4 * PRODUCERS, BOUND).await?;
                let lived = heartbeats(system).await?;
                assert_eq!(lived.len(), 2);
                kafka.daemon().kill9()?;
                ensure_the_same_live(system, &lived, 2 * i64::try_from(LEASE.as_secs())? + 1).await?;
                for ingress in &system.ingress {
                    assert!(ingress.is_ready().await, "{} is not ready without Kafka", ingress.name());
                }
                assert!(total(system, "ravenpost_ingress_outbox_events").await? >= 100.0);
                kafka.restart().await?;
                wait::until_true("the backlog to be published", BOUND, || async {
                    Ok(total(system, "ravenpost_ingress_outbox_events").await? < 1.0)
                })
                .await?;
                ensure_the_same_live(system, &lived, 1).await
            };
            let accepted = under_load(system, false, story).await?;
            let all: BTreeSet<String> = accepted.iter().flatten().cloned().collect();
            until_all_succeed(system, &all, 2 * BOUND).await?;
            ensure_once(system, &all);
            ensure_in_order(system, &accepted).await
        })
        .await
    });
}

#[test]
fn postgres_is_away_for_longer_than_the_lease_and_nobody_is_taken_for_dead() {
    run(async {
        let (proxy, stores) = behind_postgres().await?;
        let direct = ravenpost_testkit::shared().await?.clone();
        on(two().stores(direct).services_see(stores), async |system| {
            let system = &*system;
            let story = async {
                system.receiver.wait_for(4 * PRODUCERS, BOUND).await?;
                for away in [Mode::Cut, Mode::HalfOpen(Silent::Both)] {
                    let lived = heartbeats(system).await?;
                    assert_eq!(lived.len(), 2);
                    // Before and after, one sees for a while that the other's heart stands.
                    system.ingress[1].pause()?;
                    until_the_other_has_looked(system).await?;
                    proxy.set(away);
                    system.ingress[1].resume()?;
                    let before = heartbeats(system).await?;
                    // So long it is away; nothing is waited for.
                    tokio::time::sleep(LEASE + LEASE / 2).await;
                    let after = heartbeats(system).await?;
                    ensure!(
                        before.iter().all(|(id, count)| after[id] <= count + 2),
                        "hearts have beaten without Postgres: {before:?}, {after:?}"
                    );
                    system.ingress[1].pause()?;
                    proxy.set(Mode::Pass);
                    until_the_other_has_looked(system).await?;
                    system.ingress[1].resume()?;
                    ensure_the_same_live(system, &lived, 5).await?;
                }
                Ok(())
            };
            let accepted = under_load(system, true, story).await?;
            let mut all: BTreeSet<String> = accepted.into_iter().flatten().collect();
            all.extend(through_every_lane(system).await?);
            until_all_succeed(system, &all, 2 * BOUND).await?;
            ensure_once(system, &all);
            wait::until_true("nothing to wait any more", BOUND, || async {
                let pending = number(system, "select count(*) from events where status = 'PENDING'").await?;
                Ok(pending == 0 && total(system, "ravenpost_ingress_outbox_events").await? < 1.0)
            })
            .await
        })
        .await
    });
}

/// While one replica is stopped, waits until the other one has looked at it twice: far sooner than its lease ends.
async fn until_the_other_has_looked(system: &System) -> Result<()> {
    let before = heartbeats(system).await?;
    wait::until_true("the other one to look around", BOUND, || async {
        let now = heartbeats(system).await?;
        Ok(before.iter().any(|(id, count)| now.get(id) >= Some(&(count + 2))))
    })
    .await
}

/// More at once than there are lanes, of each kind, at each replica.
async fn through_every_lane(system: &System) -> Result<Vec<String>> {
    let endpoint = endpoint(system, "/lanes", json!({})).await?;
    let replicas = [at(system, 0, &endpoint), at(system, 1, &endpoint)];
    let bodies = (0..80).map(|number: usize| vec![b'x'; if number.is_multiple_of(2) { 10 } else { 100_000 }]);
    let sent = bodies.enumerate().map(|(number, body)| send(&replicas[number / 2 % 2], body));
    try_join_all(sent).await
}
