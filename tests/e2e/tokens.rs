//! Access tokens: asked for once, kept, renewed when they are refused; and a token endpoint that fails is told so and left
//! alone. Two tests ask a real Keycloak, the others a receiver that plays one.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ravenpost_testkit::{
    keycloak::{Address, ServiceClient},
    receiver::{Answer, Received},
    stack::keycloak,
    system::System,
};
use serde_json::{Value, json};

use crate::pacing::until_waiting;
use crate::support::{
    BOUND, Endpoint, SHARED, column, deliveries, endpoint, retries, send, until_all_succeed, until_status,
};

fn token(token: &str) -> Answer {
    let body = json!({ "access_token": token, "token_type": "Bearer", "expires_in": 3600 });
    Answer::ok().header("content-type", "application/json").body(body.to_string())
}

/// An endpoint whose first destination wants tokens from another path of the receiver.
async fn wants_tokens(system: &System, path: &str, tokens: &str, policy: &[&str]) -> Result<Endpoint> {
    let endpoint = endpoint(system, path, json!({ "retry_policy": retries(policy) })).await?;
    let authentication = json!({
        "type": "oauth2_client_credentials", "token_url": system.receiver.url(tokens), "client_id": "me",
        "client_secret": "hush & more", "scopes": ["a", "b"], "audience": "them",
    });
    system.api.patch(&endpoint.destination_path(), &json!({ "authentication": authentication })).await?;
    Ok(endpoint)
}

fn shown(received: &[Received]) -> Vec<Option<&str>> {
    received.iter().map(|request| request.header("authorization")).collect()
}

#[test]
fn a_token_is_asked_for_once_and_again_when_it_is_refused() {
    SHARED.run(async |system| {
        system.receiver.script("/token", [token("first"), token("second"), token("third")]);
        system.receiver.script("/wanted", [Answer::ok(), Answer::status(401), Answer::ok()]);
        let endpoint = wants_tokens(system, "/wanted", "/token", &[]).await?;
        let since = Instant::now();
        for _ in 0..2 {
            let id = send(&endpoint, "{}").await?;
            until_status(system, &id, "SUCCESS").await?;
            assert_eq!(column(&deliveries(system, &id).await?, "outcome"), ["success"], "in one attempt");
        }
        let received = system.receiver.received_on("/wanted");
        assert_eq!(shown(&received), [Some("Bearer first"), Some("Bearer first"), Some("Bearer second")]);
        assert_eq!(received[1].header("webhook-id"), received[2].header("webhook-id"));

        let asked = system.receiver.received_on("/token");
        assert_eq!(asked.len(), 2);
        assert_eq!(asked[0].header("authorization"), Some("Basic bWU6aHVzaCslMjYrbW9yZQ=="));
        let form = std::str::from_utf8(&asked[0].body)?;
        assert_eq!(form, "grant_type=client_credentials&scope=a+b&audience=them");

        // Whoever refuses everything costs no token for each event, but one in half a minute.
        system.receiver.script("/wanted", [Answer::status(401)]);
        for _ in 0..5 {
            let id = send(&endpoint, "{}").await?;
            until_status(system, &id, "FAILED").await?;
            assert_eq!(column(&deliveries(system, &id).await?, "response_code"), [401]);
        }
        let asked = system.receiver.received_on("/token").len();
        assert!(asked as u64 <= 2 + since.elapsed().as_secs() / 30, "asked {asked} times");
        Ok(())
    });
}

#[test]
fn many_events_at_once_wait_for_one_token() {
    SHARED.run(async |system| {
        system.receiver.script("/slow-token", [token("one").after(Duration::from_millis(300))]);
        let endpoint = wants_tokens(system, "/many", "/slow-token", &["1s"]).await?;
        let sent = (0..10).map(|_| send(&endpoint, "{}"));
        let ids: BTreeSet<String> = futures::future::try_join_all(sent).await?.into_iter().collect();
        until_all_succeed(system, &ids, BOUND).await?;
        assert_eq!(system.receiver.received_on("/slow-token").len(), 1);
        assert!(
            shown(&system.receiver.received_on("/many")).iter().all(|token| *token == Some("Bearer one"))
        );
        Ok(())
    });
}

