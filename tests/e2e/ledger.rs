//! The ledger balances, and it says so; what is taken out of it, put into it or altered by hand is found; and what Kafka
//! has lost comes back.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use ravenpost_core::topic;
use ravenpost_testkit::{
    kafka,
    ledger::{findings, ledger, ledger_by, reconcile, said_of_sweeping},
    receiver::Answer,
    s3,
    system::{Service, System},
    wait,
};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tokio::net::{TcpListener, TcpStream};

use crate::{
    pacing::until_waiting,
    relay::ensure_once,
    resources::expunge,
    support::{
        BOUND, alone, deliveries, destination, endpoint, endpoint_of, number, retries, sample, send, text,
        until_all_succeed, until_status,
    },
};

/// Everything accepted so far has been met by the workers and was swept: what has no row now is lost.
async fn until_met(system: &System) -> Result<()> {
    wait::until_true("the workers to have met all events", 2 * BOUND, || async {
        let unmet = "select count(*) from events, sweeper
                     where swept_through is null or met_through is null or id > swept_through or id > met_through";
        Ok(number(system, unmet).await? == 0)
    })
    .await
}

/// What the metric says; it is there in any case.
async fn swept(system: &System) -> Result<Option<f64>> {
    Ok(sample(&system.workers[0].metrics().await?, "ravenpost_delivery_swept_total"))
}

/// Events of each kind there is, by what becomes of them.
async fn one_of_each(system: &System) -> Result<BTreeMap<&'static str, String>> {
    let failing = json!({ "retry_policy": retries(&["1h", "1h", "1h"]) });
    system.receiver.script("/retry", [Answer::status(500)]);
    system.receiver.script("/dead", [Answer::status(500)]);
    let mut events = BTreeMap::new();

    let delivered = endpoint(system, "/delivered", json!({})).await?;
    destination(system, &delivered, "/delivered-too", json!({})).await?;
    events.insert("delivered", send(&delivered, "delivered").await?);

    let dead = endpoint(system, "/dead", json!({ "retry_policy": retries(&["50ms"]) })).await?;
    events.insert("dead", send(&dead, "dead").await?);

    let retry = endpoint(system, "/retry", failing.clone()).await?;
    events.insert("retry", send(&retry, "retry").await?);

    let held = endpoint(system, "/held", json!({})).await?;
    system.api.patch(&held.path(), &json!({ "status": "paused" })).await?;
    events.insert("held", send(&held, "held").await?);

    let dropped = endpoint(system, "/dropped", json!({})).await?;
    system.api.delete(&dropped.destination_path()).await?;
    events.insert("dropped", send(&dropped, "dropped").await?);

    let cancelled = endpoint(system, "/retry", failing).await?;
    let id = send(&cancelled, "cancelled").await?;
    until_waiting(system, &id, "retry").await?;
    system.api.delete(&cancelled.destination_path()).await?;
    events.insert("cancelled", id);

    for (name, status) in
        [("delivered", "SUCCESS"), ("dead", "FAILED"), ("dropped", "DROPPED"), ("cancelled", "DROPPED")]
    {
        until_status(system, &events[name], status).await?;
    }
    until_waiting(system, &events["retry"], "retry").await?;
    until_waiting(system, &events["held"], "held").await?;
    Ok(events)
}

async fn by_hand(system: &System, event: &str, statement: &str) -> Result<()> {
    let pool = system.database.pool().await?;
    let statement = statement.replace("$1", &format!("'{event}'"));
    let done = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&pool).await?;
    ensure!(done.rows_affected() >= 1, "nothing was altered by {statement}");
    Ok(())
}

#[test]
fn it_balances_and_what_was_done_to_it_by_hand_is_named() {
    alone(System::builder(), async |system| {
        let events = one_of_each(system).await?;
        let told = ledger(system, &[]).await?;
        let expected = json!({
            "events": 6, "accepted": 7, "delivered": 2, "dead": 1, "dropped": 1, "filtered": 0,
            "cancelled": 1, "unaccounted": 0,
            "waiting": 2,
            "waiting_by_reason": { "retry": 1, "held": 1, "parked": 0, "replay": 0, "in_the_air": 0, "not_routed": 0 },
        });
        assert_eq!(told["total"], expected, "{told}");
        assert_eq!((&told["balanced"], &told["payloads_read"]), (&json!(true), &json!(6)));
        assert_eq!(told["organizations"][0]["organization_id"], system.tenant.organization_id);

        let people = reconcile(system, &[]).await?.into_stdout()?;
        assert!(
            people.contains(
                "accepted 7 = delivered 2 + waiting 2 (retry 1, held 1) + dead 1 + dropped 1 + filtered 0 + cancelled 1"
            ),
            "{people}"
        );
        assert!(people.ends_with("The ledger balances.\n"), "{people}");
        let late = ledger(system, &["--since", "0s"]).await?;
        assert_eq!(late["total"]["events"], 0, "{late}");

        until_met(system).await?;
        damage(system, &events).await?;
        assert_eq!(swept(system).await?, Some(0.0), "so far nothing was lost");
        Ok(())
    });
}

