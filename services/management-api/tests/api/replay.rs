//! Replay.

use axum::http::Method;
use serde_json::json;

use crate::support::Service;

#[tokio::test]
async fn an_event_is_put_back() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let event = service.attempted(&customer, &endpoint, Some(false)).await;
    let path = format!("/events/{event}/replay");
    insta::assert_snapshot!(customer.send(Method::POST, &path, None).await.shown(), @r#"
    202 {
      "event_id": "[id]",
      "runs": [
        {
          "destination_id": "[id]",
          "due_at": "[time]",
          "run": 1
        }
      ]
    }
    "#);
    assert_eq!(customer.get(&format!("/events/{event}")).await.json()["status"], "PENDING");
    let only = json!({ "destination_id": endpoint.destination });
    assert_eq!(customer.post(&path, only).await.json()["runs"][0]["run"], 2);
    assert_eq!(customer.post(&path, json!({})).await.json()["runs"][0]["run"], 3);
    let waiting = customer.get(&format!("/events/{event}/deliveries")).await.json()["waiting"].clone();
    assert_eq!((waiting.as_array().unwrap().len(), &waiting[0]["reason"]), (1, &json!("replay")));
}

#[tokio::test]
async fn it_is_refused_where_it_makes_no_sense() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let event = service.attempted(&customer, &endpoint, Some(true)).await;
    let path = format!("/events/{event}/replay");
    insta::assert_snapshot!(customer.post(&path, json!({ "destination_id": "first" })).await.shown(), @r##"
    422 {
      "detail": "destination_id: UUID parsing failed: invalid character: found `i` at 1",
      "errors": [
        {
          "detail": "UUID parsing failed: invalid character: found `i` at 1",
          "field": "destination_id",
          "pointer": "#/destination_id"
        }
      ],
      "status": 422,
      "title": "A field is invalid",
      "type": "urn:ravenpost:problem:invalid-field"
    }
    "##);
    insta::assert_snapshot!(customer.post(&path, json!({ "destination_id": endpoint.id })).await.shown(), @r##"
    422 {
      "detail": "destination_id: there is no such destination of the event's endpoint",
      "errors": [
        {
          "detail": "there is no such destination of the event's endpoint",
          "field": "destination_id",
          "pointer": "#/destination_id"
        }
      ],
      "status": 422,
      "title": "A field is invalid",
      "type": "urn:ravenpost:problem:invalid-field"
    }
    "##);
    insta::assert_snapshot!(customer.post(&path, json!({ "to": endpoint.id })).await.shown(), @r##"
    422 {
      "detail": "to: unknown field `to`, expected `destination_id`",
      "errors": [
        {
          "detail": "unknown field `to`, expected `destination_id`",
          "field": "to",
          "pointer": "#/to"
        }
      ],
      "status": 422,
      "title": "A field is invalid",
      "type": "urn:ravenpost:problem:invalid-field"
    }
    "##);
    insta::assert_snapshot!(customer.send(Method::POST, "/events/1/replay", None).await.shown(), @r#"
    400 {
      "detail": "event_id: UUID parsing failed: invalid length: found 1",
      "errors": [
        {
          "detail": "UUID parsing failed: invalid length: found 1",
          "field": "event_id"
        }
      ],
      "status": 400,
      "title": "A parameter is invalid",
      "type": "urn:ravenpost:problem:invalid-parameter"
    }
    "#);

    let fresh = service.event(&customer, &endpoint, b"{}").await;
    insta::assert_snapshot!(customer.post(&format!("/events/{fresh}/replay"), json!({})).await.shown(), @r#"
    409 {
      "detail": "the event has not been delivered a first time yet",
      "status": 409,
      "title": "The request conflicts with what exists",
      "type": "urn:ravenpost:problem:conflict"
    }
    "#);
    let destination = format!("/endpoints/{}/destinations/{}", endpoint.id, endpoint.destination);
    assert_eq!(customer.delete(&destination).await.status, 204);
    insta::assert_snapshot!(customer.post(&path, json!({})).await.shown(), @r#"
    409 {
      "detail": "the event's endpoint has no destination",
      "status": 409,
      "title": "The request conflicts with what exists",
      "type": "urn:ravenpost:problem:conflict"
    }
    "#);
    assert_eq!(customer.delete(&format!("/endpoints/{}", endpoint.id)).await.status, 204);
    insta::assert_snapshot!(customer.post(&path, json!({})).await.shown(), @r#"
    409 {
      "detail": "the event's endpoint was deleted",
      "status": 409,
      "title": "The request conflicts with what exists",
      "type": "urn:ravenpost:problem:conflict"
    }
    "#);
    assert_eq!(customer.get(&format!("/events/{event}/deliveries")).await.json()["waiting"], json!([]));
}
