//! Rejected requests: shown without credentials, verified again, accepted each once, removed.

use std::time::Duration;

use chrono::TimeDelta;
use ravenpost_chassis::metrics;
use ravenpost_core::event::PayloadLocation;
use ravenpost_core::ids::EndpointId;
use ravenpost_management_api::maintenance::rejected::Sweeper;
use ravenpost_management_api::metrics::Metrics;
use ravenpost_management_api::settings::RejectedSettings;
use ravenpost_store::Payloads;
use ravenpost_testkit::sign;
use serde_json::{Value, json};

use crate::support::{Customer, Service, Unbelieved, payloads_away};

const RIGHT: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const WRONG: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const BODY: &[u8] = br#"{"type": "invoice.paid"}"#;

/// An endpoint whose owner has mistaken the secret of its producer.
async fn mistaken(customer: &Customer) -> EndpointId {
    let new = json!({
        "name": "Orders",
        "target_url": "https://api.example.com/orders",
        "verification": { "type": "standard_webhooks" },
        "secret": WRONG,
    });
    let created = customer.post("/endpoints", new).await;
    assert_eq!(created.status, 201, "{}", created.shown());
    EndpointId(created.json()["id"].as_str().unwrap().parse().unwrap())
}

async fn put_right(customer: &Customer, endpoint: EndpointId) {
    let changed = customer.patch(&format!("/endpoints/{endpoint}"), json!({ "secret": RIGHT })).await;
    assert_eq!(changed.status, 200);
}

/// The headers of a request that its producer has signed so long before `service.now`.
fn signed(service: &Service, secret: &str, ago: TimeDelta) -> Vec<(String, String)> {
    let at = (service.now - ago).timestamp();
    let id = format!("msg_{}", ago.num_minutes());
    let mut headers = sign::standard_webhooks_at(secret, &id, at, BODY).unwrap();
    for (name, value) in [("content-type", "application/json"), ("authorization", "Bearer hush")] {
        headers.push((name.to_owned(), value.to_owned()));
    }
    headers
}

async fn rejected(service: &Service, customer: &Customer, endpoint: EndpointId, secret: &str) -> String {
    rejected_before(service, customer, endpoint, secret, TimeDelta::zero()).await
}

async fn rejected_before(
    service: &Service,
    customer: &Customer,
    endpoint: EndpointId,
    secret: &str,
    ago: TimeDelta,
) -> String {
    let headers = signed(service, secret, ago);
    let unbelieved = Unbelieved { headers: &headers, body: BODY, ago };
    format!("/rejected-requests/{}", service.rejected(customer, endpoint, unbelieved).await)
}

