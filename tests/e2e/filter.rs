//! What a destination does not want it does not get, an expression that fails loses nothing, and one that runs away
//! slows nobody but its own destination.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use ravenpost_testkit::{sign, system::System, wait};
use serde_json::{Value, json};

use crate::support::{
    BOUND, Endpoint, SHARED, column, deliveries, destination, endpoint, post, sample, send, text,
    until_all_succeed, until_status,
};

/// Sends a JSON event with one more header; gives its id.
async fn send_with(endpoint: &Endpoint, header: (&str, &str), body: &str) -> Result<String> {
    let headers = [("content-type", "application/json"), header];
    text(&post(&endpoint.hook_url, &headers, body.to_owned()).await?.expect(202)?, "/id")
}

/// An endpoint whose destination has this filter.
async fn filtered(system: &System, path: &str, filter: Value) -> Result<Endpoint> {
    let endpoint = endpoint(system, path, json!({})).await?;
    system.api.patch(&endpoint.destination_path(), &json!({ "filter": filter })).await?;
    Ok(endpoint)
}

async fn metric(system: &System, start: &str) -> Result<f64> {
    Ok(sample(&system.workers[0].metrics().await?, start).unwrap_or(0.0))
}

#[test]
fn each_destination_gets_what_it_wants() {
    SHARED.run(async |system| {
        let large = filtered(system, "/large-orders", json!({ "expression": "body.amount >= 100" })).await?;
        let europe = json!({ "filter": { "expression": "headers['x-region'] == 'eu' && endpoint.name == '/large-orders'" } });
        let europe = destination(system, &large, "/europe", europe).await?;
        let mut ids = Vec::new();
        for (amount, region) in [(100, "eu"), (99, "eu"), (100, "us"), (1, "us")] {
            let body = json!({ "amount": amount }).to_string();
            ids.push(send_with(&large, ("x-region", region), &body).await?);
        }
        until_all_succeed(system, &ids[..3].iter().cloned().collect(), BOUND).await?;
        let dropped = until_status(system, &ids[3], "DROPPED").await?;
        assert_eq!(dropped["dropped_reason"], "filtered");
        let both: BTreeSet<&str> = [large.destination.as_str(), &europe].into();
        let refused = dropped["filtered"].as_array().context("a list")?;
        assert_eq!(refused.iter().filter_map(Value::as_str).collect::<BTreeSet<_>>(), both);
        let only_large = until_status(system, &ids[2], "SUCCESS").await?;
        assert_eq!((&only_large["delivered"], &only_large["filtered"]), (&json!([large.destination]), &json!([europe])));
        assert_eq!(only_large["dropped_reason"], Value::Null);
        assert_eq!(deliveries(system, &ids[3]).await?["data"], json!([]), "it was never attempted");

        let got = |path: &str| -> Vec<String> {
            let received = system.receiver.received_on(path);
            received.iter().filter_map(|request| request.header("webhook-id").map(str::to_owned)).collect()
        };
        let sorted = |mut ids: Vec<String>| { ids.sort(); ids };
        assert_eq!(sorted(got("/large-orders")), [ids[0].clone(), ids[2].clone()]);
        assert_eq!(sorted(got("/europe")), ids[..2]);
        assert!(metric(system, "ravenpost_delivery_filtered_total{by=\"expression\"}").await? >= 4.0);
        Ok(())
    });
}

#[test]
fn types_fit_a_pattern() {
    SHARED.run(async |system| {
        let github = json!({ "verification": { "type": "provider", "provider": "github" } });
        let endpoint = endpoint(system, "/types", github).await?;
        let filter = json!({ "filter": { "event_types": ["pull_request*", "push"] } });
        system.api.patch(&endpoint.destination_path(), &filter).await?;
        let mut expected = Vec::new();
        for (event_type, status) in [
            ("push", "SUCCESS"),
            ("pull_request", "SUCCESS"),
            ("pull_request_review", "SUCCESS"),
            ("issues", "DROPPED"),
        ] {
            let signature = sign::github(&endpoint.secret, b"{}");
            let headers = [
                ("content-type", "application/json"),
                ("x-github-event", event_type),
                ("x-hub-signature-256", &signature),
            ];
            let accepted = post(&endpoint.hook_url, &headers, "{}").await?.expect(202)?;
            expected.push((text(&accepted, "/id")?, status));
        }
        for (id, status) in &expected {
            until_status(system, id, status).await?;
        }
        assert_eq!(system.receiver.received_on("/types").len(), 3);
        assert!(metric(system, "ravenpost_delivery_filtered_total{by=\"event_type\"}").await? >= 1.0);
        Ok(())
    });
}

#[test]
fn large_bodies_and_bodies_that_are_no_json_are_looked_at() {
    SHARED.run(async |system| {
        let wanted = json!({ "expression": "body.tail == 'wanted' && size(body.padding) > 20000" });
        let large = filtered(system, "/large", wanted).await?;
        let body = |tail: &str| json!({ "padding": "x".repeat(40_000), "tail": tail }).to_string();
        let (yes, no) = (send(&large, body("wanted")).await?, send(&large, body("unwanted")).await?);
        until_status(system, &yes, "SUCCESS").await?;
        until_status(system, &no, "DROPPED").await?;
        assert_eq!(system.receiver.received_on("/large").len(), 1);

        let form = filtered(system, "/form", json!({ "expression": "body.contains('kind=order')" })).await?;
        let (yes, no) = (send(&form, "kind=order&n=1").await?, send(&form, "kind=other&n=1").await?);
        until_status(system, &yes, "SUCCESS").await?;
        until_status(system, &no, "DROPPED").await?;
        let binary = filtered(system, "/binary", json!({ "expression": "body != null" })).await?;
        until_status(system, &send(&binary, vec![0x1f_u8, 0x8b, 0xff]).await?, "DROPPED").await?;
        Ok(())
    });
}

