use std::collections::HashSet;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::DefaultBodyLimit;
use axum::http::Request;
use axum::routing::{get, post};
use serde::Deserialize;
use tower::ServiceExt;

use super::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only parsed")]
struct Endpoint {
    name: String,
    verification: Verification,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only parsed")]
struct Verification {
    tolerance: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only parsed")]
struct Page {
    limit: Option<u32>,
}

fn router() -> Router {
    let routes = Router::new()
        .route("/endpoints", post(async |Json(_): Json<Endpoint>| "created"))
        .route("/endpoints/{endpoint_id}", get(async |Path(_): Path<u32>| "one"))
        .route("/endpoints/{endpoint_id}/events/{event_id}", get(async |Path(_): Path<(u32, u32)>| "two"))
        .route("/events", get(async |Query(_): Query<Page>| "list"))
        .route("/bug", get(async || -> &'static str { panic!("a bug") }))
        .layer(DefaultBodyLimit::max(200));
    guard(routes)
}

async fn send(request: Request<Body>) -> String {
    let response = router().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let allow = response.headers().get("allow").map(|value| format!(" allow={}", value.to_str().unwrap()));
    let problem = response.headers().get("content-type").is_some_and(|value| value == CONTENT_TYPE);
    let body = to_bytes(response.into_body(), 10_000).await.unwrap();
    assert!(problem || status == 200, "{status}");
    format!("{status}{} {}", allow.unwrap_or_default(), String::from_utf8_lossy(&body))
}

async fn create(content_type: &str, body: &str) -> String {
    let request = Request::post("/endpoints").header("content-type", content_type);
    send(request.body(Body::from(body.to_owned())).unwrap()).await
}

async fn fetch(path: &str) -> String {
    send(Request::get(path).body(Body::empty()).unwrap()).await
}

#[test]
fn the_list_is_sound() {
    let slugs: HashSet<_> = Kind::ALL.iter().map(|kind| kind.slug()).collect();
    assert_eq!(slugs.len(), Kind::ALL.len());
    for kind in Kind::ALL {
        assert!(kind.status().is_client_error() || kind.status().is_server_error());
        assert!(!kind.title().is_empty() && kind.description().ends_with('.'));
    }
    assert!(Kind::ALL.is_sorted_by_key(|kind| kind.status().as_u16()));
}

#[test]
fn a_problem_is_a_document_with_headers() {
    let response = Problem::unavailable("the stores are away", Duration::from_millis(1_500)).into_response();
    insta::assert_debug_snapshot!((response.status(), response.headers()), @r#"
    (
        503,
        {
            "content-type": "application/problem+json",
            "retry-after": "2",
        },
    )
    "#);
    insta::assert_snapshot!(Problem::invalid_field("target_url", "only http and https").to_json(), @r##"{"type":"urn:ravenpost:problem:invalid-field","title":"A field is invalid","status":422,"detail":"target_url: only http and https","errors":[{"field":"target_url","detail":"only http and https","pointer":"#/target_url"}]}"##);
}

#[tokio::test]
async fn bodies_name_the_field() {
    const JSON: &str = "application/json; charset=utf-8";
    assert_eq!(create(JSON, r#"{"name": "a", "verification": {}}"#).await, "200 created");
    insta::assert_snapshot!(create(JSON, r#"{"name": "#).await, @r#"400 {"type":"urn:ravenpost:problem:malformed-request","title":"The request can't be read","status":400,"detail":"the body is not JSON: EOF while parsing a value at line 1 column 9"}"#);
    insta::assert_snapshot!(create(JSON, r#"{"name": "a", "verification": {}} x"#).await, @r#"400 {"type":"urn:ravenpost:problem:malformed-request","title":"The request can't be read","status":400,"detail":"the body is not JSON: trailing characters at line 1 column 35"}"#);
    insta::assert_snapshot!(create(JSON, r#"{"name": 5, "verification": {}}"#).await, @r##"422 {"type":"urn:ravenpost:problem:invalid-field","title":"A field is invalid","status":422,"detail":"name: invalid type: integer `5`, expected a string","errors":[{"field":"name","detail":"invalid type: integer `5`, expected a string","pointer":"#/name"}]}"##);
    insta::assert_snapshot!(create(JSON, r#"{"name": "a", "verification": {"tolerance": -1}}"#).await, @r##"422 {"type":"urn:ravenpost:problem:invalid-field","title":"A field is invalid","status":422,"detail":"verification.tolerance: invalid value: integer `-1`, expected u32","errors":[{"field":"verification.tolerance","detail":"invalid value: integer `-1`, expected u32","pointer":"#/verification/tolerance"}]}"##);
    insta::assert_snapshot!(create(JSON, r#"{"name": "a", "verification": {"tolerence": 1}}"#).await, @r##"422 {"type":"urn:ravenpost:problem:invalid-field","title":"A field is invalid","status":422,"detail":"verification.tolerence: unknown field `tolerence`, expected `tolerance`","errors":[{"field":"verification.tolerence","detail":"unknown field `tolerence`, expected `tolerance`","pointer":"#/verification/tolerence"}]}"##);
    insta::assert_snapshot!(create(JSON, r#"{"verification": {}}"#).await, @r##"422 {"type":"urn:ravenpost:problem:invalid-field","title":"A field is invalid","status":422,"detail":"name: missing field `name`","errors":[{"field":"name","detail":"missing field `name`","pointer":"#/name"}]}"##);
    insta::assert_snapshot!(create(JSON, "[]").await, @r##"422 {"type":"urn:ravenpost:problem:invalid-field","title":"A field is invalid","status":422,"detail":"(body): send a JSON object","errors":[{"field":"(body)","detail":"send a JSON object","pointer":"#"}]}"##);
    insta::assert_snapshot!(create("text/plain", "{}").await, @r#"415 {"type":"urn:ravenpost:problem:unsupported-media-type","title":"The content type is not accepted","status":415,"detail":"send JSON, with Content-Type: application/json"}"#);
    insta::assert_snapshot!(create(JSON, &" ".repeat(201)).await, @r#"413 {"type":"urn:ravenpost:problem:payload-too-large","title":"The body is too large","status":413,"detail":"the body is larger than this operation takes"}"#);
}

#[tokio::test]
async fn parameters_are_named() {
    insta::assert_snapshot!(fetch("/endpoints/abc").await, @r#"400 {"type":"urn:ravenpost:problem:invalid-parameter","title":"A parameter is invalid","status":400,"detail":"endpoint_id: it is not a valid u32","errors":[{"field":"endpoint_id","detail":"it is not a valid u32"}]}"#);
    insta::assert_snapshot!(fetch("/endpoints/1/events/abc").await, @r#"400 {"type":"urn:ravenpost:problem:invalid-parameter","title":"A parameter is invalid","status":400,"detail":"event_id: it is not a valid u32","errors":[{"field":"event_id","detail":"it is not a valid u32"}]}"#);
    insta::assert_snapshot!(fetch("/events?limit=many").await, @r#"400 {"type":"urn:ravenpost:problem:invalid-parameter","title":"A parameter is invalid","status":400,"detail":"limit: invalid digit found in string","errors":[{"field":"limit","detail":"invalid digit found in string"}]}"#);
    insta::assert_snapshot!(fetch("/events?limits=1").await, @r#"400 {"type":"urn:ravenpost:problem:invalid-parameter","title":"A parameter is invalid","status":400,"detail":"limits: unknown field `limits`, expected `limit`","errors":[{"field":"limits","detail":"unknown field `limits`, expected `limit`"}]}"#);
}

#[tokio::test]
async fn what_no_handler_answers_is_a_problem_too() {
    insta::assert_snapshot!(fetch("/nothing").await, @r#"404 {"type":"urn:ravenpost:problem:not-found","title":"There is no such thing","status":404,"detail":"there is nothing at /nothing"}"#);
    insta::assert_snapshot!(fetch("/endpoints").await, @r#"405 allow=POST {"type":"urn:ravenpost:problem:method-not-allowed","title":"The method is not allowed here","status":405,"detail":"GET is not allowed at /endpoints"}"#);
    insta::assert_snapshot!(fetch("/bug").await, @r#"500 {"type":"urn:ravenpost:problem:internal","title":"Something went wrong","status":500,"detail":"something went wrong on our side"}"#);
}
