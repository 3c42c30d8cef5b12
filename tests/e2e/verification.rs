//! Only what its producer has signed gets in, and what is refused leaves no trace among events.

use std::time::Duration;

use anyhow::{Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::stream;
use hmac::Hmac;
use ravenpost_core::topic;
use ravenpost_testkit::{clock, sign, system::System, wait};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Sha256, Sha512};

use crate::support::{
    BOUND, Endpoint, SHARED, alone, answer, client, endpoint, ensure_problem, number, post, text,
    until_status,
};

/// The largest body where nobody says otherwise, in bytes.
const LIMIT: usize = 1_048_576;
const BODY: &[u8] = br#"{"type": "invoice.paid"}"#;

/// How much of anything there is: events, payloads, messages, deliveries. Copies of what was rejected stand apart.
type Stored = (i64, usize, usize, usize);

async fn stored(system: &System) -> Result<Stored> {
    Ok((
        number(system, "select count(*) from events").await?,
        system.object_keys().await?.iter().filter(|key| key.starts_with("payloads/")).count(),
        system.messages(topic::INGEST).await?.len(),
        system.receiver.received().len(),
    ))
}

fn seconds() -> i64 {
    clock::now().as_secs().cast_signed()
}

async fn post_signed(
    endpoint: &Endpoint,
    secret: &str,
    at: i64,
    signed: &[u8],
    sent: Vec<u8>,
) -> Result<Refusal> {
    let headers = sign::standard_webhooks_at(secret, "msg_1", at, signed)?;
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    post(&endpoint.hook_url, &headers, sent).await
}

type Refusal = ravenpost_testkit::api::Answer;

#[test]
fn what_is_refused_leaves_no_trace() {
    alone(System::builder(), async |system| {
        let standard =
            endpoint(system, "/standard", json!({ "verification": { "type": "standard_webhooks" } })).await?;
        let github = json!({ "verification": { "type": "provider", "provider": "github" } });
        let github = endpoint(system, "/github", github).await?;
        let deleted =
            endpoint(system, "/deleted", json!({ "verification": { "type": "standard_webhooks" } })).await?;
        let accepted = post_signed(&standard, &standard.secret, seconds(), BODY, BODY.to_vec()).await?;
        until_status(system, &text(&accepted.expect(202)?, "/id")?, "SUCCESS").await?;
        let before = stored(system).await?;
        assert_eq!(before, (1, 1, 1, 1));

        refused_signatures(&standard, &github).await?;
        refused_addresses(system, &standard, &deleted).await?;
        refused_sizes(&standard).await?;

        assert_eq!(stored(system).await?, before);
        Ok(())
    });
}

async fn refused_signatures(standard: &Endpoint, github: &Endpoint) -> Result<()> {
    let secret = &standard.secret;
    let tampered = post_signed(standard, secret, seconds(), BODY, BODY.to_ascii_uppercase()).await?;
    ensure_problem(&tampered, 401, "signature-invalid")?;
    for stale in [-301, 301] {
        let stale = post_signed(standard, secret, seconds() + 2 * stale, BODY, BODY.to_vec()).await?;
        ensure_problem(&stale, 401, "timestamp-stale")?;
    }
    let other = format!("whsec_{}", STANDARD.encode([7; 32]));
    let wrong = post_signed(standard, &other, seconds(), BODY, BODY.to_vec()).await?;
    ensure_problem(&wrong, 401, "signature-invalid")?;
    let missing = post(&standard.hook_url, &[], BODY).await?;
    let problem = ensure_problem(&missing, 401, "signature-missing")?;
    ensure!(problem["detail"].as_str().is_some_and(|detail| detail.contains("webhook-")), "{problem}");

    let signature = sign::github(&github.secret, BODY);
    let signed = |signature: String, body: &'static [u8]| async move {
        post(&github.hook_url, &[("x-hub-signature-256", &signature)], body).await
    };
    ensure_problem(&signed(signature.clone(), b"{}").await?, 401, "signature-invalid")?;
    ensure_problem(&signed(signature.replace("sha256=", "sha1="), BODY).await?, 401, "signature-invalid")?;
    ensure_problem(&signed("sha256=zz".to_owned(), BODY).await?, 401, "signature-invalid")?;
    ensure_problem(&signed(sign::github("another secret", BODY), BODY).await?, 401, "signature-invalid")?;
    ensure_problem(&post(&github.hook_url, &[], BODY).await?, 401, "signature-missing")?;
    Ok(())
}

async fn refused_addresses(system: &System, standard: &Endpoint, deleted: &Endpoint) -> Result<()> {
    let base = system.ingress[0].url();
    ensure_problem(
        &post(&format!("{base}/h/nobody-has-this-token"), &[], BODY).await?,
        404,
        "unknown-token",
    )?;
    ensure_problem(&post(&format!("{base}/elsewhere"), &[], BODY).await?, 404, "not-found")?;
    let get = answer(client().get(&standard.hook_url)).await?;
    ensure_problem(&get, 405, "method-not-allowed")?;

    system.api.delete(&deleted.path()).await?;
    // Ingress believes what it knows of an endpoint for a moment; unsigned, the question is refused meanwhile.
    wait::until_true("the endpoint to be gone", BOUND, || async {
        Ok(post(&deleted.hook_url, &[], BODY).await?.status == 410)
    })
    .await?;
    let gone = post_signed(deleted, &deleted.secret, seconds(), BODY, BODY.to_vec()).await?;
    ensure_problem(&gone, 410, "gone")?;
    Ok(())
}

