//! Invariant 5 from outside, for every route that there is: made from the document, so that a new route is attacked as
//! soon as it is there. Strangers, by key and by login, find nothing and change nothing; viewers change nothing; whoever
//! proves nothing is refused.

use std::collections::BTreeMap;

use axum::http::Method;
use chrono::TimeDelta;
use ravenpost_core::access::{Demand, Role, demand_of};
use serde_json::{Value, json};

use crate::support::{Customer, Issuer, Service, Unbelieved};

/// An operation of the document.
struct Operation {
    id: String,
    method: Method,
    /// Below `/api/v1`, with its parameters.
    path: String,
    has_body: bool,
}

impl Operation {
    /// The names of its path's parameters.
    fn parameters(&self) -> Vec<&str> {
        let segments = self.path.split('/');
        segments.filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}')).collect()
    }

    fn demand(&self) -> Demand {
        demand_of(&self.id).unwrap()
    }

    /// The path with these ids.
    fn with(&self, ids: &BTreeMap<&'static str, String>) -> String {
        let mut path = self.path.clone();
        for name in self.parameters() {
            let id = ids.get(name).unwrap_or_else(|| panic!("{name} is new: give the victim one"));
            path = path.replace(&format!("{{{name}}}"), id);
        }
        path
    }

    /// A body that it takes; what is refused as malformed would hide whether the path was looked at.
    fn body(&self) -> Option<String> {
        let body = match self.id.as_str() {
            "create_organization" | "change_organization" => json!({ "name": "evil" }),
            "change_member" => json!({ "role": "viewer" }),
            "create_invitation" => json!({ "email": "eve@evil.example", "role": "viewer" }),
            "accept_invitation" => json!({ "token": "rvi_x" }),
            "create_api_key" => json!({ "name": "evil", "scopes": ["events:read"] }),
            "create_endpoint" => json!({ "name": "evil", "target_url": "https://evil.example",
                "verification": { "type": "none" } }),
            "change_endpoint" => json!({ "name": "evil", "target_url": "https://evil.example" }),
            "create_destination" => json!({ "name": "evil", "url": "https://evil.example" }),
            "change_destination" => json!({ "url": "https://evil.example" }),
            "recover_destination" | "recover_endpoint" => json!({ "since": "2020-01-01T00:00:00Z" }),
            "try_filter" => json!({ "event_id": "01890000-0000-7000-8000-000000000000" }),
            "create_alert_rule" => json!({ "name": "evil", "condition": { "type": "disable_warning" } }),
            "create_channel" => json!({ "type": "email", "address": "eve@evil.example" }),
            _ => json!({}),
        };
        self.has_body.then(|| body.to_string())
    }
}

fn operations() -> Vec<Operation> {
    let document = serde_json::to_value(ravenpost_management_api::api::document()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations.push(Operation {
                id: operation["operationId"].as_str().unwrap().to_owned(),
                method: method.to_uppercase().parse().unwrap(),
                path: path.strip_prefix("/api/v1").unwrap().to_owned(),
                has_body: operation["requestBody"].is_object(),
            });
        }
    }
    operations
}

/// An organization with one of everything that has an id.
struct Victim {
    owner: Customer,
    viewer: Customer,
    /// By key, with every scope.
    program: Customer,
    ids: BTreeMap<&'static str, String>,
}

impl Victim {
    async fn new(service: &Service, issuer: &Issuer, name: &str) -> Self {
        let owner = service.person(issuer, name).await;
        let owner = owner.naming(Some(&owner.organization.to_string()));
        let viewer = service.person(issuer, &format!("{name}-viewer")).await;
        let viewer = service.join(&viewer, &owner, "viewer").await;
        let member = service.person(issuer, &format!("{name}-member")).await;
        service.join(&member, &owner, "developer").await;
        let scopes: Vec<_> = Role::Owner.scopes();
        let key = owner.post("/api-keys", json!({ "name": "all", "scopes": scopes })).await.json();
        let program = owner.with_key(key["key"].as_str()).naming(None);
        let ids = ids(service, &owner, &member, &key).await;
        Self { owner, viewer, program, ids }
    }

    /// A hash over every row of the organization, and over its own.
    async fn digest(&self, service: &Service) -> [BTreeMap<String, String>; 2] {
        let id = self.owner.organization.to_string();
        let of = async |column: &str| service.database.digests(column, &id).await.unwrap();
        [of("organization_id").await, of("id").await]
    }
}

async fn ids(
    service: &Service,
    owner: &Customer,
    member: &Customer,
    key: &Value,
) -> BTreeMap<&'static str, String> {
    let id = |value: &Value| value["id"].as_str().unwrap().to_owned();
    let new = json!({ "name": "Orders", "target_url": "https://api.example.com/orders",
        "verification": { "type": "standard_webhooks" } });
    let created = owner.post("/endpoints", new).await.json();
    let endpoint = crate::support::Endpoint {
        id: id(&created).parse().unwrap(),
        destination: id(&created["destinations"][0]).parse().unwrap(),
    };
    let secrets = format!("/endpoints/{}/secrets", endpoint.id);
    owner.post(&secrets, json!({})).await;
    let secrets = owner.get(&secrets).await.json();
    let event = service.attempted(owner, &endpoint, Some(false)).await;
    let unbelieved = Unbelieved { headers: &[], body: b"{}", ago: TimeDelta::zero() };
    let rejected = service.rejected(owner, endpoint.id, unbelieved).await;
    let channel = json!({ "type": "email", "address": "ops@example.com" });
    let invitation = json!({ "email": "grace@example.com", "role": "viewer" });
    let rule = json!({ "name": "Mine", "condition": { "type": "destination_down", "after": "5m" } });
    BTreeMap::from([
        ("organization_id", owner.organization.to_string()),
        ("user_id", member.id().await),
        ("api_key_id", id(key)),
        ("endpoint_id", endpoint.id.to_string()),
        ("destination_id", endpoint.destination.to_string()),
        ("secret_id", id(&secrets["data"][1])),
        ("event_id", event.to_string()),
        ("rejected_request_id", rejected.to_string()),
        ("channel_id", id(&owner.post("/channels", channel).await.json())),
        ("rule_id", id(&owner.post("/alert-rules", rule).await.json())),
        ("alert_id", service.alert(owner, &endpoint).await.to_string()),
        ("invitation_id", id(&owner.post("/invitations", invitation).await.json())),
        ("replay_id", id(&owner.post("/replays", json!({})).await.json())),
    ])
}

