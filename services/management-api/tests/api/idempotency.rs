//! `Idempotency-Key`: however often a request comes, it has one effect and one answer.

use std::time::Duration;

use axum::http::Method;
use ravenpost_testkit::wait;
use serde_json::{Value, json};

use crate::support::{Answer, Customer, Service};

fn new(name: &str) -> Value {
    json!({ "name": name, "target_url": "https://example.com/", "verification": { "type": "standard_webhooks" } })
}

async fn post(customer: &Customer, path: &str, key: &str, body: &Value) -> Answer {
    let headers = [("idempotency-key", key)];
    customer.ask_with(Method::POST, &format!("/api/v1{path}"), &headers, Some(body.to_string())).await
}

async fn endpoints(customer: &Customer) -> usize {
    customer.get("/endpoints").await.json()["data"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_repeat_is_answered_as_it_was_and_does_nothing() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let first = post(&customer, "/endpoints", "one", &new("Orders")).await;
    assert_eq!((first.status.as_u16(), first.header("idempotency-replayed")), (201, ""));
    let again = post(&customer, "/endpoints", "\"one\"", &new("Orders")).await;
    assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (201, "true"));
    assert_eq!(again.bytes, first.bytes, "with the secrets, which are shown nowhere else");
    for name in ["location", "content-type", "cache-control"] {
        assert!(!first.header(name).is_empty());
        assert_eq!(again.header(name), first.header(name));
    }
    assert_eq!(endpoints(&customer).await, 1);
    assert_eq!(post(&customer, "/endpoints", "two", &new("Orders")).await.status, 201);
    assert_eq!(endpoints(&customer).await, 2);
    // Each caller has keys of its own.
    let other = service.customer().await;
    assert_eq!(post(&other, "/endpoints", "one", &new("Orders")).await.header("idempotency-replayed"), "");
}

