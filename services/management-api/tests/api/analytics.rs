//! Figures over time, and how an endpoint fares.

use chrono::TimeDelta;
use serde_json::json;

use crate::support::Service;

#[tokio::test]
async fn figures_come_in_buckets() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    service.attempted(&customer, &endpoint, Some(true)).await;
    service.attempted(&customer, &endpoint, Some(false)).await;
    let day = service.now.format("%Y-%m-%dT00:00:00Z");
    let next = (service.now + TimeDelta::days(1)).format("%Y-%m-%dT00:00:00Z");
    let path = format!("/analytics?destination_id={}&from={day}&to={next}&bucket=day", endpoint.destination);
    insta::assert_snapshot!(customer.get(&path).await.shown(), @"");
    for of in ["", &format!("&endpoint_id={}", endpoint.id)] {
        let body = customer.get(&format!("/analytics?bucket=hour{of}")).await.json();
        let buckets = body["data"].as_array().unwrap();
        assert!((24..=25).contains(&buckets.len()), "{body}");
        assert_eq!((&body["total"]["attempts"], &body["total"]["successes"]), (&json!(2), &json!(1)));
    }
    let auto = customer.get("/analytics").await.json();
    assert_eq!(auto["bucket"], "hour");
    let stranger = service.customer().await;
    let foreign = stranger.get(&format!("/analytics?endpoint_id={}", endpoint.id)).await.json();
    assert_eq!(foreign["total"]["attempts"], 0);
}

#[tokio::test]
async fn a_span_has_bounds() {
    let service = Service::new().await;
    let customer = service.customer().await;
    for (query, parameter) in [
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "from"),
        ("from=2026-01-01T00:00:00Z&to=2026-03-01T00:00:00Z&bucket=minute", "bucket"),
        ("from=0001-01-01T00:00:00Z&bucket=day", "bucket"),
        ("bucket=week", "bucket"),
        ("from=yesterday", "from"),
        ("grain=day", "grain"),
    ] {
        let answer = customer.get(&format!("/analytics?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.shown());
        assert!(answer.json()["errors"][0].to_string().contains(parameter), "{query}: {}", answer.shown());
    }
    // Nothing is kept by the minute of so long ago.
    let old = customer.get("/analytics?from=2020-01-01T00:00:00Z&to=2020-01-01T01:00:00Z").await.json();
    assert_eq!((&old["bucket"], old["data"].as_array().unwrap().len()), (&json!("day"), 1));
}

#[tokio::test]
async fn endpoints_are_listed_with_their_figures() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let (quiet, busy) = (customer.endpoint().await, customer.endpoint().await);
    service.attempted(&customer, &busy, Some(true)).await;
    let body = customer.get("/analytics/endpoints").await.json();
    let data = body["data"].as_array().unwrap();
    assert_eq!(data.len(), 2);
    for entry in data {
        let attempts = i32::from(entry["endpoint_id"] == busy.id.to_string());
        assert_eq!(entry["attempts"], attempts, "{entry}");
        assert!(attempts == 1 || entry["endpoint_id"] == quiet.id.to_string());
    }
    let page = customer.get("/analytics/endpoints?limit=1").await.json();
    let next = page["next"].as_str().unwrap();
    let last = customer.get(&format!("/analytics/endpoints?limit=1&next={next}")).await.json();
    assert_eq!((last["data"].as_array().unwrap().len(), &last["next"]), (1, &json!(null)));
    assert_ne!(last["data"][0]["endpoint_id"], page["data"][0]["endpoint_id"]);
}

#[tokio::test]
async fn an_endpoints_health_is_one_answer() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let path = format!("/endpoints/{}/health", endpoint.id);
    let quiet = customer.get(&path).await.json();
    assert_eq!((&quiet["last_event_at"], &quiet["lately"]["success_rate"]), (&json!(null), &json!(null)));
    service.attempted(&customer, &endpoint, Some(true)).await;
    service.attempted(&customer, &endpoint, Some(false)).await;
    service.attempted(&customer, &endpoint, None).await;
    insta::assert_snapshot!(customer.get(&path).await.shown(), @"");
    let stranger = service.customer().await;
    assert_eq!(stranger.get(&path).await.status, 404);
}
