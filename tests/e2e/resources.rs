//! What a customer does beside endpoints and destinations: a test event, figures, listening, expunging.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::StreamExt as _;
use http::Method;
use ravenpost_testkit::{ledger::ledger, receiver::Answer, system::System, wait};
use serde_json::json;

use crate::support::{BOUND, SHARED, alone, client, endpoint, ensure_problem, send, text, until_status};

/// A sample of the provider goes the way of any event, believed by the endpoint as its producer's are.
#[test]
fn a_test_event_takes_the_real_path() {
    SHARED.run(async |system| {
        for (path, verification) in [
            ("/test-none", json!({ "type": "none" })),
            ("/test-standard", json!({ "type": "standard_webhooks" })),
            ("/test-github", json!({ "type": "provider", "provider": "github" })),
            ("/test-bitbucket", json!({ "type": "provider", "provider": "bitbucket" })),
            ("/test-bearer", json!({ "type": "bearer" })),
        ] {
            let endpoint = endpoint(system, path, json!({ "verification": verification })).await?;
            let made =
                system.api.send(Method::POST, &format!("{}/test-event", endpoint.path()), None).await?;
            let event = text(&made.expect(202)?, "/event_id")?;
            until_status(system, &event, "SUCCESS").await?;
            let received = system.receiver.received();
            let request =
                received.iter().find(|request| request.header("webhook-id") == Some(event.as_str()));
            let request = request.with_context(|| format!("{path} got nothing"))?;
            let body: serde_json::Value = serde_json::from_slice(&request.body)?;
            ensure!(body["test"] == true, "{path}: {body}");
        }
        let refusing = json!({ "verification": { "type": "bearer" }, "content_types": ["text/plain"] });
        let refusing = endpoint(system, "/test-refused", refusing).await?;
        let refused = system.api.send(Method::POST, &format!("{}/test-event", refusing.path()), None).await?;
        let problem = ensure_problem(&refused, 409, "conflict")?;
        ensure!(problem["detail"].to_string().contains("415"), "{problem}");
        Ok(())
    });
}

#[test]
fn figures_tell_what_was_sent() {
    alone(System::builder(), async |system| {
        const EVENTS: i64 = 20;
        let endpoint = endpoint(system, "/figures", json!({})).await?;
        for _ in 0..EVENTS {
            let event = send(&endpoint, "{}").await?;
            until_status(system, &event, "SUCCESS").await?;
        }
        for scope in [
            String::new(),
            format!("?endpoint_id={}", endpoint.id),
            format!("?destination_id={}", endpoint.destination),
        ] {
            let total = system.api.get(&format!("/api/v1/analytics{scope}")).await?["total"].clone();
            ensure!(total["attempts"] == EVENTS && total["successes"] == EVENTS, "{scope}: {total}");
        }
        // Counted once nothing can be committed below any more, and never twice.
        let bound = Duration::from_secs(90);
        wait::until_true("the events to be counted", bound, || async {
            Ok(system.api.get("/api/v1/analytics").await?["total"]["accepted"] == EVENTS)
        })
        .await?;
        let total = system.api.get("/api/v1/analytics").await?["total"].clone();
        ensure!(total["attempts"] == EVENTS, "added up, and still the same: {total}");
        let health = system.api.get(&format!("{}/health", endpoint.path())).await?;
        ensure!(health["last_event_at"].is_string() && health["lately"]["successes"] == EVENTS, "{health}");
        Ok(())
    });
}

#[test]
fn whoever_listens_hears_and_is_told_when_the_process_stops() {
    alone(System::builder(), async |system| {
        let endpoint = endpoint(system, "/live", json!({})).await?;
        let base = system.management[0].url();
        let key = system.tenant.api_key.clone();
        let request = client().get(format!("{base}/api/v1/events/stream")).bearer_auth(key);
        let mut stream = request.send().await?.error_for_status()?.bytes_stream();
        wait::until_true("somebody to be heard", BOUND, || async {
            Ok(system.database.number("select count(*) from live_watches").await? == 1)
        })
        .await?;
        let event = send(&endpoint, "{}").await?;
        let mut heard = String::new();
        while !(heard.contains("event: accepted") && heard.contains("event: attempt")) {
            let chunk = tokio::time::timeout(BOUND, stream.next()).await.context("nothing is heard")?;
            heard.push_str(std::str::from_utf8(&chunk.context("the stream ends")??)?);
        }
        ensure!(heard.matches(&event).count() >= 2, "{heard}");
        // A stream that is open holds nobody up.
        let ended = system.management[0].terminate(BOUND)?;
        ensure!(ended.success(), "{ended}");
        while let Some(chunk) = tokio::time::timeout(BOUND, stream.next()).await.context("it never ends")? {
            chunk?;
        }
        Ok(())
    });
}

