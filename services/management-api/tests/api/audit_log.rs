//! The audit log: every operation that changes something leaves one row, and a customer reads who it was.

use std::collections::BTreeSet;

use axum::http::Method;
use chrono::TimeDelta;
use ravenpost_core::audit::Action;
use serde_json::{Value, json};

use crate::support::{Customer, Endpoint, Service, Unbelieved};

/// Operations that succeed without a row, and why.
const UNTOLD: [(&str, &str); 2] = [
    ("verify_rejected_request", "it only asks whether the request verifies now"),
    ("try_filter", "it only asks what a filter says"),
];
/// Operations that are not done here, and where their rows are looked for.
const ELSEWHERE: [(&str, &str); 6] = [
    ("create_organization", "what people do, below"),
    ("leave_organization", "what people do, below"),
    ("change_member", "what people do, below"),
    ("remove_member", "what people do, below"),
    ("accept_invitation", "the token is in the mail alone: the invitation's own tests"),
    ("send_test_event", "it takes a running ingress: the test of resources end to end"),
];

async fn log(customer: &Customer) -> Vec<Value> {
    let answer = customer.get("/audit-log?limit=250").await;
    assert_eq!(answer.status, 200, "{}", answer.shown());
    answer.json()["data"].as_array().unwrap().clone()
}

struct Told {
    customer: Customer,
    seen: BTreeSet<&'static str>,
}

impl Told {
    /// Does it, and asserts that it left a row: `action` of `resource`, or none.
    async fn does(
        &mut self,
        operation: &'static str,
        method: Method,
        path: &str,
        body: Option<Value>,
        action: Option<&str>,
    ) -> Value {
        let before = log(&self.customer).await;
        let body = body.map(|body| body.to_string());
        let answer = self.customer.ask_with(method, &format!("/api/v1{path}"), &[], body).await;
        assert!(answer.status.is_success(), "{operation}: {}", answer.shown());
        let after = log(&self.customer).await;
        match action {
            None => {
                assert!(UNTOLD.iter().any(|(untold, _)| *untold == operation), "{operation}");
                assert_eq!(after.len(), before.len(), "{operation}");
            }
            Some(action) => {
                assert_eq!(after.len(), before.len() + 1, "{operation}");
                assert_eq!(after[0]["action"], action, "{operation}");
                assert_eq!(after[0]["actor"]["type"], "api_key", "{operation}");
            }
        }
        assert!(self.seen.insert(operation), "{operation} twice");
        if answer.bytes.is_empty() { Value::Null } else { answer.json() }
    }
}

