//! Another organization's things are not there.

use axum::http::Method;
use chrono::TimeDelta;
use ravenpost_core::ids::DestinationId;
use serde_json::{Value, json};

use crate::support::{Service, Unbelieved};

#[tokio::test]
async fn every_id_of_another_organization_answers_404_and_changes_nothing() {
    let service = Service::new().await;
    let owner = service.customer().await;
    let stranger = service.customer().await;
    let endpoint = owner.endpoint().await;
    let event = service.attempted(&owner, &endpoint, Some(false)).await;
    let unbelieved = Unbelieved { headers: &[], body: b"{}", ago: TimeDelta::zero() };
    let rejected = service.rejected(&owner, endpoint.id, unbelieved).await;
    let rejected = format!("/rejected-requests/{rejected}");
    let channel =
        owner.post("/channels", json!({ "type": "email", "address": "a@example.com" })).await.json();
    let replay = owner.post("/replays", json!({})).await.json();
    let replay = format!("/replays/{}", replay["id"].as_str().unwrap());
    let (endpoint_path, event_path) = (format!("/endpoints/{}", endpoint.id), format!("/events/{event}"));
    let destinations = format!("{endpoint_path}/destinations");
    let destination = format!("{destinations}/{}", endpoint.destination);
    let channel = format!("/channels/{}", channel["id"].as_str().unwrap());
    let state = async || {
        let mut state = Vec::new();
        let deliveries = format!("{event_path}/deliveries");
        for path in [&endpoint_path, &destination, &event_path, &deliveries, &rejected, &replay] {
            state.push(owner.get(path).await.json());
        }
        state.push(owner.get("/channels").await.json());
        state
    };
    let before = state().await;
    let new = json!({ "name": "b", "url": "https://b.example" });
    let since = json!({ "since": "2020-01-01T00:00:00Z" });
    let attacks: [(Method, &str, Option<Value>); 26] = [
        (Method::GET, &endpoint_path, None),
        (Method::PATCH, &endpoint_path, Some(json!({ "name": "x", "target_url": "https://evil.example" }))),
        (Method::DELETE, &endpoint_path, None),
        (Method::GET, &destinations, None),
        (Method::POST, &destinations, Some(new)),
        (Method::GET, &destination, None),
        (Method::PATCH, &destination, Some(json!({ "url": "https://evil.example" }))),
        (Method::DELETE, &destination, None),
        (Method::GET, &event_path, None),
        (Method::GET, &format!("{event_path}/payload"), None),
        (Method::GET, &format!("{event_path}/deliveries"), None),
        (Method::POST, &format!("{event_path}/replay"), None),
        (Method::GET, &replay, None),
        (Method::POST, &format!("{replay}/pause"), None),
        (Method::POST, &format!("{replay}/resume"), None),
        (Method::POST, &format!("{replay}/cancel"), None),
        (Method::POST, &format!("{destination}/recover"), Some(since.clone())),
        (Method::POST, &format!("{endpoint_path}/recover"), Some(since)),
        (Method::DELETE, &channel, None),
        (Method::GET, &rejected, None),
        (Method::GET, &format!("{rejected}/payload"), None),
        (Method::POST, &format!("{rejected}/verify"), None),
        (Method::POST, &format!("{rejected}/accept"), None),
        (Method::DELETE, &rejected, None),
        (Method::POST, &format!("{endpoint_path}/rejected-requests/accept"), None),
        (Method::GET, &format!("{endpoint_path}/rejected-requests/counts"), None),
    ];
    for (method, path, body) in attacks {
        let answer = stranger.send(method.clone(), path, body.map(|body| body.to_string())).await;
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.shown());
    }
    let of_endpoint = |list: &str| format!("{list}?endpoint_id={}", endpoint.id);
    for list in [
        "/endpoints",
        "/events",
        "/channels",
        "/alerts",
        "/rejected-requests",
        &of_endpoint("/events"),
        &of_endpoint("/rejected-requests"),
    ] {
        assert_eq!(stranger.get(list).await.json()["data"], json!([]), "{list}");
    }
    assert_eq!(state().await, before);
}

#[tokio::test]
async fn a_destination_is_found_only_under_its_own_endpoint() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let (one, two) = (customer.endpoint().await, customer.endpoint().await);
    let path = |destination: DestinationId| format!("/endpoints/{}/destinations/{destination}", one.id);
    assert_eq!(customer.get(&path(one.destination)).await.status, 200);
    assert_eq!(customer.get(&path(two.destination)).await.status, 404);
    assert_eq!(customer.delete(&path(two.destination)).await.status, 404);
}
