//! Access tokens: asked for once, kept, renewed when they are refused; and a token endpoint that fails is told so and left
//! alone.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ravenpost_testkit::{
    receiver::{Answer, Received},
    system::System,
};
use serde_json::{Value, json};

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