#[tokio::test]
async fn it_is_shown_without_credentials() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = mistaken(&customer).await;
    let headers = vec![
        ("content-type".to_owned(), "text/html".to_owned()),
        ("authorization".to_owned(), "Bearer hush".to_owned()),
        ("x-signature".to_owned(), "v1=00".to_owned()),
    ];
    let unbelieved = Unbelieved { headers: &headers, body: BODY, ago: TimeDelta::zero() };
    let path = format!("/rejected-requests/{}", service.rejected(&customer, endpoint, unbelieved).await);
    let shown = customer.get(&path).await;
    assert!(!String::from_utf8_lossy(&shown.bytes).contains("hush"));
    insta::assert_snapshot!(shown.shown(), @r#"
    200 {
      "accepted_at": null,
      "detail": "the signature does not match",
      "endpoint_id": "[id]",
      "event_id": null,
      "headers": [
        {
          "name": "content-type",
          "value": "text/html"
        },
        {
          "name": "authorization",
          "value": "[redacted]"
        },
        {
          "name": "x-signature",
          "value": "v1=00"
        }
      ],
      "id": "[id]",
      "method": "POST",
      "payload_bytes": 24,
      "payload_sha256": "abababababababababababababababababababababababababababababababab",
      "peer": "203.0.113.7",
      "query": "source=a&token=[redacted]",
      "reason": "wrong_signature",
      "received_at": "[time]"
    }
    "#);
    let payload = customer.get(&format!("{path}/payload")).await;
    assert_eq!((payload.status.as_u16(), payload.bytes.as_slice()), (200, BODY));
    assert_eq!(payload.header("content-type"), "application/octet-stream");
    assert_eq!(payload.header("content-disposition"), "attachment");
    assert_eq!(payload.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn lists_filter_and_page_newest_first() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let (one, two) = (mistaken(&customer).await, mistaken(&customer).await);
    let mut of_one = Vec::new();
    for minutes in [3, 2, 1] {
        let path = rejected_before(&service, &customer, one, RIGHT, TimeDelta::minutes(minutes)).await;
        of_one.insert(0, path);
    }
    rejected(&service, &customer, two, RIGHT).await;
    let found = async |query: &str| {
        let answer = customer.get(&format!("/rejected-requests{query}")).await;
        assert_eq!(answer.status, 200, "{query}");
        let entries = answer.json()["data"].as_array().unwrap().clone();
        entries
            .iter()
            .map(|entry| format!("/rejected-requests/{}", entry["id"].as_str().unwrap()))
            .collect::<Vec<_>>()
    };
    assert_eq!(found("").await.len(), 4);
    assert_eq!(found(&format!("?endpoint_id={one}")).await, of_one);
    assert_eq!(found(&format!("?endpoint_id={one}&reason=wrong_signature")).await.len(), 3);
    assert!(found("?reason=stale").await.is_empty());
    let first = customer.get(&format!("/rejected-requests?endpoint_id={one}&limit=2")).await.json();
    let rest = found(&format!("?endpoint_id={one}&limit=2&next={}", first["next"].as_str().unwrap())).await;
    assert_eq!(rest, of_one[2..]);

    let counts = customer.get(&format!("/endpoints/{one}/rejected-requests/counts")).await.json();
    assert_eq!((counts["kept"].as_i64(), counts["not_kept"].as_i64()), (Some(3), Some(27)));
    assert_eq!(counts["hours"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn once_the_secret_is_put_right_it_becomes_one_event() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = mistaken(&customer).await;
    // Long stale by now, and fresh when it came.
    let path = rejected_before(&service, &customer, endpoint, RIGHT, TimeDelta::days(2)).await;
    insta::assert_snapshot!(customer.send(axum::http::Method::POST, &format!("{path}/verify"), None).await.shown(), @r#"
    200 {
      "detail": "the signature does not match: another secret, or the body was changed on its way",
      "reason": "wrong_signature",
      "verified": false
    }
    "#);
    let refused = customer.post(&format!("{path}/accept"), Value::Null).await;
    assert_eq!(refused.status, 409, "{}", refused.shown());

    put_right(&customer, endpoint).await;
    let verdict = customer.post(&format!("{path}/verify"), Value::Null).await.json();
    assert_eq!(verdict, json!({ "verified": true, "reason": null, "detail": null }));
    let accept = format!("{path}/accept");
    let accept = || customer.post(&accept, Value::Null);
    let answers = tokio::join!(accept(), accept(), accept());
    let [first, second, third] = [answers.0, answers.1, answers.2].map(|answer| answer.json());
    assert!(first == second && second == third, "{first} {second} {third}");
    assert_eq!(accept().await.json(), first);

    let event = format!("/events/{}", first["event_id"].as_str().unwrap());
    let shown = customer.get(&event).await.json();
    assert_eq!(
        (&shown["status"], &shown["pending"], &shown["content_type"], &shown["endpoint_id"]),
        (&json!("PENDING"), &Value::Null, &json!("application/json"), &json!(endpoint))
    );
    let names: Vec<_> = shown["headers"].as_array().unwrap().iter().map(|header| &header["name"]).collect();
    assert_eq!(names, ["webhook-id", "webhook-timestamp", "webhook-signature", "content-type"]);
    assert_eq!(customer.get(&format!("{event}/payload")).await.bytes, BODY);
    assert_eq!(customer.get("/events").await.json()["data"].as_array().unwrap().len(), 1);
    let mut payloads = service.object_keys().await;
    payloads.retain(|key| key.starts_with("payloads/"));
    let payload = format!("payloads/{}.json", first["event_id"].as_str().unwrap());
    assert_eq!(payloads, [payload], "who came second has left nothing");
    assert_eq!(customer.get(&path).await.json()["event_id"], first["event_id"]);
}

#[tokio::test]
async fn all_that_verify_are_accepted_in_bounded_calls() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = mistaken(&customer).await;
    // The last one is its neighbor's retry.
    for minute in [5, 4, 3, 2, 1, 1] {
        let secret = if minute == 4 { "whsec_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB" } else { RIGHT };
        rejected_before(&service, &customer, endpoint, secret, TimeDelta::minutes(minute)).await;
    }
    let path = format!("/endpoints/{endpoint}/rejected-requests/accept");
    put_right(&customer, endpoint).await;
    let first = customer.post(&format!("{path}?limit=2"), Value::Null).await.json();
    assert_eq!((first["examined"].as_i64(), first["still_rejected"].as_i64()), (Some(2), Some(1)));
    assert_eq!(first["accepted"].as_array().unwrap().len(), 1);
    let next = first["next"].as_str().unwrap();
    let rest = customer.post(&format!("{path}?next={next}"), Value::Null).await.json();
    assert_eq!((rest["examined"].as_i64(), rest["still_rejected"].as_i64()), (Some(4), Some(0)));
    let accepted = rest["accepted"].as_array().unwrap();
    assert_eq!((accepted.len(), &rest["next"]), (4, &Value::Null));
    assert_eq!(accepted[3]["event_id"], accepted[2]["event_id"]);
    let again = customer.post(&path, Value::Null).await.json();
    assert_eq!((again["examined"].as_i64(), again["accepted"].as_array().unwrap().len()), (Some(1), 0));
    assert_eq!(customer.get("/events").await.json()["data"].as_array().unwrap().len(), 4);

    for bad in ["limit=0", "limit=101", "next=x", "count=1"] {
        assert_eq!(customer.post(&format!("{path}?{bad}"), Value::Null).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn what_can_not_be_accepted_says_why() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = mistaken(&customer).await;
    let path = rejected(&service, &customer, endpoint, RIGHT).await;
    put_right(&customer, endpoint).await;
    let detail = async || {
        let answer = customer.post(&format!("{path}/accept"), Value::Null).await;
        format!("{} {}", answer.status.as_u16(), answer.json()["detail"].as_str().unwrap())
    };
    let id = path.rsplit_once('/').unwrap().1.parse().unwrap();
    let body = PayloadLocation::of_rejected(id, 0).s3_key;
    service.payloads.delete(&body).await.unwrap();
    assert_eq!(detail().await, "409 the request's body is not stored");
    assert_eq!(customer.get(&format!("{path}/payload")).await.status, 404);
    assert_eq!(customer.delete(&format!("/endpoints/{endpoint}")).await.status, 204);
    assert_eq!(detail().await, "409 the endpoint was deleted");
    assert_eq!(customer.delete(&path).await.status, 204);
    assert_eq!(detail().await, "404 there is no such rejected request");
    assert_eq!(customer.delete(&path).await.status, 404);
}

fn sweeper(service: &Service, payloads: &Payloads, count: u32) -> Sweeper {
    let settings = RejectedSettings {
        rejected_count: count,
        rejected_bytes: u32::MAX,
        rejected_age: Duration::from_hours(24),
    };
    let metrics = Metrics::declare(&metrics::Metrics::default(), service.store.clone());
    Sweeper::new(service.store.system(), payloads.clone(), &settings, metrics)
}

#[tokio::test]
async fn what_is_too_much_is_removed_object_first() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = mistaken(&customer).await;
    let mut paths = Vec::new();
    for minute in [3, 2, 1] {
        paths.push(rejected_before(&service, &customer, endpoint, RIGHT, TimeDelta::minutes(minute)).await);
    }
    service
        .database
        .execute("update rejected_requests set created_at = now() - interval '2 minutes'")
        .await
        .unwrap();
    let statuses = async || {
        let mut statuses = Vec::new();
        for path in &paths {
            statuses.push(customer.get(&format!("{path}/payload")).await.status.as_u16());
        }
        statuses
    };
    let (since, now) = (service.now - TimeDelta::hours(2), service.now);
    assert_eq!(statuses().await, [200, 200, 200]);
    // An object that can't be deleted keeps its row.
    assert!(sweeper(&service, &payloads_away().await, 1).sweep(since, now).await.is_err());
    assert_eq!(statuses().await, [200, 200, 200]);

    sweeper(&service, &service.payloads, 1).sweep(since, now).await.unwrap();
    assert_eq!(statuses().await, [404, 404, 200]);
    for (path, is_there) in paths.iter().zip([false, false, true]) {
        let id = path.rsplit_once('/').unwrap().1.parse().unwrap();
        let location = PayloadLocation::of_rejected(id, i64::try_from(BODY.len()).unwrap());
        assert_eq!(service.payloads.get(&location).await.unwrap().is_some(), is_there, "{path}");
    }
}
