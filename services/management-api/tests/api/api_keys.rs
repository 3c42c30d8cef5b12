//! API keys: shown once, listed without what proves them, carrying no more than their maker has.

use std::time::Duration;

use ravenpost_core::access::Scope;
use ravenpost_testkit::wait;
use serde_json::{Value, json};

use crate::support::Service;

/// Longer than anything takes here.
const BOUND: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_key_is_shown_once_and_listed_with_what_became_of_it() {
    let (service, issuer) = Service::with_logins().await;
    let owner = service.person(&issuer, "owner").await;
    let created = owner
        .post("/api-keys", json!({ "name": "Deploy ✓", "scopes": ["events:read", "events:read"] }))
        .await;
    let body = created.json();
    assert_eq!((created.status.as_u16(), created.header("cache-control")), (201, "no-store"));
    let key = body["key"].as_str().unwrap().to_owned();
    assert!(key.starts_with(body["prefix"].as_str().unwrap()));
    assert_eq!(body["scopes"], json!(["events:read"]));

    let program = owner.with_key(Some(&key));
    assert_eq!(program.get("/events").await.status, 200);
    assert_eq!(program.get("/endpoints").await.status, 403);
    let listed = owner.get("/api-keys").await;
    assert!(!String::from_utf8_lossy(&listed.bytes).contains(&key[21..]));
    assert_eq!(listed.json()["data"][0]["created_by"]["email"], "owner@example.com");
    wait::until_true("the use to be noted", BOUND, || async {
        Ok(owner.get("/api-keys").await.json()["data"][0]["last_used_at"].is_string())
    })
    .await
    .unwrap();
    // It is written of once a minute: uses within it change nothing.
    let used = owner.get("/api-keys").await.json()["data"][0]["last_used_at"].as_str().unwrap().to_owned();
    assert!(used.ends_with(":00Z"), "{used}");

    let path = format!("/api-keys/{}", body["id"].as_str().unwrap());
    assert_eq!(owner.delete(&path).await.status, 204);
    assert_eq!(owner.delete(&path).await.status, 404);
    assert_eq!(owner.get("/api-keys").await.json()["data"], json!([]));
}

#[tokio::test]
async fn a_key_carries_no_more_than_its_maker_has() {
    let (service, issuer) = Service::with_logins().await;
    let owner = service.person(&issuer, "owner").await;
    let new = |scopes: &[&str]| json!({ "name": "k", "scopes": scopes });
    let key = owner.post("/api-keys", new(&["api-keys:write", "events:read"])).await.json();
    let program = owner.with_key(key["key"].as_str());
    insta::assert_snapshot!(program.post("/api-keys", new(&["events:read", "events:replay"])).await.shown(), @r#"
    403 {
      "detail": "a key can't carry events:replay, since you have not got that scope",
      "status": 403,
      "title": "The caller may not do this",
      "type": "urn:ravenpost:problem:forbidden"
    }
    "#);
    let lesser = program.post("/api-keys", new(&["events:read"])).await;
    assert_eq!((lesser.status.as_u16(), &lesser.json()["created_by"]), (201, &Value::Null));
    let developer = service.join(&service.person(&issuer, "developer").await, &owner, "developer").await;
    assert_eq!(developer.post("/api-keys", new(&["events:read"])).await.status, 403);
    assert_eq!(developer.get("/api-keys").await.status, 200);

    let everything: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
    assert_eq!(owner.post("/api-keys", new(&everything)).await.status, 201);
    for (field, value) in [
        ("scopes", json!([])),
        ("scopes[0]", json!(["everything"])),
        ("name", json!("")),
        ("expires_at", json!("2020-01-01T00:00:00Z")),
        ("expires_at", json!("tomorrow")),
    ] {
        let mut body = new(&["events:read"]);
        body[field.split('[').next().unwrap()] = value;
        let answer = owner.post("/api-keys", body).await;
        assert_eq!(answer.status, 422, "{}", answer.shown());
        assert_eq!(answer.json()["errors"][0]["field"], field);
    }
}

#[tokio::test]
async fn an_organization_has_only_so_many_keys() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let many = "insert into api_keys (organization_id, id, name, prefix, hash, scopes)
        select organization_id, uuidv7(), 'k', 'p' || n, '', '{events:read}' from api_keys, generate_series(1, 99) n";
    service.database.execute(many).await.unwrap();
    let new = json!({ "name": "k", "scopes": ["events:read"] });
    assert_eq!(customer.post("/api-keys", new).await.status, 409);
    let over = "update api_keys set expires_at = now() where prefix = 'p1'; update api_keys set revoked_at = now() where prefix = 'p2'";
    service.database.execute(over).await.unwrap();
    let expiring = json!({ "name": "k", "scopes": ["events:read"], "expires_at": "2999-01-01T00:00:00Z" });
    for status in [201, 201, 409] {
        assert_eq!(customer.post("/api-keys", expiring.clone()).await.status, status);
    }
}

#[tokio::test]
async fn a_key_that_ends_makes_none_that_goes_on() {
    let (service, issuer) = Service::with_logins().await;
    let owner = service.person(&issuer, "owner").await;
    let ends = "2999-01-01T00:00:00Z";
    let new = json!({ "name": "k", "scopes": ["api-keys:write"], "expires_at": ends });
    let key = owner.post("/api-keys", new).await.json();
    let program = owner.with_key(key["key"].as_str()).naming(None);
    let twin =
        |expires_at: Value| json!({ "name": "twin", "scopes": ["api-keys:write"], "expires_at": expires_at });
    assert_eq!(program.post("/api-keys", twin(Value::Null)).await.json()["expires_at"], ends);
    assert_eq!(program.post("/api-keys", twin(json!("2998-01-01T00:00:00Z"))).await.status, 201);
    let later = program.post("/api-keys", twin(json!("2999-01-01T00:00:01Z"))).await;
    assert_eq!((later.status.as_u16(), &later.json()["errors"][0]["field"]), (422, &json!("expires_at")));
}
