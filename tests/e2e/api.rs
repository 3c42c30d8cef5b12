//! The API as a customer meets it: what can't be accepted names its field and changes nothing, and nobody sees what is
//! another's.

use anyhow::{Context, Result, ensure};
use http::Method;
use ravenpost_testkit::{api::Api, system::System};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{SHARED, alone, endpoint, ensure_problem, number, retries, send, text, until_status};

/// Everything that a customer could change, as a number.
const CHANGES: &str =
    "select (select count(*) from endpoints) * 1000 + (select count(*) from destinations) * 100
    + (select count(*) from channels) * 10 + (select count(*) from scheduled_deliveries)
    + (select coalesce(sum(extract(epoch from updated_at) * 1000), 0)::bigint from endpoints)
    + (select coalesce(sum(extract(epoch from updated_at) * 1000), 0)::bigint from destinations)";

#[test]
fn bad_input_names_its_field_and_changes_nothing() {
    alone(System::builder(), async |system| {
        let there = endpoint(system, "/there", json!({})).await?;
        let event = send(&there, "{}").await?;
        until_status(system, &event, "SUCCESS").await?;
        let before = number(system, CHANGES).await?;

        let (endpoints, destinations) =
            ("/api/v1/endpoints".to_owned(), format!("{}/destinations", there.path()));
        let good =
            json!({ "name": "n", "target_url": "https://example.com/", "verification": { "type": "none" } });
        let bad_endpoints = [
            ("name", json!(7)),
            ("name", json!("")),
            ("target_url", json!("ftp://example.com/")),
            ("target_url", json!("file:///etc/passwd")),
            ("target_url", json!("not a url")),
            ("target_url", json!(["https://example.com/"])),
            ("verification.type", json!({ "type": "magic" })),
            ("verification", json!({ "type": "none", "key": 1 })),
            (
                "verification.header",
                json!({ "type": "hmac", "header": "a b", "algorithm": "sha256", "encoding": "hex" }),
            ),
            ("retry_policy.schedule", json!({ "schedule": ["soon"] })),
            ("retry_policy.jitter", json!({ "schedule": ["1s"], "jitter": 2 })),
            ("timeout", json!("a while")),
            ("timeout", json!("1h")),
            ("max_body_bytes", json!(-1)),
            ("max_body_bytes", json!("many")),
            ("surprise", json!(true)),
        ];
        for (field, value) in bad_endpoints {
            let mut body = good.clone();
            body[field.split('.').next().unwrap_or(field)] = value;
            names(system, Method::POST, &endpoints, &body, field).await?;
        }
        for missing in ["name", "target_url", "verification"] {
            let mut body = good.clone();
            body.as_object_mut().context("an object")?.remove(missing);
            names(system, Method::POST, &endpoints, &body, missing).await?;
        }
        names(system, Method::PATCH, &there.path(), &json!({ "status": "asleep" }), "status").await?;
        names(system, Method::PATCH, &there.path(), &json!({ "target_url": "gopher://x" }), "target_url")
            .await?;
        names(system, Method::PATCH, &there.path(), &json!({ "token": "mine" }), "token").await?;
        names(system, Method::POST, &destinations, &json!({ "name": "n", "url": "javascript:1" }), "url")
            .await?;
        names(
            system,
            Method::PATCH,
            &there.destination_path(),
            &json!({ "retry_policy": 5 }),
            "retry_policy",
        )
        .await?;
        let channel = json!({ "type": "email", "address": "nobody" });
        names(system, Method::POST, "/api/v1/channels", &channel, "address").await?;
        let replay = format!("/api/v1/events/{event}/replay");
        names(system, Method::POST, &replay, &json!({ "destination_id": "x" }), "destination_id").await?;

        for broken in ["{", "", "nonsense", "{\"name\": \"\u{0}", &format!("{good} and more")] {
            let refused = system.api.send(Method::POST, &endpoints, Some(broken.into())).await?;
            ensure_problem(&refused, 400, "malformed-request").with_context(|| broken.to_owned())?;
        }
        bad_parameters(system).await?;
        assert_eq!(number(system, CHANGES).await?, before);
        Ok(())
    });
}

async fn names(system: &System, method: Method, path: &str, body: &Value, field: &str) -> Result<()> {
    let refused = system.api.send(method, path, Some(body.to_string().into_bytes())).await?;
    let problem = ensure_problem(&refused, 422, "invalid-field").with_context(|| body.to_string())?;
    let named = problem["errors"][0]["field"].as_str().unwrap_or_default();
    ensure!(
        named == field || named.starts_with(&format!("{field}.")) || named.starts_with(&format!("{field}[")),
        "{body}: not {field} but {problem}"
    );
    Ok(())
}

async fn bad_parameters(system: &System) -> Result<()> {
    for (path, parameter) in [
        ("/api/v1/endpoints/17", "endpoint_id"),
        ("/api/v1/endpoints/not-a-uuid/destinations", "endpoint_id"),
        ("/api/v1/events/00000000", "event_id"),
        ("/api/v1/events/%00/deliveries", "event_id"),
        ("/api/v1/events?status=LOST", "status"),
        ("/api/v1/events?limit=0", "limit"),
        ("/api/v1/events?limit=many", "limit"),
        ("/api/v1/events?next=!", "next"),
        ("/api/v1/events?endpoint_id=x", "endpoint_id"),
        ("/api/v1/events?received_after=yesterday", "received_after"),
        ("/api/v1/events?colour=red", "colour"),
    ] {
        let refused = system.api.send(Method::GET, path, None).await?;
        let problem = ensure_problem(&refused, 400, "invalid-parameter").with_context(|| path.to_owned())?;
        ensure!(problem["errors"][0]["field"] == parameter, "{path}: {problem}");
    }
    let nothing = system.api.send(Method::GET, "/api/v1/nothing", None).await?;
    ensure_problem(&nothing, 404, "not-found")?;
    let put = system.api.send(Method::PUT, "/api/v1/endpoints", None).await?;
    ensure_problem(&put, 405, "method-not-allowed")?;
    Ok(())
}