#[test]
fn each_organization_has_an_account_of_its_own() {
    alone(System::builder(), async |system| {
        let (other, api) = system.another_organization("Other").await?;
        let ours = endpoint(system, "/ours", json!({})).await?;
        let theirs = endpoint_of(system, &api, "/theirs", json!({})).await?;
        for endpoint in [&ours, &theirs, &ours] {
            send(endpoint, "{}").await?;
        }
        wait::until_true("all to be delivered", BOUND, || async {
            Ok(number(system, "select count(*) from events where status = 'SUCCESS'").await? == 3)
        })
        .await?;
        let told = ledger(system, &[]).await?;
        let listed = told["organizations"].as_array().into_iter().flatten();
        let accounts: BTreeMap<String, Value> = listed
            .map(|one| Ok((text(one, "/organization_id")?, json!([one["accepted"], one["delivered"]]))))
            .collect::<Result<_>>()?;
        let expected =
            [(system.tenant.organization_id.clone(), json!([2, 2])), (other.organization_id, json!([1, 1]))];
        assert_eq!(accounts, BTreeMap::from(expected));
        Ok(())
    });
}

/// Alters the rows and objects of each event, and looks for what is told of it.
async fn damage(system: &System, events: &BTreeMap<&str, String>) -> Result<()> {
    let damages = [
        ("delivered", "delete from deliveries where event_id = $1", "delivery_missing"),
        ("dead", "delete from dead_letters where event_id = $1", "dead_letter_missing"),
        ("retry", "delete from scheduled_deliveries where event_id = $1", "lost"),
        ("held", "update events set status = 'SUCCESS' where id = $1", "status_wrong"),
        ("dropped", "delete from events where id = $1", "event_missing"),
        ("cancelled", "delete from event_headers where event_id = $1", "headers_missing"),
    ];
    let mut expected = BTreeSet::new();
    for (name, statement, fault) in damages {
        by_hand(system, &events[name], statement).await?;
        expected.insert((events[name].clone(), fault.to_owned()));
    }
    let told = ledger(system, &[]).await?;
    assert_eq!(findings(&told), expected, "{told}");
    assert_eq!(told["total"]["unaccounted"], 5, "two deliveries, a dead letter, a retry, an event: {told}");

    let people = reconcile(system, &["--grace", "0s"]).await?;
    assert_eq!(people.status.code(), Some(1));
    for (event, fault) in &expected {
        assert!(people.stdout.contains(event) && people.stdout.contains(fault), "{}", people.stdout);
    }

    // What can be put right is; the rest is told as before.
    expected.remove(&(events["retry"].clone(), "lost".to_owned()));
    let repaired = ledger(system, &["--repair"]).await?;
    assert_eq!((findings(&repaired), &repaired["swept"]), (expected.clone(), &json!(1)), "{repaired}");
    until_waiting(system, &events["retry"], "retry").await?;
    assert_eq!(
        deliveries(system, &events["retry"]).await?["data"].as_array().map(Vec::len),
        Some(2),
        "tried again"
    );
    assert_eq!(findings(&ledger(system, &[]).await?), expected);
    payloads(system, events, expected).await
}

async fn payloads(
    system: &System,
    events: &BTreeMap<&str, String>,
    mut expected: BTreeSet<(String, String)>,
) -> Result<()> {
    let client = s3::client(&system.stores.s3);
    let bucket = &system.stores.s3.bucket;
    let mut object = BTreeMap::new();
    for name in ["delivered", "dead", "retry", "held"] {
        let pool = system.database.pool().await?;
        let key: String = sqlx::query_scalar("select s3_key from events where id = $1::uuid")
            .bind(&events[name])
            .fetch_one(&pool)
            .await?;
        object.insert(name, format!("{}{key}", system.key_prefix()));
    }
    client.delete_object().bucket(bucket).key(&object["delivered"]).send().await?;
    s3::put(&client, bucket, &object["dead"], b"dea").await?;
    s3::put(&client, bucket, &object["retry"], b"other").await?;
    by_hand(system, &events["held"], "update events set body_sha256 = '\\x00' where id = $1").await?;
    for (name, fault) in [
        ("delivered", "payload_missing"),
        ("dead", "payload_short"),
        ("retry", "payload_altered"),
        ("held", "payload_altered"),
    ] {
        expected.insert((events[name].clone(), fault.to_owned()));
    }
    let told = ledger(system, &[]).await?;
    assert_eq!(findings(&told), expected, "{told}");
    // By itself it takes a sample, which so few are all of.
    let sampled = reconcile(system, &["--grace", "0s"]).await?;
    for (event, fault) in &expected {
        assert!(sampled.stdout.contains(event) && sampled.stdout.contains(fault), "{}", sampled.stdout);
    }
    let without: BTreeSet<_> =
        expected.iter().filter(|(_, fault)| !fault.starts_with("payload")).cloned().collect();
    assert_eq!(findings(&ledger(system, &["--payloads", "none"]).await?), without);
    Ok(())
}

