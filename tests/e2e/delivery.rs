//! An event is tried until its destination takes it, by the destination's own policy, and each attempt is told.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use ravenpost_core::topic;
use ravenpost_testkit::{
    fault::{FaultProxy, Mode},
    receiver::Answer,
    system::System,
    wait,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use crate::{
    pacing::until_waiting,
    support::{
        BOUND, SHARED, alone, column, deliveries, destination, endpoint, number, on, retries, run, sample,
        send, text, until_all_succeed, until_status,
    },
};

#[test]
fn a_destination_that_fails_twice_is_tried_a_third_time() {
    SHARED.run(async |system| {
        system
            .receiver
            .script("/twice", [Answer::status(500).body("not now"), Answer::status(503), Answer::ok()]);
        let policy = json!({ "retry_policy": retries(&["50ms", "60ms", "70ms"]) });
        let endpoint = endpoint(system, "/twice", policy).await?;
        let id = send(&endpoint, r#"{"n": 1}"#).await?;
        let event = until_status(system, &id, "SUCCESS").await?;
        assert_eq!(event["delivered"], json!([endpoint.destination]));
        assert_eq!((&event["pending"], &event["dead"]), (&json!([]), &json!([])));

        let received = system.receiver.received_on("/twice");
        assert_eq!(received.len(), 3);
        for request in &received {
            assert_eq!(
                (request.header("webhook-id"), request.body.as_ref()),
                (Some(id.as_str()), &br#"{"n": 1}"#[..])
            );
        }
        let told = deliveries(system, &id).await?;
        assert_eq!(column(&told, "attempt_number"), [1, 2, 3]);
        assert_eq!(column(&told, "run"), [0, 0, 0]);
        assert_eq!(column(&told, "response_code"), [500, 503, 200]);
        assert_eq!(column(&told, "outcome"), ["server_error", "server_error", "success"]);
        assert_eq!(told["data"][0]["response_body_snippet"], "not now");
        assert!(
            told["data"][1]["next_retry_at"].is_string() && told["data"][2]["next_retry_at"].is_null(),
            "{told}"
        );
        assert_eq!(told["waiting"], json!([]));
        every_attempt_is_on_its_topic(system, &endpoint.id, &told).await
    });
}

async fn every_attempt_is_on_its_topic(
    system: &ravenpost_testkit::system::System,
    endpoint: &str,
    told: &Value,
) -> Result<()> {
    let mut reports = system.messages(topic::DELIVERIES).await?;
    reports.retain(|message| message.key.as_deref() == Some(endpoint.as_bytes()));
    let values: Vec<Value> =
        reports.iter().map(|report| serde_json::from_slice(&report.value)).collect::<Result<_, _>>()?;
    let field = |name: &str| values.iter().map(|value| value[name].clone()).collect::<Vec<_>>();
    assert_eq!(field("attempt_number"), column(told, "attempt_number"), "one message per attempt");
    assert_eq!(field("outcome"), column(told, "outcome"));
    assert_eq!(field("id"), column(told, "id"));
    for (report, value) in reports.iter().zip(&values) {
        assert_eq!(report.header("ce_specversion"), Some("1.0"));
        assert_eq!(report.header("ce_type"), Some("ravenpost.delivery.attempted"));
        assert_eq!(report.header("ce_source"), Some(format!("/endpoints/{endpoint}").as_str()));
        assert_eq!(report.header("ce_id"), value["id"].as_str());
        assert_eq!(report.header("organization-id"), Some(system.tenant.organization_id.as_str()));
    }
    Ok(())
}

#[test]
fn an_event_goes_to_a_destination_that_was_made_just_before_it() {
    SHARED.run(async |system| {
        let endpoint = endpoint(system, "/just-before", json!({})).await?;
        for round in 0..20 {
            // By now the worker remembers where this endpoint's events go.
            let before = send(&endpoint, "{}").await?;
            let made = destination(system, &endpoint, &format!("/just-before/{round}"), json!({})).await?;
            let id = send(&endpoint, "{}").await?;
            let event = until_status(system, &id, "SUCCESS").await?;
            let delivered = event["delivered"].as_array().context("delivered")?;
            assert!(delivered.contains(&json!(made)), "round {round}: {event}");
            until_status(system, &before, "SUCCESS").await?;
            system.api.delete(&format!("{}/destinations/{made}", endpoint.path())).await?;
        }
        Ok(())
    });
}

#[test]
fn a_redirect_is_not_followed() {
    SHARED.run(async |system| {
        let location = system.receiver.url("/moved-to");
        system.receiver.script("/moved", [Answer::status(307).header("location", &location)]);
        let endpoint = endpoint(system, "/moved", json!({ "retry_policy": retries(&[]) })).await?;
        let id = send(&endpoint, "{}").await?;
        until_status(system, &id, "FAILED").await?;
        let told = deliveries(system, &id).await?;
        assert_eq!(column(&told, "outcome"), ["redirect"]);
        assert_eq!(column(&told, "response_code"), [307]);
        assert!(system.receiver.received_on("/moved-to").is_empty());
        Ok(())
    });
}

#[test]
fn a_destination_that_is_too_slow_has_failed() {
    SHARED.run(async |system| {
        system.receiver.script("/slow", [Answer::hang(), Answer::status(500), Answer::ok()]);
        let fields = json!({ "timeout": "300ms", "retry_policy": retries(&["10ms", "10ms"]) });
        let endpoint = endpoint(system, "/slow", fields).await?;
        let id = send(&endpoint, "{}").await?;
        until_status(system, &id, "SUCCESS").await?;
        assert_eq!(
            column(&deliveries(system, &id).await?, "outcome"),
            ["timeout", "server_error", "success"]
        );
        Ok(())
    });
}

#[test]
fn retry_after_makes_a_wait_longer() {
    SHARED.run(async |system| {
        system.receiver.script("/busy", [Answer::status(429).header("retry-after", "2"), Answer::ok()]);
        let endpoint = endpoint(system, "/busy", json!({ "retry_policy": retries(&["10ms"]) })).await?;
        let id = send(&endpoint, "{}").await?;
        until_status(system, &id, "SUCCESS").await?;
        let received = system.receiver.received_on("/busy");
        let waited = received[1].at.saturating_sub(received[0].at);
        assert!(waited.as_secs_f64() >= 1.9, "waited {waited:?}");
        Ok(())
    });
}

#[test]
fn each_destination_has_its_own_attempts() {
    SHARED.run(async |system| {
        system.receiver.script("/second", [Answer::status(500), Answer::ok()]);
        let endpoint = endpoint(system, "/first", json!({})).await?;
        let second =
            destination(system, &endpoint, "/second", json!({ "retry_policy": retries(&["50ms"]) })).await?;
        let id = send(&endpoint, "{}").await?;
        let event = until_status(system, &id, "SUCCESS").await?;
        let delivered: BTreeSet<String> = serde_json::from_value(event["delivered"].clone())?;
        assert_eq!(delivered, BTreeSet::from([endpoint.destination.clone(), second]));
        assert_eq!(system.receiver.received_on("/first").len(), 1);
        assert_eq!(system.receiver.received_on("/second").len(), 2);
        Ok(())
    });
}

#[test]
fn what_waits_for_a_deleted_destination_is_cancelled() {
    SHARED.run(async |system| {
        system.receiver.script("/deleted", [Answer::status(500)]);
        let endpoint = endpoint(system, "/kept", json!({})).await?;
        let deleted =
            destination(system, &endpoint, "/deleted", json!({ "retry_policy": retries(&["1h"]) })).await?;
        let id = send(&endpoint, "{}").await?;
        // The other attempt is recorded by itself: before or after this one.
        wait::until_true("the second attempt alone to wait", BOUND, || async {
            let told = deliveries(system, &id).await?;
            let event = system.api.get(&format!("/api/v1/events/{id}")).await?;
            Ok(told["waiting"][0]["reason"] == "retry"
                && told["waiting"][0]["attempt_number"] == 2
                && (&event["status"], &event["pending"]) == (&json!("PENDING"), &json!([deleted])))
        })
        .await?;
        system.api.delete(&format!("{}/destinations/{deleted}", endpoint.path())).await?;
        let event = until_status(system, &id, "SUCCESS").await?;
        assert_eq!(event["delivered"], json!([endpoint.destination]));
        assert_eq!(deliveries(system, &id).await?["waiting"], json!([]));
        assert_eq!(system.receiver.received_on("/deleted").len(), 1);
        Ok(())
    });
}

#[test]
fn an_event_for_nobody_is_dropped() {
    SHARED.run(async |system| {
        let endpoint = endpoint(system, "/nobody", json!({})).await?;
        system.api.delete(&endpoint.destination_path()).await?;
        let id = send(&endpoint, "{}").await?;
        let event = until_status(system, &id, "DROPPED").await?;
        assert_eq!(event["pending"], json!([]));
        assert_eq!(deliveries(system, &id).await?, json!({ "data": [], "waiting": [] }));
        assert!(system.receiver.received_on("/nobody").is_empty());
        Ok(())
    });
}

#[test]
fn an_address_that_is_not_public_is_not_sent_to() {
    SHARED.run(async |system| {
        // The tests allow loopback alone.
        let fields = json!({ "target_url": "http://169.254.169.254/latest", "retry_policy": retries(&[]) });
        let endpoint = endpoint(system, "/blocked", fields).await?;
        let id = send(&endpoint, "{}").await?;
        until_status(system, &id, "FAILED").await?;
        assert_eq!(column(&deliveries(system, &id).await?, "outcome"), ["blocked_address"]);
        Ok(())
    });
}

#[test]
fn the_list_of_events_tells_them_all() {
    SHARED.run(async |system| {
        let endpoint = endpoint(system, "/listed", json!({})).await?;
        let mut sent = BTreeSet::new();
        for _ in 0..7 {
            sent.insert(send(&endpoint, "{}").await?);
        }
        for id in &sent {
            until_status(system, id, "SUCCESS").await?;
        }
        let path = format!("/api/v1/events?endpoint_id={}&status=SUCCESS&limit=3", endpoint.id);
        let listed = system.api.list(&path).await?;
        let ids: Vec<String> = listed.iter().map(|event| text(event, "/id")).collect::<Result<_>>()?;
        assert_eq!(ids, sent.into_iter().rev().collect::<Vec<_>>(), "newest first, three a page");
        assert!(number(system, "select count(*) from events").await? >= 7);
        Ok(())
    });
}

#[test]
fn of_a_long_answer_the_first_4_kib_are_kept() {
    SHARED.run(async |system| {
        system.receiver.script("/long", [Answer::status(500).body("x".repeat(10_000))]);
        let endpoint = endpoint(system, "/long", json!({ "retry_policy": retries(&[]) })).await?;
        let id = send(&endpoint, "{}").await?;
        until_status(system, &id, "FAILED").await?;
        let snippet = text(&deliveries(system, &id).await?, "/data/0/response_body_snippet")?;
        assert!(snippet == "x".repeat(4 * 1024), "{} bytes", snippet.len());
        Ok(())
    });
}

/// Who operates a cluster sets them for everything in it; the way out is a setting of ours or none.
#[test]
fn proxies_of_the_environment_are_ignored() {
    // Nobody listens there.
    let proxy = "http://127.0.0.1:1";
    let names = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let builder = names.into_iter().fold(System::builder(), |builder, name| builder.setting(name, proxy));
    alone(builder, async |system| {
        let endpoint = endpoint(system, "/direct", json!({})).await?;
        let event = send(&endpoint, "by no proxy").await?;
        until_status(system, &event, "SUCCESS").await.map(drop)
    });
}

/// A forward proxy that connects everybody to where they ask for (`CONNECT`, RFC 9110 section 9.3.6).
async fn forward_proxy() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(tunnel(stream));
        }
    });
    Ok(address)
}

