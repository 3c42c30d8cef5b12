//! A destination that is gone, or has failed for too long, is sent nothing more. Nothing is lost: its events are held
//! until a person enables it, and come oldest first.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use http::Method;
use ravenpost_core::topic;
use ravenpost_testkit::{receiver::Answer, system::System, wait};
use serde_json::{Value, json};

use crate::pacing::{ids, send_all, until_waiting};
use crate::support::{
    BOUND, Endpoint, SHARED, alone, column, deliveries, destination, endpoint, ensure_problem, retries, send,
    until_all_succeed, until_status,
};

async fn until_disabled(system: &System, endpoint: &Endpoint, reason: &str) -> Result<Value> {
    wait::until(&format!("the destination to be disabled as {reason}"), BOUND, || async {
        let destination = system.api.get(&endpoint.destination_path()).await?;
        let disabled =
            destination["status"] == "disabled" && destination["state"]["disabled_reason"] == reason;
        Ok(disabled.then_some(destination))
    })
    .await
}

/// What is told of the endpoint's destinations, as types of events and what they say.
async fn told(system: &System, endpoint: &Endpoint) -> Result<Vec<(String, Value)>> {
    let messages = system.messages(topic::DELIVERIES).await?;
    let of_it = messages.iter().filter(|message| message.key.as_deref() == Some(endpoint.id.as_bytes()));
    let typed = of_it.map(|message| {
        let kind = message.header("ce_type").unwrap_or_default().to_owned();
        Ok((kind, serde_json::from_slice(&message.value)?))
    });
    let all: Vec<(String, Value)> = typed.collect::<Result<_>>()?;
    Ok(all.into_iter().filter(|(kind, _)| kind.starts_with("ravenpost.destination.")).collect())
}

async fn enable(system: &System, endpoint: &Endpoint) -> Result<()> {
    let enabled = system.api.patch(&endpoint.destination_path(), &json!({ "status": "active" })).await?;
    assert_eq!((&enabled["status"], &enabled["state"]["disabled_reason"]), (&json!("active"), &Value::Null));
    Ok(())
}

