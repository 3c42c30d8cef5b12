//! GitHub's own webhooks pass: every recorded payload, signed and headed as GitHub does it, one endpoint per kind of
//! event, compared byte for byte at the destination.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use ravenpost_testkit::{
    receiver::Received,
    sign,
    stack::{Progress, install},
    system::System,
};
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use sha2::{Digest as _, Sha256};

use crate::support::{BOUND, Endpoint, alone, column, deliveries, endpoint, post, text, until_all_succeed};

/// GitHub's payloads as Octokit has recorded them.
const EXAMPLES: (&str, &str) = ("@octokit/webhooks-examples", "7.6.1");
/// Fewer would mean that the package has changed its form.
const LEAST_PAYLOADS: usize = 200;
const AT_ONCE: usize = 16;

/// A kind of event and what was recorded of it.
#[derive(Deserialize)]
struct Kind {
    name: String,
    /// As the package has them, to the byte.
    examples: Vec<Box<RawValue>>,
}

/// What was sent.
struct Sent {
    kind: String,
    endpoint: Endpoint,
    /// GitHub's id of it.
    delivery: String,
    body: Bytes,
}

#[test]
fn every_recorded_payload_arrives_as_it_was_sent() {
    alone(System::builder(), async |system| {
        let kinds = recorded().await?;
        let mut payloads = Vec::new();
        for Kind { name, examples } in kinds {
            let github = json!({ "verification": { "type": "provider", "provider": "github" } });
            let endpoint = endpoint(system, &format!("/{name}"), github).await?;
            payloads.extend(examples.into_iter().map(|example| (name.clone(), endpoint.clone(), example)));
        }
        let count = payloads.len();
        assert!(count >= LEAST_PAYLOADS, "only {count} payloads");

        let sent: BTreeMap<String, Sent> = stream::iter(payloads)
            .map(|(kind, endpoint, example)| send(kind, endpoint, Bytes::from(example.get().to_owned())))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        assert_eq!(sent.len(), count, "each has an id of its own");
        until_all_succeed(system, &sent.keys().cloned().collect(), BOUND).await?;

        let received = system.receiver.received();
        assert_eq!(received.len(), count, "each is received once");
        for request in &received {
            let id = request.header("webhook-id").context("no webhook-id")?;
            let sent = sent.get(id).with_context(|| format!("{id} was never sent"))?;
            compare(sent, request).with_context(|| format!("{} {id}", sent.kind))?;
        }
        let system = &*system;
        stream::iter(&sent)
            .map(Ok)
            .try_for_each_concurrent(AT_ONCE, |(id, sent)| told(system, id, sent))
            .await
    });
}

/// Posts as GitHub does; gives the event's id.
async fn send(kind: String, endpoint: Endpoint, body: Bytes) -> Result<(String, Sent)> {
    let delivery = uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string();
    let headers = [
        ("user-agent", "GitHub-Hookshot/044aadd"),
        ("content-type", "application/json"),
        ("x-github-delivery", &delivery),
        ("x-github-event", &kind),
        ("x-github-hook-id", "292430182"),
        ("x-hub-signature-256", &sign::github(&endpoint.secret, &body)),
    ];
    let answer = post(&endpoint.hook_url, &headers, body.clone()).await?;
    let id = text(&answer.expect(202)?, "/id")?;
    Ok((id, Sent { kind, endpoint, delivery, body }))
}

/// What the destination got is what was sent, and is signed by us.
fn compare(sent: &Sent, request: &Received) -> Result<()> {
    ensure!(Sha256::digest(&request.body) == Sha256::digest(&sent.body), "another body");
    ensure!(request.path == format!("/{}", sent.kind), "at {}", request.path);
    for (name, value) in [
        ("content-type", "application/json"),
        ("x-github-event", &sent.kind),
        ("x-github-delivery", &sent.delivery),
        ("user-agent", "GitHub-Hookshot/044aadd"),
    ] {
        ensure!(request.header(name) == Some(value), "{name} is {:?}, not {value}", request.header(name));
    }
    let secret = &sent.endpoint.signing_secret;
    sign::verify_standard_webhooks(secret, &request.headers, &request.body)?;
    let signature = request.header("x-hub-signature-256").context("no X-Hub-Signature-256")?;
    // The key is the whole text of the secret.
    sign::verify_github(secret.as_bytes(), signature, &request.body)
}

/// What the API tells of it.
async fn told(system: &System, id: &str, sent: &Sent) -> Result<()> {
    let path = format!("/api/v1/events/{id}");
    let event = system.api.get(&path).await?;
    ensure!(event["status"] == "SUCCESS" && event["event_type"] == sent.kind, "{event}");
    ensure!(event["payload_sha256"] == hex::encode(Sha256::digest(&sent.body)), "{event}");
    ensure!(column(&deliveries(system, id).await?, "outcome") == ["success"], "{id} has not one delivery");
    let payload = system.api.send(http::Method::GET, &format!("{path}/payload"), None).await?;
    ensure!(payload.status == 200 && payload.body == sent.body, "{id} has another payload");
    Ok(())
}

async fn recorded() -> Result<Vec<Kind>> {
    let (name, version) = EXAMPLES;
    let part = format!("{}-{version}", name.trim_start_matches('@').replace('/', "-"));
    let folder: PathBuf = install::part(&part, &Progress::silent(), move |folder| {
        install::run(
            Command::new("npm")
                .args([
                    "install",
                    "--no-audit",
                    "--no-fund",
                    "--ignore-scripts",
                    "--loglevel=error",
                    "--prefix",
                ])
                .args([folder, Path::new(&format!("{name}@{version}"))]),
            "npm, with access to its registry (Debian: apt-get install npm)",
        )
    })
    .await?;
    let file = folder.join("node_modules").join(name).join("api.github.com/index.json");
    let text = fs::read(&file).with_context(|| file.display().to_string())?;
    Ok(serde_json::from_slice(&text)?)
}