/// A page of the books is read before its payloads: what is expunged in between was not altered by anybody.
#[test]
fn what_is_expunged_while_the_books_are_read_is_not_told_as_altered() {
    alone(System::builder(), async |system| {
        let endpoint = endpoint(system, "/expunged", json!({})).await?;
        let event = send(&endpoint, "expunged").await?;
        until_status(system, &event, "SUCCESS").await?;

        let gate = TcpListener::bind("127.0.0.1:0").await?;
        let mut settings = system.settings.clone();
        settings.set("RAVENPOST_S3_ENDPOINT", format!("http://{}", gate.local_addr()?));
        let meanwhile = async {
            // Asked for its payload only when the page has been read.
            let (mut asked, _) = tokio::time::timeout(BOUND, gate.accept()).await??;
            expunge(system, &event).await?;
            let s3 = system.stores.s3.endpoint.strip_prefix("http://").context("the address of S3")?;
            let mut s3 = TcpStream::connect(s3).await?;
            // Until the process ends, with its connection.
            drop(tokio::io::copy_bidirectional(&mut asked, &mut s3).await);
            anyhow::Ok(())
        };
        let (told, ()) = tokio::try_join!(ledger_by(&settings, &[]), meanwhile)?;
        assert_eq!((&told["balanced"], &told["payloads_read"]), (&json!(true), &json!(1)), "{told}");
        Ok(())
    });
}

#[test]
fn usage_errors_exit_with_2_and_name_the_option() {
    crate::support::SHARED.run(async |system| {
        for (option, value) in [("--since", "yesterday"), ("--payloads", "some"), ("--grace", "soon")] {
            let outcome = reconcile(system, &[option, value]).await?;
            assert_eq!(outcome.status.code(), Some(2), "{}", outcome.stderr);
            assert!(outcome.stderr.contains(option), "{}", outcome.stderr);
        }
        Ok(())
    });
}

#[test]
fn what_kafka_has_lost_is_swept_up_and_delivered_once() {
    const EVENTS: usize = 60;
    // The others would go on with topics that are other ones then.
    alone(System::builder().replicas(Service::Notifier, 0), async |system| {
        let endpoint = endpoint(system, "/swept", json!({})).await?;
        let before = send(&endpoint, "before").await?;
        until_status(system, &before, "SUCCESS").await?;
        system.workers[0].terminate(BOUND)?;

        let mut events = BTreeSet::new();
        for event in 0..EVENTS {
            events.insert(send(&endpoint, event.to_string()).await?);
        }
        let brokers = &system.stores.kafka_brokers;
        kafka::wait_for(brokers, &system.topic(topic::INGEST), EVENTS + 1, BOUND).await?;
        let told = ledger(system, &[]).await?;
        assert_eq!(told["total"]["waiting_by_reason"]["not_routed"], EVENTS, "{told}");

        let prefix = system.topic("");
        kafka::delete_topics(brokers, &prefix).await?;
        kafka::create_topics(brokers, &prefix).await?;
        assert!(system.messages(topic::INGEST).await?.is_empty(), "Kafka has lost everything");
        system.workers[0].restart().await?;

        until_all_succeed(system, &events, 2 * BOUND).await?;
        events.insert(before);
        ensure_once(system, &events);
        assert_eq!(swept(system).await?, Some(f64::from(u32::try_from(EVENTS)?)));
        wait::until_true("the worker to say so", BOUND, || async {
            Ok(!said_of_sweeping(system)?.is_empty())
        })
        .await?;
        let told = ledger(system, &[]).await?;
        assert_eq!((&told["balanced"], &told["total"]["delivered"]), (&json!(true), &json!(EVENTS + 1)));
        Ok(())
    });
}
