//! Many events are put back at once, by a job that outlives whoever works on it, and by a recovery.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use ravenpost_testkit::{
    receiver::Answer,
    system::{Service, System},
    wait,
};
use serde_json::{Value, json};

use crate::support::{
    BOUND, Endpoint, alone, by_event, endpoint, number, retries, send, text, until_all_succeed, until_status,
};

/// Events that were refused once and given up; their ids.
async fn given_up(
    system: &System,
    endpoint: &Endpoint,
    path: &str,
    count: usize,
) -> Result<BTreeSet<String>> {
    // Refused: failures of the destination itself would make its breaker open, and the rest would wait. The last answer of
    // a script is given ever after.
    let script = std::iter::repeat_n(Answer::status(400), count).chain([Answer::ok()]);
    system.receiver.script(path, script);
    let mut sent = BTreeSet::new();
    for number in 0..count {
        sent.insert(send(endpoint, number.to_string()).await?);
    }
    wait::until_true("all to be given up", BOUND, || async {
        let dead = number(system, "select count(*) from dead_letters").await?;
        Ok(usize::try_from(dead)? == count)
    })
    .await?;
    Ok(sent)
}

async fn until_scheduled(system: &System, count: i64) -> Result<()> {
    wait::until_true(&format!("{count} to be scheduled"), BOUND, || async {
        let scheduled = "select coalesce(sum(scheduled), 0)::bigint from replay_job_destinations";
        Ok(number(system, scheduled).await? >= count)
    })
    .await
}

async fn until_state(system: &System, replay: &str, state: &str) -> Result<Value> {
    let path = format!("/api/v1/replays/{replay}");
    wait::until(&format!("the replay to be {state}"), BOUND, || async {
        let replay = system.api.get(&path).await?;
        Ok(Some(replay).filter(|replay| replay["state"] == state))
    })
    .await
}

#[test]
fn a_bulk_replay_sends_each_event_once_though_everybody_who_works_on_it_is_killed() {
    const EVENTS: usize = 300;
    alone(System::builder().replicas(Service::ManagementApi, 2), async |system| {
        let endpoint = endpoint(system, "/bulk", json!({ "retry_policy": retries(&[]) })).await?;
        let sent = given_up(system, &endpoint, "/bulk", EVENTS).await?;
        let letters = system.api.list("/api/v1/dead-letters").await?;
        assert_eq!(letters.len(), EVENTS);

        let wanted = json!({ "filter": { "endpoint_id": endpoint.id }, "rate": 60 });
        let replay = text(&system.api.post("/api/v1/replays", &wanted).await?, "/id")?;
        // Each in turn, within the job: the other one goes on, and then whoever was started again.
        until_scheduled(system, 60).await?;
        system.management[0].kill9()?;
        until_scheduled(system, 180).await?;
        system.management[1].kill9()?;
        system.management[0].restart().await?;
        until_scheduled(system, i64::try_from(EVENTS)?).await?;
        system.management[1].restart().await?;

        until_all_succeed(system, &sent, BOUND).await?;
        let done = until_state(system, &replay, "done").await?;
        assert_eq!((&done["scheduled"], &done["skipped"]), (&json!(EVENTS), &json!(0)));
        let received = by_event(system.receiver.received_on("/bulk"));
        assert_eq!(received.keys().cloned().collect::<BTreeSet<_>>(), sent);
        let often: Vec<_> = received.iter().filter(|(_, requests)| requests.len() != 2).collect();
        assert!(often.is_empty(), "refused once, replayed once: {often:?}");
        Ok(())
    });
}

#[test]
fn a_destination_that_has_recovered_gets_its_dead_letters_by_itself() {
    const EVENTS: usize = 4;
    alone(System::builder(), async |system| {
        let endpoint = endpoint(system, "/recovers", json!({ "retry_policy": retries(&[]) })).await?;
        let switched =
            system.api.patch(&endpoint.destination_path(), &json!({ "replay_on_recovery": true })).await?;
        assert_eq!(switched["replay_on_recovery"], true);
        let mut sent = given_up(system, &endpoint, "/recovers", EVENTS).await?;
        let first = send(&endpoint, "it accepts again").await?;
        until_status(system, &first, "SUCCESS").await?;
        sent.insert(first);
        until_all_succeed(system, &sent, BOUND).await?;
        let replays = system.api.list("/api/v1/replays").await?;
        let replay = replays.first().context("a replay")?;
        assert_eq!((replays.len(), &replay["kind"]), (1, &json!("automatic")));
        assert_eq!(until_state(system, &text(replay, "/id")?, "done").await?["scheduled"], json!(EVENTS));
        Ok(())
    });
}

#[test]
fn what_is_cancelled_before_it_is_sent_is_never_sent() {
    const EVENTS: usize = 50;
    alone(System::builder(), async |system| {
        let endpoint = endpoint(system, "/cancelled", json!({ "retry_policy": retries(&[]) })).await?;
        let sent = given_up(system, &endpoint, "/cancelled", EVENTS).await?;
        // Paused, so that nothing is on its way when the job is cancelled: what is due for it is not even read.
        system.api.patch(&endpoint.destination_path(), &json!({ "status": "paused" })).await?;
        let replay = text(&system.api.post("/api/v1/replays", &json!({})).await?, "/id")?;
        until_scheduled(system, i64::try_from(EVENTS)?).await?;
        let cancelled = system.api.post(&format!("/api/v1/replays/{replay}/cancel"), &json!({})).await?;
        assert_eq!(cancelled["state"], "cancelled");
        wait::until_true("all to be dead letters again", BOUND, || async {
            Ok(system.api.list("/api/v1/dead-letters").await?.len() == EVENTS)
        })
        .await?;
        system.api.patch(&endpoint.destination_path(), &json!({ "status": "active" })).await?;
        let last = send(&endpoint, "the next one").await?;
        until_status(system, &last, "SUCCESS").await?;
        assert_eq!(system.receiver.received_on("/cancelled").len(), EVENTS + 1);
        for id in &sent {
            assert_eq!(system.api.get(&format!("/api/v1/events/{id}")).await?["status"], "FAILED");
        }
        Ok(())
    });
}
