//! What waits, brought forward and cancelled; destinations and endpoints steered; filters tried.

use serde_json::{Value, json};

use crate::support::Service;

#[tokio::test]
async fn what_waits_is_listed_run_and_cancelled() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let event = service.attempted(&customer, &endpoint, None).await;
    insta::assert_snapshot!(customer.get("/scheduled-deliveries").await.shown(), @r#"
    200 {
      "data": [
        {
          "attempt_number": 2,
          "destination_id": "[id]",
          "due_at": "[time]",
          "endpoint_id": "[id]",
          "event_id": "[id]",
          "kept_by": null,
          "kept_until": null,
          "reason": "retry",
          "run": 0,
          "waiting_since": "[time]"
        }
      ],
      "next": null
    }
    "#);
    for (filter, count) in [
        (format!("event_id={event}"), 1),
        (format!("endpoint_id={}&destination_id={}", endpoint.id, endpoint.destination), 1),
        ("reason=held".to_owned(), 0),
        ("reason=retry".to_owned(), 1),
    ] {
        let listed = customer.get(&format!("/scheduled-deliveries?{filter}")).await.json();
        assert_eq!(listed["data"].as_array().unwrap().len(), count, "{filter}");
    }
    let path = format!("/scheduled-deliveries/{event}/{}", endpoint.destination);
    let stranger = service.customer().await;
    for step in ["run", "cancel"] {
        assert_eq!(stranger.post(&format!("{path}/{step}"), json!(null)).await.status, 404);
    }
    assert!(stranger.get("/scheduled-deliveries").await.json()["data"].as_array().unwrap().is_empty());
    let before = customer.get("/scheduled-deliveries").await.json();
    let run = customer.post(&format!("{path}/run"), json!(null)).await;
    assert_eq!(run.status, 200);
    assert!(run.json()["due_at"].as_str().unwrap() < before["data"][0]["due_at"].as_str().unwrap());
    assert_eq!(customer.post(&format!("{path}/cancel"), json!(null)).await.status, 204);
    let gone = customer.post(&format!("{path}/cancel"), json!(null)).await;
    insta::assert_snapshot!(gone.shown(), @r#"
    404 {
      "detail": "there is no such scheduled delivery",
      "status": 404,
      "title": "There is no such thing",
      "type": "urn:ravenpost:problem:not-found"
    }
    "#);
    let dead = customer.get("/dead-letters?reason=cancelled").await.json();
    assert_eq!(dead["data"][0]["event_id"], event.to_string());
    for next in ["x", "AAAA"] {
        assert_eq!(customer.get(&format!("/scheduled-deliveries?next={next}")).await.status, 400);
    }
}

#[tokio::test]
async fn pages_of_what_waits_follow_each_other() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    for _ in 0..3 {
        service.attempted(&customer, &endpoint, None).await;
    }
    let (mut seen, mut next) = (Vec::new(), String::new());
    loop {
        let page = customer.get(&format!("/scheduled-deliveries?limit=2{next}")).await.json();
        seen.extend(page["data"].as_array().unwrap().iter().map(|row| row["event_id"].to_string()));
        let Some(cursor) = page["next"].as_str() else { break };
        next = format!("&next={cursor}");
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3);
}

#[tokio::test]
async fn a_destination_is_paused_resumed_and_enabled_by_name() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let path = format!("/endpoints/{}/destinations/{}", endpoint.id, endpoint.destination);
    let step = async |step: &str| {
        let answer = customer.post(&format!("{path}/{step}"), json!(null)).await;
        (answer.status.as_u16(), answer.json()["status"].clone())
    };
    assert_eq!(step("resume").await, (200, json!("active")));
    for _ in 0..2 {
        assert_eq!(step("pause").await, (200, json!("paused")));
    }
    assert_eq!(step("enable").await.0, 409);
    assert_eq!(step("resume").await, (200, json!("active")));
    let disable =
        "update destinations set status = 'disabled', disabled_reason = 'gone', disabled_at = now()";
    sqlx_execute(&service, disable).await;
    assert_eq!(step("pause").await.0, 409);
    assert_eq!(step("resume").await.0, 409);
    assert_eq!(step("enable").await, (200, json!("active")));
    let stranger = service.customer().await;
    for step in ["pause", "resume", "enable"] {
        assert_eq!(stranger.post(&format!("{path}/{step}"), json!(null)).await.status, 404);
    }
}

async fn sqlx_execute(service: &Service, statement: &'static str) {
    service.database.execute(statement).await.unwrap();
}

