//! Merge patches: parts of objects, brought by one or by several at once.

use axum::http::Method;
use serde_json::{Value, json};

use crate::support::Service;

/// RFC 7396: objects are merged in their turn, with what is shown.
#[tokio::test]
async fn a_patch_brings_parts_of_objects() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let (at, to) = (
        format!("/endpoints/{}", endpoint.id),
        format!("/endpoints/{}/destinations/{}", endpoint.id, endpoint.destination),
    );
    let patched = async |path: &str, body: Value, field: &str| {
        let answer = customer.patch(path, body).await;
        assert_eq!(answer.status, 200, "{}", answer.shown());
        answer.json()[field].clone()
    };
    let refused = async |path: &str, body: Value| {
        let answer = customer.patch(path, body).await;
        assert_eq!(answer.status, 422, "{}", answer.shown());
        answer.json()["errors"][0]["field"].clone()
    };

    assert_eq!(refused(&at, json!({ "rate_limit": { "burst": 9 } })).await, "rate_limit.per_second");
    let limit = json!({ "rate_limit": { "per_second": 5, "burst": 9 } });
    assert_eq!(patched(&at, limit.clone(), "rate_limit").await, limit["rate_limit"]);
    assert_eq!(
        patched(&at, json!({ "rate_limit": { "burst": 20 } }), "rate_limit").await,
        json!({ "per_second": 5, "burst": 20 })
    );
    assert_eq!(refused(&at, json!({ "rate_limit": { "per_second": null } })).await, "rate_limit.per_second");
    assert_eq!(patched(&at, json!({ "rate_limit": null }), "rate_limit").await, Value::Null);

    let limits = json!({ "limits": { "concurrency": 4, "rate": { "per_second": 5, "burst": 9 } } });
    assert_eq!(patched(&to, limits.clone(), "limits").await, limits["limits"]);
    assert_eq!(
        patched(&to, json!({ "limits": { "concurrency": null, "rate": { "burst": 7 } } }), "limits").await,
        json!({ "rate": { "per_second": 5, "burst": 7 } })
    );

    let overrides = json!({ "client_error": "none", "timeout": { "schedule": ["10m"], "jitter": 0.1 } });
    let policy = json!({ "retry_policy": { "schedule": ["1m"], "jitter": 0.5, "overrides": overrides } });
    assert_eq!(patched(&to, policy.clone(), "retry_policy").await, policy["retry_policy"]);
    let part = json!({ "jitter": null, "overrides": { "client_error": null, "timeout": { "jitter": 0.2 } } });
    assert_eq!(
        patched(&to, json!({ "retry_policy": part }), "retry_policy").await,
        json!({ "schedule": ["1m"], "jitter": 0.1, "overrides": { "timeout": { "schedule": ["10m"], "jitter": 0.2 } } })
    );
    // Of the same kind, which an answer does not name.
    let part = json!({ "type": "schedule", "schedule": ["2m"] });
    let same = patched(&to, json!({ "retry_policy": part }), "retry_policy").await;
    assert_eq!(same["overrides"], json!({ "timeout": { "schedule": ["10m"], "jitter": 0.2 } }));
    // Of another kind: nothing of the first one is left.
    let policy = json!({ "type": "exponential", "first": "1s", "attempts": 3 });
    let exponential = patched(&to, json!({ "retry_policy": policy }), "retry_policy").await;
    assert_eq!((&exponential["first"], &exponential["schedule"]), (&json!("1s"), &Value::Null));
    assert_eq!(
        patched(&to, json!({ "retry_policy": { "attempts": 4 } }), "retry_policy").await["first"],
        json!("1s")
    );

    // What is secret is not there to be merged with.
    let basic = json!({ "authentication": { "type": "basic", "username": "ada", "password": "s3cret" } });
    patched(&to, basic, "authentication").await;
    let renamed = json!({ "authentication": { "username": "eve" } });
    assert_eq!(refused(&to, renamed).await, "authentication.password");
    let again = json!({ "authentication": { "username": "eve", "password": "s3cret" } });
    assert_eq!(patched(&to, again, "authentication").await, json!({ "type": "basic", "username": "eve" }));

    let hmac = json!({ "verification": { "type": "hmac", "header": "x-sign", "algorithm": "sha256", "encoding": "hex" } });
    patched(&at, hmac, "verification").await;
    let verification = patched(&at, json!({ "verification": { "header": "x-other" } }), "verification").await;
    assert_eq!((&verification["header"], &verification["encoding"]), (&json!("x-other"), &json!("hex")));
    let none = patched(&at, json!({ "verification": { "type": "none" } }), "verification").await;
    assert_eq!(none, json!({ "type": "none" }));

    let rule = json!({ "name": "Failing", "condition": { "type": "consecutive_failures", "failures": 5 },
        "quiet_hours": { "from": 60, "to": 120 } });
    let rule = customer.post("/alert-rules", rule).await.json();
    let rule = format!("/alert-rules/{}", rule["id"].as_str().unwrap());
    assert_eq!(
        patched(&rule, json!({ "quiet_hours": { "to": 180 } }), "quiet_hours").await,
        json!({ "from": 60, "to": 180 })
    );
    let condition = patched(&rule, json!({ "condition": { "failures": 7 } }), "condition").await;
    assert_eq!(condition, json!({ "type": "consecutive_failures", "failures": 7 }));
    assert_eq!(customer.patch(&rule, json!([])).await.status, 422);
    assert_eq!(refused(&to, json!({ "limits": { "concurency": null } })).await, "limits.concurency");
    assert_eq!(
        patched(&to, json!({ "limits": { "concurrency": null } }), "limits").await["concurrency"],
        Value::Null
    );
    let twice = r#"{"name": "a", "name": "b"}"#.to_owned();
    let twice = customer.send(Method::PATCH, &to, Some(twice)).await;
    assert_eq!((twice.status.as_u16(), &twice.json()["errors"][0]["field"]), (422, &json!("name")));
}