#[tokio::test]
async fn with_an_id_of_another_organization_nothing_is_there_and_nothing_changes() {
    let (service, issuer) = Service::with_logins().await;
    let victim = Victim::new(&service, &issuer, "victim").await;
    let attacker = Victim::new(&service, &issuer, "attacker").await;
    let before = victim.digest(&service).await;
    let mut attacks = 0;
    for operation in operations() {
        // Each id alone is another's, and all are.
        let mut targets = vec![operation.with(&victim.ids)];
        for name in operation.parameters() {
            let mut mixed = attacker.ids.clone();
            *mixed.get_mut(name).unwrap() = victim.ids[name].clone();
            targets.push(operation.with(&mixed));
        }
        if operation.parameters().is_empty() {
            continue;
        }
        for target in targets {
            for caller in [&attacker.owner, &attacker.program, &attacker.owner.naming(None)] {
                let answer = caller.send(operation.method.clone(), &target, operation.body()).await;
                let program = caller.key == attacker.program.key;
                let expected = if operation.demand() == Demand::Person && program { 403 } else { 404 };
                let name = format!("{} {target} ({})", operation.method, operation.id);
                assert_eq!(answer.status, expected, "{name}: {}", answer.shown());
                attacks += 1;
            }
        }
        assert_eq!(victim.digest(&service).await, before, "{}", operation.id);
    }
    assert!(attacks > 200, "{attacks}");
}

#[tokio::test]
async fn what_is_listed_is_of_the_callers_organization_alone() {
    let (service, issuer) = Service::with_logins().await;
    let victim = Victim::new(&service, &issuer, "victim").await;
    let attacker = Victim::new(&service, &issuer, "attacker").await;
    for operation in operations() {
        if operation.method != Method::GET || !operation.parameters().is_empty() {
            continue;
        }
        for caller in [&attacker.owner, &attacker.program] {
            let answer = caller.get(&operation.path).await;
            assert_eq!(answer.status, 200, "{}", operation.path);
            let text = String::from_utf8(answer.bytes).unwrap();
            for (name, id) in &victim.ids {
                assert!(!text.contains(id), "{} shows {name}", operation.path);
            }
        }
        // Nor does naming the other organization help.
        if operation.demand() != Demand::Known {
            let naming = attacker.owner.naming(Some(&victim.owner.organization.to_string()));
            assert_eq!(naming.get(&operation.path).await.status, 403, "{}", operation.path);
        }
    }
}

#[tokio::test]
async fn a_viewer_changes_nothing() {
    let (service, issuer) = Service::with_logins().await;
    let victim = Victim::new(&service, &issuer, "victim").await;
    let before = victim.digest(&service).await;
    let mut refused = 0;
    for operation in operations() {
        let demand = operation.demand();
        if operation.demand() == Demand::Person {
            // What is about themselves is theirs.
            continue;
        }
        let target = operation.with(&victim.ids);
        let answer = victim.viewer.send(operation.method.clone(), &target, operation.body()).await;
        let name = format!("{} {target} ({})", operation.method, operation.id);
        if demand.is_met_by(Role::Viewer) {
            assert!(answer.status.as_u16() < 500 && answer.status != 403, "{name}: {}", answer.status);
        } else {
            assert_eq!(answer.status, 403, "{name}: {}", answer.shown());
            refused += 1;
        }
        assert_eq!(victim.digest(&service).await, before, "{name}");
    }
    assert!(refused > 25, "{refused}");
}

#[tokio::test]
async fn who_proves_nothing_is_refused_everywhere() {
    let (service, issuer) = Service::with_logins().await;
    let victim = Victim::new(&service, &issuer, "victim").await;
    let key = async |name: &str, change: &str| {
        let scopes = Role::Owner.scopes();
        let made = victim.owner.post("/api-keys", json!({ "name": name, "scopes": scopes })).await.json();
        let change = format!("update api_keys set {change} where id = '{}'", made["id"].as_str().unwrap());
        service.database.execute(&change).await.unwrap();
        victim.program.with_key(made["key"].as_str())
    };
    let expired = key("expired", "expires_at = now() - interval '1 second'").await;
    let revoked = key("revoked", "revoked_at = now()").await;
    let mut over = issuer.claims("victim");
    over["exp"] = json!(1_700_000_000);
    let logged_out = victim.owner.with_key(Some(&issuer.token_with(&over)));
    let nobody = victim.owner.with_key(None);
    let before = victim.digest(&service).await;
    for operation in operations() {
        let target = operation.with(&victim.ids);
        for (who, caller) in [
            ("an expired key", &expired),
            ("a revoked key", &revoked),
            ("an expired token", &logged_out),
            ("nobody", &nobody),
        ] {
            let answer = caller.send(operation.method.clone(), &target, operation.body()).await;
            assert_eq!(answer.status, 401, "{} {target} by {who}", operation.method);
        }
    }
    assert_eq!(victim.digest(&service).await, before);
}
