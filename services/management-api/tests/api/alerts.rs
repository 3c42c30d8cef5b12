//! Channels and alerts.

use serde_json::json;

use crate::support::{Customer, Service};

#[tokio::test]
async fn channels() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let new = json!({ "type": "email", "address": "oncall@example.com" });
    let created = customer.post("/channels", new.clone()).await;
    insta::assert_snapshot!(created.shown(), @r#"
    201 {
      "address": "oncall@example.com",
      "created_at": "[time]",
      "disabled_reason": null,
      "enabled": true,
      "id": "[id]",
      "last_sent_at": null,
      "name": "",
      "type": "email"
    }
    "#);
    let path = format!("/channels/{}", created.json()["id"].as_str().unwrap());
    assert_eq!(created.header("location"), format!("/api/v1{path}"));
    insta::assert_snapshot!(customer.post("/channels", new.clone()).await.shown(), @r#"
    409 {
      "detail": "there is a channel to this address already",
      "status": 409,
      "title": "The request conflicts with what exists",
      "type": "urn:ravenpost:problem:conflict"
    }
    "#);
    assert_eq!(service.customer().await.post("/channels", new).await.status, 201);
    assert_eq!(customer.get("/channels").await.json()["data"], json!([created.json()]));
    assert_eq!(customer.delete(&path).await.shown(), "204");
    insta::assert_snapshot!(customer.delete(&path).await.shown(), @r#"
    404 {
      "detail": "there is no such channel",
      "status": 404,
      "title": "There is no such thing",
      "type": "urn:ravenpost:problem:not-found"
    }
    "#);

    let mut details = Vec::new();
    for body in [
        json!({}),
        json!({ "type": "sms", "address": "oncall@example.com" }),
        json!({ "type": "email" }),
        json!({ "type": "email", "address": "oncall" }),
        json!({ "type": "email", "address": "a@example.com\r\nBcc: b@example.com" }),
        json!({ "type": "email", "address": "oncall@example.com", "url": "x" }),
        json!({ "type": "slack", "url": "ftp://hooks.slack.com/" }),
        json!({ "type": "pagerduty", "routing_key": "short" }),
        json!({ "type": "webhook", "url": "https://example.com/", "signing_secret": "short" }),
    ] {
        let answer = customer.post("/channels", body).await;
        assert_eq!(answer.status, 422);
        details.push(answer.json()["detail"].as_str().unwrap().to_owned());
    }
    insta::assert_snapshot!(details.join("\n"), @"
    type: missing field `type`
    type: unknown variant `sms`, expected one of `email`, `slack`, `teams`, `pagerduty`, `opsgenie`, `webhook`
    address: missing field `address`
    address: not an e-mail address
    address: not an e-mail address
    url: unknown field `url`, expected `address` or `name`
    url: the scheme must be http or https
    routing_key: 32 letters, digits and hyphens
    signing_secret: expected whsec_ followed by 24 to 64 bytes in base64
    ");
    assert_eq!(customer.delete("/channels/1").await.status, 400);
    assert_eq!(customer.get("/channels?limit=x").await.status, 400);
}

#[tokio::test]
async fn alerts() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let alert = service.alert(&customer, &endpoint).await;
    insta::assert_snapshot!(customer.get("/alerts?open=true").await.shown(), @r#"
    200 {
      "data": [
        {
          "acknowledged_at": null,
          "acknowledged_by": null,
          "destination_id": "[id]",
          "endpoint_id": "[id]",
          "evidence": {
            "failures_in_a_row": 2,
            "last_error": "connection refused"
          },
          "failures": 2,
          "id": "[id]",
          "kind": "consecutive_failures",
          "last_error": "connection refused",
          "muted_until": null,
          "notified_at": null,
          "opened_at": "[time]",
          "resolved_at": null,
          "resolved_by": null,
          "rule": "consecutive_failures",
          "rule_name": "A destination keeps failing",
          "severity": "warning",
          "state": "firing"
        }
      ],
      "next": null
    }
    "#);
    seen_to(&customer).await;
    assert_eq!(
        customer.post(&format!("/alerts/{alert}/resolve"), json!({})).await.json()["state"],
        "resolved"
    );
    assert_eq!(customer.post(&format!("/alerts/{alert}/mute"), json!({})).await.status, 409);
    assert_eq!(customer.get("/alerts?open=true").await.json()["data"], json!([]));
    assert_eq!(customer.get("/alerts").await.json()["data"].as_array().unwrap().len(), 1);
    insta::assert_snapshot!(customer.get("/alerts?open=maybe").await.shown(), @r#"
    400 {
      "detail": "open: provided string was not `true` or `false`",
      "errors": [
        {
          "detail": "provided string was not `true` or `false`",
          "field": "open"
        }
      ],
      "status": 400,
      "title": "A parameter is invalid",
      "type": "urn:ravenpost:problem:invalid-parameter"
    }
    "#);
    assert_eq!(customer.get("/alerts?next=x").await.status, 400);
}

/// Acknowledges and mutes the only alert, and finds it by what it is.
async fn seen_to(customer: &Customer) {
    let alert = customer.get("/alerts").await.json()["data"][0].clone();
    let path = format!("/alerts/{}", alert["id"].as_str().unwrap());
    let muted = customer.post(&format!("{path}/mute"), json!({ "duration": "2h" })).await;
    assert_eq!(muted.status, 200);
    assert!(muted.json()["muted_until"].is_string());
    assert_eq!(customer.post(&format!("{path}/mute"), json!({ "duration": "2" })).await.status, 422);
    let acknowledged = customer.post(&format!("{path}/acknowledge"), json!({})).await;
    assert_eq!(acknowledged.json()["state"], "acknowledged");
    assert!(acknowledged.json()["acknowledged_by"].as_str().unwrap().starts_with("api_key:"));
    assert_eq!(customer.post(&format!("{path}/acknowledge"), json!({})).await.status, 409);
    let told = customer.get(&path).await.json();
    assert_eq!(told["notifications"], json!([]));
    let endpoint = alert["endpoint_id"].as_str().unwrap();
    for (query, count) in [
        ("state=firing".to_owned(), 0),
        ("state=acknowledged".to_owned(), 1),
        ("severity=critical".to_owned(), 0),
        (format!("severity=warning&endpoint_id={endpoint}"), 1),
        (format!("destination_id={endpoint}"), 0),
    ] {
        let listed = customer.get(&format!("/alerts?{query}")).await.json();
        assert_eq!(listed["data"].as_array().unwrap().len(), count, "{query}");
    }
    assert_eq!(customer.get("/alerts?state=maybe").await.status, 400);
}

#[tokio::test]
async fn a_channel_is_tried_changed_and_keeps_its_secrets() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let new = json!({ "type": "webhook", "url": "https://example.com/alerts/s3cr3t", "name": "Pipeline" });
    let created = customer.post("/channels", new.clone()).await;
    assert_eq!(created.status, 201);
    assert!(created.json()["signing_secret"].as_str().unwrap().starts_with("whsec_"));
    assert_eq!(customer.post("/channels", new).await.status, 409);
    let path = format!("/channels/{}", created.json()["id"].as_str().unwrap());
    let shown = customer.get(&path).await.shown();
    assert!(!shown.contains("s3cr3t") && !shown.contains("whsec_"), "{shown}");
    let test = customer.post(&format!("{path}/test"), json!({})).await;
    assert_eq!(test.status, 202);
    let told = customer.get(&format!("{path}/notifications")).await.json();
    assert_eq!(told["data"][0]["id"], test.json()["notification_id"]);
    assert_eq!((&told["data"][0]["kind"], &told["data"][0]["state"]), (&json!("test"), &json!("pending")));
    let changed = customer.patch(&path, json!({ "enabled": false, "name": "Other" })).await;
    assert_eq!((&changed.json()["enabled"], &changed.json()["name"]), (&json!(false), &json!("Other")));
    assert_eq!(customer.post(&format!("{path}/test"), json!({})).await.status, 409);
    assert_eq!(service.customer().await.get(&path).await.status, 404);
}

#[tokio::test]
async fn rules() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let listed = customer.get("/alert-rules").await.json();
    assert_eq!(
        (listed["data"].as_array().unwrap().len(), listed["defaults"].as_array().unwrap().len()),
        (0, 10)
    );
    let new = json!({
        "name": "Orders fail",
        "condition": { "type": "error_rate", "window": "10m", "minimum_attempts": 20 },
        "severity": "critical",
        "quiet_hours": { "from": 1320, "to": 360 },
    });
    let created = customer.post("/alert-rules", new.clone()).await;
    assert_eq!(created.status, 201);
    assert_eq!(created.json()["condition"]["percent"], 5.0);
    assert_eq!(created.json()["cool_down"], "5m");
    let path = format!("/alert-rules/{}", created.json()["id"].as_str().unwrap());
    assert_eq!(created.header("location"), format!("/api/v1{path}"));
    assert_eq!(customer.get(&path).await.json(), created.json());
    let defaults = customer.get("/alert-rules").await.json()["defaults"].clone();
    let replaced = defaults.as_array().unwrap().iter().find(|rule| rule["condition"]["type"] == "error_rate");
    assert_eq!(replaced.unwrap()["enabled"], false);
    assert_eq!(service.customer().await.get(&path).await.status, 404);
    assert_eq!(service.customer().await.patch(&path, new.clone()).await.status, 404);

    let mut details = Vec::new();
    for (field, value) in [
        ("name", json!("")),
        ("condition", json!({ "type": "consecutive_failures", "failures": 0 })),
        ("condition", json!({ "type": "latency", "p95": "fast", "window": "5m", "minimum_attempts": 1 })),
        ("cool_down", json!("2d")),
        ("quiet_hours", json!({ "from": 0, "to": 1440 })),
        ("channels", json!(["0199e5a0-0000-7000-8000-000000000001"])),
        ("scope", json!({ "type": "endpoint", "id": "0199e5a0-0000-7000-8000-000000000001" })),
        ("scope", json!({ "type": "destination", "id": "0199e5a0-0000-7000-8000-000000000001" })),
        ("severity", json!("bad")),
    ] {
        let answer = customer.patch(&path, json!({ field: value })).await;
        assert_eq!(answer.status, 422, "{field}");
        details.push(answer.json()["detail"].as_str().unwrap().to_owned());
    }
    insta::assert_snapshot!(details.join("\n"), @"
    name: 1 to 200 characters, not all of them blank, and no control characters
    condition.failures: from 1 to 10000
    condition: `fast` is not a duration: write a whole number and a unit, such as 500ms, 30s, 5m, 1h or 7d
    cool_down: from 0s to 1d
    quiet_hours: two different minutes of the day, from 0 to 1439
    channels: there is no channel 0199e5a0-0000-7000-8000-000000000001
    scope.id: there is no endpoint 0199e5a0-0000-7000-8000-000000000001
    scope.id: there is no destination 0199e5a0-0000-7000-8000-000000000001
    severity: unknown variant `bad`, expected one of `info`, `warning`, `critical`
    ");
    changed_in_part(&customer, &path).await;
    assert_eq!(customer.delete(&path).await.status, 204);
    assert_eq!(customer.delete(&path).await.status, 404);
}

/// What is absent stays.
async fn changed_in_part(customer: &Customer, path: &str) {
    let mut expected = customer.get(path).await.json();
    let off = customer.patch(path, json!({ "enabled": false, "quiet_hours": null })).await.json();
    (expected["enabled"], expected["quiet_hours"]) = (json!(false), json!(null));
    expected["updated_at"] = off["updated_at"].clone();
    assert_eq!(off, expected);
    assert_eq!(customer.get(path).await.json(), expected);
}
