//! Events, payloads and deliveries.

use serde_json::json;

use crate::support::{Endpoint, Service, payloads_away, serve};

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
      "expunged_at": null,
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
    before: unknown parameter, expected one of `destination_id`, `endpoint_id`, `event_type`, `limit`, `next`, `producer_event_id`, `received_after`, `received_before`, `status`, `text`
    event_id: UUID parsing failed: invalid length: found 1
    event_id: UUID parsing failed: invalid length: found 1
    event_id: UUID parsing failed: invalid length: found 1
    ");
}

#[tokio::test]
async fn a_payload_is_expunged_and_its_neighbours_are_not() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let bodies: [&[u8]; 3] = [b"before", b"a secret", b"after"];
    let events = service.in_segment(&customer, &endpoint, &bodies).await;
    let path = format!("/events/{}/payload", events[1]);
    assert_eq!(customer.get(&path).await.bytes, b"a secret");
    let stranger = service.customer().await;
    assert_eq!(stranger.delete(&path).await.status, 404);
    insta::assert_snapshot!(customer.delete(&path).await.shown(), @r#"
    200 {
      "erased": true,
      "event_id": "[id]",
      "expunged_at": "[time]"
    }
    "#);
    assert_eq!(customer.delete(&path).await.status, 200, "once more");
    assert_eq!(customer.get(&path).await.status, 404);
    for (event, body) in [(events[0], bodies[0]), (events[2], bodies[2])] {
        assert_eq!(customer.get(&format!("/events/{event}/payload")).await.bytes, body);
    }
    let key = service.object_keys().await.into_iter().find(|key| key.contains("segments")).unwrap();
    let whole = service.payloads.get_range(&key, 0, 1_000).await.unwrap().unwrap();
    assert_eq!(whole, [b"before".as_slice(), &[0; 8], b"after"].concat());
    let event = customer.get(&format!("/events/{}", events[1])).await.json();
    assert_eq!((&event["status"], event["expunged_at"].is_string()), (&json!("FAILED"), true));
    let replay = customer.post(&format!("/events/{}/replay", events[1]), json!({})).await;
    assert_eq!(replay.status, 409, "{}", replay.shown());
    let dead = customer.get("/dead-letters?reason=expunged").await.json();
    assert_eq!(dead["data"][0]["event_id"], events[1].to_string());
}

#[tokio::test]
async fn what_was_not_erased_at_once_is_later() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let event = service.in_segment(&customer, &endpoint, &[b"one", b"two"]).await[1];
    let away = customer.through(serve(service.store.clone(), payloads_away().await));
    let expunged = away.delete(&format!("/events/{event}/payload")).await.json();
    assert_eq!(expunged["erased"], false, "{expunged}");
    assert_eq!(customer.get(&format!("/events/{event}/payload")).await.status, 404);
    let holder = uuid::Uuid::from_u128(1);
    // Whoever is at the object holds it.
    let held = "insert into payload_locks select s3_key, gen_random_uuid(), now() + interval '1 hour' from expunged_payloads
        on conflict (s3_key) do update set held_until = excluded.held_until, holder = excluded.holder";
    service.database.execute(held).await.unwrap();
    let system = service.store.system();
    assert_eq!(system.erase(&service.payloads, None, holder).await.unwrap(), 0);
    service
        .database
        .execute("update payload_locks set held_until = now() - interval '1 second'")
        .await
        .unwrap();
    assert_eq!(system.erase(&service.payloads, None, holder).await.unwrap(), 1);
    assert!(system.is_erased(event).await.unwrap());
    let key = service.object_keys().await.into_iter().find(|key| key.contains("segments")).unwrap();
    assert_eq!(service.payloads.get_range(&key, 0, 100).await.unwrap().unwrap(), b"one\0\0\0".as_slice());
    assert_eq!(system.erase(&service.payloads, None, holder).await.unwrap(), 0);
}

