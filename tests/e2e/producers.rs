//! Producers as they are: they ask before they send, they rotate their secrets, they sign URLs, and some only show a
//! password.

use anyhow::{Context, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use http::{Method, StatusCode};
use ravenpost_testkit::{api::Answer, clock, sign, system::System, wait};
use serde_json::{Value, json};
use sha1::Sha1;

use crate::support::{
    BOUND, Endpoint, SHARED, answer, client, endpoint, ensure_problem, header, post, text, until_status,
};

const BODY: &[u8] = br#"{"type": "invoice.paid", "id": "evt_1"}"#;
const SECRET: &str = "a secret that the producer gave";

fn provider(slug: &str) -> Value {
    json!({ "verification": { "type": "provider", "provider": slug }, "secret": SECRET })
}

fn hex_mac(signed: &str) -> String {
    hex::encode(sign::hmac_sha256(SECRET.as_bytes(), signed.as_bytes()))
}

async fn get(url: &str) -> Result<Answer> {
    answer(client().get(url)).await
}

/// What a producer that looks for plain text expects.
fn ensure_text(answer: &Answer, status: u16, body: &str) -> Result<()> {
    ensure!(answer.status == status && answer.body == body.as_bytes(), "{answer:?}");
    ensure!(answer.headers.get("x-content-type-options").is_some_and(|value| value == "nosniff"));
    Ok(())
}

#[test]
fn what_providers_ask_before_they_send_is_answered() {
    SHARED.run(async |system| {
        let dropbox = endpoint(system, "/asked", provider("dropbox")).await?;
        ensure_text(&get(&format!("{}?challenge=abc%20d", dropbox.hook_url)).await?, 200, "abc d")?;
        ensure_problem(&get(&dropbox.hook_url).await?, 400, "malformed-request")?;

        let meta = endpoint(system, "/asked", provider("meta")).await?;
        let token = meta.hook_url.rsplit('/').next().context("a token")?;
        let url = format!("{}?hub.mode=subscribe&hub.challenge=42&hub.verify_token=", meta.hook_url);
        ensure_text(&get(&format!("{url}{token}")).await?, 200, "42")?;
        ensure_problem(&get(&format!("{url}guessed")).await?, 400, "malformed-request")?;

        let crc = endpoint(system, "/asked", provider("x")).await?;
        let answered = get(&format!("{}?crc_token=abc", crc.hook_url)).await?.expect(200)?;
        let expected = STANDARD.encode(sign::hmac_sha256(SECRET.as_bytes(), b"abc"));
        ensure!(answered["response_token"] == format!("sha256={expected}"), "{answered}");
        // Otherwise anybody could have an event signed.
        let forged = get(&format!("{}?crc_token=%7B%22a%22%3A1%7D", crc.hook_url)).await?;
        ensure_problem(&forged, 400, "malformed-request")?;

        let head =
            answer(client().head(&endpoint(system, "/asked", provider("trello")).await?.hook_url)).await?;
        ensure!(head.status == 200, "{head:?}");
        let put = answer(client().put(&dropbox.hook_url)).await?;
        ensure_problem(&put, 405, "method-not-allowed")?;
        Ok(())
    });
}

#[test]
fn a_signed_question_is_answered_only_when_it_is_signed() {
    SHARED.run(async |system| {
        let slack = endpoint(system, "/slack", provider("slack")).await?;
        let question = r#"{"type":"url_verification","challenge":"c-1"}"#;
        let now = clock::now().as_secs().to_string();
        let signature = format!("v0={}", hex_mac(&format!("v0:{now}:{question}")));
        let headers =
            [("x-slack-request-timestamp", now.as_str()), ("x-slack-signature", signature.as_str())];
        ensure_text(&post(&slack.hook_url, &headers, question).await?, 200, "c-1")?;
        let forged = question.replace("c-1", "c-2");
        ensure_problem(&post(&slack.hook_url, &headers, forged).await?, 401, "signature-invalid")?;

        let xero = endpoint(system, "/xero", provider("xero")).await?;
        let intent = r#"{"events":[],"entropy":"x"}"#;
        let right = STANDARD.encode(sign::hmac_sha256(SECRET.as_bytes(), intent.as_bytes()));
        for (signature, status) in [(right.as_str(), 200), ("AAAA", 401)] {
            let answered = post(&xero.hook_url, &[("x-xero-signature", signature)], intent).await?;
            ensure!(answered.status == status && answered.body.is_empty(), "{answered:?}");
            let challenge = header(&answered.headers, "www-authenticate");
            ensure!(challenge == (status == 401).then_some("Signature realm=\"ravenpost\""), "{challenge:?}");
        }

        // Its ping is not signed, and tells nothing.
        let woocommerce = endpoint(system, "/woocommerce", provider("woocommerce")).await?;
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let ping = post(&woocommerce.hook_url, &form, "webhook_id=17").await?;
        ensure!(ping.status == StatusCode::OK && ping.body.is_empty(), "{ping:?}");
        let more = post(&woocommerce.hook_url, &form, "webhook_id=17&id=1").await?;
        ensure_problem(&more, 401, "signature-missing")?;

        let received = system.receiver.received();
        let asked = ["/slack", "/xero", "/woocommerce"];
        ensure!(received.iter().all(|request| !asked.contains(&request.path.as_str())));
        Ok(())
    });
}

#[test]
fn a_handshake_brings_the_secret_once() {
    SHARED.run(async |system| {
        let asana = json!({ "verification": { "type": "provider", "provider": "asana" } });
        let body = json!({ "name": "asana", "target_url": system.receiver.url("/asana"), "verification": asana["verification"] });
        let created = system.api.post("/api/v1/endpoints", &body).await?;
        ensure!(created.get("secret").is_none(), "{created}");
        let hook_url = text(&created, "/hook_url")?;
        let brought = post(&hook_url, &[("x-hook-secret", SECRET)], "{}").await?;
        ensure!(brought.status == StatusCode::OK && brought.headers["x-hook-secret"] == SECRET, "{brought:?}");
        // Nobody replaces it, and Asana may ask again.
        let other = post(&hook_url, &[("x-hook-secret", "a secret of somebody else")], "{}").await?;
        ensure_problem(&other, 401, "signature-missing")?;
        ensure!(post(&hook_url, &[("x-hook-secret", SECRET)], "{}").await?.status == StatusCode::OK);

        let signature = hex::encode(sign::hmac_sha256(SECRET.as_bytes(), BODY));
        let accepted = post(&hook_url, &[("x-hook-signature", &signature)], BODY).await?;
        // Asana's page names 200 and 204: the event's id is in a header.
        ensure!(accepted.status == StatusCode::OK && accepted.body.is_empty(), "{accepted:?}");
        let id = header(&accepted.headers, "ravenpost-event-id").context("no id")?;
        until_status(system, id, "SUCCESS").await.map(drop)
    });
}

/// Notion's token has to be copied from the event into Notion's form.
#[test]
fn a_secret_that_a_person_has_to_see_comes_as_an_event() {
    SHARED.run(async |system| {
        let body = json!({ "name": "notion", "target_url": system.receiver.url("/notion"),
            "verification": { "type": "provider", "provider": "notion" } });
        let hook_url = text(&system.api.post("/api/v1/endpoints", &body).await?, "/hook_url")?;
        let token = json!({ "verification_token": SECRET }).to_string();
        let shown = post(&hook_url, &[], token.clone()).await?.expect(202)?;
        until_status(system, &text(&shown, "/id")?, "SUCCESS").await?;
        // From now on it is signed with.
        ensure_problem(&post(&hook_url, &[], token).await?, 401, "signature-missing")?;
        let signature = sign::github(SECRET, BODY);
        post(&hook_url, &[("x-notion-signature", signature.as_str())], BODY).await?.expect(202)?;
        Ok(())
    });
}

#[test]
fn secrets_rotate_without_a_gap() {
    SHARED.run(async |system| {
        let github = json!({ "verification": { "type": "provider", "provider": "github" } });
        let github = endpoint(system, "/rotating", github).await?;
        let secrets = format!("{}/secrets", github.path());
        let added = system.api.post(&secrets, &json!({})).await?;
        let second = text(&added, "/secret")?;
        let send = async |secret: &str| {
            let signature = sign::github(secret, BODY);
            post(&github.hook_url, &[("x-hub-signature-256", signature.as_str())], BODY).await
        };
        wait::until_true("the second secret to count", BOUND, || async {
            Ok(send(&second).await?.status == 202)
        })
        .await?;
        send(&github.secret).await?.expect(202)?;

        let listed = system.api.list(&secrets).await?;
        let first = listed.iter().find(|secret| secret["id"] != added["id"]).context("the first secret")?;
        system.api.delete(&format!("{secrets}/{}", text(first, "/id")?)).await?;
        wait::until_true("the first secret to be gone", BOUND, || async {
            Ok(send(&github.secret).await?.status == 401)
        })
        .await?;
        send(&second).await?.expect(202)?;
        Ok(())
    });
}

#[test]
fn a_url_that_is_signed_is_the_one_that_the_producer_knows() {
    SHARED.run(async |system| {
        let twilio = endpoint(system, "/twilio", provider("twilio")).await?;
        let form = "To=%2B1555&Body=Hello+there";
        let sent_to = format!("{}?site=1", twilio.hook_url);
        let sign = |url: &str| {
            let mac = Hmac::<Sha1>::new_from_slice(SECRET.as_bytes()).expect("HMAC takes keys of any length");
            STANDARD.encode(mac.chain_update(format!("{url}BodyHello thereTo+1555")).finalize().into_bytes())
        };
        let send = async |signature: String| {
            let form_type = ("content-type", "application/x-www-form-urlencoded");
            post(&sent_to, &[("x-twilio-signature", signature.as_str()), form_type], form).await
        };
        let taken = send(sign(&sent_to)).await?;
        ensure!(taken.status == StatusCode::NO_CONTENT, "nothing that Twilio would read: {taken:?}");
        ensure_problem(&send(sign(&twilio.hook_url)).await?, 401, "signature-invalid")?;
        Ok(())
    });
}

/// What is shown instead of signed ends here: it is not delivered.
#[test]
fn credentials_count_and_are_not_delivered() {
    SHARED.run(async |system| {
        let basic = json!({ "verification": { "type": "basic_auth", "username": "producer" } });
        let basic = endpoint(system, "/basic", basic).await?;
        let authorization = |pair: String| format!("Basic {}", STANDARD.encode(pair));
        let right = authorization(format!("producer:{}", basic.secret));
        shown(
            system,
            &basic,
            "authorization",
            &right,
            &authorization("producer:guessed".to_owned()),
            "Basic",
        )
        .await?;

        let bearer = endpoint(system, "/bearer", json!({ "verification": { "type": "bearer" } })).await?;
        let right = format!("Bearer {}", bearer.secret);
        shown(system, &bearer, "authorization", &right, "Bearer guessed", "Bearer").await?;

        let key = json!({ "verification": { "type": "api_key", "header": "X-Producer-Key" } });
        let key = endpoint(system, "/api-key", key).await?;
        shown(system, &key, "x-producer-key", &key.secret, "guessed", "Token").await
    });
}

async fn shown(
    system: &System,
    endpoint: &Endpoint,
    name: &str,
    right: &str,
    wrong: &str,
    scheme: &str,
) -> Result<()> {
    ensure_problem(&post(&endpoint.hook_url, &[(name, wrong)], BODY).await?, 401, "signature-invalid")?;
    let missing = post(&endpoint.hook_url, &[], BODY).await?;
    ensure_problem(&missing, 401, "signature-missing")?;
    let challenge = header(&missing.headers, "www-authenticate").unwrap_or_default();
    ensure!(challenge.starts_with(&format!("{scheme} realm=")), "{challenge}");
    let accepted = post(&endpoint.hook_url, &[(name, right)], BODY).await?.expect(202)?;
    until_status(system, &text(&accepted, "/id")?, "SUCCESS").await?;
    let received = system.receiver.received();
    let of_it = |value: &http::HeaderValue| value.to_str().is_ok_and(|value| value.contains(right));
    ensure!(
        received.iter().all(|request| !request.headers.values().any(of_it)),
        "the credential was delivered"
    );
    Ok(())
}

#[test]
fn large_bodies_are_verified_like_small_ones() {
    SHARED.run(async |system| {
        let github = endpoint(system, "/large", provider("github")).await?;
        let large = vec![b'x'; 300 * 1_024];
        let signature = sign::github(SECRET, &large);
        let send = async |body: Vec<u8>| {
            post(&github.hook_url, &[("x-hub-signature-256", signature.as_str())], body).await
        };
        let accepted = send(large.clone()).await?.expect(202)?;
        until_status(system, &text(&accepted, "/id")?, "SUCCESS").await?;
        let mut other = large;
        other[200 * 1_024] = b'y';
        ensure_problem(&send(other).await?, 401, "signature-invalid").map(drop)
    });
}

#[test]
fn all_of_several_ways_have_to_hold() {
    SHARED.run(async |system| {
        for (networks, allowed) in [(json!(["127.0.0.0/8", "::1"]), true), (json!(["192.0.2.0/24"]), false)] {
            let verification = json!({ "type": "all", "of": [
                { "type": "standard_webhooks" }, { "type": "ip_allow_list", "networks": networks } ] });
            let both = endpoint(system, "/both", json!({ "verification": verification })).await?;
            let signed = sign::standard_webhooks(&both.secret, "msg_1", BODY)?;
            let mut headers: Vec<_> =
                signed.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            // Nobody is behind a trusted proxy here.
            headers.push(("x-forwarded-for", "192.0.2.7"));
            let answered = post(&both.hook_url, &headers, BODY).await?;
            if allowed {
                answered.expect(202)?;
            } else {
                let problem = ensure_problem(&answered, 401, "signature-invalid")?;
                ensure!(
                    problem["detail"].as_str().is_some_and(|detail| detail.contains("127.0.0.1")),
                    "{problem}"
                );
            }
            ensure_problem(&post(&both.hook_url, &[], BODY).await?, 401, "signature-missing")?;
        }
        let listed = system.api.send(Method::GET, "/api/v1/providers", None).await?.expect(200)?;
        ensure!(listed["data"].as_array().is_some_and(|providers| providers.len() >= 40));
        Ok(())
    });
}
