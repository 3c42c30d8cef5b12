//! Merge patches: parts of objects, brought by one or by several at once.

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
    assert_eq!(customer.patch(&rule, json!([])).await.status, 422);
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