async fn refused_sizes(standard: &Endpoint) -> Result<()> {
    let body = vec![b'x'; LIMIT + 1];
    let announced = post_signed(standard, &standard.secret, seconds(), &body, body.clone()).await?;
    ensure_problem(&announced, 413, "payload-too-large")?;
    ensure_problem(&chunked(standard, body).await?, 413, "payload-too-large")?;
    Ok(())
}

/// Sends in pieces, without telling how much it will be.
async fn chunked(endpoint: &Endpoint, body: Vec<u8>) -> Result<Refusal> {
    let headers = sign::standard_webhooks(&endpoint.secret, "msg_2", &body)?;
    let pieces: Vec<_> = body.chunks(50_000).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    let mut request =
        client().post(&endpoint.hook_url).body(reqwest::Body::wrap_stream(stream::iter(pieces)));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    answer(request).await
}

#[test]
fn a_body_may_be_as_large_as_the_limit() {
    SHARED.run(async |system| {
        let standard = json!({ "verification": { "type": "standard_webhooks" } });
        let standard = endpoint(system, "/at-the-limit", standard).await?;
        let body = vec![b'x'; LIMIT];
        let announced = post_signed(&standard, &standard.secret, seconds(), &body, body.clone()).await?;
        let pieces = chunked(&standard, body.clone()).await?;
        for accepted in [announced, pieces] {
            until_status(system, &text(&accepted.expect(202)?, "/id")?, "SUCCESS").await?;
        }
        let received = system.receiver.received_on("/at-the-limit");
        assert_eq!(received.len(), 2);
        assert!(received.iter().all(|request| request.body == body));

        let small = json!({ "max_body_bytes": 10 });
        let small = endpoint(system, "/small", small).await?;
        post(&small.hook_url, &[], "0123456789").await?.expect(202)?;
        ensure_problem(&post(&small.hook_url, &[], "0123456789x").await?, 413, "payload-too-large")?;
        Ok(())
    });
}

fn mac<M: hmac::Mac + hmac::KeyInit>(key: &str, signed: &[u8]) -> Vec<u8> {
    let mut mac =
        <M as hmac::KeyInit>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(signed);
    mac.finalize().into_bytes().to_vec()
}

#[test]
fn an_hmac_is_whatever_its_endpoint_describes() {
    const SECRET: &str = "a secret that the producer gave";
    SHARED.run(async |system| {
        for algorithm in ["sha1", "sha256", "sha512"] {
            for (encoding, prefix) in [("hex", "v1="), ("base64", "")] {
                for timestamp in [None, Some(json!({ "header": "X-Time", "tolerance": "1m" }))] {
                    let mut scheme = json!({
                        "type": "hmac", "header": "X-Sig", "algorithm": algorithm, "encoding": encoding, "prefix": prefix,
                    });
                    let is_timed = timestamp.is_some();
                    if let Some(timestamp) = timestamp {
                        scheme["timestamp"] = timestamp;
                    }
                    let fields = json!({ "verification": scheme, "secret": SECRET });
                    let endpoint = endpoint(system, "/hmac", fields).await?;
                    let sign = |secret: &str, at: i64| {
                        let signed = if is_timed { [at.to_string().as_bytes(), b".", BODY].concat() } else { BODY.to_vec() };
                        let bytes = match algorithm {
                            "sha1" => mac::<Hmac<Sha1>>(secret, &signed),
                            "sha256" => mac::<Hmac<Sha256>>(secret, &signed),
                            _ => mac::<Hmac<Sha512>>(secret, &signed),
                        };
                        let text = if encoding == "hex" { hex::encode(bytes) } else { STANDARD.encode(bytes) };
                        format!("{prefix}{text}")
                    };
                    let send = async |signature: String, at: i64, body: &'static [u8]| {
                        post(&endpoint.hook_url, &[("x-sig", &signature), ("x-time", &at.to_string())], body).await
                    };
                    let now = seconds();
                    send(sign(SECRET, now), now, BODY).await?.expect(202)?;
                    ensure_problem(&send(sign(SECRET, now), now, b"{}").await?, 401, "signature-invalid")?;
                    ensure_problem(&send(sign("another", now), now, BODY).await?, 401, "signature-invalid")?;
                    if is_timed {
                        let old = now - 90;
                        ensure_problem(&send(sign(SECRET, old), old, BODY).await?, 401, "timestamp-stale")?;
                        ensure_problem(&send(sign(SECRET, old), now, BODY).await?, 401, "signature-invalid")?;
                    }
                }
            }
        }
        Ok(())
    });
}

#[test]
fn nobody_is_believed_unless_that_was_chosen() {
    SHARED.run(async |system| {
        let target_url = system.receiver.url("/unsigned");
        for verification in [None, Some(Value::Null), Some(json!({})), Some(json!({ "type": "nothing" }))] {
            let mut body = json!({ "name": "unsigned", "target_url": target_url });
            if let Some(verification) = verification {
                body["verification"] = verification;
            }
            let refused = system
                .api
                .send(http::Method::POST, "/api/v1/endpoints", Some(body.to_string().into()))
                .await?;
            let problem = ensure_problem(&refused, 422, "invalid-field")?;
            let field = problem["errors"][0]["field"].as_str().unwrap_or_default();
            assert!(field.starts_with("verification"), "{problem}");
        }
        let open = endpoint(system, "/unsigned", json!({ "verification": { "type": "none" } })).await?;
        let accepted = post(&open.hook_url, &[], BODY).await?.expect(202)?;
        until_status(system, &text(&accepted, "/id")?, "SUCCESS").await?;
        let received = system.receiver.wait_until("it", Duration::from_secs(1), |all| {
            all.iter().any(|request| request.path == "/unsigned")
        });
        received.await.map(drop)
    });
}