/// The operations of the document that are no GET.
fn changing() -> BTreeSet<String> {
    let document = serde_json::to_value(ravenpost_management_api::api::document()).unwrap();
    let items = document["paths"].as_object().unwrap().values();
    let operations = items.flat_map(|item| item.as_object().unwrap());
    let changing = operations.filter(|(method, _)| method.as_str() != "get");
    changing.map(|(_, operation)| operation["operationId"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_operation_that_changes_something_leaves_one_row() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let open = customer.endpoint().await;
    let event = service.attempted(&customer, &open, Some(true)).await;
    let unbelieved = Unbelieved { headers: &[], body: b"{}", ago: TimeDelta::zero() };
    let mut rejected = Vec::new();
    for _ in 0..3 {
        rejected
            .push(format!("/rejected-requests/{}", service.rejected(&customer, open.id, unbelieved).await));
    }
    let mut told = Told { customer, seen: BTreeSet::new() };
    let (post, patch, delete) = (Method::POST, Method::PATCH, Method::DELETE);

    let new = json!({ "name": "Orders", "target_url": "https://example.com/", "verification": { "type": "standard_webhooks" } });
    let made =
        told.does("create_endpoint", post.clone(), "/endpoints", Some(new), Some("endpoint.created")).await;
    let endpoint = format!("/endpoints/{}", made["id"].as_str().unwrap());
    let first = format!("{endpoint}/destinations/{}", made["destinations"][0]["id"].as_str().unwrap());
    let name = Some(json!({ "name": "Invoices" }));
    told.does("change_endpoint", patch.clone(), &endpoint, name.clone(), Some("endpoint.changed")).await;
    let secrets = format!("{endpoint}/secrets");
    let secret =
        told.does("add_secret", post.clone(), &secrets, Some(json!({})), Some("endpoint.secret_added")).await;
    let secret = format!("{secrets}/{}", secret["id"].as_str().unwrap());
    told.does("remove_secret", delete.clone(), &secret, None, Some("endpoint.secret_removed")).await;

    let destinations = format!("{endpoint}/destinations");
    let new = Some(json!({ "name": "Billing", "url": "https://example.com/billing" }));
    told.does("create_destination", post.clone(), &destinations, new, Some("destination.created")).await;
    told.does("change_destination", patch, &first, name, Some("destination.changed")).await;
    let rotate = format!("{first}/rotate-secret");
    told.does("rotate_destination_secret", post.clone(), &rotate, None, Some("destination.secret_rotated"))
        .await;
    told.does("rotate_signing_key", post.clone(), "/signing-keys/rotate", None, Some("signing_key.created"))
        .await;

    let replay = format!("/events/{event}/replay");
    told.does("replay_event", post.clone(), &replay, None, Some("event.replayed")).await;
    let job =
        told.does("create_replay", post.clone(), "/replays", Some(json!({})), Some("replay.created")).await;
    let job = format!("/replays/{}", job["id"].as_str().unwrap());
    told.does("pause_replay", post.clone(), &format!("{job}/pause"), None, Some("replay.paused")).await;
    told.does("resume_replay", post.clone(), &format!("{job}/resume"), None, Some("replay.resumed")).await;
    told.does("cancel_replay", post.clone(), &format!("{job}/cancel"), None, Some("replay.cancelled")).await;
    let since = Some(json!({ "since": "2020-01-01T00:00:00Z" }));
    let recover = format!("{first}/recover");
    told.does("recover_destination", post.clone(), &recover, since.clone(), Some("replay.created")).await;
    let recover = format!("{endpoint}/recover");
    told.does("recover_endpoint", post.clone(), &recover, since, Some("replay.created")).await;

    told.does("verify_rejected_request", post.clone(), &format!("{}/verify", rejected[0]), None, None).await;
    let accept = format!("{}/accept", rejected[0]);
    told.does("accept_rejected_request", post.clone(), &accept, None, Some("rejected_request.accepted"))
        .await;
    told.does(
        "delete_rejected_request",
        delete.clone(),
        &rejected[1],
        None,
        Some("rejected_request.deleted"),
    )
    .await;
    let accept = format!("/endpoints/{}/rejected-requests/accept", open.id);
    told.does("accept_rejected_requests", post.clone(), &accept, None, Some("rejected_request.accepted"))
        .await;

    let new = Some(json!({ "type": "email", "address": "ops@example.com" }));
    let channel = told.does("create_channel", post, "/channels", new, Some("channel.created")).await;
    let channel = format!("/channels/{}", channel["id"].as_str().unwrap());
    alerting(&service, &mut told, &open, &channel).await;
    told.does("delete_channel", delete.clone(), &channel, None, Some("channel.deleted")).await;
    let steps =
        [("pause_destination", "pause"), ("resume_destination", "resume"), ("enable_destination", "enable")];
    for (operation, step) in steps {
        if step == "enable" {
            service.database.execute("update destinations set status = 'disabled'").await.unwrap();
        }
        told.does(operation, Method::POST, &format!("{first}/{step}"), None, Some("destination.changed"))
            .await;
    }
    let body = Some(json!({ "event_id": event }));
    told.does("try_filter", Method::POST, &format!("{first}/filter/try"), body, None).await;
    for (operation, step) in [("pause_endpoint", "pause"), ("activate_endpoint", "activate")] {
        told.does(operation, Method::POST, &format!("{endpoint}/{step}"), None, Some("endpoint.changed"))
            .await;
    }
    let rotate = format!("{endpoint}/rotate-token");
    told.does("rotate_endpoint_token", Method::POST, &rotate, None, Some("endpoint.token_rotated")).await;
    waiting_and_payloads(&service, &mut told, &open).await;
    access(&mut told).await;
    told.does("delete_destination", delete.clone(), &first, None, Some("destination.deleted")).await;
    told.does("delete_endpoint", delete, &endpoint, None, Some("endpoint.deleted")).await;

    let seen: BTreeSet<String> = told.seen.iter().map(|operation| (*operation).to_owned()).collect();
    let elsewhere = ELSEWHERE.iter().map(|(operation, _)| (*operation).to_owned()).collect();
    assert!(seen.is_disjoint(&elsewhere));
    assert_eq!(&seen | &elsewhere, changing(), "each operation that changes something has a line here");
    let verified = service.store.system().verify_audit(told.customer.organization).await.unwrap();
    assert_eq!(verified.broken, None);
}

async fn waiting_and_payloads(service: &Service, told: &mut Told, endpoint: &Endpoint) {
    let waiting = service.attempted(&told.customer, endpoint, None).await;
    let path = format!("/scheduled-deliveries/{waiting}/{}", endpoint.destination);
    for (operation, step, action) in [
        ("run_scheduled_delivery", "run", "scheduled_delivery.hastened"),
        ("cancel_scheduled_delivery", "cancel", "scheduled_delivery.cancelled"),
    ] {
        told.does(operation, Method::POST, &format!("{path}/{step}"), None, Some(action)).await;
    }
    let payload = format!("/events/{waiting}/payload");
    told.does("expunge_event_payload", Method::DELETE, &payload, None, Some("event.expunged")).await;
}

async fn alerting(service: &Service, told: &mut Told, endpoint: &Endpoint, channel: &str) {
    let (post, patch) = (Method::POST, Method::PATCH);
    let name = Some(json!({ "name": "On call" }));
    told.does("change_channel", patch.clone(), channel, name.clone(), Some("channel.changed")).await;
    told.does("test_channel", post.clone(), &format!("{channel}/test"), None, Some("channel.tested")).await;
    let new = Some(json!({ "name": "Down", "condition": { "type": "destination_down", "after": "5m" } }));
    let rule =
        told.does("create_alert_rule", post.clone(), "/alert-rules", new, Some("alert_rule.created")).await;
    let rule = format!("/alert-rules/{}", rule["id"].as_str().unwrap());
    told.does("change_alert_rule", patch, &rule, name, Some("alert_rule.changed")).await;
    told.does("delete_alert_rule", Method::DELETE, &rule, None, Some("alert_rule.deleted")).await;
    let alert = format!("/alerts/{}", service.alert(&told.customer, endpoint).await);
    for (operation, step, action) in [
        ("acknowledge_alert", "acknowledge", "alert.acknowledged"),
        ("mute_alert", "mute", "alert.muted"),
        ("resolve_alert", "resolve", "alert.resolved"),
    ] {
        told.does(operation, post.clone(), &format!("{alert}/{step}"), None, Some(action)).await;
    }
}

async fn access(told: &mut Told) {
    let (post, delete) = (Method::POST, Method::DELETE);
    let organization = format!("/organizations/{}", told.customer.organization);
    let name = Some(json!({ "name": "Acme again" }));
    told.does("change_organization", Method::PATCH, &organization, name, Some("organization.changed")).await;
    let new = Some(json!({ "name": "CI", "scopes": ["events:read"] }));
    let key = told.does("create_api_key", post.clone(), "/api-keys", new, Some("api_key.created")).await;
    let key = format!("/api-keys/{}", key["id"].as_str().unwrap());
    told.does("revoke_api_key", delete.clone(), &key, None, Some("api_key.revoked")).await;
    let new = Some(json!({ "email": "grace@example.com", "role": "viewer" }));
    let invitation =
        told.does("create_invitation", post, "/invitations", new, Some("invitation.created")).await;
    let invitation = format!("/invitations/{}", invitation["id"].as_str().unwrap());
    told.does("revoke_invitation", delete, &invitation, None, Some("invitation.revoked")).await;
}

#[tokio::test]
async fn where_an_endpoints_events_went_before_is_told() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let new =
        json!({ "name": "Orders", "target_url": "https://example.com/", "verification": { "type": "none" } });
    let made = customer.post("/endpoints", new).await.json();
    let path = format!("/endpoints/{}", made["id"].as_str().unwrap());
    let redirect = json!({ "target_url": "https://elsewhere.example.com/" });
    assert_eq!(customer.patch(&path, redirect).await.status, 200);
    let row = log(&customer).await.swap_remove(0);
    let first = |url: &str| json!({ "id": made["destinations"][0]["id"], "url": url });
    assert_eq!(row["before"]["first_destination"], first("https://example.com/"));
    assert_eq!(row["after"]["first_destination"], first("https://elsewhere.example.com/"));
}

#[tokio::test]
async fn what_people_do_leaves_a_row_of_theirs() {
    let (service, issuer) = Service::with_logins().await;
    let owner = service.person(&issuer, "owner").await;
    let first = log(&owner).await;
    assert_eq!(first.len(), 1, "their first login made the organization");
    assert_eq!(first[0]["action"], "organization.created");
    let member = service.join(&service.person(&issuer, "member").await, &owner, "developer").await;
    let other = service.join(&service.person(&issuer, "other").await, &owner, "admin").await;
    let path = format!("/members/{}", member.id().await);
    assert_eq!(owner.patch(&path, json!({ "role": "viewer" })).await.status, 200);
    assert_eq!(owner.delete(&path).await.status, 204);
    let leave = format!("/organizations/{}/leave", owner.organization);
    assert_eq!(other.post(&leave, json!(null)).await.status, 204);
    let rows = log(&owner).await;
    let told: Vec<_> =
        rows.iter().map(|row| (row["action"].as_str().unwrap(), &row["actor"]["id"])).collect();
    let (owner_id, other_id) = (json!(owner.id().await), json!(other.id().await));
    assert_eq!(
        told[..3],
        [("member.removed", &other_id), ("member.removed", &owner_id), ("member.changed", &owner_id)]
    );
    assert_eq!(
        (&rows[2]["before"], &rows[2]["after"]),
        (&json!({ "role": "developer" }), &json!({ "role": "viewer", "revoked_invitations": [] }))
    );

    let made = owner.post("/organizations", json!({ "name": "Second" })).await;
    assert_eq!(made.status, 201, "{}", made.shown());
    let second = owner.naming(made.json()["id"].as_str());
    assert_eq!(log(&second).await[0]["action"], "organization.created");
}

#[test]
fn the_document_names_actions_as_they_are_told() {
    let document = serde_json::to_value(ravenpost_management_api::api::document()).unwrap();
    let documented = &document["components"]["schemas"]["AuditAction"]["enum"];
    let told: Vec<_> = Action::ALL.iter().map(|action| action.as_str()).collect();
    assert_eq!(*documented, json!(told));
}

#[tokio::test]
async fn a_row_says_who_what_and_how_it_was() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    customer.patch(&format!("/endpoints/{}", endpoint.id), json!({ "status": "paused" })).await;
    let log = log(&customer).await;
    assert_eq!(log.len(), 3);
    assert_eq!(log[2]["action"], "organization.created");
    assert_eq!(log[2]["actor"], json!({ "type": "operator", "id": null }));
    let changed = &log[0];
    assert_eq!((&changed["sequence"], &changed["action"]), (&json!(3), &json!("endpoint.changed")));
    assert_eq!(changed["resource_id"], endpoint.id.to_string());
    assert_eq!(
        (&changed["before"]["status"], &changed["after"]["status"]),
        (&json!("active"), &json!("paused"))
    );
    assert_eq!(changed["hash"].as_str().unwrap().len(), 64);

    let filtered = async |query: &str| {
        let answer = customer.get(&format!("/audit-log?{query}")).await;
        answer.json()["data"].as_array().unwrap_or_else(|| panic!("{query}: {}", answer.shown())).len()
    };
    let actor = changed["actor"]["id"].as_str().unwrap();
    assert_eq!(filtered(&format!("actor_id={actor}")).await, 2);
    assert_eq!(filtered("action=endpoint.created").await, 1);
    assert_eq!(filtered(&format!("resource_id={}&action=endpoint.changed", endpoint.id)).await, 1);
    assert_eq!(filtered("until=2020-01-01T00:00:00Z").await, 0);
    let first = customer.get("/audit-log?limit=2").await.json();
    let rest =
        customer.get(&format!("/audit-log?limit=2&next={}", first["next"].as_str().unwrap())).await.json();
    assert_eq!((rest["data"][0]["sequence"].clone(), rest["next"].clone()), (json!(1), Value::Null));
    assert_eq!(customer.get("/audit-log?action=endpoint.exploded").await.status, 400);
    assert_eq!(customer.get("/audit-log?next=AAAA").await.status, 400);

    let stranger = service.customer().await;
    assert_eq!(stranger.get("/audit-log").await.json()["data"].as_array().unwrap().len(), 1);
}
