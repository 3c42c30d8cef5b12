//! What is sent beside the event, as its owner sets it: headers, credentials, TLS, signatures. What is a secret is
//! written and never read.

use axum::http::Method;
use ravenpost_testkit::authority::Authority;
use serde_json::{Value, json};

use crate::support::{Answer, Customer, Service};

struct Case {
    service: Service,
    customer: Customer,
    endpoint: crate::support::Endpoint,
    all: String,
    one: String,
}

impl Case {
    async fn new() -> Self {
        let service = Service::new().await;
        let customer = service.customer().await;
        let endpoint = customer.endpoint().await;
        let all = format!("/endpoints/{}/destinations", endpoint.id);
        let one = format!("{all}/{}", endpoint.destination);
        Self { service, customer, endpoint, all, one }
    }

    async fn patch(&self, change: Value) -> Answer {
        self.customer.patch(&self.one, change).await
    }

    /// What a change was refused for.
    async fn refused(&self, change: Value) -> String {
        let answer = self.patch(change.clone()).await;
        assert_eq!(answer.status, 422, "{change}: {}", answer.shown());
        answer.json()["detail"].as_str().unwrap().to_owned()
    }

    /// The secrets that the worker signs with, newest first.
    async fn signs_with(&self) -> Vec<String> {
        let route = self.service.store.system().route(self.endpoint.id).await.unwrap().unwrap();
        let config = route.destination(self.endpoint.destination).unwrap().delivery.as_ref().unwrap();
        let former = config.former_secrets.iter().map(|former| &former.secret);
        let all = std::iter::once(&config.signing_secret).chain(former);
        all.map(|secret| secret.reveal().to_owned()).collect()
    }
}

