//! What a customer does beside endpoints and destinations: a test event, figures, listening, expunging.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::StreamExt as _;
use http::Method;
use ravenpost_testkit::{ledger::ledger, system::System, wait};
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
