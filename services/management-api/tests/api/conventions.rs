//! What holds for every operation: entity tags, headers, limits, parameters.

use axum::http::Method;
use ravenpost_core::limit::RateLimit;
use ravenpost_management_api::settings::ConventionSettings;
use serde_json::json;

use crate::support::{Answer, Customer, Service, serve_with};

async fn ask(customer: &Customer, method: Method, path: &str, header: (&str, &str), body: &str) -> Answer {
    let body = (!body.is_empty()).then(|| body.to_owned());
    customer.ask_with(method, &format!("/api/v1{path}"), &[header], body).await
}

fn limit(per_second: u32, burst: u32) -> RateLimit {
    RateLimit { per_second, burst }
}

#[tokio::test]
async fn nobody_undoes_what_somebody_else_has_changed_meanwhile() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let endpoint_path = format!("/endpoints/{}", endpoint.id);
    let destination_path = format!("{endpoint_path}/destinations/{}", endpoint.destination);
    let new = json!({ "name": "Down", "condition": { "type": "destination_down", "after": "5m" } });
    let rule_path =
        format!("/alert-rules/{}", customer.post("/alert-rules", new).await.json()["id"].as_str().unwrap());
    let new = json!({ "type": "email", "address": "ops@example.com" });
    let channel_path =
        format!("/channels/{}", customer.post("/channels", new).await.json()["id"].as_str().unwrap());
    for path in [&endpoint_path, &destination_path, &rule_path, &channel_path] {
        let seen = customer.get(path).await;
        let tag = seen.header("etag").to_owned();
        let unchanged = ask(&customer, Method::GET, path, ("if-none-match", &tag), "").await;
        assert_eq!((unchanged.status.as_u16(), unchanged.bytes.len()), (304, 0), "{path}");
        assert_eq!(unchanged.header("etag"), tag);

        let changed = ask(&customer, Method::PATCH, path, ("if-match", &tag), r#"{"name": "Mine"}"#).await;
        assert_eq!(changed.status, 200, "{path}: {}", changed.shown());
        let newer = changed.header("etag").to_owned();
        assert_ne!(newer, tag);
        let late = ask(&customer, Method::PATCH, path, ("if-match", &tag), r#"{"name": "Theirs"}"#).await;
        assert_eq!(late.status, 412, "{path}: {}", late.shown());
        assert_eq!(ask(&customer, Method::DELETE, path, ("if-match", &tag), "").await.status, 412);
        let now = customer.get(path).await;
        assert_eq!((now.json()["name"].as_str(), now.header("etag")), (Some("Mine"), newer.as_str()));
        for header in ["*", &newer] {
            let body = format!(r#"{{"name": "Mine {}"}}"#, header.len());
            let changed = ask(&customer, Method::PATCH, path, ("if-match", header), &body).await;
            assert_eq!(changed.status, if header == "*" { 200 } else { 412 }, "{path}: {}", changed.shown());
        }
    }
    let stale = ask(&customer, Method::PATCH, &endpoint_path, ("if-match", "\"1.1-x\""), "{}").await;
    insta::assert_snapshot!(stale.shown(), @r#"
    412 {
      "detail": "the endpoint is not of the version that If-Match names",
      "status": 412,
      "title": "Somebody has changed it meanwhile",
      "type": "urn:ravenpost:problem:precondition-failed"
    }
    "#);
    let missing = ask(
        &customer,
        Method::PATCH,
        "/endpoints/0199d0c4-7a68-7cc2-a54e-0a7d2a2b9c11",
        ("if-match", "\"1.1-x\""),
        "{}",
    );
    assert_eq!(missing.await.status, 404);
    let tag = customer.get(&endpoint_path).await.header("etag").to_owned();
    assert_eq!(ask(&customer, Method::DELETE, &endpoint_path, ("if-match", &tag), "").await.status, 204);
}

/// The URL of an endpoint is that of its first destination, however it was changed.
#[tokio::test]
async fn an_endpoint_is_another_version_with_another_url() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let path = format!("/endpoints/{}", endpoint.id);
    let tag = customer.get(&path).await.header("etag").to_owned();
    let destination = format!("{path}/destinations/{}", endpoint.destination);
    customer.patch(&destination, json!({ "url": "https://api.example.com/other" })).await;
    let late = r#"{"target_url": "https://api.example.com/late"}"#;
    assert_eq!(ask(&customer, Method::PATCH, &path, ("if-match", &tag), late).await.status, 412);
    assert_eq!(customer.get(&path).await.json()["target_url"], "https://api.example.com/other");
}

/// How a destination fares is no change of it, and yet another answer.
#[tokio::test]
async fn a_destination_that_fares_otherwise_can_be_changed_all_the_same() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let endpoint = customer.endpoint().await;
    let path = format!("/endpoints/{}/destinations/{}", endpoint.id, endpoint.destination);
    let tag = customer.get(&path).await.header("etag").to_owned();
    service.attempted(&customer, &endpoint, None).await;
    let fares = ask(&customer, Method::GET, &path, ("if-none-match", &tag), "").await;
    assert_eq!((fares.status.as_u16(), fares.json()["state"]["waiting"].clone()), (200, json!(1)));
    assert_ne!(fares.header("etag"), tag);
    assert_eq!(ask(&customer, Method::PATCH, &path, ("if-match", &tag), "{}").await.status, 200);
}

#[tokio::test]
async fn a_patch_may_be_called_what_it_is() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let path = format!("/endpoints/{}", customer.endpoint().await.id);
    let header = ("content-type", "application/merge-patch+json");
    let body = Some(r#"{"max_body_bytes": 100}"#.to_owned());
    let answer = customer.ask_with(Method::PATCH, &format!("/api/v1{path}"), &[header], body).await;
    assert_eq!((answer.status.as_u16(), answer.json()["max_body_bytes"].clone()), (200, json!(100)));
    assert_eq!(
        customer.patch(&path, json!({ "max_body_bytes": null })).await.json()["max_body_bytes"],
        json!(null)
    );
}

#[tokio::test]
async fn who_asks_too_often_waits() {
    let service = Service::new().await;
    let settings = ConventionSettings { api_rate_limit: limit(1, 3), ..ConventionSettings::default() };
    let router = serve_with(service.store.clone(), service.payloads.clone(), &settings);
    let (customer, other) =
        (service.customer().await.through(router.clone()), service.customer().await.through(router));
    let mut answers = Vec::new();
    for _ in 0..5 {
        answers.push(customer.get("/channels").await);
    }
    let first = &answers[0];
    assert_eq!(first.header("ratelimit-policy"), "\"caller\";q=3;w=3");
    assert!(first.header("ratelimit").starts_with("\"caller\";r=2;t="), "{}", first.header("ratelimit"));
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert_eq!((refused.header("retry-after"), refused.header("ratelimit")), ("1", "\"caller\";r=0;t=1"));
    insta::assert_snapshot!(refused.shown(), @r#"
    429 {
      "detail": "more requests come from this caller than its rate limit allows",
      "status": 429,
      "title": "Too many requests",
      "type": "urn:ravenpost:problem:too-many-requests"
    }
    "#);
    assert_eq!(other.get("/channels").await.status, 200, "each caller has a limit of its own");
}

#[tokio::test]
async fn guesses_are_bounded() {
    let service = Service::new().await;
    let settings = ConventionSettings { api_guess_limit: limit(1, 3), ..ConventionSettings::default() };
    let router = serve_with(service.store.clone(), service.payloads.clone(), &settings);
    let customer = service.customer().await.through(router);
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(customer.with_key(Some("rvp_x")).get("/channels").await.status.as_u16());
    }
    assert_eq!(statuses[..3], [401; 3]);
    assert!(statuses[3..].contains(&429), "{statuses:?}");
}

#[tokio::test]
async fn every_answer_is_guarded() {
    let service = Service::new().await;
    let customer = service.customer().await;
    for (path, status) in [("/api/v1/endpoints", 200), ("/api/v1/nothing", 404), ("/api/v1/endpoints/x", 400)]
    {
        let answer = customer.ask_with(Method::GET, path, &[], None).await;
        assert_eq!(answer.status, status);
        let names = [
            "cache-control",
            "content-security-policy",
            "referrer-policy",
            "x-content-type-options",
            "x-frame-options",
            "strict-transport-security",
            "access-control-allow-origin",
        ];
        let headers: Vec<_> = names.iter().map(|name| format!("{name}: {}", answer.header(name))).collect();
        insta::allow_duplicates! {
            insta::assert_snapshot!(headers.join("\n"), @"
            cache-control: no-store
            content-security-policy: default-src 'none'; frame-ancestors 'none'
            referrer-policy: no-referrer
            x-content-type-options: nosniff
            x-frame-options: DENY
            strict-transport-security: 
            access-control-allow-origin:
            ");
        }
    }
    let settings = ConventionSettings { api_behind_tls: true, ..ConventionSettings::default() };
    let encrypted = customer.through(serve_with(service.store.clone(), service.payloads.clone(), &settings));
    assert_eq!(encrypted.get("/channels").await.header("strict-transport-security"), "max-age=31536000");
}

#[tokio::test]
async fn the_console_may_call_and_no_other_page() {
    let service = Service::new().await;
    let settings = ConventionSettings {
        console_url: vec!["https://console.example.com/app".parse().unwrap()],
        ..ConventionSettings::default()
    };
    let router = serve_with(service.store.clone(), service.payloads.clone(), &settings);
    let customer = service.customer().await.through(router);
    let preflight = async |origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "PATCH"),
            ("access-control-request-headers", "authorization,content-type,if-match"),
        ];
        // Browsers send no key along.
        customer.with_key(None).ask_with(Method::OPTIONS, "/api/v1/endpoints", &headers, None).await
    };
    let allowed = preflight("https://console.example.com").await;
    assert_eq!(allowed.status, 200);
    assert_eq!(allowed.header("access-control-allow-origin"), "https://console.example.com");
    assert!(allowed.header("access-control-allow-methods").contains("PATCH"));
    assert!(allowed.header("access-control-allow-headers").contains("if-match"));
    assert_eq!(allowed.header("access-control-allow-credentials"), "");
    for other in ["https://evil.example.com", "http://console.example.com", "null"] {
        assert_eq!(preflight(other).await.header("access-control-allow-origin"), "", "{other}");
    }
    let headers = [("origin", "https://console.example.com")];
    let answer = customer.ask_with(Method::GET, "/api/v1/endpoints", &headers, None).await;
    assert_eq!(answer.header("access-control-allow-origin"), "https://console.example.com");
    assert!(answer.header("access-control-expose-headers").contains("etag"));
}

