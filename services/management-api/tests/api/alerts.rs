//! Channels and alerts.

use ravenpost_core::ids::AlertId;
use ravenpost_store::system::Observation;
use serde_json::json;

use crate::support::Service;

#[tokio::test]
async fn channels() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let new = json!({ "type": "email", "address": "oncall@example.com" });
    let created = customer.post("/channels", new.clone()).await;
    insta::assert_snapshot!(created.shown(), @r#"
    201 {
      "address": "oncall@example.com",
      "created_at": "[time]",
      "id": "[id]",
      "type": "email"
    }
    "#);
    let path = format!("/channels/{}", created.json()["id"].as_str().unwrap());
    assert_eq!(created.header("location"), format!("/api/v1{path}"));
    insta::assert_snapshot!(customer.post("/channels", new.clone()).await.shown(), @r#"
    409 {
      "detail": "there is a channel to this address already",
      "status": 409,
      "title": "The request conflicts with what exists",
      "type": "urn:ravenpost:problem:conflict"
    }
    "#);
    assert_eq!(service.customer().await.post("/channels", new).await.status, 201);
    assert_eq!(customer.get("/channels").await.json()["data"], json!([created.json()]));
    assert_eq!(customer.delete(&path).await.shown(), "204");
    insta::assert_snapshot!(customer.delete(&path).await.shown(), @r#"
    404 {
      "detail": "there is no such channel",
      "status": 404,
      "title": "There is no such thing",
      "type": "urn:ravenpost:problem:not-found"
    }
    "#);

    let mut details = Vec::new();
    for body in [
        json!({}),
        json!({ "type": "sms", "address": "oncall@example.com" }),
        json!({ "type": "email" }),
        json!({ "type": "email", "address": "oncall" }),
        json!({ "type": "email", "address": "a@example.com\r\nBcc: b@example.com" }),
        json!({ "type": "email", "address": "oncall@example.com", "name": "x" }),
    ] {
        let answer = customer.post("/channels", body).await;
        assert_eq!(answer.status, 422);
        details.push(answer.json()["detail"].as_str().unwrap().to_owned());
    }
    insta::assert_snapshot!(details.join("\n"), @"
    type: missing field `type`
    type: unknown variant `sms`, expected `email`
    address: missing field `address`
    address: not an e-mail address
    address: not an e-mail address
    name: unknown field `name`, expected `type` or `address`
    ");
    assert_eq!(customer.delete("/channels/1").await.status, 400);
    assert_eq!(customer.get("/channels?limit=x").await.status, 400);
}

#[tokio::test]
async fn alerts() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let observation = |offset, success| Observation {
        organization_id: customer.organization,
        endpoint_id: endpoint.id,
        destination_id: endpoint.destination,
        success,
        error: (!success).then(|| "connection refused".to_owned()),
        partition: 0,
        offset,
        alert_id: AlertId::new(service.now, ravenpost_chassis::random::bytes()),
    };
    let system = service.store.system();
    system.observe(&[observation(1, false), observation(2, false)], 2).await.unwrap();
    insta::assert_snapshot!(customer.get("/alerts?open=true").await.shown(), @r#"
    200 {
      "data": [
        {
          "destination_id": "[id]",
          "endpoint_id": "[id]",
          "failures": 2,
          "id": "[id]",
          "kind": "consecutive_failures",
          "last_error": "connection refused",
          "notified_at": null,
          "opened_at": "[time]",
          "resolved_at": null
        }
      ],
      "next": null
    }
    "#);
    system.observe(&[observation(3, true)], 2).await.unwrap();
    assert_eq!(customer.get("/alerts?open=true").await.json()["data"], json!([]));
    assert_eq!(customer.get("/alerts").await.json()["data"].as_array().unwrap().len(), 1);
    insta::assert_snapshot!(customer.get("/alerts?open=maybe").await.shown(), @r#"
    400 {
      "detail": "open: provided string was not `true` or `false`",
      "errors": [
        {
          "detail": "provided string was not `true` or `false`",
          "field": "open"
        }
      ],
      "status": 400,
      "title": "A parameter is invalid",
      "type": "urn:ravenpost:problem:invalid-parameter"
    }
    "#);
    assert_eq!(customer.get("/alerts?next=x").await.status, 400);
}
