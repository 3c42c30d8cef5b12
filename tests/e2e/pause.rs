//! What is paused is held and not lost, and comes in its order when it is resumed.

use ravenpost_testkit::{system::System, wait};
use serde_json::json;

use crate::support::{BOUND, alone, by_event, deliveries, endpoint, send, until_all_succeed};

const EVENTS: usize = 100;

#[test]
fn a_paused_endpoint_accepts_and_holds_and_delivers_oldest_first() {
    // One request at once, so that the order in which they are taken is the order in which they arrive.
    let one_by_one = System::builder().setting("RAVENPOST_LANE_CONCURRENCY", "1");
    alone(one_by_one, async |system| {
        let endpoint = endpoint(system, "/paused", json!({})).await?;
        // Before its first event, so that no worker knows it otherwise.
        system.api.patch(&endpoint.path(), &json!({ "status": "paused" })).await?;
        let mut sent = Vec::new();
        for number in 0..EVENTS {
            sent.push(send(&endpoint, number.to_string()).await?);
        }
        for id in &sent {
            wait::until_true("the event to be held", BOUND, || async {
                Ok(deliveries(system, id).await?["waiting"][0]["reason"] == "held")
            })
            .await?;
        }
        assert!(system.receiver.received().is_empty(), "nothing is sent while it is paused");

        system.api.patch(&endpoint.path(), &json!({ "status": "active" })).await?;
        until_all_succeed(system, &sent.iter().cloned().collect(), BOUND).await?;
        let received = system.receiver.received();
        let order: Vec<_> = received.iter().filter_map(|request| request.header("webhook-id")).collect();
        assert_eq!(order, sent, "oldest first, each once");
        Ok(())
    });
}

#[test]
fn a_paused_destination_holds_only_its_own() {
    crate::support::SHARED.run(async |system| {
        let endpoint = endpoint(system, "/goes-on", json!({})).await?;
        let paused = crate::support::destination(system, &endpoint, "/is-held", json!({})).await?;
        let path = format!("{}/destinations/{paused}", endpoint.path());
        system.api.patch(&path, &json!({ "status": "paused" })).await?;
        let id = send(&endpoint, "{}").await?;
        wait::until_true("one to be delivered and one to be held", BOUND, || async {
            let told = deliveries(system, &id).await?;
            Ok(told["data"][0]["outcome"] == "success"
                && told["waiting"][0]["destination_id"] == paused
                && told["waiting"][0]["reason"] == "held")
        })
        .await?;
        assert!(system.receiver.received_on("/is-held").is_empty());
        system.api.patch(&path, &json!({ "status": "active" })).await?;
        until_all_succeed(system, &[id.clone()].into(), BOUND).await?;
        let received = system.receiver.received_on("/is-held");
        assert_eq!(by_event(received)[&id].len(), 1);
        Ok(())
    });
}
