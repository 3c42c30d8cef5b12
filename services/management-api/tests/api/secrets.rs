//! The secrets that an endpoint's producers sign with, and the providers that have them.

use axum::http::Method;
use serde_json::{Value, json};

use crate::support::{Customer, Service};

async fn endpoint(customer: &Customer, verification: Value) -> (String, Value) {
    let body =
        json!({ "name": "Orders", "target_url": "https://api.example.com", "verification": verification });
    let created = customer.post("/endpoints", body).await;
    assert_eq!(created.status, 201, "{}", created.shown());
    let created = created.json();
    (format!("/endpoints/{}", created["id"].as_str().unwrap()), created)
}

async fn valid(service: &Service, created: &Value) -> Vec<String> {
    let token = created["hook_url"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let endpoint = service.store.system().endpoint_by_token(&token).await.unwrap().unwrap();
    endpoint.secrets.iter().map(|secret| secret.reveal().to_owned()).collect()
}

#[tokio::test]
async fn a_secret_rotates() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let (path, created) = endpoint(&customer, json!({ "type": "provider", "provider": "github" })).await;
    let first = created["secret"].as_str().unwrap().to_owned();
    let secrets = format!("{path}/secrets");

    let added = customer.post(&secrets, json!({ "others_expire_in": "24h" })).await;
    assert_eq!(added.status, 201);
    let location = added.header("location").to_owned();
    let added = added.json();
    assert!(location.ends_with(added["id"].as_str().unwrap()));
    let second = added["secret"].as_str().unwrap().to_owned();
    assert_eq!(valid(&service, &created).await, [second.clone(), first.clone()]);
    let brought = customer.post(&secrets, json!({ "secret": "a secret of one's own" })).await;
    assert_eq!(brought.status, 201);
    assert_eq!(valid(&service, &created).await[0], "a secret of one's own");

    let listed = customer.get(&secrets).await.json();
    let shown = listed["data"].as_array().unwrap();
    assert_eq!(shown.len(), 3);
    assert!(shown.iter().all(|secret| secret.get("secret").is_none()));
    assert_eq!(shown.iter().filter(|secret| secret["expires_at"].is_null()).count(), 2);

    for secret in &shown[1..] {
        let path = format!("{secrets}/{}", secret["id"].as_str().unwrap());
        assert_eq!(customer.delete(&path).await.status, 204);
        assert_eq!(customer.delete(&path).await.status, 404);
    }
    let last = customer.delete(&format!("{secrets}/{}", shown[0]["id"].as_str().unwrap())).await;
    insta::assert_snapshot!(last.shown(), @r#"
    409 {
      "detail": "it is the only secret, and the endpoint's verification needs one; add another one first",
      "status": 409,
      "title": "The request conflicts with what exists",
      "type": "urn:ravenpost:problem:conflict"
    }
    "#);

    let replaced = customer.patch(&path, json!({ "secret": "in place of all others" })).await;
    assert_eq!(replaced.status, 200);
    assert_eq!(valid(&service, &created).await, ["in place of all others"]);
}

#[tokio::test]
async fn a_provider_that_makes_its_secrets_gets_none_of_ours() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let (path, created) = endpoint(&customer, json!({ "type": "provider", "provider": "stripe" })).await;
    assert!(created.get("secret").is_none());
    assert!(valid(&service, &created).await.is_empty());
    let secrets = format!("{path}/secrets");
    let needed = customer.post(&secrets, json!({})).await;
    assert_eq!(needed.json()["errors"][0]["field"], "secret");
    assert_eq!(customer.post(&secrets, json!({ "secret": "whsec_from_the_dashboard" })).await.status, 201);
    assert_eq!(valid(&service, &created).await, ["whsec_from_the_dashboard"]);

    // Another provider can't go on with the same secret.
    let changed =
        customer.patch(&path, json!({ "verification": { "type": "provider", "provider": "slack" } })).await;
    assert_eq!(changed.status, 200);
    assert!(valid(&service, &created).await.is_empty());
}