#[tokio::test]
async fn an_endpoint_is_paused_activated_and_gets_another_token() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let path = format!("/endpoints/{}", endpoint.id);
    for (step, status) in [("pause", "paused"), ("pause", "paused"), ("activate", "active")] {
        let answer = customer.post(&format!("{path}/{step}"), json!(null)).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["status"]), (200, &json!(status)));
    }
    let before = customer.get(&path).await.json();
    let rotated = customer.post(&format!("{path}/rotate-token"), json!(null)).await.json();
    assert_ne!(rotated["hook_url"], before["hook_url"]);
    assert_eq!(customer.get(&path).await.json()["hook_url"], rotated["hook_url"]);
    let token = |body: &Value| body["hook_url"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let system = service.store.system();
    assert!(system.endpoint_by_token(&token(&before)).await.unwrap().is_none());
    assert_eq!(system.endpoint_by_token(&token(&rotated)).await.unwrap().unwrap().id, endpoint.id);
    let stranger = service.customer().await;
    for step in ["pause", "activate", "rotate-token", "test-event"] {
        assert_eq!(stranger.post(&format!("{path}/{step}"), json!(null)).await.status, 404, "{step}");
    }
}

#[tokio::test]
async fn a_filter_is_tried_against_a_stored_event() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let event = service.event(&customer, &endpoint, br#"{"amount": 5}"#).await;
    let destination = format!("/endpoints/{}/destinations/{}", endpoint.id, endpoint.destination);
    let path = format!("{destination}/filter/try");
    let of = async |filter: Value| customer.post(&path, json!({ "event_id": event, "filter": filter })).await;
    let none = customer.post(&path, json!({ "event_id": event })).await;
    assert_eq!(none.json(), json!({ "wanted": true, "decided_by": "no_filter", "error": null }));
    for (filter, wanted, decided_by) in [
        (json!({ "event_types": ["pull"] }), false, "event_types"),
        (json!({ "event_types": ["pu*"] }), true, "event_types"),
        (json!({ "event_types": ["pull"], "expression": "body.amount > 1" }), false, "event_types"),
        (json!({ "expression": "body.amount > 1" }), true, "expression"),
        (json!({ "expression": "body.amount > 9" }), false, "expression"),
        (json!({ "expression": "headers['x-github-event'] == 'push'" }), true, "expression"),
        (json!({ "expression": "endpoint.name == 'Orders'" }), true, "expression"),
    ] {
        let body = of(filter.clone()).await.json();
        assert_eq!(
            (&body["wanted"], &body["decided_by"]),
            (&json!(wanted), &json!(decided_by)),
            "{filter}: {body}"
        );
        assert_eq!(body["error"], json!(null), "{filter}");
    }
    insta::assert_snapshot!(of(json!({ "expression": "body.total > 9" })).await.shown(), @r#"
    200 {
      "decided_by": "expression",
      "error": "No such key: total",
      "wanted": true
    }
    "#);
    insta::assert_snapshot!(of(json!({ "expression": "body.amount >" })).await.shown(), @r##"
    422 {
      "detail": "filter.expression: line 1, column 14: mismatched input '<EOF>' expecting expression",
      "errors": [
        {
          "detail": "line 1, column 14: mismatched input '<EOF>' expecting expression",
          "field": "filter.expression",
          "pointer": "#/filter/expression"
        }
      ],
      "status": 422,
      "title": "A field is invalid",
      "type": "urn:ravenpost:problem:invalid-field"
    }
    "##);
    customer.patch(&destination, json!({ "filter": { "expression": "body.amount > 9" } })).await;
    assert_eq!(customer.post(&path, json!({ "event_id": event })).await.json()["wanted"], false);
    let stranger = service.customer().await;
    assert_eq!(stranger.post(&path, json!({ "event_id": event })).await.status, 404);
    let theirs = stranger.endpoint().await;
    let path = format!("/endpoints/{}/destinations/{}/filter/try", theirs.id, theirs.destination);
    assert_eq!(stranger.post(&path, json!({ "event_id": event })).await.status, 422, "not their event");
}

#[tokio::test]
async fn a_test_event_that_cannot_be_made_or_sent_says_why() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let away = customer.post(&format!("/endpoints/{}/test-event", endpoint.id), json!(null)).await;
    assert_eq!(away.status, 503, "{}", away.shown());
    let new = json!({ "name": "Pay", "target_url": "https://api.example.com/pay",
        "verification": { "type": "provider", "provider": "paypal" } });
    let paypal = customer.post("/endpoints", new).await.json();
    let path = format!("/endpoints/{}/test-event", paypal["id"].as_str().unwrap());
    insta::assert_snapshot!(customer.post(&path, json!(null)).await.shown(), @r#"
    409 {
      "detail": "the endpoint has no secret yet: add the one that the producer shows",
      "status": 409,
      "title": "The request conflicts with what exists",
      "type": "urn:ravenpost:problem:conflict"
    }
    "#);
}
