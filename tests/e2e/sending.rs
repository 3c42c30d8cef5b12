//! What goes with an event: signatures that rotate, a key set that anybody can verify with, headers and credentials of
//! the destination's own; and where the time went.

use anyhow::{Context, Result, ensure};
use ravenpost_core::topic;
use ravenpost_testkit::{
    receiver::{Answer, Received},
    sign,
    system::System,
    wait,
};
use serde_json::{Value, json};

use crate::support::{
    BOUND, Endpoint, SHARED, client, column, deliveries, destination, endpoint, post, retries, send, text,
    until_status,
};

/// Sends an event and gives what arrived of it on a path.
async fn pass(system: &System, endpoint: &Endpoint, path: &str) -> Result<Received> {
    let id = send(endpoint, r#"{"n": 1}"#).await?;
    until_status(system, &id, "SUCCESS").await?;
    let received = system.receiver.received_on(path);
    let found = received.into_iter().find(|request| request.header("webhook-id") == Some(&id));
    found.with_context(|| format!("{id} is delivered and was not received on {path}"))
}

/// Sends events until what arrives is as it should be: a change counts within a second.
async fn pass_until(
    system: &System,
    endpoint: &Endpoint,
    path: &str,
    what: &str,
    condition: impl Fn(&Received) -> Result<bool>,
) -> Result<Received> {
    wait::until(what, BOUND, || async {
        let received = pass(system, endpoint, path).await?;
        Ok(condition(&received)?.then_some(received))
    })
    .await
}

fn signatures(request: &Received) -> usize {
    request.header("webhook-signature").unwrap_or_default().split(' ').count()
}

/// Whether a receiver that knows this secret alone believes a request.
fn believes(secret: &str, request: &Received) -> bool {
    sign::verify_standard_webhooks(secret, &request.headers, &request.body).is_ok()
}

#[test]
fn a_rotated_secret_leaves_nobody_behind() {
    SHARED.run(async |system| {
        let endpoint = endpoint(system, "/rotated", json!({})).await?;
        let old = endpoint.signing_secret.clone();
        assert!(believes(&old, &pass(system, &endpoint, "/rotated").await?));

        let rotate = format!("{}/rotate-secret", endpoint.destination_path());
        let new = text(&system.api.post(&rotate, &json!({ "grace": "1h" })).await?, "/signing_secret")?;
        let both = |request: &Received| Ok(signatures(request) == 2);
        let received = pass_until(system, &endpoint, "/rotated", "both signatures", both).await?;
        assert!(believes(&old, &received) && believes(&new, &received));
        // It can hold but one.
        let hub = received.header("x-hub-signature-256").context("no X-Hub-Signature-256")?;
        sign::verify_github(new.as_bytes(), hub, &received.body)?;

        system.api.post(&rotate, &json!({ "grace": "0s", "signing_secret": new })).await?;
        let one = |request: &Received| Ok(signatures(request) == 1);
        let received = pass_until(system, &endpoint, "/rotated", "one signature", one).await?;
        assert!(!believes(&old, &received) && believes(&new, &received));
        Ok(())
    });
}

/// The organization's key set, as a receiver fetches it: by the path alone, without any key of the API.
async fn key_set(system: &System) -> Result<Value> {
    let path = text(&system.api.get("/api/v1/signing-keys").await?, "/jwks_path")?;
    let management = system.management.first().context("no management API")?;
    let answer = client().get(format!("{}{path}", management.url())).send().await?;
    ensure!(answer.status() == 200, "{}", answer.status());
    Ok(serde_json::from_slice(&answer.bytes().await?)?)
}

#[test]
fn anybody_can_verify_with_the_published_keys() {
    SHARED.run(async |system| {
        let endpoint = endpoint(system, "/hmac", json!({})).await?;
        destination(system, &endpoint, "/ed25519", json!({ "signing": "ed25519" })).await?;
        let both = destination(system, &endpoint, "/both", json!({ "signing": "both" })).await?;
        let hmac = pass(system, &endpoint, "/hmac").await?;
        let keys = key_set(system).await?;
        assert!(sign::verify_with_key_set(&keys, &hmac.headers, &hmac.body).is_err());

        let received = pass(system, &endpoint, "/ed25519").await?;
        sign::verify_with_key_set(&keys, &received.headers, &received.body)?;
        assert_eq!(received.header("x-hub-signature-256"), None);
        assert!(!received.header("webhook-signature").unwrap_or_default().contains("v1,"));
        let altered = [&received.body[..], b" "].concat();
        assert!(sign::verify_with_key_set(&keys, &received.headers, &altered).is_err());

        let received = pass(system, &endpoint, "/both").await?;
        sign::verify_with_key_set(&keys, &received.headers, &received.body)?;
        let path = format!("{}/destinations/{both}/rotate-secret", endpoint.path());
        let secret = text(&system.api.post(&path, &json!({ "grace": "0s" })).await?, "/signing_secret")?;
        let rotated = |request: &Received| Ok(believes(&secret, request));
        pass_until(system, &endpoint, "/both", "the new secret", rotated).await?;
        Ok(())
    });
}

#[test]
fn a_rotated_key_overlaps_with_the_one_before() {
    crate::support::alone(System::builder(), async |system| {
        let system = &*system;
        let endpoint = endpoint(system, "/none", json!({})).await?;
        destination(system, &endpoint, "/keys", json!({ "signing": "ed25519" })).await?;
        let before = key_set(system).await?;
        let received = pass(system, &endpoint, "/keys").await?;
        let old = sign::verify_with_key_set(&before, &received.headers, &received.body)?;

        system.api.post("/api/v1/signing-keys/rotate", &json!({ "lead": "0s", "overlap": "1h" })).await?;
        let after = key_set(system).await?;
        assert_eq!(after["keys"].as_array().map(Vec::len), Some(2));
        let both = |request: &Received| Ok(signatures(request) == 2);
        let received = pass_until(system, &endpoint, "/keys", "both signatures", both).await?;
        // Whoever kept the set of before believes it, and whoever has the new one.
        assert_eq!(sign::verify_with_key_set(&before, &received.headers, &received.body)?, old);
        assert_eq!(sign::verify_with_key_set(&after, &received.headers, &received.body)?.len(), 2);
        Ok(())
    });
}

#[test]
fn headers_and_credentials_of_the_destination_go_over_the_producers() {
    SHARED.run(async |system| {
        let verification = json!({ "type": "api_key", "header": "x-producer-key" });
        let endpoint = endpoint(
            system,
            "/plain",
            json!({ "verification": verification, "secret": "the producer's key" }),
        )
        .await?;
        let headers = json!({ "X-Tenant": "acme", "user-agent": "Ours/1.0" });
        for (path, authentication) in [
            ("/basic", json!({ "type": "basic", "username": "me", "password": "hush" })),
            ("/bearer", json!({ "type": "bearer", "token": "tok.en" })),
            ("/key", json!({ "type": "api_key", "header": "x-api-key", "value": "k3y" })),
        ] {
            destination(
                system,
                &endpoint,
                path,
                json!({ "headers": headers, "authentication": authentication }),
            )
            .await?;
        }
        let sent = [("x-producer-key", "the producer's key"), ("user-agent", "Shop/1.0"), ("x-own", "1")];
        let answer = post(&endpoint.hook_url, &sent, "{}").await?;
        let id = text(&answer.expect(202)?, "/id")?;
        until_status(system, &id, "SUCCESS").await?;
        for (path, name, value) in [
            ("/basic", "authorization", "Basic bWU6aHVzaA=="),
            ("/bearer", "authorization", "Bearer tok.en"),
            ("/key", "x-api-key", "k3y"),
        ] {
            let received = system.receiver.received_on(path).pop().context("nothing received")?;
            assert_eq!(received.header(name), Some(value), "{path}");
            assert_eq!(received.header("x-tenant"), Some("acme"));
            assert_eq!(received.headers.get_all("user-agent").iter().collect::<Vec<_>>(), ["Ours/1.0"]);
            assert_eq!((received.header("x-own"), received.header("x-producer-key")), (Some("1"), None));
        }
        let plain = system.receiver.received_on("/plain").pop().context("nothing received")?;
        assert_eq!((plain.header("authorization"), plain.header("x-producer-key")), (None, None));
        Ok(())
    });
}

#[test]
fn what_a_destination_repeats_of_our_credentials_is_not_kept() {
    SHARED.run(async |system| {
        system.receiver.script("/echo", [Answer::status(500).body("you sent Bearer hush-hush-token")]);
        let endpoint = endpoint(system, "/echo", json!({ "retry_policy": retries(&[]) })).await?;
        let authentication = json!({ "type": "bearer", "token": "hush-hush-token" });
        system.api.patch(&endpoint.destination_path(), &json!({ "authentication": authentication })).await?;
        let id = send(&endpoint, "{}").await?;
        until_status(system, &id, "FAILED").await?;
        let told = deliveries(system, &id).await?;
        assert_eq!(column(&told, "response_body_snippet"), ["you sent Bearer [hidden]"]);
        Ok(())
    });
}

#[test]
fn an_attempt_tells_where_its_time_went() {
    SHARED.run(async |system| {
        let endpoint = endpoint(system, "/phases", json!({})).await?;
        let received = pass(system, &endpoint, "/phases").await?;
        let id = received.header("webhook-id").context("no webhook-id")?;
        let told = deliveries(system, id).await?;
        let attempt = &told["data"][0];
        assert!(attempt["phases"]["queue_us"].is_u64(), "{attempt}");
        assert_eq!(attempt["phases"]["tls_us"], Value::Null, "plain HTTP has no handshake");
        let mut reports = system.messages(topic::DELIVERIES).await?;
        reports.retain(|message| message.key.as_deref() == Some(endpoint.id.as_bytes()));
        let report: Value = serde_json::from_slice(&reports.first().context("no report")?.value)?;
        assert_eq!(report["phases"], attempt["phases"]);
        assert_eq!(report["connected_address"], attempt["connected_address"]);
        assert_eq!(column(&told, "outcome"), ["success"]);
        Ok(())
    });
}