#[test]
fn what_was_expunged_is_never_sent() {
    alone(System::builder(), async |system| {
        let endpoint = endpoint(system, "/expunged", json!({})).await?;
        system.api.post(&format!("{}/pause", endpoint.destination_path()), &json!(null)).await?;
        let (kept, expunged) = (send(&endpoint, "\"kept\"").await?, send(&endpoint, "\"expunged\"").await?);
        let path = format!("/api/v1/events/{expunged}/payload");
        wait::until_true("both to be held", BOUND, || async {
            Ok(system.database.number("select count(*) from scheduled_deliveries").await? == 2)
        })
        .await?;
        let answer = system.api.send(Method::DELETE, &path, None).await?.expect(200)?;
        ensure!(answer["erased"] == true, "{answer}");
        ensure_problem(&system.api.send(Method::GET, &path, None).await?, 404, "not-found")?;
        system.api.post(&format!("{}/resume", endpoint.destination_path()), &json!(null)).await?;
        until_status(system, &kept, "SUCCESS").await?;
        until_status(system, &expunged, "FAILED").await?;
        ensure!(ledger(system, &[]).await?["balanced"] == true);
        let bodies: Vec<_> = system.receiver.received().into_iter().map(|request| request.body).collect();
        ensure!(bodies == ["\"kept\""], "{bodies:?}");
        Ok(())
    });
}

/// As soon as its worker has taken the event in.
pub(crate) async fn expunge(system: &System, event: &str) -> anyhow::Result<()> {
    let path = format!("/api/v1/events/{event}/payload");
    wait::until_true("it to be expunged", BOUND, || async {
        Ok(system.api.send(Method::DELETE, &path, None).await?.status == 200)
    })
    .await
}

/// It waits behind another one in its worker's memory, and has no row that could be taken away.
#[test]
fn what_a_worker_holds_is_not_sent_once_it_was_expunged() {
    let one_by_one = System::builder().setting("RAVENPOST_LANE_CONCURRENCY", "1");
    alone(one_by_one, async |system| {
        let slow = Answer::ok().after(Duration::from_secs(3));
        system.receiver.script("/behind", [slow, Answer::ok()]);
        let endpoint = endpoint(system, "/behind", json!({ "timeout": "20s" })).await?;
        let first = send(&endpoint, "\"first\"").await?;
        let expunged = send(&endpoint, "\"expunged\"").await?;
        expunge(system, &expunged).await?;
        let last = send(&endpoint, "\"last\"").await?;
        for sent in [&first, &last] {
            until_status(system, sent, "SUCCESS").await?;
        }
        until_status(system, &expunged, "FAILED").await?;
        let bodies: Vec<_> = system.receiver.received().into_iter().map(|request| request.body).collect();
        ensure!(bodies == ["\"first\"", "\"last\""], "{bodies:?}");
        wait::until_true("the books to balance", BOUND, || async {
            Ok(ledger(system, &[]).await?["balanced"] == true)
        })
        .await?;
        Ok(())
    });
}

/// Its only attempt is in the air, and fails: it is not tried again.
#[test]
fn what_was_expunged_in_the_air_is_not_tried_again() {
    alone(System::builder(), async |system| {
        let failing = Answer::status(500).body("it said: {}").after(Duration::from_millis(700));
        system.receiver.script("/in-the-air", [failing, Answer::ok()]);
        let fields = json!({ "retry_policy": { "schedule": ["1h"] } });
        let endpoint = endpoint(system, "/in-the-air", fields).await?;
        let expunged = send(&endpoint, "{}").await?;
        system.receiver.wait_for(1, BOUND).await?;
        expunge(system, &expunged).await?;
        wait::until_true("the attempt to be recorded", BOUND, || async {
            Ok(system.database.number("select count(*) from deliveries").await? == 1)
        })
        .await?;
        until_status(system, &expunged, "FAILED").await?;
        let said = "select count(*) from deliveries where response_body_snippet is not null";
        ensure!(system.database.number(said).await? == 0, "the answer repeats what was expunged");
        ensure!(system.database.number("select count(*) from scheduled_deliveries").await? == 0);
        ensure!(ledger(system, &[]).await?["balanced"] == true);
        Ok(())
    });
}

/// What waits is cancelled, and the books still balance.
#[test]
fn what_was_cancelled_is_dead() {
    alone(System::builder(), async |system| {
        let endpoint = endpoint(system, "/cancelled", json!({})).await?;
        system.api.post(&format!("{}/pause", endpoint.destination_path()), &json!(null)).await?;
        let event = send(&endpoint, "{}").await?;
        let waiting = wait::until("it to be held", BOUND, || async {
            let listed = system.api.get("/api/v1/scheduled-deliveries").await?;
            Ok(listed["data"].get(0).cloned())
        })
        .await?;
        ensure!(waiting["kept_by"] == "destination_paused" && waiting["reason"] == "held", "{waiting}");
        let path = format!("/api/v1/scheduled-deliveries/{event}/{}/cancel", endpoint.destination);
        system.api.send(Method::POST, &path, None).await?.expect(204)?;
        until_status(system, &event, "FAILED").await?;
        ensure!(ledger(system, &[]).await?["balanced"] == true);
        Ok(())
    });
}
