//! A producer's retry makes no second event, and one event that can't be stored takes no neighbour with it.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use serde_json::json;

use crate::support::{
    Endpoint, SHARED, alone, endpoint, ensure_problem, post, sample, text, until_all_succeed, until_status,
};
use ravenpost_testkit::system::System;
use ravenpost_testkit::{sign, wait};

/// Retries at the same time.
const AT_ONCE: usize = 40;

/// Sends as a producer that signs by Standard Webhooks; gives the event's id.
async fn send_as(endpoint: &Endpoint, id: &str, body: &str) -> Result<String> {
    let headers = sign::standard_webhooks(&endpoint.secret, id, body.as_bytes())?;
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    text(&post(&endpoint.hook_url, &headers, body.to_owned()).await?.expect(202)?, "/id")
}

/// How many events an endpoint has.
async fn events(system: &System, endpoint: &Endpoint) -> Result<usize> {
    Ok(system.api.list(&format!("/api/v1/events?endpoint_id={}", endpoint.id)).await?.len())
}

#[test]
fn a_producers_retry_is_told_the_id_of_the_first() {
    SHARED.run(async |system| {
        let standard = json!({ "verification": { "type": "standard_webhooks" } });
        let endpoint = endpoint(system, "/retried", standard.clone()).await?;
        let first = send_as(&endpoint, "msg_1", "{}").await?;
        assert_eq!(send_as(&endpoint, "msg_1", "{}").await?, first);
        assert_eq!(
            send_as(&endpoint, "msg_1", "{ }").await?,
            first,
            "providers' retries may differ in bytes"
        );
        assert_ne!(send_as(&endpoint, "msg_2", "{}").await?, first);
        // Many retries at once, in one batch and in several.
        let same = (0..AT_ONCE).map(|_| send_as(&endpoint, "msg_3", "{}"));
        let told: BTreeSet<String> = try_join_all(same).await?.into_iter().collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(events(system, &endpoint).await?, 3);
        until_all_succeed(system, &told, crate::support::BOUND).await?;
        let another = crate::support::endpoint(system, "/another", standard).await?;
        assert_ne!(send_as(&another, "msg_1", "{}").await?, first, "each endpoint has its own");
        Ok(())
    });
}

#[test]
fn a_repeat_leaves_no_payload_of_its_own() {
    alone(System::builder(), async |system| {
        let standard = json!({ "verification": { "type": "standard_webhooks" } });
        let endpoint = endpoint(system, "/repeated", standard).await?;
        let large = "x".repeat(100 * 1024);
        let first = send_as(&endpoint, "msg_1", &large).await?;
        for body in [&large, "small and alone"] {
            assert_eq!(send_as(&endpoint, "msg_1", body).await?, first);
        }
        // The producer is answered first.
        let only = [format!("payloads/{first}.json")];
        wait::until_true("only the first one's payload to be there", crate::support::BOUND, || async {
            Ok(system.object_keys().await? == only)
        })
        .await?;
        until_status(system, &first, "SUCCESS").await?;
        Ok(())
    });
}

#[test]
fn an_idempotency_key_belongs_to_one_body() {
    SHARED.run(async |system| {
        let endpoint = endpoint(system, "/idempotent", json!({})).await?;
        let send = async |key: &str, body: &str| {
            post(&endpoint.hook_url, &[("idempotency-key", key)], body.to_owned()).await
        };
        let first = text(&send("a", "1").await?.expect(202)?, "/id")?;
        assert_eq!(text(&send("a", "1").await?.expect(202)?, "/id")?, first);
        ensure_problem(&send("a", "2").await?, 409, "conflict")?;
        ensure_problem(&send("", "1").await?, 400, "malformed-request")?;
        // At once: whichever is first, it is the only one.
        let answers = try_join_all((0..AT_ONCE).map(|number| {
            let body = if number % 2 == 0 { "even" } else { "odd" };
            send("b", body)
        }))
        .await?;
        let accepted: Vec<_> = answers.iter().filter(|answer| answer.status == 202).collect();
        let conflicts = answers.iter().filter(|answer| answer.status == 409).count();
        assert_eq!((accepted.len(), conflicts), (AT_ONCE / 2, AT_ONCE / 2));
        let ids: BTreeSet<_> =
            accepted.iter().map(|answer| text(&answer.json()?, "/id")).collect::<Result<_>>()?;
        assert_eq!(ids.len(), 1);
        assert_eq!(events(system, &endpoint).await?, 2);
        Ok(())
    });
}

#[test]
fn an_event_that_cannot_be_stored_fails_no_neighbour() {
    const POISON: &str = "application/poison";
    alone(System::builder(), async |system| {
        let endpoint = endpoint(system, "/poisoned", json!({})).await?;
        let refuses = format!(
            "alter table events add constraint no_poison check (content_type is distinct from '{POISON}')"
        );
        system.database.execute(&refuses).await?;
        let answers = try_join_all((0..200).map(|number| {
            let content_type = if number % 50 == 7 { POISON } else { "text/plain" };
            let url = endpoint.hook_url.clone();
            async move { post(&url, &[("content-type", content_type)], number.to_string()).await }
        }))
        .await?;
        let mut accepted = BTreeSet::new();
        for (number, answer) in answers.iter().enumerate() {
            if number % 50 == 7 {
                ensure_problem(answer, 400, "malformed-request")?;
            } else {
                accepted.insert(text(&answer.expect(202)?, "/id")?);
            }
        }
        let metrics = system.ingress[0].metrics().await?;
        let batches = sample(&metrics, "ravenpost_ingress_batch_events_count").context("no batches")?;
        assert!(batches < 200.0, "they were committed together, in {batches} batches");
        until_all_succeed(system, &accepted, crate::support::BOUND).await?;
        assert_eq!(events(system, &endpoint).await?, 196);
        let after = crate::support::send(&endpoint, "after").await?;
        until_status(system, &after, "SUCCESS").await?;
        Ok(())
    });
}
