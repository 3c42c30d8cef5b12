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
      "disable_after": null,
      "endpoint_id": "[id]",
      "filter": null,
      "filter_error": null,
      "first_byte_timeout": null,
      "former_secrets_expire_at": null,
      "header_names": [],
      "id": "[id]",
      "limits": {},
      "name": "Billing",
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
    let changed = customer.patch(&one, change.clone()).await;
    assert_eq!(changed.status, 200, "{}", changed.shown());
    for (field, value) in change.as_object().unwrap() {
        shown[field] = value.clone();
    }
    shown["retry_policy"]["jitter"] = json!(0.1);
    shown["updated_at"] = changed.json()["updated_at"].clone();
    assert_eq!(changed.json(), shown);
    assert_eq!(customer.get(&all).await.json()["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn its_end() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let all = format!("/endpoints/{}/destinations", endpoint.id);
    let created = customer.post(&all, json!({ "name": "Billing", "url": "https://b.example/x" })).await;
    let one = format!("{all}/{}", created.json()["id"].as_str().unwrap());
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
async fn an_endpoint_has_a_hundred_of_them_at_most() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let all = format!("/endpoints/{}/destinations", endpoint.id);
    // With the first one 99, and others that were deleted.
    let more = "insert into destinations (organization_id, id, endpoint_id, name, url, signing_secret, retry_policy,
            timeout_ms, slot, deleted_at)
        select organization_id, uuidv7(), endpoint_id, name, url, signing_secret, retry_policy, timeout_ms, slot,
            case when n > 98 then now() end
        from destinations, generate_series(1, 120) n";
    service.database.execute(more).await.unwrap();
    let new = json!({ "name": "b", "url": "https://b.example" });
    let (one, other) = tokio::join!(customer.post(&all, new.clone()), customer.post(&all, new.clone()));
    let mut statuses = [one.status.as_u16(), other.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409], "the last one is made once");
    insta::assert_snapshot!(customer.post(&all, new.clone()).await.shown(), @r#"
    409 {
      "detail": "the endpoint has 100 destinations, which is the most: delete one that nobody needs",
      "status": 409,
      "title": "The request conflicts with what exists",
      "type": "urn:ravenpost:problem:conflict"
    }
    "#);
    assert_eq!(customer.delete(&format!("{all}/{}", endpoint.destination)).await.status, 204);
    assert_eq!(customer.post(&all, new).await.status, 201);
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
async fn how_fast_it_is_sent_to_is_its_owners_or_the_operators() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let all = format!("/endpoints/{}/destinations", endpoint.id);
    let limits = json!({ "concurrency": 2, "rate": { "per_second": 10, "burst": 20 } });
    let policy =
        json!({ "type": "exponential", "first": "10s", "attempts": 5, "overrides": { "dns": "none" } });
    let new = json!({ "name": "b", "url": "https://b.example", "limits": limits, "disable_after": "never",
        "retry_policy": policy });
    let created = customer.post(&all, new).await.json();
    assert_eq!((&created["limits"], &created["disable_after"]), (&limits, &json!("never")));
    let whole = json!({ "type": "exponential", "first": "10s", "factor": 2.0, "max": "1d", "attempts": 5, "jitter": 0.1,
        "overrides": { "dns": "none" } });
    assert_eq!(created["retry_policy"], whole);
    let one = format!("{all}/{}", created["id"].as_str().unwrap());
    let changed = customer.patch(&one, json!({ "limits": { "concurrency": 3 } })).await.json();
    assert_eq!(
        (&changed["limits"], &changed["disable_after"]),
        (&json!({ "concurrency": 3, "rate": limits["rate"] }), &json!("never"))
    );
    let changed = customer.patch(&one, json!({ "limits": null, "disable_after": null })).await.json();
    assert_eq!((&changed["limits"], &changed["disable_after"]), (&json!({}), &Value::Null));
    let changed = customer.patch(&one, json!({ "disable_after": "36h" })).await.json();
    assert_eq!(changed["disable_after"], "36h");
    assert_eq!(customer.get(&one).await.json(), changed);
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
        json!({ "limits": { "concurrency": 0 } }),
        json!({ "limits": { "rate": { "per_second": 0, "burst": 1 } } }),
        json!({ "limits": { "speed": 1 } }),
        json!({ "disable_after": "91d" }),
        json!({ "disable_after": "soon" }),
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
    status: unknown field `status`, expected one of `name`, `url`, `retry_policy`, `timeout`, `first_byte_timeout`, `signing_secret`, `signing`, `headers`, `authentication`, `tls`, `filter`, `limits`, `disable_after`, `replay_on_recovery`
    name: 1 to 200 characters, not all of them blank, and no control characters
    url: the scheme must be http or https
    timeout: from 100ms to 1m
    retry_policy.jitter: a number from 0 to 1
    status: active or paused: only we disable a destination
    limits.concurrency: from 1 to 256
    limits.rate.per_second: from 1 to 1000000
    limits.speed: unknown field `speed`, expected `concurrency` or `rate`
    disable_after: from 1s to 90d, or never
    disable_after: `soon` is not a duration: write a whole number and a unit, such as 500ms, 30s, 5m, 1h or 7d, from 1s to 90d, or never
    signing_secret: unknown field `signing_secret`, expected one of `name`, `url`, `retry_policy`, `timeout`, `first_byte_timeout`, `status`, `signing`, `headers`, `authentication`, `tls`, `filter`, `limits`, `disable_after`, `replay_on_recovery`
    ");
    assert_eq!(customer.get(&all).await.json()["data"].as_array().unwrap().len(), 1);
    insta::assert_snapshot!(customer.get(&format!("{all}/first")).await.shown(), @r#"
    400 {
      "detail": "destination_id: UUID parsing failed: invalid character: found `i` at 1",
      "errors": [
        {
          "detail": "UUID parsing failed: invalid character: found `i` at 1",
          "field": "destination_id"
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
          "detail": "a number from 1 to 250",
          "field": "limit"
        }
      ],
      "status": 400,
      "title": "A parameter is invalid",
      "type": "urn:ravenpost:problem:invalid-parameter"
    }
    "#);
}

#[tokio::test]
async fn a_filter_is_set_changed_and_taken_away() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let all = format!("/endpoints/{}/destinations", endpoint.id);
    let filter = json!({ "event_types": ["invoice.*", "push"], "expression": "body.amount > 100" });
    let new = json!({ "name": "b", "url": "https://b.example", "filter": filter });
    let created = customer.post(&all, new).await;
    assert_eq!((created.status.as_u16(), &created.json()["filter"]), (201, &filter));
    let id = created.json()["id"].as_str().unwrap().to_owned();
    let one = format!("{all}/{id}");

    // Its worker finds that it does not fit; what it says of another filter does not count.
    let stored = serde_json::from_value(filter.clone()).unwrap();
    let (other, event) =
        (ravenpost_core::filter::Filter::default(), service.event(&customer, &endpoint, b"{}").await);
    let error = |message: &str, failed_at| ravenpost_store::system::FilterError {
        message: message.to_owned(),
        event_id: event,
        failed_at,
    };
    let (system, destination, now) = (service.store.system(), id.parse().unwrap(), service.now);
    system.report_filter_error(destination, &other, &error("another", now)).await.unwrap();
    assert_eq!(customer.get(&one).await.json()["filter_error"], Value::Null);
    for (message, seconds) in [("first", 0), ("too soon", 59), ("second", 60)] {
        let at = now + chrono::TimeDelta::seconds(seconds);
        system.report_filter_error(destination, &stored, &error(message, at)).await.unwrap();
        let shown = customer.get(&one).await.json();
        let expected = if seconds == 59 { "first" } else { message };
        assert_eq!(shown["filter_error"]["message"], expected);
        assert_eq!(shown["filter_error"]["event_id"], event.to_string());
    }

    let renamed = customer.patch(&one, json!({ "name": "c" })).await.json();
    assert_eq!((&renamed["filter"], &renamed["filter_error"]["message"]), (&filter, &json!("second")));
    let changed = customer.patch(&one, json!({ "filter": { "expression": "true" } })).await.json();
    assert_eq!(
        (&changed["filter"], &changed["filter_error"]),
        (&json!({ "event_types": filter["event_types"], "expression": "true" }), &Value::Null)
    );
    for nothing in [Value::Null, json!({ "event_types": [], "expression": null })] {
        customer.patch(&one, json!({ "filter": filter })).await;
        let changed = customer.patch(&one, json!({ "filter": nothing })).await;
        assert_eq!((changed.status.as_u16(), &changed.json()["filter"]), (200, &Value::Null));
    }
    assert_eq!(customer.get(&all).await.json()["data"][0]["filter"], Value::Null);
}

