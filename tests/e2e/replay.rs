//! An event can be sent again: the same id, the same bytes, a run of its own.

use http::Method;
use ravenpost_testkit::{receiver::Answer, wait};
use serde_json::json;

use crate::support::{
    BOUND, SHARED, column, deliveries, destination, endpoint, ensure_problem, retries, send, until_status,
};

#[test]
fn a_delivered_event_is_sent_again_and_stays_delivered() {
    SHARED.run(async |system| {
        // The replay fails: what was delivered stays so.
        system.receiver.script("/again", [Answer::ok(), Answer::status(500)]);
        let endpoint = endpoint(system, "/again", json!({ "retry_policy": retries(&["50ms"]) })).await?;
        let id = send(&endpoint, "the same").await?;
        until_status(system, &id, "SUCCESS").await?;
        system.api.post(&format!("/api/v1/events/{id}/replay"), &json!({})).await?;
        let told = wait::until("the replay's attempts", BOUND, || async {
            assert_eq!(system.api.get(&format!("/api/v1/events/{id}")).await?["status"], "SUCCESS");
            let told = deliveries(system, &id).await?;
            Ok(Some(told).filter(|told| column(told, "run") == [0, 1, 1] && told["waiting"] == json!([])))
        })
        .await?;
        assert_eq!(column(&told, "attempt_number"), [1, 1, 2]);
        assert_eq!(column(&told, "outcome"), ["success", "server_error", "server_error"]);
        let received = system.receiver.received_on("/again");
        assert_eq!(received.len(), 3);
        assert!(
            received.iter().all(|it| it.header("webhook-id") == Some(&id) && it.body.as_ref() == b"the same")
        );
        let event = system.api.get(&format!("/api/v1/events/{id}")).await?;
        assert_eq!(
            (&event["status"], &event["delivered"]),
            (&json!("SUCCESS"), &json!([endpoint.destination]))
        );
        Ok(())
    });
}

#[test]
fn a_replay_goes_to_the_destination_that_was_named() {
    SHARED.run(async |system| {
        let endpoint = endpoint(system, "/not-named", json!({})).await?;
        let named = destination(system, &endpoint, "/named", json!({})).await?;
        // Larger than what travels inline: the replay has to fetch it.
        let body = vec![b'x'; 100_000];
        let id = send(&endpoint, body.clone()).await?;
        until_status(system, &id, "SUCCESS").await?;
        let replay = format!("/api/v1/events/{id}/replay");
        system.api.post(&replay, &json!({ "destination_id": named })).await?;
        system
            .receiver
            .wait_until("the replay", BOUND, |all| {
                all.iter().filter(|request| request.path == "/named").count() == 2
            })
            .await?;
        assert_eq!(system.receiver.received_on("/not-named").len(), 1);
        assert!(system.receiver.received_on("/named").iter().all(|request| request.body == body));

        let unknown = json!({ "destination_id": endpoint.id }).to_string().into_bytes();
        let refused = system.api.send(Method::POST, &replay, Some(unknown)).await?;
        let problem = ensure_problem(&refused, 422, "invalid-field")?;
        assert_eq!(problem["errors"][0]["field"], "destination_id");
        Ok(())
    });
}
