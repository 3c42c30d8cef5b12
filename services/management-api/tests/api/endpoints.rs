//! Endpoints.

use axum::http::Method;
use ravenpost_core::endpoint::Verification;
use ravenpost_core::retry::Waits;
use serde_json::{Value, json};

use crate::support::{Customer, Service};

fn new(verification: Value) -> Value {
    json!({ "name": "Orders", "target_url": "https://api.example.com/orders", "verification": verification })
}

fn with(mut body: Value, fields: Value) -> Value {
    let Value::Object(fields) = fields else { panic!() };
    body.as_object_mut().unwrap().extend(fields);
    body
}

fn path(created: &Value) -> String {
    format!("/endpoints/{}", created["id"].as_str().unwrap())
}

#[tokio::test]
async fn create_shows_the_secrets_once() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let created = customer.post("/endpoints", new(json!({ "type": "standard_webhooks" }))).await;
    insta::assert_snapshot!(created.shown(), @r#"
    201 {
      "answer": null,
      "content_types": null,
      "created_at": "[time]",
      "destinations": [
        {
          "authentication": null,
          "created_at": "[time]",
          "disable_after": null,
          "endpoint_id": "[id]",
          "filter": null,
          "filter_error": null,
          "first_byte_timeout": null,
          "former_secrets_expire_at": null,
          "header_names": [],
          "id": "[id]",
          "limits": {},
          "name": "Orders",
          "replay_on_recovery": false,
          "retry_policy": {
            "jitter": 0.1,
            "schedule": [
              "1m",
              "5m",
              "15m",
              "1h",
              "6h"
            ]
          },
          "signing": "hmac",
          "signing_secret": "whsec_[secret]",
          "state": {
            "breaker": "closed",
            "breaker_opened_at": null,
            "disabled_at": null,
            "disabled_reason": null,
            "failing_since": null,
            "last_failure_at": null,
            "last_success_at": null,
            "probe_at": null,
            "slow_start": null,
            "slow_until": null,
            "waiting": 0,
            "waiting_more": false,
            "warned_at": null
          },
          "status": "active",
          "timeout": "30s",
          "tls": null,
          "updated_at": "[time]",
          "url": "https://api.example.com/orders"
        }
      ],
      "hook_url": "https://hooks.example.com/h/[token]",
      "id": "[id]",
      "max_body_bytes": null,
      "name": "Orders",
      "rate_limit": null,
      "secret": "whsec_[secret]",
      "status": "active",
      "target_url": "https://api.example.com/orders",
      "updated_at": "[time]",
      "verification": {
        "type": "standard_webhooks"
      }
    }
    "#);
    let body = created.json();
    assert_eq!(created.header("location"), format!("/api/v1{}", path(&body)));

    insta::assert_snapshot!(customer.get(&path(&body)).await.shown(), @r#"
    200 {
      "answer": null,
      "content_types": null,
      "created_at": "[time]",
      "hook_url": "https://hooks.example.com/h/[token]",
      "id": "[id]",
      "max_body_bytes": null,
      "name": "Orders",
      "rate_limit": null,
      "status": "active",
      "target_url": "https://api.example.com/orders",
      "updated_at": "[time]",
      "verification": {
        "type": "standard_webhooks"
      }
    }
    "#);
    for answer in
        [customer.get("/endpoints").await, customer.get(&format!("{}/destinations", path(&body))).await]
    {
        let shown = answer.shown();
        assert!(!shown.contains("whsec_") && !shown.contains("secret\":"), "{shown}");
    }
}

#[tokio::test]
async fn ingress_and_worker_find_what_was_made() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let body = with(
        new(json!({ "type": "provider", "provider": "github" })),
        json!({
            "secret": "It's a Secret to Everybody", "max_body_bytes": 5000,
            "retry_policy": { "schedule": ["10ms", "1s"], "jitter": 0.0 }, "timeout": "500ms",
        }),
    );
    let created = customer.post("/endpoints", body).await.json();
    let token = created["hook_url"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let endpoint = service.store.system().endpoint_by_token(&token).await.unwrap().unwrap();
    assert_eq!(endpoint.organization_id, customer.organization);
    assert_eq!(endpoint.secrets[0].reveal(), "It's a Secret to Everybody");
    assert_eq!(endpoint.max_body_bytes, Some(5000));
    assert!(matches!(endpoint.verification, Verification::Provider { .. }));
    let route = service.store.system().route(endpoint.id).await.unwrap().unwrap();
    let [destination] = &route.destinations[..] else { panic!() };
    let delivery = destination.delivery.as_ref().unwrap();
    assert_eq!(delivery.signing_secret.reveal(), created["destinations"][0]["signing_secret"]);
    assert_eq!(delivery.url.as_str(), "https://api.example.com/orders");
    assert_eq!(delivery.timeout.as_millis(), 500);
    assert!(matches!(&delivery.retry_policy.waits, Waits::Schedule(waits) if waits.len() == 2));

    assert_eq!(customer.delete(&path(&created)).await.status, 204);
    let deleted = service.store.system().endpoint_by_token(&token).await.unwrap().unwrap();
    assert!(deleted.deleted);
    assert!(service.store.system().route(endpoint.id).await.unwrap().unwrap().destinations[0].deleted);
}

async fn refused(customer: &Customer, body: Value) -> String {
    let answer = customer.post("/endpoints", body).await;
    assert_eq!(answer.status, 422);
    answer.json()["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn create_refuses_by_field() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let none = || new(json!({ "type": "none" }));
    let hmac = |fields: Value| {
        let hmac =
            json!({ "type": "hmac", "header": "X-Signature", "algorithm": "sha256", "encoding": "hex" });
        new(with(hmac, fields))
    };
    let mut details = Vec::new();
    for body in [
        json!([]),
        json!({}),
        with(none(), json!({ "name": 5 })),
        with(none(), json!({ "name": "" })),
        with(none(), json!({ "name": "a".repeat(201) })),
        with(none(), json!({ "colour": "red" })),
        with(none(), json!({ "target_url": "api.example.com" })),
        with(none(), json!({ "target_url": "ftp://api.example.com" })),
        with(none(), json!({ "target_url": "https://user:pass@api.example.com" })),
        with(none(), json!({ "max_body_bytes": 0 })),
        with(none(), json!({ "max_body_bytes": 26_214_401 })),
        with(none(), json!({ "max_body_bytes": -1 })),
        with(none(), json!({ "timeout": "soon" })),
        with(none(), json!({ "timeout": "2h" })),
        with(none(), json!({ "retry_policy": { "schedule": ["8d"] } })),
        with(none(), json!({ "retry_policy": { "schedule": vec!["1s"; 30] } })),
        with(none(), json!({ "retry_policy": { "schedule": [], "jitter": 2 } })),
        with(none(), json!({ "retry_policy": { "schedule": ["1"] } })),
        with(none(), json!({ "retry_policy": { "waits": [] } })),
        with(none(), json!({ "secret": "It's a Secret to Everybody" })),
        json!({ "name": "Orders", "target_url": "https://api.example.com" }),
        new(json!({ "type": "trust" })),
        new(json!({ "type": "none", "secret": "x" })),
        new(json!({ "type": "provider" })),
        new(json!({ "type": "provider", "provider": "nobody" })),
        with(new(json!({ "type": "standard_webhooks" })), json!({ "secret": "whsec_short" })),
        with(hmac(json!({})), json!({ "secret": "short" })),
        hmac(json!({ "header": "two words" })),
        hmac(json!({ "algorithm": "md5" })),
        hmac(json!({ "timestamp": { "header": "X-Time", "tolerance": "2d" } })),
    ] {
        details.push(refused(&customer, body).await);
    }
    insta::assert_snapshot!(details.join("\n"), @"
    (body): send a JSON object
    name: missing field `name`
    name: invalid type: integer `5`, expected a string
    name: 1 to 200 characters, not all of them blank, and no control characters
    name: 1 to 200 characters, not all of them blank, and no control characters
    colour: unknown field `colour`, expected one of `name`, `target_url`, `verification`, `secret`, `max_body_bytes`, `rate_limit`, `content_types`, `answer`, `retry_policy`, `timeout`
    target_url: not an absolute URL
    target_url: the scheme must be http or https
    target_url: must not contain a user name or password
    max_body_bytes: from 1 to 26214400
    max_body_bytes: from 1 to 26214400
    max_body_bytes: invalid value: integer `-1`, expected u32
    timeout: `soon` is not a duration: write a whole number and a unit, such as 500ms, 30s, 5m, 1h or 7d
    timeout: from 100ms to 1m
    retry_policy.schedule: a wait is at most 7d
    retry_policy.schedule: at most 29 retries
    retry_policy.jitter: a number from 0 to 1
    retry_policy.schedule: `1` is not a duration: write a whole number and a unit, such as 500ms, 30s, 5m, 1h or 7d
    retry_policy.waits: unknown field `waits`, expected one of `type`, `schedule`, `first`, `factor`, `max`, `attempts`, `jitter`, `overrides`
    secret: this verification takes no secret
    verification: missing field `verification`
    verification.type: unknown variant `trust`, expected one of `standard_webhooks`, `provider`, `hmac`, `basic_auth`, `bearer`, `api_key`, `ip_allow_list`, `all`, `none`
    verification.secret: unknown field `secret`, there are no fields
    verification.provider: missing field `provider`
    verification: unknown provider `nobody`; GET /api/v1/providers lists those that are known
    secret: expected whsec_ followed by 24 to 64 bytes in base64, or whpk_ and an Ed25519 public key
    secret: 8 to 512 characters of visible ASCII
    verification.header: not the name of an HTTP header
    verification: unknown variant `md5`, expected one of `sha256`, `sha384`, `sha512`, `sha1`
    verification.timestamp.tolerance: at most 1d
    ");
    assert_eq!(customer.get("/endpoints").await.json()["data"], json!([]));
}

#[tokio::test]
async fn bodies_that_do_not_read() {
    let service = Service::new().await;
    let customer = service.customer().await;
    insta::assert_snapshot!(customer.send(Method::POST, "/endpoints", Some("{".to_owned())).await.shown(), @r#"
    400 {
      "detail": "the body is not JSON: EOF while parsing an object at line 1 column 1",
      "status": 400,
      "title": "The request can't be read",
      "type": "urn:ravenpost:problem:malformed-request"
    }
    "#);
    insta::assert_snapshot!(customer.send(Method::POST, "/endpoints", None).await.shown(), @r#"
    415 {
      "detail": "send JSON, with Content-Type: application/json",
      "status": 415,
      "title": "The content type is not accepted",
      "type": "urn:ravenpost:problem:unsupported-media-type"
    }
    "#);
    let large = format!("\"{}\"", "a".repeat(70_000));
    insta::assert_snapshot!(customer.send(Method::POST, "/endpoints", Some(large)).await.shown(), @r#"
    413 {
      "detail": "the body is larger than this operation takes",
      "status": 413,
      "title": "The body is too large",
      "type": "urn:ravenpost:problem:payload-too-large"
    }
    "#);
}

#[tokio::test]
async fn lists_page_to_their_end() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(customer.endpoint().await.id.to_string());
    }
    let (mut seen, mut next) = (Vec::new(), String::new());
    for size in [2, 2, 1] {
        let page = customer.get(&format!("/endpoints?limit=2{next}")).await.json();
        let data = page["data"].as_array().unwrap();
        assert_eq!(data.len(), size);
        seen.extend(data.iter().map(|endpoint| endpoint["id"].as_str().unwrap().to_owned()));
        next = page["next"].as_str().map(|next| format!("&next={next}")).unwrap_or_default();
    }
    assert!(next.is_empty());
    assert!(seen.is_sorted_by(|newer, older| newer > older), "newest first: {seen:?}");
    made.sort();
    seen.sort();
    assert_eq!(seen, made);

    insta::assert_snapshot!(customer.get("/endpoints?limit=0").await.shown(), @r#"
    400 {
      "detail": "limit: a number from 1 to 250",
      "errors": [
        {
          "detail": "a number from 1 to 250",
          "field": "limit"
        }
      ],
      "status": 400,
      "title": "A parameter is invalid",
      "type": "urn:ravenpost:problem:invalid-parameter"
    }
    "#);
    insta::assert_snapshot!(customer.get("/endpoints?limit=many").await.shown(), @r#"
    400 {
      "detail": "limit: invalid digit found in string",
      "errors": [
        {
          "detail": "invalid digit found in string",
          "field": "limit"
        }
      ],
      "status": 400,
      "title": "A parameter is invalid",
      "type": "urn:ravenpost:problem:invalid-parameter"
    }
    "#);
    insta::assert_snapshot!(customer.get("/endpoints?next=page2").await.shown(), @r#"
    400 {
      "detail": "next: not a cursor of ours",
      "errors": [
        {
          "detail": "not a cursor of ours",
          "field": "next"
        }
      ],
      "status": 400,
      "title": "A parameter is invalid",
      "type": "urn:ravenpost:problem:invalid-parameter"
    }
    "#);
    insta::assert_snapshot!(customer.get("/endpoints?page=2").await.shown(), @r#"
    400 {
      "detail": "page: unknown parameter, expected one of `limit`, `next`",
      "errors": [
        {
          "detail": "unknown parameter, expected one of `limit`, `next`",
          "field": "page"
        }
      ],
      "status": 400,
      "title": "A parameter is invalid",
      "type": "urn:ravenpost:problem:invalid-parameter"
    }
    "#);
}

#[tokio::test]
async fn change_what_is_given_and_keep_the_rest() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let created = customer.post("/endpoints", new(json!({ "type": "standard_webhooks" }))).await.json();
    let changed = json!({ "name": "Bills", "status": "paused", "max_body_bytes": 9, "target_url": "https://b.example/" });
    insta::assert_snapshot!(customer.patch(&path(&created), changed).await.shown(), @r#"
    200 {
      "answer": null,
      "content_types": null,
      "created_at": "[time]",
      "hook_url": "https://hooks.example.com/h/[token]",
      "id": "[id]",
      "max_body_bytes": 9,
      "name": "Bills",
      "rate_limit": null,
      "status": "paused",
      "target_url": "https://b.example/",
      "updated_at": "[time]",
      "verification": {
        "type": "standard_webhooks"
      }
    }
    "#);
    let unchanged = customer.patch(&path(&created), json!({})).await.json();
    assert_eq!((&unchanged["name"], &unchanged["status"]), (&json!("Bills"), &json!("paused")));
    let back =
        customer.patch(&path(&created), json!({ "max_body_bytes": null, "status": "active" })).await.json();
    assert_eq!((&back["max_body_bytes"], &back["status"]), (&Value::Null, &json!("active")));
    let destinations = customer.get(&format!("{}/destinations", path(&created))).await.json();
    assert_eq!(destinations["data"][0]["url"], "https://b.example/");
}

#[tokio::test]
async fn another_way_to_verify_gets_another_secret() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let created = customer.post("/endpoints", new(json!({ "type": "standard_webhooks" }))).await.json();
    let token = created["hook_url"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let secrets = async || {
        let endpoint = service.store.system().endpoint_by_token(&token).await.unwrap().unwrap();
        endpoint.secrets.iter().map(|secret| secret.reveal().to_owned()).collect::<Vec<_>>()
    };
    let patch = async |body: Value| customer.patch(&path(&created), body).await;

    let same = patch(json!({ "verification": { "type": "standard_webhooks" } })).await.json();
    assert_eq!(
        (same.get("secret"), secrets().await),
        (None, vec![created["secret"].as_str().unwrap().to_owned()])
    );
    let github = patch(json!({ "verification": { "type": "provider", "provider": "github" } })).await.json();
    assert_eq!(secrets().await, [github["secret"].as_str().unwrap()]);
    assert_eq!(patch(json!({ "secret": "brought by the producer" })).await.status, 200);
    assert_eq!(secrets().await, ["brought by the producer"]);
    assert_eq!(patch(json!({ "verification": { "type": "none" } })).await.status, 200);
    assert!(secrets().await.is_empty());
    insta::assert_snapshot!(patch(json!({ "secret": "brought by the producer" })).await.shown(), @r##"
    422 {
      "detail": "secret: this verification takes no secret",
      "errors": [
        {
          "detail": "this verification takes no secret",
          "field": "secret",
          "pointer": "#/secret"
        }
      ],
      "status": 422,
      "title": "A field is invalid",
      "type": "urn:ravenpost:problem:invalid-field"
    }
    "##);
    assert_eq!(
        patch(json!({ "verification": { "type": "standard_webhooks" } })).await.json()["secret"]
            .as_str()
            .unwrap(),
        secrets().await[0]
    );
}

#[tokio::test]
async fn change_refuses_by_field() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = format!("/endpoints/{}", customer.endpoint().await.id);
    let before = customer.get(&endpoint).await.json();
    let mut details = Vec::new();
    for body in [
        json!({ "status": "deleted" }),
        json!({ "name": " " }),
        json!({ "target_url": "file:///etc/passwd" }),
        json!({ "max_body_bytes": 0 }),
        json!({ "token": "x" }),
        json!({ "verification": { "type": "hmac" } }),
    ] {
        let answer = customer.patch(&endpoint, body).await;
        assert_eq!(answer.status, 422);
        details.push(answer.json()["detail"].as_str().unwrap().to_owned());
    }
    insta::assert_snapshot!(details.join("\n"), @"
    status: unknown variant `deleted`, expected `active` or `paused`
    name: 1 to 200 characters, not all of them blank, and no control characters
    target_url: the scheme must be http or https
    max_body_bytes: from 1 to 26214400
    token: unknown field `token`, expected one of `name`, `status`, `target_url`, `verification`, `secret`, `max_body_bytes`, `rate_limit`, `content_types`, `answer`
    verification.header: missing field `header`
    ");
    assert_eq!(customer.get(&endpoint).await.json(), before);
}

#[tokio::test]
async fn a_deleted_endpoint_is_gone() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let id = customer.endpoint().await.id;
    let endpoint = format!("/endpoints/{id}");
    assert_eq!(customer.delete(&endpoint).await.shown(), "204");
    insta::assert_snapshot!(customer.get(&endpoint).await.shown(), @r#"
    404 {
      "detail": "there is no such endpoint",
      "status": 404,
      "title": "There is no such thing",
      "type": "urn:ravenpost:problem:not-found"
    }
    "#);
    for answer in [
        customer.delete(&endpoint).await,
        customer.patch(&endpoint, json!({})).await,
        customer.get(&format!("{endpoint}/destinations")).await,
        customer
            .post(&format!("{endpoint}/destinations"), json!({ "name": "b", "url": "https://b.example" }))
            .await,
    ] {
        assert_eq!(answer.status, 404);
    }
    insta::assert_snapshot!(customer.get("/endpoints/17").await.shown(), @r#"
    400 {
      "detail": "endpoint_id: UUID parsing failed: invalid length: found 2",
      "errors": [
        {
          "detail": "UUID parsing failed: invalid length: found 2",
          "field": "endpoint_id"
        }
      ],
      "status": 400,
      "title": "A parameter is invalid",
      "type": "urn:ravenpost:problem:invalid-parameter"
    }
    "#);
}
