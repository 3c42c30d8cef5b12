//! A destination is sent to as fast as it bears: by its limits, by what it asks for, and by how it fares. What waits
//! for one delays no other, and a worker that dies does not make the next one forget.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use ravenpost_core::ids::{EndpointId, Slot};
use ravenpost_testkit::{
    kafka,
    receiver::{Answer, Received},
    system::{Builder, Service, System},
    wait,
};
use serde_json::{Value, json};

use crate::support::{
    BOUND, Endpoint, SHARED, alone, column, deliveries, destination, endpoint, logs, retries, send, text,
    until_all_succeed, until_balanced, until_status,
};

/// How the endpoint's first destination fares, as soon as `condition` holds of it.
pub(crate) async fn until_state(
    system: &System,
    endpoint: &Endpoint,
    what: &str,
    condition: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let path = endpoint.destination_path();
    wait::until(&format!("the destination to be {what}"), BOUND, || async {
        let state = system.api.get(&path).await?["state"].take();
        Ok(Some(state).filter(|state| condition(state)))
    })
    .await
}

/// Waits until the event's only pair waits for that reason.
pub(crate) async fn until_waiting(system: &System, event: &str, reason: &str) -> Result<()> {
    wait::until_true(&format!("{event} to be {reason}"), BOUND, || async {
        Ok(deliveries(system, event).await?["waiting"][0]["reason"] == reason)
    })
    .await
}

/// What the endpoint is sent, each event's number as its body; their ids in this order.
pub(crate) async fn send_all(endpoint: &Endpoint, count: usize) -> Result<Vec<String>> {
    let mut sent = Vec::new();
    for number in 0..count {
        sent.push(send(endpoint, number.to_string()).await?);
    }
    Ok(sent)
}

pub(crate) fn ids(received: &[Received]) -> Vec<&str> {
    received.iter().filter_map(|request| request.header("webhook-id")).collect()
}

fn time(state: &Value, field: &str) -> Result<Duration> {
    let time: DateTime<Utc> = text(state, &format!("/{field}"))?.parse()?;
    (time - DateTime::UNIX_EPOCH).to_std().context("a time before 1970")
}

fn one_by_one() -> Builder {
    System::builder().setting("RAVENPOST_LANE_CONCURRENCY", "1")
}

#[test]
fn who_asks_for_a_rest_gets_it_from_all_of_its_events() {
    SHARED.run(async |system| {
        let busy = Answer::status(429).header("retry-after", "3");
        system.receiver.script("/rests", [busy, Answer::ok()]);
        let endpoint = endpoint(system, "/rests", json!({ "retry_policy": retries(&["10ms"]) })).await?;
        let first = send(&endpoint, "{}").await?;
        let state = until_state(system, &endpoint, "slow", |state| state["slow_until"].is_string()).await?;
        let sent = send_all(&endpoint, 5).await?;
        for id in &sent {
            until_waiting(system, id, "parked").await?;
        }
        assert_eq!(system.receiver.received_on("/rests").len(), 1, "nobody else is let through");
        let all: BTreeSet<String> = sent.into_iter().chain([first]).collect();
        until_all_succeed(system, &all, BOUND).await?;
        let received = system.receiver.received_on("/rests");
        let slow_until = time(&state, "slow_until")?;
        assert!(received[1..].iter().all(|request| request.at >= slow_until), "{received:?}");
        assert_eq!(received.len(), 7);
        Ok(())
    });
}