#[test]
fn a_token_endpoint_that_fails_is_a_failed_attempt_that_says_so() {
    SHARED.run(async |system| {
        let refused = Answer::status(401).body(r#"{"error": "invalid_client", "error_description": "hush"}"#);
        system.receiver.script("/mended-token", [refused, token("mended")]);
        let endpoint = wants_tokens(system, "/mended", "/mended-token", &["1100ms", "2s"]).await?;
        let id = send(&endpoint, "{}").await?;
        until_status(system, &id, "SUCCESS").await?;
        let told = deliveries(system, &id).await?;
        assert_eq!(told["data"][0]["outcome"], "token");
        assert_eq!(told["data"][0]["error_message"], "the token endpoint answered 401: invalid_client");
        assert_eq!(
            (&told["data"][0]["response_code"], &told["data"][0]["response_body_snippet"]),
            (&Value::Null, &Value::Null)
        );
        assert!(!told.to_string().contains("hush"));
        assert_eq!(system.receiver.received_on("/mended").len(), 1);
        Ok(())
    });
}

#[test]
fn a_slow_token_endpoint_takes_of_the_destinations_time_and_its_token_serves_the_next_attempt() {
    SHARED.run(async |system| {
        system.receiver.script("/slower", [token("late").after(Duration::from_secs(3)), token("none")]);
        let endpoint = wants_tokens(system, "/hurried", "/slower", &["3s"]).await?;
        system.api.patch(&endpoint.destination_path(), &json!({ "timeout": "1s" })).await?;
        let id = send(&endpoint, "{}").await?;
        until_status(system, &id, "SUCCESS").await?;
        let told = deliveries(system, &id).await?;
        assert_eq!(column(&told, "outcome"), ["token", "success"], "{told}");
        assert_eq!(shown(&system.receiver.received_on("/hurried")), [Some("Bearer late")]);
        Ok(())
    });
}

#[test]
fn a_dead_token_endpoint_is_left_alone() {
    // One less than make the destination's breaker open.
    const EVENTS: usize = 9;
    SHARED.run(async |system| {
        system.receiver.script("/dead-token", [Answer::status(503)]);
        let endpoint = wants_tokens(system, "/never", "/dead-token", &[]).await?;
        for _ in 0..EVENTS {
            let id = send(&endpoint, "{}").await?;
            until_status(system, &id, "FAILED").await?;
            let told = deliveries(system, &id).await?;
            let message = told["data"][0]["error_message"].as_str().context("no message")?;
            assert_eq!(message, "the token endpoint answered 503");
        }
        // A ninth question would come after more than a minute.
        let asked = system.receiver.received_on("/dead-token").len();
        assert!(asked < EVENTS, "{EVENTS} events asked {asked} times");
        assert!(system.receiver.received_on("/never").is_empty());
        Ok(())
    });
}

/// Lets a destination want this client's tokens of Keycloak.
async fn want_tokens_of(
    system: &System,
    endpoint: &Endpoint,
    keycloak: &Address,
    client: &ServiceClient,
    way: &str,
) -> Result<()> {
    let authentication = json!({
        "type": "oauth2_client_credentials", "token_url": keycloak.token_url(), "client_id": client.id,
        "client_secret": client.secret, "client_authentication": way,
    });
    system.api.patch(&endpoint.destination_path(), &json!({ "authentication": authentication })).await?;
    Ok(())
}

/// The token of each request that came on a path.
fn bearers(system: &System, path: &str) -> Result<Vec<String>> {
    let received = system.receiver.received_on(path);
    let tokens = received.iter().map(|request| request.header("authorization")?.strip_prefix("Bearer "));
    tokens.map(|token| token.map(str::to_owned).context("no bearer token")).collect()
}

#[test]
fn keycloak_believes_the_token_that_it_gave_once_for_many_events() {
    SHARED.run(async |system| {
        let keycloak = keycloak::shared().await?;
        for way in ["basic", "post"] {
            let (client, path) = (keycloak.service_client(600).await?, format!("/keycloak-{way}"));
            let endpoint = endpoint(system, &path, json!({ "retry_policy": retries(&[]) })).await?;
            want_tokens_of(system, &endpoint, keycloak, &client, way).await?;
            let sent = (0..10).map(|_| send(&endpoint, "{}"));
            let mut ids: BTreeSet<String> = futures::future::try_join_all(sent).await?.into_iter().collect();
            until_all_succeed(system, &ids, BOUND).await?;
            ids.insert(send(&endpoint, "{}").await?);
            until_all_succeed(system, &ids, BOUND).await?;

            let tokens = bearers(system, &path)?;
            assert_eq!((tokens.len(), tokens.iter().collect::<BTreeSet<_>>().len()), (11, 1));
            assert_eq!(keycloak.logins(&client).await?, (1, 0), "asked once");
            let believed = keycloak.introspect(&client, &tokens[0]).await?;
            assert_eq!((&believed["active"], &believed["iss"]), (&json!(true), &json!(keycloak.issuer())));
            assert_eq!(believed["client_id"], client.id.as_str());
            let altered = format!("{}x", tokens[0]);
            assert_eq!(keycloak.introspect(&client, &altered).await?["active"], false);
        }
        Ok(())
    });
}

#[test]
fn a_token_of_keycloaks_is_replaced_when_its_time_comes() {
    SHARED.run(async |system| {
        let keycloak = keycloak::shared().await?;
        let client = keycloak.service_client(3).await?;
        let endpoint = endpoint(system, "/short-lived", json!({ "retry_policy": retries(&[]) })).await?;
        want_tokens_of(system, &endpoint, keycloak, &client, "basic").await?;
        let since = Instant::now();
        let mut seen = BTreeSet::new();
        while seen.len() < 3 {
            assert!(since.elapsed() < BOUND, "the first tokens are used for good");
            let id = send(&endpoint, "{}").await?;
            until_status(system, &id, "SUCCESS").await?;
            seen.extend(bearers(system, "/short-lived")?.pop());
        }
        assert_eq!(keycloak.logins(&client).await?, (3, 0));
        Ok(())
    });
}

#[test]
fn a_secret_that_keycloak_refuses_is_a_failed_attempt_that_says_so() {
    SHARED.run(async |system| {
        let keycloak = keycloak::shared().await?;
        let client = keycloak.service_client(600).await?;
        let wrong = ServiceClient { secret: "not this & hush".to_owned(), ..client.clone() };
        let policy = json!({ "retry_policy": retries(&["2s", "2s", "2s"]) });
        let endpoint = endpoint(system, "/refused-secret", policy).await?;
        want_tokens_of(system, &endpoint, keycloak, &wrong, "basic").await?;
        let id = send(&endpoint, "{}").await?;
        until_waiting(system, &id, "retry").await?;
        let told = deliveries(system, &id).await?;
        assert_eq!(told["data"][0]["outcome"], "token");
        let message = "the token endpoint answered 401: unauthorized_client";
        assert_eq!(told["data"][0]["error_message"], message);
        assert!(!told.to_string().contains("hush"));
        assert!(system.receiver.received_on("/refused-secret").is_empty());
        let (granted, refused) = keycloak.logins(&client).await?;
        assert!(granted == 0 && refused >= 1, "{granted} granted, {refused} refused");

        // Changed credentials are not those that were refused: their endpoint is not left alone.
        want_tokens_of(system, &endpoint, keycloak, &client, "basic").await?;
        until_status(system, &id, "SUCCESS").await?;
        let tokens = bearers(system, "/refused-secret")?;
        assert_eq!(keycloak.introspect(&client, &tokens[0]).await?["active"], true);
        Ok(())
    });
}