#[tokio::test]
async fn a_key_stands_for_one_request() {
    let service = Service::new().await;
    let customer = service.customer().await;
    post(&customer, "/endpoints", "one", &new("Orders")).await;
    insta::assert_snapshot!(post(&customer, "/endpoints", "one", &new("Others")).await.shown(), @r#"
    422 {
      "detail": "idempotency-key: it came with another request before",
      "errors": [
        {
          "detail": "it came with another request before",
          "field": "idempotency-key"
        }
      ],
      "status": 422,
      "title": "The Idempotency-Key stands for another request",
      "type": "urn:ravenpost:problem:idempotency-key-reused"
    }
    "#);
    let channel = json!({ "type": "email", "address": "ops@example.com" });
    assert_eq!(post(&customer, "/channels", "one", &channel).await.status, 422);
    insta::assert_snapshot!(post(&customer, "/channels", &"k".repeat(256), &channel).await.shown(), @r#"
    400 {
      "detail": "idempotency-key: one key of 1 to 255 visible ASCII characters",
      "errors": [
        {
          "detail": "one key of 1 to 255 visible ASCII characters",
          "field": "idempotency-key"
        }
      ],
      "status": 400,
      "title": "A parameter is invalid",
      "type": "urn:ravenpost:problem:invalid-parameter"
    }
    "#);
    assert_eq!(post(&customer, "/channels", "", &channel).await.status, 400);
    assert_eq!(
        (endpoints(&customer).await, customer.get("/channels").await.json()["data"].clone()),
        (1, json!([]))
    );
}

#[tokio::test]
async fn of_many_at_once_one_does_it() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let requests = (0..12).map(|_| {
        let customer = customer.clone();
        tokio::spawn(async move { post(&customer, "/endpoints", "one", &new("Orders")).await })
    });
    let mut made = Vec::new();
    for request in requests.collect::<Vec<_>>() {
        let answer = request.await.unwrap();
        match answer.status.as_u16() {
            201 => made.push(answer.bytes),
            409 => {
                assert_eq!(answer.json()["type"], "urn:ravenpost:problem:idempotency-key-in-use");
                assert_eq!(answer.header("retry-after"), "1");
            }
            other => panic!("{other}: {}", answer.shown()),
        }
    }
    assert!(!made.is_empty() && made.iter().all(|body| *body == made[0]));
    assert_eq!(endpoints(&customer).await, 1);
    assert_eq!(
        post(&customer, "/endpoints", "one", &new("Orders")).await.header("idempotency-replayed"),
        "true"
    );
}

/// Whoever goes away before the answer finds it when they come back.
#[tokio::test]
async fn a_caller_that_goes_away_gets_its_answer_later() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let body = new("Orders");
    // Dropped at its first wait, which is for the database.
    let gone = tokio::time::timeout(Duration::ZERO, post(&customer, "/endpoints", "one", &body)).await;
    assert!(gone.is_err());
    wait::until("the answer", Duration::from_secs(20), async || {
        let answer = post(&customer, "/endpoints", "one", &body).await;
        Ok((answer.status == 201).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(endpoints(&customer).await, 1);
}

#[tokio::test]
async fn what_might_go_otherwise_next_time_is_not_kept() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let event = service.event(&customer, &endpoint, b"{}").await;
    let replay = format!("/events/{event}/replay");
    let early = post(&customer, &replay, "one", &json!({})).await;
    assert_eq!(early.status, 409, "it is not routed yet");
    service.database.execute("update events set pending = '{}'").await.unwrap();
    let now = post(&customer, &replay, "one", &json!({})).await;
    assert_eq!((now.status.as_u16(), now.header("idempotency-replayed")), (202, ""));

    // What is wrong with a request is wrong with its repeat.
    for replayed in ["", "true"] {
        let wrong = post(&customer, "/endpoints", "two", &json!({ "name": 1 })).await;
        assert_eq!((wrong.status.as_u16(), wrong.header("idempotency-replayed")), (422, replayed));
    }
}

#[tokio::test]
async fn an_answer_that_was_lost_is_not_made_up() {
    let service = Service::new().await;
    let customer = service.customer().await;
    post(&customer, "/endpoints", "one", &new("Orders")).await;
    // As after a crash between the commit and the answer.
    service
        .database
        .execute("update idempotency_keys set reply = null, locked_until = now() - interval '1 second'")
        .await
        .unwrap();
    insta::assert_snapshot!(post(&customer, "/endpoints", "one", &new("Orders")).await.shown(), @r#"
    409 {
      "detail": "the request was carried out, and its answer was lost: look at what it was to change, and use a new key",
      "status": 409,
      "title": "A request with this Idempotency-Key was begun",
      "type": "urn:ravenpost:problem:idempotency-key-in-use"
    }
    "#);
    assert_eq!(endpoints(&customer).await, 1);
}

/// What a person does for themselves belongs to no organization: the first is not there yet, the last not theirs any more.
#[tokio::test]
async fn people_found_join_and_leave_organizations_once() {
    let (service, issuer) = Service::with_logins().await;
    let (ada, eve) = (service.person(&issuer, "ada").await, service.person(&issuer, "eve").await);
    let acme = json!({ "name": "Acme" });
    let first = post(&ada, "/organizations", "one", &acme).await;
    let again = post(&ada, "/organizations", "one", &acme).await;
    assert_eq!((first.status.as_u16(), first.header("idempotency-replayed")), (201, ""));
    assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (201, "true"));
    assert_eq!((&again.bytes, again.header("location")), (&first.bytes, first.header("location")));
    assert_eq!(post(&ada, "/organizations", "one", &json!({ "name": "Others" })).await.status, 422);
    assert_eq!(post(&eve, "/organizations", "one", &acme).await.header("idempotency-replayed"), "");
    assert_eq!(ada.get("/organizations").await.json()["data"].as_array().unwrap().len(), 2);

    let organization = first.json()["id"].as_str().unwrap().to_owned();
    let there = ada.naming(Some(&organization));
    let invitation = json!({ "email": "eve@example.com", "role": "viewer" });
    assert_eq!(post(&there, "/invitations", "two", &invitation).await.status, 201);
    let invited = service.store.system().take_invitations(10).await.unwrap();
    let token = json!({ "token": invited[0].token.as_ref().unwrap().reveal() });
    let members = async || there.get("/members").await.json()["data"].as_array().unwrap().len();
    for replayed in ["", "true"] {
        let joined = post(&eve, "/invitations/accept", "two", &token).await;
        assert_eq!((joined.status.as_u16(), joined.header("idempotency-replayed")), (200, replayed));
        assert_eq!(members().await, 2);
    }
    let leave = format!("/organizations/{organization}/leave");
    for replayed in ["", "true"] {
        let left = post(&eve, &leave, "three", &json!({})).await;
        assert_eq!((left.status.as_u16(), left.header("idempotency-replayed")), (204, replayed));
        assert_eq!(members().await, 1);
    }
    // The last owner is refused for now, and may do it later with the same key.
    for _ in 0..2 {
        assert_eq!(post(&ada, &leave, "three", &json!({})).await.status, 409);
    }
    let lost = "update idempotency_keys set reply = null, locked_until = now() - interval '1 second'";
    service.database.execute(lost).await.unwrap();
    assert_eq!(post(&ada, "/organizations", "one", &acme).await.status, 409, "carried out, and not again");
    assert_eq!(ada.get("/organizations").await.json()["data"].as_array().unwrap().len(), 2);
    // A program is nobody who could.
    let program = service.customer().await;
    assert_eq!(post(&program, "/organizations", "one", &acme).await.status, 403);
}
