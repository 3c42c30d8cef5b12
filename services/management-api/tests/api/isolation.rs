//! Another organization's things are not there.

use axum::http::Method;
use ravenpost_core::ids::DestinationId;
use serde_json::{Value, json};

use crate::support::Service;

#[tokio::test]
async fn every_id_of_another_organization_answers_404_and_changes_nothing() {
    let service = Service::new().await;
    let owner = service.customer().await;
    let stranger = service.customer().await;
    let endpoint = owner.endpoint().await;
    let event = service.attempted(&owner, &endpoint, Some(false)).await;
    let channel =
        owner.post("/channels", json!({ "type": "email", "address": "a@example.com" })).await.json();
    let (endpoint_path, event_path) = (format!("/endpoints/{}", endpoint.id), format!("/events/{event}"));
    let destinations = format!("{endpoint_path}/destinations");
    let destination = format!("{destinations}/{}", endpoint.destination);
    let channel = format!("/channels/{}", channel["id"].as_str().unwrap());
    let state = async || {
        let mut state = Vec::new();
        for path in [&endpoint_path, &destination, &event_path, &format!("{event_path}/deliveries")] {
            state.push(owner.get(path).await.json());
        }
        state.push(owner.get("/channels").await.json());
        state
    };
    let before = state().await;
    let new = json!({ "name": "b", "url": "https://b.example" });
    let attacks: [(Method, &str, Option<Value>); 13] = [
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
        (Method::DELETE, &channel, None),
    ];
    for (method, path, body) in attacks {
        let answer = stranger.send(method.clone(), path, body.map(|body| body.to_string())).await;
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.shown());
    }
    for list in
        ["/endpoints", "/events", "/channels", "/alerts", &format!("/events?endpoint_id={}", endpoint.id)]
    {
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