#[test]
fn a_destination_that_is_gone_holds_its_events_until_it_is_enabled() {
    const EVENTS: usize = 40;
    // One request at once, so that the order in which they are taken is the order in which they arrive.
    let one_by_one = System::builder().setting("RAVENPOST_LANE_CONCURRENCY", "1");
    alone(one_by_one, async |system| {
        system.receiver.script("/gone", [Answer::status(410), Answer::ok()]);
        // Without retries: a 410 is not the end of an event all the same.
        let endpoint = endpoint(system, "/gone", json!({ "retry_policy": retries(&[]) })).await?;
        let mut sent = send_all(&endpoint, EVENTS / 2).await?;
        let disabled = until_disabled(system, &endpoint, "gone").await?;
        assert!(disabled["state"]["disabled_at"].is_string());
        sent.extend(send_all(&endpoint, EVENTS / 2).await?);
        for id in &sent[EVENTS / 2..] {
            until_waiting(system, id, "held").await?;
        }
        assert_eq!(ids(&system.receiver.received_on("/gone")), sent[..1], "nothing more is sent");
        let [(kind, report)] = &told(system, &endpoint).await?[..] else { panic!("told once") };
        assert_eq!(kind, "ravenpost.destination.disabled");
        assert_eq!(
            (&report["destination_event"], &report["disabled_reason"]),
            (&json!("disabled"), &json!("gone"))
        );

        let only_we = Some(br#"{"status": "disabled"}"#.to_vec());
        let refused = system.api.send(Method::PATCH, &endpoint.destination_path(), only_we).await?;
        ensure_problem(&refused, 422, "invalid-field")?;
        enable(system, &endpoint).await?;
        until_all_succeed(system, &sent.iter().cloned().collect(), BOUND).await?;
        let received = system.receiver.received_on("/gone");
        assert_eq!(ids(&received[1..]), sent, "oldest first, each once");
        Ok(())
    });
}

#[test]
fn an_answer_from_before_a_destination_was_enabled_does_not_disable_it() {
    SHARED.run(async |system| {
        let late = Answer::status(410).after(Duration::from_secs(3));
        system.receiver.script("/gone-late", [late, Answer::status(410), Answer::ok()]);
        let policy = json!({ "retry_policy": retries(&["30s"]) });
        let endpoint = endpoint(system, "/gone-late", policy).await?;
        let slow = send(&endpoint, "{}").await?;
        wait::until_true("the first request", BOUND, || async {
            Ok(system.receiver.received_on("/gone-late").len() == 1)
        })
        .await?;
        send(&endpoint, "{}").await?;
        until_disabled(system, &endpoint, "gone").await?;
        enable(system, &endpoint).await?;
        let next = send(&endpoint, "{}").await?;
        until_status(system, &next, "SUCCESS").await?;
        wait::until_true("the late answer", BOUND, || async {
            Ok(column(&deliveries(system, &slow).await?, "response_code").contains(&json!(410)))
        })
        .await?;
        assert_eq!(system.api.get(&endpoint.destination_path()).await?["status"], "active");
        Ok(())
    });
}

#[test]
fn a_destination_that_only_fails_is_warned_of_and_disabled() {
    SHARED.run(async |system| {
        system.receiver.script("/only-fails", [Answer::status(404)]);
        let endpoint =
            endpoint(system, "/only-fails", json!({ "retry_policy": retries(&["200ms"; 29]) })).await?;
        let soon = json!({ "disable_after": "2s" });
        assert_eq!(system.api.patch(&endpoint.destination_path(), &soon).await?["disable_after"], "2s");
        let id = send(&endpoint, "{}").await?;
        let disabled = until_disabled(system, &endpoint, "failing").await?;
        assert!(disabled["state"]["warned_at"].is_string() && disabled["state"]["failing_since"].is_string());
        let told = told(system, &endpoint).await?;
        let kinds: Vec<&str> = told.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds, ["ravenpost.destination.warned", "ravenpost.destination.disabled"]);
        assert!(told[0].1["disabled_at_earliest"].is_string(), "{told:?}");
        assert_eq!(told[1].1["disabled_reason"], "failing");
        let event = system.api.get(&format!("/api/v1/events/{id}")).await?;
        assert_eq!(event["status"], "PENDING", "it is held, not dead");

        system.receiver.script("/only-fails", [Answer::ok()]);
        enable(system, &endpoint).await?;
        until_all_succeed(system, &BTreeSet::from([id]), BOUND).await
    });
}

#[test]
fn who_is_never_to_be_disabled_is_not() {
    let system = System::builder().setting("RAVENPOST_DISABLE_AFTER", "1s");
    alone(system, async |system| {
        let policy = json!({ "retry_policy": retries(&["300ms"; 8]) });
        system.receiver.script("/stays", [Answer::status(404)]);
        let stays = endpoint(system, "/stays", policy.clone()).await?;
        system.api.patch(&stays.destination_path(), &json!({ "disable_after": "never" })).await?;
        let other = endpoint(system, "/stays", policy).await?;
        let id = send(&stays, "{}").await?;
        send(&other, "{}").await?;
        until_disabled(system, &other, "failing").await?;
        until_status(system, &id, "FAILED").await?;
        assert_eq!(column(&deliveries(system, &id).await?, "response_code"), [404; 9]);
        let stays = system.api.get(&stays.destination_path()).await?;
        assert_eq!((&stays["status"], &stays["state"]["warned_at"]), (&json!("active"), &Value::Null));
        Ok(())
    });
}

#[test]
fn what_nobody_wanted_can_be_replayed_to_a_destination_made_later() {
    SHARED.run(async |system| {
        let endpoint = endpoint(system, "/was", json!({})).await?;
        system.api.delete(&endpoint.destination_path()).await?;
        let id = send(&endpoint, "{}").await?;
        until_status(system, &id, "DROPPED").await?;
        destination(system, &endpoint, "/made-later", json!({})).await?;
        system.api.post(&format!("/api/v1/events/{id}/replay"), &json!({})).await?;
        until_status(system, &id, "SUCCESS").await?;
        assert_eq!(ids(&system.receiver.received_on("/made-later")), [id.as_str()]);
        assert!(system.receiver.received_on("/was").is_empty());
        Ok(())
    });
}
