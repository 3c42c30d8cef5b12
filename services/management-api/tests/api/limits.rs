//! What an endpoint lets in and answers.

use serde_json::{Value, json};

use crate::support::{Customer, Service};

fn new(fields: Value) -> Value {
    let mut body = json!({
        "name": "Orders", "target_url": "https://api.example.com/orders", "verification": { "type": "none" }
    });
    let Value::Object(fields) = fields else { panic!() };
    body.as_object_mut().unwrap().extend(fields);
    body
}

fn limits(endpoint: &Value) -> [&Value; 3] {
    ["rate_limit", "content_types", "answer"].map(|field| &endpoint[field])
}

#[tokio::test]
async fn they_are_set_changed_and_set_back() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let rate = json!({ "per_second": 10, "burst": 50 });
    let types = json!(["application/json", "text/*"]);
    let answer = json!({ "status": 200, "body": "[ok]", "content_type": "text/plain" });
    let fields =
        json!({ "rate_limit": rate, "content_types": ["Application/JSON", "text/*"], "answer": answer });
    let created = customer.post("/endpoints", new(fields)).await.json();
    assert_eq!(limits(&created), [&rate, &types, &answer]);
    let path = format!("/endpoints/{}", created["id"].as_str().unwrap());
    assert_eq!(limits(&customer.get(&path).await.json()), [&rate, &types, &answer]);
    assert_eq!(limits(&customer.get("/endpoints").await.json()["data"][0]), [&rate, &types, &answer]);

    let other = json!({ "per_second": 1, "burst": 1 });
    let changed = customer.patch(&path, json!({ "rate_limit": other })).await.json();
    assert_eq!(limits(&changed), [&other, &types, &answer], "what is not given stays");
    let changed = customer.patch(&path, json!({ "name": "Bills" })).await.json();
    assert_eq!(limits(&changed), [&other, &types, &answer]);
    let back = json!({ "rate_limit": null, "content_types": null, "answer": null });
    let changed = customer.patch(&path, back).await.json();
    assert_eq!(limits(&changed), [&Value::Null; 3]);
}

async fn details(customer: &Customer, path: &str, is_change: bool, fields: &[Value]) -> Vec<String> {
    let mut details = Vec::new();
    for fields in fields {
        let answer = if is_change {
            customer.patch(path, fields.clone()).await
        } else {
            customer.post(path, new(fields.clone())).await
        };
        assert_eq!(answer.status, 422, "{fields}");
        details.push(answer.json()["detail"].as_str().unwrap().to_owned());
    }
    details
}

#[tokio::test]
async fn bad_ones_are_refused_by_field() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let bad = [
        json!({ "rate_limit": { "per_second": 0, "burst": 1 } }),
        json!({ "rate_limit": { "per_second": 1, "burst": 3_601 } }),
        json!({ "rate_limit": { "per_second": 1 } }),
        json!({ "rate_limit": { "per_second": 1, "burst": 1, "per_day": 1 } }),
        json!({ "rate_limit": 5 }),
        json!({ "content_types": [] }),
        json!({ "content_types": ["json"] }),
        json!({ "content_types": vec!["a/b"; 21] }),
        json!({ "answer": { "status": 302 } }),
        json!({ "answer": { "status": 204, "body": "x" } }),
        json!({ "answer": { "status": 200, "body": "x".repeat(4_097) } }),
        json!({ "answer": { "status": 200, "content_type": "a\nb: c" } }),
        json!({ "answer": { "status": 200, "headers": {} } }),
    ];
    let created = details(&customer, "/endpoints", false, &bad).await;
    insta::assert_snapshot!(created.join("\n"), @"
    rate_limit.per_second: from 1 to 1000000
    rate_limit.burst: at most 3600 times per_second
    rate_limit.burst: missing field `burst`
    rate_limit.per_day: unknown field `per_day`, expected `per_second` or `burst`
    rate_limit: invalid type: integer `5`, expected struct RateLimit
    content_types: from 1 to 20 media types, or null for any
    content_types[0]: expected a media type without parameters, such as application/json or text/*
    content_types: from 1 to 20 media types, or null for any
    answer.status: from 200 to 299
    answer.body: an answer with this status has no body and no content_type
    answer.body: at most 4096 bytes
    answer.content_type: a media type such as application/json
    answer.headers: unknown field `headers`, expected one of `status`, `body`, `content_type`
    ");
    assert_eq!(customer.get("/endpoints").await.json()["data"], json!([]));
    let endpoint = customer.post("/endpoints", new(json!({}))).await.json();
    let path = format!("/endpoints/{}", endpoint["id"].as_str().unwrap());
    assert_eq!(details(&customer, &path, true, &bad).await, created, "a change is refused like a new one");
    assert_eq!(limits(&customer.get(&path).await.json()), [&Value::Null; 3]);
}