#[test]
fn another_organization_finds_nothing() {
    SHARED.run(async |system| {
        let (_, stranger) = system.another_organization("Second Organization").await?;
        let mine = endpoint(system, "/mine", json!({ "retry_policy": retries(&[]) })).await?;
        let event = send(&mine, "{}").await?;
        until_status(system, &event, "SUCCESS").await?;
        let address = format!("{event}@example.com");
        let channel =
            system.api.post("/api/v1/channels", &json!({ "type": "email", "address": address })).await?;
        let channel = format!("/api/v1/channels/{}", text(&channel, "/id")?);

        let (endpoint, destination) = (mine.path(), mine.destination_path());
        let destinations = format!("{endpoint}/destinations");
        let event = format!("/api/v1/events/{event}");
        let new = json!({ "name": "theirs", "url": "https://example.com/" });
        let paused = json!({ "status": "paused" });
        for (method, path, body) in [
            (Method::GET, endpoint.clone(), None),
            (Method::PATCH, endpoint.clone(), Some(&paused)),
            (Method::DELETE, endpoint.clone(), None),
            (Method::GET, destinations.clone(), None),
            (Method::POST, destinations, Some(&new)),
            (Method::GET, destination.clone(), None),
            (Method::PATCH, destination.clone(), Some(&paused)),
            (Method::DELETE, destination, None),
            (Method::GET, event.clone(), None),
            (Method::GET, format!("{event}/payload"), None),
            (Method::GET, format!("{event}/deliveries"), None),
            (Method::POST, format!("{event}/replay"), None),
            (Method::DELETE, channel.clone(), None),
        ] {
            let what = format!("{method} {path}");
            let answer = stranger.send(method, &path, body.map(|body| body.to_string().into_bytes())).await?;
            ensure_problem(&answer, 404, "not-found").context(what)?;
        }
        for list in ["endpoints", "events", "channels", "alerts"] {
            let listed = stranger.list(&format!("/api/v1/{list}")).await?;
            assert!(listed.is_empty(), "{list}: {listed:?}");
        }
        let filtered = stranger.list(&format!("/api/v1/events?endpoint_id={}", mine.id)).await?;
        assert!(filtered.is_empty(), "{filtered:?}");

        let untouched = system.api.get(&endpoint).await?;
        assert_eq!(untouched["status"], "active");
        system.api.delete(&channel).await?;
        Ok(())
    });
}

#[test]
fn a_key_opens_what_its_scopes_say() {
    SHARED.run(async |system| {
        for key in [None, Some("rvp_unknown"), Some(&*format!("rvp_{}_{}", "0".repeat(16), "0".repeat(64)))] {
            let nobody = system.api.with_key(key.map(str::to_owned));
            for path in ["/api/v1/endpoints", "/api/v1/events", "/api/v1/channels", "/api/v1/alerts"] {
                let refused = nobody.send(Method::GET, path, None).await?;
                ensure_problem(&refused, 401, "api-key-invalid")?;
                ensure!(refused.headers.contains_key("www-authenticate"), "no challenge");
            }
        }
        let reader = key_with(system, &["endpoints:read"], "null").await?;
        reader.get("/api/v1/endpoints").await?;
        let body =
            json!({ "name": "n", "target_url": "https://example.com/", "verification": { "type": "none" } });
        let body = Some(body.to_string().into_bytes());
        for (method, path, body) in
            [(Method::POST, "/api/v1/endpoints", body), (Method::GET, "/api/v1/events", None)]
        {
            let refused = reader.send(method, path, body).await?;
            ensure_problem(&refused, 403, "forbidden")?;
        }
        let expired = key_with(system, &["endpoints:read"], "now() - interval '1 minute'").await?;
        let refused = expired.send(Method::GET, "/api/v1/endpoints", None).await?;
        ensure_problem(&refused, 401, "api-key-invalid")?;
        Ok(())
    });
}

/// A key of the first organization with these scopes, written straight into the database.
async fn key_with(system: &System, scopes: &[&str], expires_at: &str) -> Result<Api> {
    let prefix = hex::encode(rand::random::<[u8; 8]>());
    let key = format!("rvp_{prefix}_{}", hex::encode(rand::random::<[u8; 32]>()));
    let (organization, hash) = (&system.tenant.organization_id, hex::encode(Sha256::digest(&key)));
    system
        .database
        .execute(&format!(
            "insert into api_keys (organization_id, id, name, prefix, hash, scopes, expires_at)
             values ('{organization}', gen_random_uuid(), 'of a test', '{prefix}', '\\x{hash}', '{{{}}}', {expires_at})",
            scopes.join(",")
        ))
        .await?;
    Ok(system.api.with_key(Some(key)))
}

#[test]
fn the_document_describes_what_is_served() {
    SHARED.run(async |system| {
        let document = system.api.with_key(None).get("/api/v1/openapi.json").await?;
        ensure!(
            document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")),
            "{}",
            document["openapi"]
        );
        for path in ["/endpoints", "/endpoints/{endpoint_id}/destinations", "/events/{event_id}/replay"] {
            ensure!(document["paths"].get(format!("/api/v1{path}")).is_some(), "{path}");
        }
        Ok(())
    });
}
