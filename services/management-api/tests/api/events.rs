//! Events, payloads and deliveries.

use serde_json::json;

use crate::support::Service;

#[tokio::test]
async fn an_event_and_its_deliveries() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let failed = service.attempted(&customer, &endpoint, Some(false)).await;
    insta::assert_snapshot!(customer.get(&format!("/events/{failed}")).await.shown(), @r#"
    200 {
      "content_type": "text/html",
      "dead": [
        "[id]"
      ],
      "delivered": [],
      "dropped_reason": null,
      "endpoint_id": "[id]",
      "event_type": "push",
      "filtered": [],
      "headers": [
        {
          "name": "content-type",
          "value": "text/html"
        },
        {
          "name": "x-github-event",
          "value": "push"
        }
      ],
      "id": "[id]",
      "payload_bytes": 2,
      "payload_sha256": "abababababababababababababababababababababababababababababababab",
      "pending": [],
      "received_at": "[time]",
      "status": "FAILED"
    }
    "#);
    insta::assert_snapshot!(customer.get(&format!("/events/{failed}/deliveries")).await.shown(), @r#"
    200 {
      "data": [
        {
          "attempt_number": 1,
          "attempted_at": "[time]",
          "connected_address": "203.0.113.7:443",
          "destination_id": "[id]",
          "destination_url": "https://api.example.com/orders",
          "duration_ms": 5,
          "error_message": "the destination answered 500",
          "filter_error": null,
          "id": "[id]",
          "next_retry_at": null,
          "outcome": "server_error",
          "phases": {
            "connect_us": null,
            "dns_us": null,
            "first_byte_us": 4000,
            "queue_us": 1500,
            "tls_us": null
          },
          "response_body_snippet": "thanks",
          "response_code": 500,
          "run": 0
        }
      ],
      "waiting": []
    }
    "#);
}

#[tokio::test]
async fn what_waits_stands_beside_its_attempts() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let waits = service.attempted(&customer, &endpoint, None).await;
    insta::assert_snapshot!(customer.get(&format!("/events/{waits}/deliveries")).await.shown(), @r#"
    200 {
      "data": [
        {
          "attempt_number": 1,
          "attempted_at": "[time]",
          "connected_address": "203.0.113.7:443",
          "destination_id": "[id]",
          "destination_url": "https://api.example.com/orders",
          "duration_ms": 5,
          "error_message": "the destination answered 500",
          "filter_error": null,
          "id": "[id]",
          "next_retry_at": "[time]",
          "outcome": "server_error",
          "phases": {
            "connect_us": null,
            "dns_us": null,
            "first_byte_us": 4000,
            "queue_us": 1500,
            "tls_us": null
          },
          "response_body_snippet": "thanks",
          "response_code": 500,
          "run": 0
        }
      ],
      "waiting": [
        {
          "attempt_number": 2,
          "destination_id": "[id]",
          "destination_url": "https://api.example.com/orders",
          "due_at": "[time]",
          "reason": "retry",
          "run": 0
        }
      ]
    }
    "#);
}

#[tokio::test]
async fn a_payload_is_what_came_in_and_no_page_of_ours() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let body = b"<script>alert(1)</script>\0\xff";
    let event = service.event(&customer, &endpoint, body).await;
    let payload = customer.get(&format!("/events/{event}/payload")).await;
    assert_eq!((payload.status.as_u16(), payload.bytes.as_slice()), (200, body.as_slice()));
    assert_eq!(payload.header("content-type"), "text/html");
    assert_eq!(payload.header("content-disposition"), "attachment");
    assert_eq!(payload.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn lists_filter() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let (endpoint, other) = (customer.endpoint().await, customer.endpoint().await);
    let delivered = service.attempted(&customer, &endpoint, Some(true)).await;
    let failed = service.attempted(&customer, &endpoint, Some(false)).await;
    let elsewhere = service.event(&customer, &other, b"{}").await;
    let found = async |query: &str| {
        let answer = customer.get(&format!("/events{query}")).await;
        assert_eq!(answer.status, 200, "{query}");
        let body = answer.json();
        let mut ids: Vec<_> =
            body["data"].as_array().unwrap().iter().map(|event| event["id"].clone()).collect();
        ids.sort_by_key(ToString::to_string);
        ids
    };
    let mut all = [delivered, failed, elsewhere].map(|id| json!(id));
    all.sort_by_key(ToString::to_string);
    assert_eq!(found("").await, all);
    assert_eq!(found("?status=SUCCESS").await, [json!(delivered)]);
    assert_eq!(found(&format!("?endpoint_id={}&status=FAILED", endpoint.id)).await, [json!(failed)]);
    assert_eq!(found(&format!("?endpoint_id={}", other.id)).await, [json!(elsewhere)]);
    assert_eq!(found("?event_type=push").await.len(), 3);
    assert!(found("?event_type=pull").await.is_empty());
    let at = |time: chrono::DateTime<chrono::Utc>| time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    let (now, soon) = (at(service.now), at(service.now + chrono::TimeDelta::microseconds(1)));
    assert_eq!(found(&format!("?received_after={now}&received_before={soon}")).await.len(), 3);
    assert!(found(&format!("?received_before={now}")).await.is_empty());
    assert!(found(&format!("?received_after={soon}&endpoint_id={}", endpoint.id)).await.is_empty());
    assert_eq!(
        found("?received_after=1970-01-01T00:00:00Z&received_before=9999-12-31T00:00:00Z").await.len(),
        3
    );

    let first = customer.get("/events?limit=2").await.json();
    let rest = found(&format!("?limit=2&next={}", first["next"].as_str().unwrap())).await;
    assert_eq!(rest.len(), 1);
}

#[tokio::test]
async fn parameters_are_named() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let mut details = Vec::new();
    for path in [
        "/events?status=failed",
        "/events?endpoint_id=1",
        "/events?received_after=yesterday",
        "/events?received_before=2026-13-01T00:00:00Z",
        "/events?limit=-1",
        "/events?before=2026-01-01T00:00:00Z",
        "/events/1",
        "/events/1/payload",
        "/events/1/deliveries",
    ] {
        let answer = customer.get(path).await;
        assert_eq!(answer.status, 400, "{path}");
        details.push(answer.json()["detail"].as_str().unwrap().to_owned());
    }
    insta::assert_snapshot!(details.join("\n"), @"
    status: unknown variant `failed`, expected one of `PENDING`, `SUCCESS`, `FAILED`, `DROPPED`
    endpoint_id: UUID parsing failed: invalid length: found 1
    received_after: input contains invalid characters
    received_before: input is out of range
    limit: invalid digit found in string
    before: unknown parameter, expected one of `endpoint_id`, `event_type`, `limit`, `next`, `received_after`, `received_before`, `status`
    event_id: UUID parsing failed: invalid length: found 1
    event_id: UUID parsing failed: invalid length: found 1
    event_id: UUID parsing failed: invalid length: found 1
    ");
}