#[tokio::test]
async fn events_are_found_by_destination() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let (endpoint, other) = (customer.endpoint().await, customer.endpoint().await);
    let sent = service.attempted(&customer, &endpoint, Some(true)).await;
    service.attempted(&customer, &other, Some(true)).await;
    service.event(&customer, &endpoint, b"{}").await;
    let found = async |query: String| {
        let body = customer.get(&format!("/events?{query}")).await.json();
        let ids = body["data"].as_array().unwrap().iter().map(|event| event["id"].clone());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(found(format!("destination_id={}", endpoint.destination)).await, [json!(sent)]);
    let both = format!("destination_id={}&endpoint_id={}", endpoint.destination, other.id);
    assert!(found(both).await.is_empty());
    assert!(found(format!("destination_id={}&status=FAILED", endpoint.destination)).await.is_empty());
}

#[tokio::test]
async fn events_are_found_by_their_producers_id() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let event = service.event_of_producer(&customer, &endpoint, "evt_1").await;
    let path =
        |endpoint: &Endpoint, id: &str| format!("/events?endpoint_id={}&producer_event_id={id}", endpoint.id);
    let found = customer.get(&path(&endpoint, "evt_1")).await.json();
    assert_eq!((found["data"].as_array().unwrap().len(), &found["data"][0]["id"]), (1, &json!(event)));
    for query in ["evt_2".to_owned(), "evt_1&status=FAILED".to_owned()] {
        let none = customer.get(&path(&endpoint, &query)).await.json();
        assert!(none["data"].as_array().unwrap().is_empty(), "{query}");
    }
    let stranger = service.customer().await;
    assert!(stranger.get(&path(&endpoint, "evt_1")).await.json()["data"].as_array().unwrap().is_empty());
    let refused = customer.get("/events?producer_event_id=evt_1").await;
    assert_eq!(refused.status, 400, "{}", refused.shown());
}

#[tokio::test]
async fn events_are_found_by_text_in_their_payloads() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let long = [b"x".repeat(100_000), b"needle".to_vec()].concat();
    let bodies: [&[u8]; 4] = [b"{\"name\": \"M\xc3\xbcller\"}", b"nothing", &long, b"nee"];
    let events = service.in_segment(&customer, &endpoint, &bodies).await;
    let alone = service.event(&customer, &endpoint, b"needle").await;
    let found = async |text: &str| {
        let body = customer.get(&format!("/events?text={text}")).await.json();
        assert!(body["bounded"] == false && body["searched_through"].is_string(), "{body}");
        let mut ids: Vec<String> = body["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["id"].as_str().unwrap().to_owned())
            .collect();
        ids.sort();
        ids
    };
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };
    assert_eq!(found("needle").await, sorted(vec![events[2].to_string(), alone.to_string()]));
    assert_eq!(found("M%C3%BCller").await, [events[0].to_string()]);
    // What begins in one payload and ends in its neighbour is in neither.
    assert!(found("needlenee").await.is_empty());
    let stranger = service.customer().await;
    assert!(stranger.get("/events?text=needle").await.json()["data"].as_array().unwrap().is_empty());
    customer.delete(&format!("/events/{}/payload", events[2])).await;
    assert_eq!(found("needle").await, [alone.to_string()]);
    for refused in ["text=", &format!("text={}", "x".repeat(201)), "text=a&producer_event_id=b"] {
        assert_eq!(customer.get(&format!("/events?{refused}")).await.status, 400, "{refused}");
    }
}

#[tokio::test]
async fn a_page_of_a_search_goes_on_where_the_last_one_ended() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let bodies: Vec<&[u8]> =
        (0..9).map(|n| if n % 2 == 0 { b"wanted".as_slice() } else { b"other" }).collect();
    service.in_segment(&customer, &endpoint, &bodies).await;
    let (mut ids, mut next) = (Vec::new(), String::new());
    loop {
        let page = customer.get(&format!("/events?text=wanted&limit=2{next}")).await.json();
        ids.extend(page["data"].as_array().unwrap().iter().map(|event| event["id"].to_string()));
        let Some(cursor) = page["next"].as_str() else { break };
        next = format!("&next={cursor}");
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
}