#[tokio::test]
async fn a_parameter_that_nobody_knows_is_refused_everywhere() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let path = format!("/endpoints/{}", customer.endpoint().await.id);
    insta::assert_snapshot!(customer.get(&format!("{path}?verbose=1")).await.shown(), @r#"
    400 {
      "detail": "verbose: unknown parameter: this operation has none",
      "errors": [
        {
          "detail": "unknown parameter: this operation has none",
          "field": "verbose"
        }
      ],
      "status": 400,
      "title": "A parameter is invalid",
      "type": "urn:ravenpost:problem:invalid-parameter"
    }
    "#);
    insta::assert_snapshot!(customer.get("/endpoints?limit=1&page=2").await.shown(), @r#"
    400 {
      "detail": "page: unknown parameter, expected one of `limit`, `next`",
      "errors": [
        {
          "detail": "unknown parameter, expected one of `limit`, `next`",
          "field": "page"
        }
      ],
      "status": 400,
      "title": "A parameter is invalid",
      "type": "urn:ravenpost:problem:invalid-parameter"
    }
    "#);
    assert_eq!(customer.delete(&format!("{path}?dry_run=true")).await.status, 400);
    assert_eq!(customer.get(&path).await.status, 200);
}

/// The reference loads nothing from elsewhere, and has all that it loads.
#[tokio::test]
async fn the_reference_stands_by_itself() {
    let service = Service::new().await;
    let nobody = service.customer().await.with_key(None);
    let get = async |path: &str| nobody.ask_with(Method::GET, path, &[], None).await;
    assert_eq!(get("/api/v1/docs").await.header("location"), "/api/v1/docs/");
    let index = get("/api/v1/docs/").await;
    assert_eq!((index.status.as_u16(), index.header("content-type")), (200, "text/html"));
    let policy = index.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self';"), "{policy}");
    let page = String::from_utf8(index.bytes.clone()).unwrap();
    let loaded: Vec<_> = page
        .split(['"', '\''])
        .filter(|text| [".js", ".css", ".png"].iter().any(|kind| text.ends_with(kind)))
        .collect();
    assert!(loaded.len() >= 4, "{page}");
    for file in loaded {
        assert!(!file.contains("//"), "{file}");
        let answer = get(&format!("/api/v1/docs/{}", file.trim_start_matches("./"))).await;
        assert!(answer.status == 200 && !answer.bytes.is_empty(), "{file}");
    }
    assert!(!page.contains("<script>"), "the policy lets none run");
    let initializer = get("/api/v1/docs/swagger-initializer.js").await;
    assert!(String::from_utf8(initializer.bytes).unwrap().contains("/api/v1/openapi.json"));
    assert_eq!(get("/api/v1/docs/nothing.js").await.status, 404);
}

#[tokio::test]
async fn all_that_is_wrong_is_told_at_once() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let body = json!({
        "name": "", "target_url": "ftp://example.com", "verification": { "type": "none" }, "max_body_bytes": 0,
        "timeout": "soon",
    });
    insta::assert_snapshot!(customer.post("/endpoints", body).await.shown(), @r##"
    422 {
      "detail": "name: 1 to 200 characters, not all of them blank, and no control characters; target_url: the scheme must be http or https; max_body_bytes: from 1 to 26214400; timeout: `soon` is not a duration: write a whole number and a unit, such as 500ms, 30s, 5m, 1h or 7d",
      "errors": [
        {
          "detail": "1 to 200 characters, not all of them blank, and no control characters",
          "field": "name",
          "pointer": "#/name"
        },
        {
          "detail": "the scheme must be http or https",
          "field": "target_url",
          "pointer": "#/target_url"
        },
        {
          "detail": "from 1 to 26214400",
          "field": "max_body_bytes",
          "pointer": "#/max_body_bytes"
        },
        {
          "detail": "`soon` is not a duration: write a whole number and a unit, such as 500ms, 30s, 5m, 1h or 7d",
          "field": "timeout",
          "pointer": "#/timeout"
        }
      ],
      "status": 422,
      "title": "A field is invalid",
      "type": "urn:ravenpost:problem:invalid-field"
    }
    "##);
}
