//! Dead letters and bulk replays.

use axum::http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Customer, Endpoint, Service};

/// Works on bulk replays until nothing is to be done.
async fn work(service: &Service) {
    let system = service.store.system();
    while system.replay_step(service.now).await.unwrap().is_some() {}
    system.finish_replay_jobs(service.now).await.unwrap();
}

async fn steer(customer: &Customer, replay: &Value, how: &str) -> Answer {
    let path = format!("/replays/{}/{how}", replay["id"].as_str().unwrap());
    customer.send(Method::POST, &path, None).await
}

fn destination(endpoint: &Endpoint) -> String {
    format!("/endpoints/{}/destinations/{}", endpoint.id, endpoint.destination)
}

#[tokio::test]
async fn dead_letters_are_listed_page_by_page() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    service.attempted(&customer, &endpoint, Some(true)).await;
    for _ in 0..2 {
        service.attempted(&customer, &endpoint, Some(false)).await;
    }
    let first = customer.get("/dead-letters?limit=1").await;
    insta::assert_snapshot!(first.shown(), @r#"
    200 {
      "data": [
        {
          "destination_id": "[id]",
          "died_at": "[time]",
          "endpoint_id": "[id]",
          "event_id": "[id]",
          "event_type": "push",
          "reason": "server_error",
          "received_at": "[time]",
          "run": 0
        }
      ],
      "next": "[cursor]"
    }
    "#);
    let next = first.json()["next"].as_str().unwrap().to_owned();
    let second = customer.get(&format!("/dead-letters?limit=1&next={next}")).await.json();
    assert_ne!(second["data"][0]["event_id"], first.json()["data"][0]["event_id"]);
    assert_eq!(second["next"], Value::Null);
    let count = async |query: String| {
        let answer = customer.get(&format!("/dead-letters?{query}")).await;
        answer.json()["data"].as_array().unwrap().len()
    };
    assert_eq!(count(format!("destination_id={}", endpoint.destination)).await, 2);
    assert_eq!(count(format!("endpoint_id={}&reason=server_error", endpoint.id)).await, 2);
    assert_eq!(count("reason=timeout".to_owned()).await, 0);
    assert_eq!(count("received_before=2020-01-01T00:00:00Z".to_owned()).await, 0);
    assert_eq!(count(format!("destination_id={}", endpoint.id)).await, 0);
    for query in ["limit=0", "next=x", "reasons=x", "endpoint_id=x"] {
        assert_eq!(customer.get(&format!("/dead-letters?{query}")).await.status, 400, "{query}");
    }
}

