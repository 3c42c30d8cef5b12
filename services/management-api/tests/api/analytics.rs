//! Figures over time, and how an endpoint fares.

use chrono::TimeDelta;
use serde_json::json;

use crate::support::Service;

#[tokio::test]
async fn figures_come_in_buckets() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    service.attempted(&customer, &endpoint, Some(true)).await;
    service.attempted(&customer, &endpoint, Some(false)).await;
    let day = service.now.format("%Y-%m-%dT00:00:00Z");
    let next = (service.now + TimeDelta::days(1)).format("%Y-%m-%dT00:00:00Z");
    let path = format!("/analytics?destination_id={}&from={day}&to={next}&bucket=day", endpoint.destination);
    insta::assert_snapshot!(customer.get(&path).await.shown(), @r#"
    200 {
      "accepted_through": "[time]",
      "bucket": "day",
      "data": [
        {
          "accepted": 0,
          "accepted_bytes": 0,
          "attempts": 2,
          "failed": {
            "client_error": 0,
            "redirect": 0,
            "server_error": 1,
            "timeout": 0,
            "unreachable": 0
          },
          "failures": 1,
          "latency_ms": {
            "p50": 5.0,
            "p95": 5.9,
            "p99": 6.0
          },
          "start": "[time]",
          "success_rate": 0.5,
          "successes": 1
        }
      ],
      "from": "[time]",
      "to": "[time]",
      "total": {
        "accepted": 0,
        "accepted_bytes": 0,
        "attempts": 2,
        "failed": {
          "client_error": 0,
          "redirect": 0,
          "server_error": 1,
          "timeout": 0,
          "unreachable": 0
        },
        "failures": 1,
        "latency_ms": {
          "p50": 5.0,
          "p95": 5.9,
          "p99": 6.0
        },
        "success_rate": 0.5,
        "successes": 1
      }
    }
    "#);
    for of in ["", &format!("&endpoint_id={}", endpoint.id)] {
        let body = customer.get(&format!("/analytics?bucket=hour{of}")).await.json();
        let buckets = body["data"].as_array().unwrap();
        assert!((24..=25).contains(&buckets.len()), "{body}");
        assert_eq!((&body["total"]["attempts"], &body["total"]["successes"]), (&json!(2), &json!(1)));
    }
    let auto = customer.get("/analytics").await.json();
    assert_eq!(auto["bucket"], "hour");
    let stranger = service.customer().await;
    let foreign = stranger.get(&format!("/analytics?endpoint_id={}", endpoint.id)).await.json();
    assert_eq!(foreign["total"]["attempts"], 0);
}

#[tokio::test]
async fn a_span_has_bounds() {
    let service = Service::new().await;
    let customer = service.customer().await;
    for (query, parameter) in [
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "from"),
        ("from=2026-01-01T00:00:00Z&to=2026-03-01T00:00:00Z&bucket=minute", "bucket"),
        ("from=0001-01-01T00:00:00Z&bucket=day", "from"),
        ("to=%2B262142-12-31T23:59:59Z&bucket=day", "to"),
        ("from=1970-01-01T00:00:00Z&bucket=day", "bucket"),
        ("bucket=week", "bucket"),
        ("from=yesterday", "from"),
        ("grain=day", "grain"),
    ] {
        let answer = customer.get(&format!("/analytics?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.shown());
        assert!(answer.json()["errors"][0].to_string().contains(parameter), "{query}: {}", answer.shown());
    }
    // Nothing is kept by the minute of so long ago.
    let old = customer.get("/analytics?from=2020-01-01T00:00:00Z&to=2020-01-01T01:00:00Z").await.json();
    assert_eq!((&old["bucket"], old["data"].as_array().unwrap().len()), (&json!("day"), 1));
}

#[tokio::test]
async fn endpoints_are_listed_with_their_figures() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let (quiet, busy) = (customer.endpoint().await, customer.endpoint().await);
    service.attempted(&customer, &busy, Some(true)).await;
    let body = customer.get("/analytics/endpoints").await.json();
    let data = body["data"].as_array().unwrap();
    assert_eq!(data.len(), 2);
    for entry in data {
        let attempts = i32::from(entry["endpoint_id"] == busy.id.to_string());
        assert_eq!(entry["attempts"], attempts, "{entry}");
        assert!(attempts == 1 || entry["endpoint_id"] == quiet.id.to_string());
    }
    let page = customer.get("/analytics/endpoints?limit=1").await.json();
    let next = page["next"].as_str().unwrap();
    let last = customer.get(&format!("/analytics/endpoints?limit=1&next={next}")).await.json();
    assert_eq!((last["data"].as_array().unwrap().len(), &last["next"]), (1, &json!(null)));
    assert_ne!(last["data"][0]["endpoint_id"], page["data"][0]["endpoint_id"]);
}

#[tokio::test]
async fn an_endpoints_health_is_one_answer() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let path = format!("/endpoints/{}/health", endpoint.id);
    let quiet = customer.get(&path).await.json();
    assert_eq!((&quiet["last_event_at"], &quiet["lately"]["success_rate"]), (&json!(null), &json!(null)));
    service.attempted(&customer, &endpoint, Some(true)).await;
    service.attempted(&customer, &endpoint, Some(false)).await;
    service.attempted(&customer, &endpoint, None).await;
    insta::assert_snapshot!(customer.get(&path).await.shown(), @r#"
    200 {
      "dead": 1,
      "dead_more": false,
      "destinations": [
        {
          "id": "[id]",
          "name": "Orders",
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
            "waiting": 1,
            "waiting_more": false,
            "warned_at": null
          },
          "status": "active"
        }
      ],
      "endpoint_id": "[id]",
      "last_event_at": "[time]",
      "last_success_at": null,
      "lately": {
        "accepted": 0,
        "accepted_bytes": 0,
        "attempts": 3,
        "failed": {
          "client_error": 0,
          "redirect": 0,
          "server_error": 2,
          "timeout": 0,
          "unreachable": 0
        },
        "failures": 2,
        "latency_ms": {
          "p50": 5.0,
          "p95": 5.9,
          "p99": 6.0
        },
        "success_rate": 0.3333333333333333,
        "successes": 1
      },
      "oldest_due_at": "[time]",
      "status": "active",
      "waiting": {
        "held": 0,
        "parked": 0,
        "replay": 0,
        "retry": 1
      },
      "waiting_more": false
    }
    "#);
    let stranger = service.customer().await;
    assert_eq!(stranger.get(&path).await.status, 404);
}
