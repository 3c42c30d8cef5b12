//! Destinations.

use serde_json::{Value, json};

use crate::support::Service;

#[tokio::test]
async fn a_life() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let all = format!("/endpoints/{}/destinations", endpoint.id);

    let created = customer.post(&all, json!({ "name": "Billing", "url": "https://b.example/x" })).await;
    insta::assert_snapshot!(created.shown(), @r#"
    201 {
      "authentication": null,
      "created_at": "[time]",
      "endpoint_id": "[id]",
      "first_byte_timeout": null,
      "former_secrets_expire_at": null,
      "header_names": [],
      "id": "[id]",
      "name": "Billing",
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
      "status": "active",
      "timeout": "30s",
      "tls": null,
      "updated_at": "[time]",
      "url": "https://b.example/x"
    }
    "#);
    let one = format!("{all}/{}", created.json()["id"].as_str().unwrap());
    assert_eq!(created.header("location"), format!("/api/v1{one}"));
    let mut shown = created.json();
    assert!(shown.as_object_mut().unwrap().remove("signing_secret").is_some());
    assert_eq!(customer.get(&one).await.json(), shown);

    let change =
        json!({ "status": "paused", "timeout": "1s", "retry_policy": { "schedule": [] }, "name": "B" });
    insta::assert_snapshot!(customer.patch(&one, change).await.shown(), @r#"
    200 {
      "authentication": null,
      "created_at": "[time]",
      "endpoint_id": "[id]",
      "first_byte_timeout": null,
      "former_secrets_expire_at": null,
      "header_names": [],
      "id": "[id]",
      "name": "B",
      "retry_policy": {
        "jitter": 0.1,
        "schedule": []
      },
      "signing": "hmac",
      "status": "paused",
      "timeout": "1s",
      "tls": null,
      "updated_at": "[time]",
      "url": "https://b.example/x"
    }
    "#);
    assert_eq!(customer.get(&all).await.json()["data"].as_array().unwrap().len(), 2);
    let first = format!("{all}/{}", endpoint.destination);
    assert_eq!(customer.delete(&first).await.shown(), "204");
    insta::assert_snapshot!(customer.get(&first).await.shown(), @r#"
    404 {
      "detail": "there is no such destination",
      "status": 404,
      "title": "There is no such thing",
      "type": "urn:ravenpost:problem:not-found"
    }
    "#);
    assert_eq!(customer.delete(&first).await.status, 404);

    // What is left is the first one now.
    let shown = customer.get(&format!("/endpoints/{}", endpoint.id)).await.json();
    assert_eq!(shown["target_url"], "https://b.example/x");
    assert_eq!(customer.delete(&one).await.status, 204);
    let shown = customer.get(&format!("/endpoints/{}", endpoint.id)).await.json();
    assert_eq!(shown["target_url"], Value::Null);
    let url = json!({ "target_url": "https://c.example" });
    insta::assert_snapshot!(customer.patch(&format!("/endpoints/{}", endpoint.id), url).await.shown(), @r#"
    409 {
      "detail": "the endpoint has no destination whose URL could be changed",
      "status": 409,
      "title": "The request conflicts with what exists",
      "type": "urn:ravenpost:problem:conflict"
    }
    "#);
}

#[tokio::test]
async fn a_secret_can_be_brought() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let all = format!("/endpoints/{}/destinations", endpoint.id);
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let new = json!({ "name": "b", "url": "https://b.example", "signing_secret": secret });
    assert_eq!(customer.post(&all, new).await.json()["signing_secret"], secret);
    let route = service.store.system().route(endpoint.id).await.unwrap().unwrap();
    assert!(
        route.destinations.iter().any(|destination| destination
            .delivery
            .as_ref()
            .unwrap()
            .signing_secret
            .reveal()
            == secret)
    );
}

#[tokio::test]
async fn refuses_by_field() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let all = format!("/endpoints/{}/destinations", endpoint.id);
    let one = format!("{all}/{}", endpoint.destination);
    let mut details = Vec::new();
    for body in [
        json!({ "name": "b" }),
        json!({ "url": "https://b.example" }),
        json!({ "name": "b", "url": "b.example" }),
        json!({ "name": "b", "url": "https://b.example", "signing_secret": "whsec_" }),
        json!({ "name": "b", "url": "https://b.example", "status": "paused" }),
    ] {
        let answer = customer.post(&all, body).await;
        assert_eq!(answer.status, 422);
        details.push(answer.json()["detail"].as_str().unwrap().to_owned());
    }
    for body in [
        json!({ "name": "" }),
        json!({ "url": "javascript:alert(1)" }),
        json!({ "timeout": "1ms" }),
        json!({ "retry_policy": { "schedule": ["1s"], "jitter": -1 } }),
        json!({ "status": "disabled" }),
        json!({ "signing_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" }),
    ] {
        let answer = customer.patch(&one, body).await;
        assert_eq!(answer.status, 422);
        details.push(answer.json()["detail"].as_str().unwrap().to_owned());
    }
    insta::assert_snapshot!(details.join("\n"), @"
    url: missing field `url`
    name: missing field `name`
    url: not an absolute URL
    signing_secret: expected whsec_ followed by 24 to 64 bytes in base64
    status: unknown field `status`, expected one of `name`, `url`, `retry_policy`, `timeout`, `first_byte_timeout`, `signing_secret`, `signing`, `headers`, `authentication`, `tls`
    name: 1 to 200 characters, not all of them blank, and no control characters
    url: the scheme must be http or https
    timeout: from 100ms to 1m
    retry_policy.jitter: a number from 0 to 1
    status: unknown variant `disabled`, expected `active` or `paused`
    signing_secret: unknown field `signing_secret`, expected one of `name`, `url`, `retry_policy`, `timeout`, `first_byte_timeout`, `status`, `signing`, `headers`, `authentication`, `tls`
    ");
    assert_eq!(customer.get(&all).await.json()["data"].as_array().unwrap().len(), 1);
    insta::assert_snapshot!(customer.get(&format!("{all}/first")).await.shown(), @r#"
    400 {
      "detail": "destination_id: UUID parsing failed: invalid character: found `i` at 1",
      "errors": [
        {
          "field": "destination_id",
          "message": "UUID parsing failed: invalid character: found `i` at 1"
        }
      ],
      "status": 400,
      "title": "A parameter is invalid",
      "type": "urn:ravenpost:problem:invalid-parameter"
    }
    "#);
    insta::assert_snapshot!(customer.get(&format!("{all}?limit=251")).await.shown(), @r#"
    400 {
      "detail": "limit: a number from 1 to 250",
      "errors": [
        {
          "field": "limit",
          "message": "a number from 1 to 250"
        }
      ],
      "status": 400,
      "title": "A parameter is invalid",
      "type": "urn:ravenpost:problem:invalid-parameter"
    }
    "#);
}