#[tokio::test]
async fn many_events_are_counted_and_replayed() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    for delivered in [true, false, false] {
        service.attempted(&customer, &endpoint, Some(delivered)).await;
    }
    let filter = json!({ "endpoint_id": endpoint.id, "reason": "server_error" });
    let counted = customer.post("/replays", json!({ "filter": filter, "dry_run": true })).await;
    insta::assert_snapshot!(counted.shown(), @r#"
    200 {
      "exact": true,
      "matched": 2
    }
    "#);
    assert_eq!(customer.get("/replays").await.json()["data"], json!([]));

    let created = customer.post("/replays", json!({ "filter": filter, "rate": 100 })).await;
    insta::assert_snapshot!(created.shown(), @r#"
    201 {
      "created_at": "[time]",
      "destinations": 1,
      "destinations_ended": 0,
      "erring_destinations": [],
      "error": null,
      "filter": {
        "endpoint_id": "[id]",
        "reason": "server_error",
        "status": [
          "FAILED"
        ]
      },
      "finished_at": null,
      "id": "[id]",
      "kind": "replay",
      "matched": 2,
      "matched_exactly": true,
      "rate": 100,
      "retrying": 0,
      "scheduled": 0,
      "skipped": 0,
      "started_at": null,
      "state": "queued",
      "waiting": 0,
      "withdrawn": 0
    }
    "#);
    let path = format!("/replays/{}", created.json()["id"].as_str().unwrap());
    assert_eq!(created.header("location"), format!("/api/v1{path}"));
    work(&service).await;
    let running = customer.get(&path).await.json();
    assert_eq!((&running["state"], &running["scheduled"]), (&json!("running"), &json!(2)));
    assert_eq!((&running["waiting"], &running["skipped"]), (&json!(2), &json!(0)));
    assert_eq!(customer.get("/dead-letters").await.json()["data"], json!([]));
    assert_eq!(customer.get("/replays").await.json()["data"], json!([running]));
}

#[tokio::test]
async fn a_replay_is_paused_resumed_and_cancelled() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    service.attempted(&customer, &endpoint, Some(false)).await;
    let replay = customer.post("/replays", json!({})).await.json();
    assert_eq!(steer(&customer, &replay, "pause").await.json()["state"], "paused");
    work(&service).await;
    insta::assert_snapshot!(steer(&customer, &replay, "pause").await.shown(), @r#"
    409 {
      "detail": "the replay is paused",
      "status": 409,
      "title": "The request conflicts with what exists",
      "type": "urn:ravenpost:problem:conflict"
    }
    "#);
    assert_eq!(customer.get("/dead-letters").await.json()["data"].as_array().unwrap().len(), 1);
    assert_eq!(steer(&customer, &replay, "resume").await.json()["state"], "running");
    work(&service).await;
    assert_eq!(customer.get("/dead-letters").await.json()["data"], json!([]));
    let cancelled = steer(&customer, &replay, "cancel").await.json();
    assert_eq!(cancelled["state"], "cancelled");
    assert!(cancelled["finished_at"].is_string());
    work(&service).await;
    assert_eq!(customer.get("/dead-letters").await.json()["data"].as_array().unwrap().len(), 1);
    assert_eq!(steer(&customer, &replay, "resume").await.status, 409);
}

#[tokio::test]
async fn a_destination_and_an_endpoint_are_recovered() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    service.attempted(&customer, &endpoint, Some(false)).await;
    let made = json!({ "name": "Billing", "url": "https://b.example", "replay_on_recovery": true });
    let late = customer.post(&format!("/endpoints/{}/destinations", endpoint.id), made).await.json();
    assert_eq!(late["replay_on_recovery"], true);
    let recover = async |path: &str, body: Value| customer.post(&format!("{path}/recover"), body).await;
    let count = async |path: &str, never_sent: bool| {
        let body = json!({ "since": "2020-01-01T00:00:00Z", "never_sent": never_sent, "dry_run": true });
        recover(path, body).await.json()["matched"].clone()
    };
    let whole = format!("/endpoints/{}", endpoint.id);
    // The destination that was made later never got the event.
    assert_eq!(count(&destination(&endpoint), true).await, 1);
    assert_eq!((count(&whole, false).await, count(&whole, true).await), (json!(1), json!(2)));
    let tomorrow = service.now + chrono::TimeDelta::days(1);
    let later = recover(&whole, json!({ "since": tomorrow, "dry_run": true })).await.json();
    assert_eq!(later["matched"], 0);

    let recovery = recover(&destination(&endpoint), json!({ "since": "2020-01-01T00:00:00Z" })).await;
    assert_eq!(recovery.status, 201);
    let recovery = recovery.json();
    assert_eq!((&recovery["kind"], &recovery["matched"]), (&json!("recover"), &json!(1)));
    assert_eq!(recovery["filter"]["status"], json!(["FAILED", "DROPPED"]));
    work(&service).await;
    assert_eq!(customer.get("/dead-letters").await.json()["data"], json!([]));
    assert_eq!(recover(&whole, json!({})).await.status, 422);
}

#[tokio::test]
async fn a_replay_that_makes_no_sense_is_refused_by_its_field() {
    let service = Service::new().await;
    let customer = service.customer().await;
    assert_eq!(customer.post("/replays", json!({})).await.status, 409, "there is no destination");
    let endpoint = customer.endpoint().await;
    for (body, field) in [
        (json!({ "filter": { "status": ["PENDING"] } }), "filter.status"),
        (json!({ "filter": { "status": [] } }), "filter.status"),
        (json!({ "filter": { "status": ["DEAD"] } }), "filter.status[0]"),
        (json!({ "filter": { "event_type": "" } }), "filter.event_type"),
        (json!({ "filter": { "status": ["SUCCESS"], "reason": "timeout" } }), "filter.reason"),
        (json!({ "filter": { "endpoint_id": endpoint.destination } }), "filter.endpoint_id"),
        (json!({ "filter": { "destination_id": endpoint.id } }), "filter.destination_id"),
        (json!({ "filter": { "since": "yesterday" } }), "filter.since"),
        (json!({ "filters": {} }), "filters"),
        (json!({ "rate": 0 }), "rate"),
        (json!({ "rate": 10_001 }), "rate"),
        (
            json!({ "filter": { "received_after": "2026-01-02T00:00:00Z", "received_before": "2026-01-01T00:00:00Z" } }),
            "filter.received_before",
        ),
    ] {
        let answer = customer.post("/replays", body.clone()).await;
        assert_eq!(answer.status, 422, "{body}");
        assert_eq!(answer.json()["errors"][0]["field"], field, "{body}");
    }
    assert_eq!(customer.get("/replays").await.json()["data"], json!([]));
}