#[test]
fn an_expression_that_fails_loses_nothing_and_is_reported() {
    SHARED.run(async |system| {
        let endpoint = filtered(system, "/fails", json!({ "expression": "body.amount > 10" })).await?;
        let before = metric(system, "ravenpost_delivery_filter_errors_total{reason=\"expression\"}").await?;
        let id = send(&endpoint, r#"{"total": 5}"#).await?;
        until_status(system, &id, "SUCCESS").await?;
        let told = deliveries(system, &id).await?;
        assert_eq!(column(&told, "filter_error"), ["No such key: amount"]);
        let shown = system.api.get(&endpoint.destination_path()).await?;
        assert_eq!(shown["filter_error"]["message"], "No such key: amount");
        assert_eq!(shown["filter_error"]["event_id"], id);
        let after = metric(system, "ravenpost_delivery_filter_errors_total{reason=\"expression\"}").await?;
        assert!(after > before);

        // What can be decided carries no note.
        let id = send(&endpoint, r#"{"amount": 11}"#).await?;
        until_status(system, &id, "SUCCESS").await?;
        assert_eq!(column(&deliveries(system, &id).await?, "filter_error"), [Value::Null]);
        Ok(())
    });
}

#[test]
fn a_changed_filter_and_a_replay_by_name() {
    SHARED.run(async |system| {
        let endpoint = filtered(system, "/changes", json!({ "expression": "body.n == 1" })).await?;
        let dropped = send(&endpoint, r#"{"n": 2}"#).await?;
        until_status(system, &dropped, "DROPPED").await?;

        // Of all that want it now: nobody.
        let replay = format!("/api/v1/events/{dropped}/replay");
        system.api.post(&replay, &json!({})).await?;
        until_status(system, &dropped, "DROPPED").await?;
        assert!(system.receiver.received_on("/changes").is_empty());
        // A person who names the destination means it.
        system.api.post(&replay, &json!({ "destination_id": endpoint.destination })).await?;
        let delivered = until_status(system, &dropped, "SUCCESS").await?;
        assert_eq!(
            (&delivered["filtered"], &delivered["delivered"]),
            (&json!([]), &json!([endpoint.destination]))
        );

        // From the next route that is read on, the new filter is the one that is asked.
        system
            .api
            .patch(&endpoint.destination_path(), &json!({ "filter": { "expression": "body.n == 2" } }))
            .await?;
        wait::until_true("the new filter to be asked", BOUND, || async {
            let id = send(&endpoint, r#"{"n": 2}"#).await?;
            let settled = wait::until("it to be settled", BOUND, || async {
                let event = system.api.get(&format!("/api/v1/events/{id}")).await?;
                Ok(Some(event).filter(|event| event["status"] != "PENDING"))
            })
            .await?;
            Ok(settled["status"] == "SUCCESS")
        })
        .await?;
        let id = send(&endpoint, r#"{"n": 1}"#).await?;
        until_status(system, &id, "DROPPED").await?;
        Ok(())
    });
}

/// The worst that can be written: loops in loops over a body that just fits, deep bodies, long texts.
#[test]
fn hostile_expressions_hold_up_nobody() {
    SHARED.run(async |system| {
        let quadratic = "body.a.all(x, body.a.exists(y, x == y && body.a == body.a))";
        let hostile = filtered(system, "/hostile", json!({ "expression": quadratic })).await?;
        let slow = destination(
            system,
            &hostile,
            "/hostile-pattern",
            json!({ "filter": { "expression": "body.a.exists(x, body.text.matches('(a|aa|aaa)+(b|c)*$'))" } }),
        )
        .await?;
        let neighbour = filtered(system, "/neighbour-of-hostile", json!({ "expression": "body.n >= 0" })).await?;
        let numbers: Vec<usize> = (0..2_000).collect();
        let body = json!({ "a": numbers, "text": format!("{}!", "a".repeat(16_000)) }).to_string();
        let (mut evil, mut good) = (BTreeSet::new(), BTreeSet::new());
        for n in 0..20 {
            evil.insert(send(&hostile, body.clone()).await?);
            good.insert(send(&neighbour, json!({ "n": n }).to_string()).await?);
        }
        until_all_succeed(system, &good, BOUND).await?;
        for id in &good {
            let told = deliveries(system, id).await?;
            assert_eq!((column(&told, "attempt_number"), column(&told, "filter_error")), (vec![json!(1)], vec![Value::Null]));
        }
        // None of it is lost: what can't be decided in time is delivered.
        until_all_succeed(system, &evil, 2 * BOUND).await?;
        for id in &evil {
            let notes = column(&deliveries(system, id).await?, "filter_error");
            let expected = ["it takes too long", "it takes more than 200000 steps"];
            assert!(notes.iter().any(|note| note.as_str().is_some_and(|note| expected.contains(&note))), "{notes:?}");
        }
        let shown = system.api.get(&format!("{}/destinations/{slow}", hostile.path())).await?;
        assert_eq!(shown["status"], "active");

        let deep = filtered(system, "/deep", json!({ "expression": "body == body" })).await?;
        for body in [format!("{}{}", "[".repeat(8_000), "]".repeat(8_000)), format!("[{}1]", "1,".repeat(60_000))] {
            let id = send(&deep, body).await?;
            until_status(system, &id, "SUCCESS").await?;
        }
        Ok(())
    });
}