async fn tunnel(mut stream: TcpStream) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head)?;
    let mut destination = TcpStream::connect(head.split(' ').nth(1).context("no target")?).await?;
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    copy_bidirectional(&mut stream, &mut destination).await?;
    Ok(())
}

/// Its trouble is the operator's: it costs no destination an attempt, or its good name.
#[test]
fn while_the_operators_proxy_is_away_nothing_is_an_attempt() {
    run(async {
        let way = FaultProxy::start(&forward_proxy().await?).await?;
        let builder =
            System::builder().setting("RAVENPOST_EGRESS_PROXY", format!("http://{}", way.address()));
        on(builder, async |system| {
            // The first attempt is the last one.
            let endpoint = endpoint(system, "/by-proxy", json!({ "retry_policy": retries(&[]) })).await?;
            let refused = async || {
                let metrics = system.workers[0].metrics().await?;
                sample(&metrics, "ravenpost_delivery_no_way_out_total").context("no such metric")
            };
            for mode in [Mode::Refuse, Mode::Cut] {
                way.set(mode);
                let before = refused().await?;
                let mut ids = BTreeSet::new();
                for _ in 0..4 {
                    ids.insert(send(&endpoint, "{}").await?);
                }
                wait::until_true("the proxy to be missed again", BOUND, || async {
                    Ok(refused().await? >= before + 3.0)
                })
                .await?;
                for id in &ids {
                    until_waiting(system, id, "parked").await?;
                    assert_eq!(deliveries(system, id).await?["data"], json!([]), "{mode:?}");
                }
                let state = system.api.get(&endpoint.destination_path()).await?["state"].take();
                assert_eq!(state["failing_since"], Value::Null, "{state}");
                way.set(Mode::Pass);
                until_all_succeed(system, &ids, BOUND).await?;
                for id in &ids {
                    assert_eq!(column(&deliveries(system, id).await?, "outcome"), ["success"], "{mode:?}");
                }
            }
            Ok(())
        })
        .await
    });
}