#[tokio::test]
async fn a_filter_that_can_not_be_used_is_refused_with_its_place() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let all = format!("/endpoints/{}/destinations", endpoint.id);
    let one = format!("{all}/{}", endpoint.destination);
    let mut told = Vec::new();
    for filter in [
        json!({ "expression": "body.amount >" }),
        json!({ "expression": "body.amount > 1 &&\n  tpye == 'a'" }),
        json!({ "expression": "body.a.all(x, body.a.all(y, body.a.all(z, true)))" }),
        json!({ "event_types": ["a", ""] }),
        json!({ "event_types": "a" }),
        json!({ "expresion": "true" }),
    ] {
        let answers = [
            customer.patch(&one, json!({ "filter": filter })).await,
            customer.post(&all, json!({ "name": "b", "url": "https://b.example", "filter": filter })).await,
        ];
        let [changed, created] =
            answers.each_ref().map(|answer| (answer.status.as_u16(), answer.json()["errors"].clone()));
        assert_eq!(changed, created);
        assert_eq!(changed.0, 422);
        told.push(format!(
            "{}: {}",
            changed.1[0]["field"].as_str().unwrap(),
            changed.1[0]["detail"].as_str().unwrap()
        ));
    }
    insta::assert_snapshot!(told.join("\n"), @"
    filter.expression: line 1, column 14: mismatched input '<EOF>' expecting expression
    filter.expression: line 2, column 3: unknown name `tpye`: there are type, headers, body and endpoint
    filter.expression: line 1, column 40: all, exists, exists_one and filter nest at most 2 deep
    filter.event_types[1]: 1 to 200 bytes
    filter.event_types: invalid type: string \"a\", expected a sequence
    filter.expresion: unknown field `expresion`, expected `event_types` or `expression`
    ");
}