/// Null goes back to what is there when nothing is said, and is refused where something has to be.
#[tokio::test]
async fn null_removes_what_can_be_absent() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let at = format!("/endpoints/{}", endpoint.id);
    let to = format!("{at}/destinations/{}", endpoint.destination);
    let before = customer.get(&to).await.json();
    let changed = json!({ "retry_policy": { "schedule": ["9m"] }, "timeout": "9s", "signing": "ed25519",
        "replay_on_recovery": true });
    let nulls = json!({ "retry_policy": null, "timeout": null, "signing": null, "replay_on_recovery": null });
    assert_eq!(customer.patch(&to, changed).await.json()["timeout"], "9s");
    let after = customer.patch(&to, nulls.clone()).await.json();
    for field in nulls.as_object().unwrap().keys() {
        assert_eq!(after[field], before[field], "{field}");
    }
    let rule = json!({ "name": "Down", "condition": { "type": "destination_down", "after": "5m" },
        "scope": { "type": "endpoint", "id": endpoint.id }, "severity": "critical", "cool_down": "1h", "enabled": false });
    let rule = customer.post("/alert-rules", rule).await.json();
    let rule = format!("/alert-rules/{}", rule["id"].as_str().unwrap());
    let after = json!({ "scope": null, "severity": null, "cool_down": null, "enabled": null });
    let after = customer.patch(&rule, after).await.json();
    assert_eq!(
        (&after["scope"], &after["severity"], &after["cool_down"], &after["enabled"]),
        (&json!({ "type": "organization" }), &json!("warning"), &json!("5m"), &json!(true))
    );
    for (path, fields) in [
        (&at, ["name", "status", "target_url", "verification"].as_slice()),
        (&to, &["name", "url", "status"]),
        (&rule, &["name", "condition"]),
    ] {
        for field in fields {
            let refused = customer.patch(path, json!({ *field: null })).await;
            assert_eq!(
                (refused.status.as_u16(), &refused.json()["errors"][0]["field"]),
                (422, &json!(field))
            );
        }
    }
}

/// Who is late hears that they are, whatever their change would make of what is there now.
#[tokio::test]
async fn a_stale_part_is_stale_before_it_is_anything_else() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let at = format!("/endpoints/{}", endpoint.id);
    let limit = json!({ "rate_limit": { "per_second": 5, "burst": 9 } });
    let tag = customer.patch(&at, limit).await.header("etag").to_owned();
    customer.patch(&at, json!({ "rate_limit": null })).await;
    let late = json!({ "rate_limit": { "burst": 20 } }).to_string();
    let late =
        customer.ask_with(Method::PATCH, &format!("/api/v1{at}"), &[("if-match", &tag)], Some(late)).await;
    assert_eq!(late.status, 412, "{}", late.shown());
}

/// None of those who change parts of one object at the same time undoes another's change unseen.
#[tokio::test]
async fn parts_that_are_brought_at_once_are_all_there() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let to = format!("/endpoints/{}/destinations/{}", endpoint.id, endpoint.destination);
    let classes = ["redirect", "client_error", "dns", "connect"];
    let changes = classes.map(|class| {
        let (customer, to) = (customer.clone(), to.clone());
        let overrides = json!({ class: "none" });
        tokio::spawn(async move {
            customer.patch(&to, json!({ "retry_policy": { "overrides": overrides } })).await
        })
    });
    for change in changes {
        let answer = change.await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.shown());
    }
    let there = customer.get(&to).await.json()["retry_policy"]["overrides"].clone();
    assert_eq!(
        there,
        json!({ "redirect": "none", "client_error": "none", "dns": "none", "connect": "none" })
    );
}