#[tokio::test]
async fn what_is_wrong_with_a_verification_or_secret_is_said_by_field() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let mut told = Vec::new();
    for (verification, secret) in [
        (json!({ "type": "provider", "provider": "gitub" }), None),
        (json!({ "type": "provider", "provider": "somebody_else" }), None),
        (json!({ "type": "ip_allow_list", "networks": ["192.0.2.0/33"] }), None),
        (json!({ "type": "ip_allow_list", "networks": [] }), None),
        (json!({ "type": "basic_auth", "username": "a:b" }), None),
        (json!({ "type": "api_key", "header": "two words" }), None),
        (json!({ "type": "all", "of": [{ "type": "bearer" }] }), None),
        (json!({ "type": "all", "of": [{ "type": "bearer" }, { "type": "standard_webhooks" }] }), None),
        (json!({ "type": "all", "of": [{ "type": "bearer" }, { "type": "none" }] }), None),
        (
            json!({ "type": "hmac", "header": "X-Sig", "algorithm": "sha256", "encoding": "hex", "signed": "{bdy}" }),
            None,
        ),
        (
            json!({ "type": "hmac", "header": "X-Sig", "algorithm": "sha256", "encoding": "hex", "signed": "{timestamp}{body}" }),
            None,
        ),
        (json!({ "type": "provider", "provider": "discord" }), Some("not a key")),
        (json!({ "type": "provider", "provider": "postmark" }), Some("no-colon-in-it")),
        (json!({ "type": "ip_allow_list", "networks": ["192.0.2.7"] }), Some("not needed")),
    ] {
        let mut body = json!({ "name": "Orders", "target_url": "https://api.example.com", "verification": verification });
        if let Some(secret) = secret {
            body["secret"] = secret.into();
        }
        let answer = customer.send(Method::POST, "/endpoints", Some(body.to_string())).await;
        assert_eq!(answer.status, 422, "{}", answer.shown());
        told.push(answer.json()["detail"].as_str().unwrap().to_owned());
    }
    insta::assert_snapshot!(told.join("\n"), @"
    verification: unknown provider `gitub`; did you mean `github`?
    verification: unknown provider `somebody_else`; GET /api/v1/providers lists those that are known
    verification: `192.0.2.0/33` is not a network: write an address or a CIDR, such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32
    verification.networks: from 1 to 100 networks
    verification.username: 1 to 200 characters of visible ASCII, no colon
    verification.header: not the name of an HTTP header
    verification.of: from 2 to 8 ways to verify
    verification.of: at most one of them may take a secret; they would have to share it
    verification.of[1].type: neither all nor none
    verification: signed: `{bdy}` is not known; there are {body}, {body_sha256}, {timestamp}, {method}, {url}, {path}, {header:Name} and {json:/pointer}
    verification.timestamp: needed, since {timestamp} is among the signed parts
    secret: expected the provider's public key: in hexadecimal
    secret: expected user:password, 8 to 512 characters of visible ASCII
    secret: this verification takes no secret
    ");
}

#[tokio::test]
async fn ways_to_verify_are_combined_and_read_back() {
    let service = Service::new().await;
    let customer = service.customer().await;
    for verification in [
        json!({ "type": "all", "of": [
            { "type": "provider", "provider": "github" },
            { "type": "ip_allow_list", "networks": ["192.0.2.0/24", "2001:db8::/32"] } ] }),
        json!({ "type": "basic_auth", "username": "producer" }),
        json!({ "type": "bearer" }),
        json!({ "type": "api_key", "header": "X-Api-Key" }),
        json!({ "type": "hmac", "header": "X-Sig", "algorithm": "sha384", "encoding": "base64_url", "prefix": "v1=",
            "separator": ",", "signed": "{method}\n{url}\n{timestamp}.{body}", "key": "base64",
            "timestamp": { "header": "X-Time", "tolerance": "1m", "format": "milliseconds" } }),
    ] {
        let (path, created) = endpoint(&customer, verification.clone()).await;
        assert_eq!(customer.get(&path).await.json()["verification"], verification);
        assert_eq!(valid(&service, &created).await, [created["secret"].as_str().unwrap()]);
    }
}

#[tokio::test]
async fn providers_are_listed() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let listed = customer.get("/providers").await.json();
    let listed = listed["data"].as_array().unwrap();
    assert!(listed.len() >= 40, "{}", listed.len());
    let slack = listed.iter().find(|provider| provider["provider"] == "slack").unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(slack).unwrap(), @r#"
    {
      "handshake": "signed POST with `/type` = `url_verification`: its `/challenge` is answered",
      "name": "Slack",
      "provider": "slack",
      "secret": "theirs",
      "setup": "Paste the app's signing secret (Basic Information) as the endpoint's secret, then the endpoint's URL as the app's request URL.",
      "source": "Slack documentation, \"Verifying requests from Slack\""
    }
    "#);
}