#[tokio::test]
async fn headers_and_credentials_are_written_and_not_read() {
    let case = Case::new().await;
    let new = json!({
        "name": "b", "url": "https://b.example",
        "headers": { "X-Tenant": "hush-header" },
        "authentication": { "type": "basic", "username": "me", "password": "hush-password" },
    });
    let created = case.customer.post(&case.all, new).await;
    assert_eq!(created.status, 201);
    let body = created.json();
    assert_eq!(body["header_names"], json!(["x-tenant"]));
    assert_eq!(body["authentication"], json!({ "type": "basic", "username": "me" }));
    let path = format!("{}/{}", case.all, body["id"].as_str().unwrap());

    let oauth = json!({
        "type": "oauth2_client_credentials", "token_url": "https://login.example.com/token", "client_id": "me",
        "client_secret": "hush-secret", "scopes": ["a", "b"], "client_authentication": "post",
    });
    let mut answers = vec![created];
    for change in [
        json!({ "headers": { "x-tenant": null, "X-Other": "hush-other" }, "authentication": oauth }),
        json!({ "authentication": { "type": "bearer", "token": "hush-token" } }),
        json!({ "authentication": { "type": "api_key", "header": "x-api-key", "value": "hush-key" } }),
    ] {
        answers.push(case.customer.patch(&path, change).await);
    }
    insta::assert_snapshot!(answers[1].shown(), @r#"
    200 {
      "authentication": {
        "client_authentication": "post",
        "client_id": "me",
        "scopes": [
          "a",
          "b"
        ],
        "token_url": "https://login.example.com/token",
        "type": "oauth2_client_credentials"
      },
      "created_at": "[time]",
      "disable_after": null,
      "endpoint_id": "[id]",
      "filter": null,
      "filter_error": null,
      "first_byte_timeout": null,
      "former_secrets_expire_at": null,
      "header_names": [
        "x-other"
      ],
      "id": "[id]",
      "limits": {},
      "name": "b",
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
      "url": "https://b.example/"
    }
    "#);
    let shown = |index: usize| answers[index].json()["authentication"].clone();
    assert_eq!(shown(2), json!({ "type": "bearer" }));
    assert_eq!(shown(3), json!({ "type": "api_key", "header": "x-api-key" }));
    answers.push(case.customer.get(&path).await);
    answers.push(case.customer.get(&case.all).await);
    for answer in &answers {
        assert!(answer.status.is_success() && !answer.shown().contains("hush"), "{}", answer.shown());
    }
    let removed = case.customer.patch(&path, json!({ "headers": null, "authentication": null })).await.json();
    assert_eq!((&removed["header_names"], &removed["authentication"]), (&json!([]), &Value::Null));
}

#[tokio::test]
async fn what_is_not_theirs_to_set_is_refused_by_name() {
    let case = Case::new().await;
    let mut details = Vec::new();
    for change in [
        json!({ "headers": { "Host": "example.com" } }),
        json!({ "headers": { "x-good": "1", "Webhook-Signature": "v1,x" } }),
        json!({ "headers": { "traceparent": null } }),
        json!({ "headers": { "content-encoding": "gzip" } }),
        json!({ "headers": { "x a": "1" } }),
        json!({ "headers": { "x-a": "line\nbreak" } }),
        json!({ "headers": { "x-a": "a".repeat(4_000), "x-b": "a".repeat(4_000) } }),
        json!({ "authentication": { "type": "basic", "username": "a:b", "password": "x" } }),
        json!({ "authentication": { "type": "bearer" } }),
        json!({ "authentication": { "type": "api_key", "header": "x-hub-signature-256", "value": "x" } }),
        json!({ "authentication": { "type": "oauth2_client_credentials", "token_url": "ftp://x", "client_id": "a",
            "client_secret": "b" } }),
        json!({ "authentication": { "type": "ntlm" } }),
        json!({ "tls": { "minimum_version": "1.0" } }),
        json!({ "tls": { "ca_certificates": "none" } }),
        json!({ "tls": { "client_certificate": "none" } }),
        json!({ "signing": "rsa" }),
    ] {
        details.push(case.refused(change).await);
    }
    insta::assert_snapshot!(details.join("\n"), @"
    headers.Host: `host` belongs to the connection or the message's framing
    headers.Webhook-Signature: `webhook-signature` is set by the service itself
    headers.traceparent: `traceparent` is set by the service itself
    headers.content-encoding: `content-encoding` tells how the producer's body is encoded, which is sent as it came
    headers.x a: not a header name of 1 to 100 characters
    headers.x-a: 1 to 4096 characters of visible ASCII, no blanks around them
    headers: at most 6144 bytes of names and values together
    authentication.username: no colon (RFC 7617)
    authentication.token: missing field `token`
    authentication.header: `x-hub-signature-256` is set by the service itself
    authentication.token_url: the scheme must be http or https
    authentication.type: unknown variant `ntlm`, expected one of `basic`, `bearer`, `api_key`, `oauth2_client_credentials`
    tls.minimum_version: choose 1.2 or 1.3
    tls.ca_certificates: there is no `-----BEGIN CERTIFICATE-----` in it
    tls.client_key: a client certificate needs its key
    signing: unknown variant `rsa`, expected one of `hmac`, `ed25519`, `both`
    ");
    let shown = case.customer.get(&case.one).await.json();
    assert_eq!((&shown["header_names"], &shown["authentication"]), (&json!([]), &Value::Null));
}

#[tokio::test]
async fn tls_is_checked_and_its_key_not_shown() {
    let case = Case::new().await;
    let authority = Authority::new("Ravenpost tests").unwrap();
    let (identity, other) = (authority.issue(&["a"]).unwrap(), authority.issue(&["b"]).unwrap());
    let tls = json!({
        "ca_certificates": authority.pem(), "client_certificate": identity.certificate, "client_key": identity.key,
        "minimum_version": "1.3",
    });
    let changed = case.patch(json!({ "tls": tls })).await;
    assert_eq!(changed.status, 200);
    let mut expected = tls.clone();
    expected.as_object_mut().unwrap().remove("client_key");
    assert_eq!(changed.json()["tls"], expected);
    assert!(!changed.shown().contains("PRIVATE"));

    let mut wrong = tls;
    wrong["client_key"] = other.key.into();
    let detail = case.refused(json!({ "tls": wrong })).await;
    assert_eq!(detail, "tls.client_key: it is not the key of the client certificate");
    assert_eq!(case.patch(json!({ "tls": null })).await.json()["tls"], Value::Null);
}

#[tokio::test]
async fn a_secret_rotates_with_grace() {
    let case = Case::new().await;
    let rotate = format!("{}/rotate-secret", case.one);
    let first = case.signs_with().await.remove(0);
    let rotated = case.customer.send(Method::POST, &rotate, None).await;
    assert_eq!(rotated.status, 200, "{}", rotated.shown());
    let rotated = rotated.json();
    let second = rotated["signing_secret"].as_str().unwrap().to_owned();
    assert_eq!(case.signs_with().await, [second.clone(), first]);
    assert_eq!(
        case.customer.get(&case.one).await.json()["former_secrets_expire_at"],
        rotated["former_secrets_expire_at"]
    );
    let grace: chrono::DateTime<chrono::Utc> =
        rotated["former_secrets_expire_at"].as_str().unwrap().parse().unwrap();
    let grace =
        grace - rotated["updated_at"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    assert_eq!(grace, chrono::TimeDelta::hours(24));

    let brought = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let body = json!({ "signing_secret": brought, "grace": "0s" });
    let rotated = case.customer.post(&rotate, body).await.json();
    assert_eq!(
        (&rotated["signing_secret"], &rotated["former_secrets_expire_at"]),
        (&json!(brought), &Value::Null)
    );
    assert_eq!(case.signs_with().await, [brought]);

    let mut details = Vec::new();
    for body in
        [json!({ "grace": "91d" }), json!({ "signing_secret": "short" }), json!({ "grace_period": "1d" })]
    {
        let answer = case.customer.post(&rotate, body).await;
        assert_eq!(answer.status, 422);
        details.push(answer.json()["detail"].as_str().unwrap().to_owned());
    }
    insta::assert_snapshot!(details.join("\n"), @"
    grace: at most 90d
    signing_secret: expected whsec_ followed by 24 to 64 bytes in base64
    grace_period: unknown field `grace_period`, expected `signing_secret` or `grace`
    ");
    for _ in 0..4 {
        assert_eq!(case.customer.post(&rotate, json!({ "grace": "1h" })).await.status, 200);
    }
    insta::assert_snapshot!(case.customer.post(&rotate, json!({ "grace": "1h" })).await.shown(), @r#"
    409 {
      "detail": "4 former secrets of the destination still count, which is the most; a shorter grace ends theirs as well",
      "status": 409,
      "title": "The request conflicts with what exists",
      "type": "urn:ravenpost:problem:conflict"
    }
    "#);
    let stranger = case.service.customer().await;
    assert_eq!(stranger.post(&rotate, json!({})).await.status, 404);
}

async fn key_set(customer: &Customer, path: &str) -> Answer {
    customer.with_key(None).send_to(Method::GET, path, None).await
}

#[tokio::test]
async fn keys_are_made_on_first_use_published_and_rotated() {
    let case = Case::new().await;
    let empty = case.customer.get("/signing-keys").await.json();
    assert_eq!(empty["data"], json!([]));
    let path = empty["jwks_path"].as_str().unwrap().to_owned();
    assert_eq!(key_set(&case.customer, &path).await.json(), json!({ "keys": [] }));

    assert_eq!(case.patch(json!({ "signing": "both" })).await.json()["signing"], "both");
    let keys = case.customer.get("/signing-keys").await.json();
    assert_eq!(keys["data"].as_array().unwrap().len(), 1);
    let published = key_set(&case.customer, &path).await;
    assert_eq!(published.header("content-type"), "application/jwk-set+json");
    assert_eq!(published.header("cache-control"), "public, max-age=300");
    let published = published.json();
    let key = &published["keys"][0];
    assert_eq!(
        (&key["kty"], &key["crv"], &key["kid"]),
        (&json!("OKP"), &json!("Ed25519"), &keys["data"][0]["id"])
    );
    assert!(key.get("d").is_none());

    let rotated = case.customer.send(Method::POST, "/signing-keys/rotate", None).await;
    assert_eq!(rotated.status, 201);
    assert!(!rotated.shown().contains("whsk_"));
    assert_eq!(key_set(&case.customer, &path).await.json()["keys"].as_array().unwrap().len(), 2);
    let later = case.customer.post("/signing-keys/rotate", json!({ "lead": "2h" })).await;
    assert_eq!(later.status, 409, "{}", later.shown());
    let wrong = case.customer.post("/signing-keys/rotate", json!({ "overlap": "soon" })).await;
    assert_eq!(wrong.json()["errors"][0]["field"], "overlap");

    // A stolen key is withdrawn, and what was to come after it with it.
    let withdrawn = json!({ "lead": "0s", "overlap": "0s" });
    let rotated = case.customer.post("/signing-keys/rotate", withdrawn).await;
    assert_eq!(rotated.status, 201, "{}", rotated.shown());
    let published = key_set(&case.customer, &path).await.json();
    let kids: Vec<_> = published["keys"].as_array().unwrap().iter().map(|key| &key["kid"]).collect();
    assert_eq!(kids, [&rotated.json()["id"]]);
}

#[tokio::test]
async fn each_organization_has_a_key_set_of_its_own() {
    let case = Case::new().await;
    case.patch(json!({ "signing": "ed25519" })).await;
    let stranger = case.service.customer().await;
    let theirs = stranger.get("/signing-keys").await.json();
    assert_eq!(theirs["data"], json!([]));
    let path = theirs["jwks_path"].as_str().unwrap();
    assert_eq!(key_set(&case.customer, path).await.json(), json!({ "keys": [] }));
    let unknown = "/.well-known/jwks.json?organization_id=0199d0c4-7a68-7cc2-a54e-0a7d2a2b9c11";
    assert_eq!(key_set(&case.customer, unknown).await.json(), json!({ "keys": [] }));
    let mut details = Vec::new();
    for path in ["/.well-known/jwks.json", "/.well-known/jwks.json?organization_id=x"] {
        let answer = key_set(&case.customer, path).await;
        assert_eq!(answer.status, 400);
        details.push(answer.json()["detail"].as_str().unwrap().to_owned());
    }
    insta::assert_snapshot!(details.join("\n"), @"
    organization_id: missing field `organization_id`
    organization_id: UUID parsing failed: invalid character: found `x` at 0
    ");
}

#[tokio::test]
async fn an_attempt_tells_where_its_time_went() {
    let case = Case::new().await;
    let event = case.service.attempted(&case.customer, &case.endpoint, Some(true)).await;
    let told = case.customer.get(&format!("/events/{event}/deliveries")).await.json();
    assert_eq!(
        told["data"][0]["phases"],
        json!({ "queue_us": 1_500, "dns_us": null, "connect_us": null, "tls_us": null, "first_byte_us": 4_000 })
    );
    assert_eq!(told["data"][0]["connected_address"], "203.0.113.7:443");
}

/// A destination at `https://one.example/a` that has every kind of credential.
async fn with_credentials(case: &Case) -> String {
    let identity = Authority::new("clients").unwrap().issue(&["ravenpost"]).unwrap();
    let new = json!({
        "name": "b", "url": "https://one.example/a",
        "headers": { "x-key": "hush-header", "x-tenant": "acme" },
        "authentication": { "type": "bearer", "token": "hush-token" },
        "tls": { "client_certificate": identity.certificate, "client_key": identity.key },
    });
    let created = case.customer.post(&case.all, new).await;
    assert_eq!(created.status, 201, "{}", created.shown());
    format!("{}/{}", case.all, created.json()["id"].as_str().unwrap())
}

#[tokio::test]
async fn no_credential_follows_a_url_to_another_host() {
    let case = Case::new().await;
    let path = with_credentials(&case).await;
    insta::assert_snapshot!(case.customer.patch(&path, json!({ "url": "https://evil.example/a" })).await.shown(), @r##"
    422 {
      "detail": "authentication, headers.x-key, headers.x-tenant, tls: given for the present url, and the new one leads to another scheme, host or port: to be given again with it, or removed by null",
      "errors": [
        {
          "detail": "given for the present url, and the new one leads to another scheme, host or port: to be given again with it, or removed by null",
          "field": "authentication",
          "pointer": "#/authentication"
        },
        {
          "detail": "given for the present url, and the new one leads to another scheme, host or port: to be given again with it, or removed by null",
          "field": "headers.x-key",
          "pointer": "#/headers/x-key"
        },
        {
          "detail": "given for the present url, and the new one leads to another scheme, host or port: to be given again with it, or removed by null",
          "field": "headers.x-tenant",
          "pointer": "#/headers/x-tenant"
        },
        {
          "detail": "given for the present url, and the new one leads to another scheme, host or port: to be given again with it, or removed by null",
          "field": "tls",
          "pointer": "#/tls"
        }
      ],
      "status": 422,
      "title": "A field is invalid",
      "type": "urn:ravenpost:problem:invalid-field"
    }
    "##);
    let unsaid = async |change: Value| {
        let answer = case.customer.patch(&path, change.clone()).await;
        assert_eq!(answer.status, 422, "{change}: {}", answer.shown());
        let fields = answer.json()["errors"].as_array().unwrap().clone();
        let fields = fields.iter().map(|error| error["field"].as_str().unwrap().to_owned());
        fields.collect::<Vec<_>>().join(" ")
    };
    let all = "authentication headers.x-key headers.x-tenant tls";
    for url in [
        "http://one.example/a",
        "https://one.example:8443/a",
        "https://one.example.evil.example/a",
        "https://one.example./a",
    ] {
        assert_eq!(unsaid(json!({ "url": url })).await, all, "{url}");
    }
    let evil = "https://evil.example";
    assert_eq!(
        unsaid(json!({ "url": evil, "authentication": null, "tls": null })).await,
        "headers.x-key headers.x-tenant"
    );
    let tls = json!({ "client_certificate": null });
    assert_eq!(
        unsaid(json!({ "url": evil, "headers": { "X-Key": "new", "x-other": "1" }, "tls": tls })).await,
        "authentication headers.x-tenant"
    );
    // The certificate that is there would need its key again.
    assert_eq!(
        unsaid(json!({ "url": evil, "headers": null, "authentication": null, "tls": {} })).await,
        "tls.client_key"
    );
    assert_eq!(unsaid(json!({ "url": evil, "headers": null, "tls": null })).await, "authentication");
    // Nothing of what was refused has been done.
    let now = case.customer.get(&path).await.json();
    assert_eq!(
        (&now["url"], &now["header_names"]),
        (&json!("https://one.example/a"), &json!(["x-key", "x-tenant"]))
    );

    // The same host, another path; then another host with everything said.
    let moved = case.customer.patch(&path, json!({ "url": "https://ONE.example:443/b?c" })).await;
    assert_eq!((moved.status.as_u16(), &moved.json()["url"]), (200, &json!("https://one.example/b?c")));
    let said = json!({
        "url": evil, "headers": { "x-key": "other", "x-tenant": null }, "tls": null,
        "authentication": { "type": "basic", "username": "me", "password": "other" },
    });
    let moved = case.customer.patch(&path, said).await;
    assert_eq!((moved.status.as_u16(), &moved.json()["header_names"]), (200, &json!(["x-key"])));
    let removed = json!({ "url": "https://two.example", "headers": null, "authentication": null });
    assert_eq!(case.customer.patch(&path, removed).await.status, 200);
    // What has none goes anywhere, and the signing secret with it: it is only signed with. So do authorities of TLS.
    let authority = Authority::new("servers").unwrap();
    let tls = json!({ "ca_certificates": authority.pem() });
    assert_eq!(case.customer.patch(&path, json!({ "tls": tls })).await.status, 200);
    assert_eq!(case.customer.patch(&path, json!({ "url": evil })).await.status, 200);
}

#[tokio::test]
async fn no_client_secret_follows_a_token_url_to_another_host() {
    let case = Case::new().await;
    let oauth = |token_url: &str| json!({ "type": "oauth2_client_credentials", "token_url": token_url, "client_id": "me" });
    let mut whole = oauth("https://login.example.com/token");
    whole["client_secret"] = json!("hush");
    assert_eq!(case.patch(json!({ "authentication": whole })).await.status, 200);
    // The secret is not there to be merged with: there is no way to say another token URL, and not the secret.
    let mut refused = Vec::new();
    for authentication in
        [oauth("https://evil.example/token"), json!({ "token_url": "https://evil.example/token" })]
    {
        refused.push(case.refused(json!({ "authentication": authentication })).await);
    }
    // Nor does a token that is good for one host go to another.
    refused.push(case.refused(json!({ "url": "https://evil.example" })).await);
    insta::assert_snapshot!(refused.join("\n"), @"
    authentication.client_secret: missing field `client_secret`
    authentication.client_secret: missing field `client_secret`
    authentication: given for the present url, and the new one leads to another scheme, host or port: to be given again with it, or removed by null
    ");
    let kept = case.customer.get(&case.one).await.json();
    assert_eq!(kept["authentication"]["token_url"], "https://login.example.com/token");
}

#[tokio::test]
async fn no_credential_follows_the_target_url_of_its_endpoint() {
    let case = Case::new().await;
    let endpoint = format!("/endpoints/{}", case.endpoint.id);
    assert_eq!(case.patch(json!({ "headers": { "x-key": "hush" } })).await.status, 200);
    let change = json!({ "name": "x", "target_url": "https://evil.example" });
    insta::assert_snapshot!(case.customer.patch(&endpoint, change.clone()).await.shown(), @r##"
    422 {
      "detail": "target_url: leads to another scheme, host or port, and the first destination has credentials for the present one (headers.x-key): change the url of the destination itself, and give them again or remove them there",
      "errors": [
        {
          "detail": "leads to another scheme, host or port, and the first destination has credentials for the present one (headers.x-key): change the url of the destination itself, and give them again or remove them there",
          "field": "target_url",
          "pointer": "#/target_url"
        }
      ],
      "status": 422,
      "title": "A field is invalid",
      "type": "urn:ravenpost:problem:invalid-field"
    }
    "##);
    let kept = case.customer.get(&endpoint).await.json();
    assert_eq!(
        (&kept["name"], &kept["target_url"]),
        (&json!("Orders"), &json!("https://api.example.com/orders"))
    );
    let same = json!({ "target_url": "https://api.example.com/other" });
    assert_eq!(case.customer.patch(&endpoint, same).await.status, 200);
    assert_eq!(case.patch(json!({ "headers": null })).await.status, 200);
    assert_eq!(case.customer.patch(&endpoint, change).await.status, 200);
}