#[test]
fn a_breaker_opens_probes_and_closes_into_a_slow_start() {
    const EVENTS: usize = 12;
    let system =
        System::builder().setting("RAVENPOST_BREAKER_FAILURES", "3").setting("RAVENPOST_BREAKER_WAIT", "3s");
    alone(system, async |system| {
        let fails = [500, 500, 500, 500].map(Answer::status);
        let answers = Duration::from_millis(300);
        system.receiver.script("/breaks", fails.into_iter().chain([Answer::ok().after(answers)]));
        let policy = json!({ "retry_policy": retries(&["10ms"; 20]) });
        let endpoint = endpoint(system, "/breaks", policy).await?;
        let mut all = BTreeSet::from([send(&endpoint, "first").await?]);
        let open = until_state(system, &endpoint, "given a rest", |state| state["breaker"] == "open").await?;
        all.extend(send_all(&endpoint, EVENTS).await?);
        until_all_succeed(system, &all, BOUND).await?;

        let received = system.receiver.received_on("/breaks");
        assert_eq!(received.len(), 4 + 1 + EVENTS, "nothing is sent twice but the first");
        let probe_at = time(&open, "probe_at")?;
        assert!(received[3].at >= probe_at, "the first probe waits");
        assert!(received[4].at >= received[3].at + Duration::from_secs(2), "the second one twice as long");
        assert!(received[5].at >= received[4].at + answers, "one at a time until it works");
        // Two at once then: the next one takes the place of one that has been answered.
        assert!(received[7].at >= received[5].at + answers, "it starts slowly");
        let state = system.api.get(&endpoint.destination_path()).await?["state"].take();
        assert_eq!((&state["breaker"], &state["failing_since"]), (&json!("closed"), &Value::Null));
        let metrics = system.workers[0].metrics().await?;
        assert!(metrics.contains(r#"delivery_gate_turns_total{turn="breaker_open"} 2"#), "{metrics}");
        Ok(())
    });
}

#[test]
fn an_open_breaker_survives_the_death_of_its_worker() {
    let system = System::builder()
        .setting("RAVENPOST_BREAKER_FAILURES", "2")
        .setting("RAVENPOST_BREAKER_WAIT", "1h")
        .setting("RAVENPOST_BREAKER_LONGEST_WAIT", "1h");
    alone(system, async |system| {
        system.receiver.script("/dies", [Answer::status(500), Answer::status(500), Answer::ok()]);
        let policy = json!({ "retry_policy": retries(&["10ms"; 20]) });
        let endpoint = endpoint(system, "/dies", policy).await?;
        let first = send(&endpoint, "{}").await?;
        until_state(system, &endpoint, "given a rest", |state| state["breaker"] == "open").await?;
        system.workers[0].kill9()?;
        let second = send(&endpoint, "{}").await?;
        system.workers[0].restart().await?;
        // It was met by the next worker, whose gate is shut, though its last owner has told nobody.
        until_waiting(system, &second, "parked").await?;
        assert_eq!(system.receiver.received_on("/dies").len(), 2);

        // A person says that it works: nothing that waits has to be touched.
        system.api.patch(&endpoint.destination_path(), &json!({ "status": "active" })).await?;
        until_all_succeed(system, &BTreeSet::from([first, second]), BOUND).await
    });
}

/// The worker that has taken the endpoint's partition last.
pub(crate) fn owner(system: &System, endpoint: &Endpoint) -> Result<usize> {
    let id: EndpointId = endpoint.id.parse()?;
    let partition = Slot::of(id).partition(kafka::PARTITIONS);
    for worker in 0..system.workers.len() {
        let log =
            logs(system.logs())?.remove(&format!("delivery-worker-{worker}")).context("no such worker")?;
        let moves = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let last = moves
            .filter(|record| record["partition"] == partition)
            .filter_map(|record| record["message"].as_str().map(str::to_owned))
            .rfind(|message| message == "partition taken" || message == "partition let go");
        if last.as_deref() == Some("partition taken") {
            return Ok(worker);
        }
    }
    anyhow::bail!("nobody has partition {partition}")
}

#[test]
fn a_rate_is_kept_when_the_worker_changes() {
    const EVENTS: usize = 100;
    alone(System::builder().replicas(Service::DeliveryWorker, 2), async |system| {
        until_balanced(system).await?;
        let endpoint = endpoint(system, "/paced", json!({})).await?;
        let limits = json!({ "limits": { "rate": { "per_second": 5, "burst": 50 } } });
        system.api.patch(&endpoint.destination_path(), &limits).await?;
        let sent: BTreeSet<String> = send_all(&endpoint, EVENTS).await?.into_iter().collect();
        system.receiver.wait_for(55, BOUND).await?;
        let worker = owner(system, &endpoint)?;
        system.workers[worker].terminate(BOUND)?;
        until_all_succeed(system, &sent, BOUND).await?;

        let received = system.receiver.received_on("/paced");
        assert_eq!(received.len(), EVENTS, "each once");
        let took = received[EVENTS - 1].at.saturating_sub(received[0].at);
        // (100 - 50) / 5 seconds, but for what the first request was late.
        assert!(took >= Duration::from_secs(8), "the next worker began with a burst: {took:?}");
        Ok(())
    });
}

#[test]
fn a_destination_that_is_given_a_rest_delays_no_other() {
    const EVENTS: usize = 60;
    alone(one_by_one(), async |system| {
        system.receiver.script("/fails", [Answer::status(500)]);
        system.receiver.script("/hangs", [Answer::hang()]);
        system.receiver.script("/slow", [Answer::status(503).header("retry-after", "86400")]);
        system.receiver.script("/gone", [Answer::status(410)]);
        let endpoint = endpoint(system, "/healthy", json!({})).await?;
        for path in ["/fails", "/hangs", "/slow", "/gone"] {
            let fields = json!({ "timeout": "20s", "retry_policy": retries(&["1h"; 5]) });
            destination(system, &endpoint, path, fields).await?;
        }
        let paced = json!({ "limits": { "rate": { "per_second": 1, "burst": 1 } } });
        let paced = destination(system, &endpoint, "/paced", paced).await?;
        let sent = send_all(&endpoint, EVENTS).await?;
        let healthy = |all: &[Received]| all.iter().filter(|it| it.path == "/healthy").count() == EVENTS;
        system.receiver.wait_until("all of the healthy one's", BOUND, healthy).await?;

        let received = system.receiver.received_on("/healthy");
        assert_eq!(ids(&received), sent, "each once, in the order in which they came");
        for path in ["/slow", "/gone", "/hangs"] {
            assert_eq!(system.receiver.received_on(path).len(), 1, "{path} is left alone");
        }
        assert!(system.receiver.received_on("/fails").len() <= 10, "its breaker opens");
        let paced = system.api.get(&format!("{}/destinations/{paced}", endpoint.path())).await?;
        assert!(paced["state"]["waiting"].as_u64() > Some(0), "this one is still at it: {paced}");
        let received = system.receiver.received_on("/paced");
        assert_eq!(ids(&received), sent[..received.len()], "oldest first");
        everything_else_is_in_the_schedule(system, &endpoint, &text(&paced, "/id")?, 3 * EVENTS).await
    });
}

/// At least so many pairs of other destinations than `but` wait there: nothing of what rests is kept in memory.
async fn everything_else_is_in_the_schedule(
    system: &System,
    endpoint: &Endpoint,
    but: &str,
    least: usize,
) -> Result<()> {
    let pool = system.database.pool().await?;
    let (endpoint, but) = (uuid::Uuid::parse_str(&endpoint.id)?, uuid::Uuid::parse_str(but)?);
    wait::until_true("what rests to be in the schedule", BOUND, || async {
        let rows: i64 = sqlx::query_scalar(
            "select count(*) from scheduled_deliveries where endpoint_id = $1 and destination_id <> $2",
        )
        .bind(endpoint)
        .bind(but)
        .fetch_one(&pool)
        .await?;
        Ok(usize::try_from(rows)? >= least)
    })
    .await
}

#[test]
fn a_policy_tells_failures_apart() {
    SHARED.run(async |system| {
        system.receiver.script("/apart", [Answer::status(500), Answer::status(404)]);
        let policy = json!({ "type": "exponential", "first": "10ms", "attempts": 9, "jitter": 0,
            "overrides": { "client_error": "none" } });
        let endpoint = endpoint(system, "/apart", json!({ "retry_policy": policy })).await?;
        let id = send(&endpoint, "{}").await?;
        until_status(system, &id, "FAILED").await?;
        assert_eq!(column(&deliveries(system, &id).await?, "response_code"), [500, 404]);
        Ok(())
    });
}

#[test]
fn what_only_a_person_can_mend_is_tried_once_more_and_given_up() {
    SHARED.run(async |system| {
        // The tests allow loopback alone.
        let fields = json!({ "target_url": "http://169.254.169.254/", "retry_policy": retries(&["1s"; 9]) });
        let endpoint = endpoint(system, "/blocked", fields).await?;
        let id = send(&endpoint, "{}").await?;
        until_waiting(system, &id, "retry").await?;
        let told = deliveries(system, &id).await?;
        let due: DateTime<Utc> = text(&told, "/waiting/0/due_at")?.parse()?;
        let attempted: DateTime<Utc> = text(&told, "/data/0/attempted_at")?.parse()?;
        assert!(due - attempted >= chrono::TimeDelta::minutes(59), "slowly: {told}");
        // An hour later.
        let pool = system.database.pool().await?;
        sqlx::query("update scheduled_deliveries set due_at = now() where event_id = $1::uuid")
            .bind(uuid::Uuid::parse_str(&id)?)
            .execute(&pool)
            .await?;
        until_status(system, &id, "FAILED").await?;
        let told = deliveries(system, &id).await?;
        assert_eq!(column(&told, "outcome"), ["blocked_address", "blocked_address"]);
        Ok(())
    });
}

#[test]
fn what_waits_for_a_deleted_destination_is_cancelled_though_its_deleter_has_died() {
    SHARED.run(async |system| {
        system.receiver.script("/orphaned", [Answer::status(500)]);
        let endpoint = endpoint(system, "/orphaned", json!({ "retry_policy": retries(&["7d"]) })).await?;
        let id = send(&endpoint, "{}").await?;
        until_waiting(system, &id, "retry").await?;
        // As far as the API gets that is killed right after its first transaction.
        let pool = system.database.pool().await?;
        sqlx::query("update destinations set deleted_at = now() where id = $1")
            .bind(uuid::Uuid::parse_str(&endpoint.destination)?)
            .execute(&pool)
            .await?;
        until_status(system, &id, "DROPPED").await?;
        assert_eq!(deliveries(system, &id).await?["waiting"], json!([]));
        Ok(())
    });
}
