//! A store that is away is 503 with `Retry-After`, and tells nothing of itself.

use std::time::Duration;

use ravenpost_store::{Settings, Store};
use serde_json::json;

use crate::support::{MASTER_KEY, NOBODY, Service, payloads_away, serve};

#[tokio::test]
async fn postgres_away() {
    let service = Service::new().await;
    let settings = Settings {
        database_url: format!("postgres://ravenpost@{NOBODY}/x"),
        database_tls: Some("disable".parse().unwrap()),
        database_ca_file: None,
        database_connections: 2,
        database_wait: Duration::from_millis(200),
        database_statement_timeout: Duration::from_secs(1),
    };
    let away = Store::new(&settings, Some(MASTER_KEY.parse().unwrap())).unwrap();
    let customer = service.customer().await.through(serve(away, service.payloads.clone()));
    let answer = customer.get("/endpoints").await;
    assert_eq!(answer.header("retry-after"), "2");
    insta::assert_snapshot!(answer.shown(), @r#"
    503 {
      "detail": "Postgres is unavailable",
      "status": 503,
      "title": "Temporarily unavailable",
      "type": "urn:ravenpost:problem:unavailable"
    }
    "#);
    assert_eq!(customer.post("/endpoints", json!({})).await.status, 503);
}

#[tokio::test]
async fn s3_away() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let event = service.event(&customer, &endpoint, b"{}").await;
    let customer = customer.through(serve(service.store.clone(), payloads_away().await));
    let answer = customer.get(&format!("/events/{event}/payload")).await;
    assert_eq!(answer.header("retry-after"), "2");
    insta::assert_snapshot!(answer.shown(), @r#"
    503 {
      "detail": "the payload store is unavailable",
      "status": 503,
      "title": "Temporarily unavailable",
      "type": "urn:ravenpost:problem:unavailable"
    }
    "#);
    assert_eq!(customer.get(&format!("/events/{event}")).await.status, 200);
}
