//! What fails verification is kept for its owner to look at, costs nobody else anything, and becomes an event once it
//! verifies.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::Method;
use ravenpost_testkit::{api::Answer, fault::Mode, sign, system::System, wait};
use serde_json::{Value, json};

use crate::outage::behind_s3;
use crate::support::{
    BOUND, Endpoint, SHARED, alone, endpoint, ensure_problem, number, on, post, run, sample, tell, text,
    until_all_succeed, until_status,
};

const BODY: &[u8] = br#"{"type": "invoice.paid"}"#;
/// Of a flood.
const BAD: usize = 6_000;
const BAD_AT_ONCE: usize = 32;
/// Beside it.
const GOOD: usize = 100;
/// What one ingress keeps of an endpoint at once, and each second.
const BURST: f64 = 20.0;

fn another_secret() -> String {
    format!("whsec_{}", STANDARD.encode([7; 32]))
}

async fn post_signed(endpoint: &Endpoint, secret: &str, id: &str) -> Result<Answer> {
    let headers = sign::standard_webhooks(secret, id, BODY)?;
    let mut headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    headers.push(("authorization", "Bearer hush"));
    post(&format!("{}?source=test", endpoint.hook_url), &headers, BODY).await
}

async fn flood(endpoint: &Endpoint) -> Result<()> {
    let secret = another_secret();
    let requests = (0..BAD).map(|_| async {
        let answer = post_signed(endpoint, &secret, "msg_bad").await?;
        ensure_problem(&answer, 401, "signature-invalid").map(drop)
    });
    stream::iter(requests).buffer_unordered(BAD_AT_ONCE).try_collect().await
}

async fn good(endpoint: &Endpoint) -> Result<BTreeSet<String>> {
    let mut accepted = BTreeSet::new();
    for number in 0..GOOD {
        let answer = post_signed(endpoint, &endpoint.secret, &format!("msg_{number}")).await?;
        accepted.insert(text(&answer.expect(202)?, "/id")?);
    }
    Ok(accepted)
}

/// How many transactions this system's database has committed.
async fn transactions(system: &System) -> Result<i64> {
    number(system, "select xact_commit from pg_stat_database where datname = current_database()").await
}

/// How many requests were kept, and not kept, once `expected` are counted.
async fn until_counted(system: &System, endpoint: &Endpoint, expected: usize) -> Result<(i32, i32)> {
    let path = format!("{}/rejected-requests/counts", endpoint.path());
    wait::until("all rejected requests to be counted", BOUND, || async {
        let counts = system.api.get(&path).await?;
        let of = |field: &str| counts[field].as_i64().with_context(|| counts.to_string());
        let (kept, not_kept) = (i32::try_from(of("kept")?)?, i32::try_from(of("not_kept")?)?);
        Ok((usize::try_from(kept + not_kept)? >= expected).then_some((kept, not_kept)))
    })
    .await
}

#[test]
fn a_flood_costs_neither_the_database_nor_its_neighbours_anything() {
    alone(System::builder(), async |system| {
        let standard = json!({ "verification": { "type": "standard_webhooks" } });
        let flooded = endpoint(system, "/flooded", standard.clone()).await?;
        let neighbour = endpoint(system, "/neighbour", standard).await?;
        let (before, began) = (transactions(system).await?, Instant::now());
        let ((), accepted) = tokio::try_join!(flood(&flooded), good(&neighbour))?;
        let took = began.elapsed();
        assert_eq!(accepted.len(), GOOD, "each good one under an id of its own");

        let (kept, not_kept) = until_counted(system, &flooded, BAD).await?;
        assert_eq!(usize::try_from(kept + not_kept)?, BAD, "each is counted once");
        // The good ones' deliveries and everybody's upkeep are in it; one for each bad request would be four times as much.
        let grown = transactions(system).await? - before;
        let bound = i64::try_from(BAD)? / 4;
        assert!(grown < bound, "{grown} transactions for {BAD} bad requests in {took:?}");
        tell(&format!("{grown} transactions and {kept} rows for {BAD} bad requests in {took:?}"));
        let allowed = BURST + 1.0 + took.as_secs_f64();
        assert!(f64::from(kept) <= allowed && kept >= 20, "{kept} kept where {allowed} are allowed");
        assert_eq!(number(system, "select count(*) from rejected_requests").await?, i64::from(kept));
        wait::until_true("their bodies to be stored", BOUND, || async {
            let keys = system.object_keys().await?;
            Ok(keys.iter().filter(|key| key.starts_with("rejected/")).count() == usize::try_from(kept)?)
        })
        .await?;
        wait::until_true("the metrics to say so", BOUND, || async {
            let metrics = system.ingress[0].metrics().await?;
            let fate = |fate: &str| {
                sample(&metrics, &format!("ravenpost_ingress_rejected_requests_total{{fate=\"{fate}\"}}"))
            };
            Ok((fate("kept"), fate("over_allowance")) == (Some(kept.into()), Some(not_kept.into())))
        })
        .await?;
        until_all_succeed(system, &accepted, BOUND).await
    });
}

/// The only rejected request of an endpoint.
async fn until_kept(system: &System, endpoint: &Endpoint) -> Result<Value> {
    let path = format!("/api/v1/rejected-requests?endpoint_id={}", endpoint.id);
    wait::until("the request to be kept", BOUND, || async {
        let mut entries = system.api.list(&path).await?;
        ensure!(entries.len() <= 1, "{entries:?}");
        Ok(entries.pop())
    })
    .await
}

#[test]
fn what_is_kept_tells_why_and_no_credential() {
    SHARED.run(async |system| {
        let standard = json!({ "verification": { "type": "standard_webhooks" } });
        let endpoint = endpoint(system, "/kept", standard).await?;
        let refused = post_signed(&endpoint, &another_secret(), "msg_1").await?;
        let problem = ensure_problem(&refused, 401, "signature-invalid")?;
        let kept = until_kept(system, &endpoint).await?;
        assert_eq!((&kept["reason"], &kept["detail"]), (&json!("wrong_signature"), &problem["detail"]));
        assert_eq!((&kept["peer"], &kept["method"]), (&json!("127.0.0.1"), &json!("POST")));
        let path = format!("/api/v1/rejected-requests/{}", text(&kept, "/id")?);
        let detail = system.api.get(&path).await?;
        assert_eq!(detail["query"], "source=test");
        let shown = detail.to_string();
        assert!(!shown.contains("hush") && !shown.contains(&endpoint.secret), "{shown}");
        assert!(shown.contains("webhook-signature"), "{shown}");
        let payload = wait::until("its body to be stored", BOUND, || async {
            let payload = system.api.send(Method::GET, &format!("{path}/payload"), None).await?;
            Ok((payload.status == 200).then_some(payload.body))
        });
        assert_eq!(payload.await?, BODY);
        Ok(())
    });
}

#[test]
fn once_the_secret_is_put_right_it_is_delivered_once() {
    SHARED.run(async |system| {
        let producers = format!("whsec_{}", STANDARD.encode([9; 32]));
        let mistaken = json!({ "verification": { "type": "standard_webhooks" }, "secret": another_secret() });
        let endpoint = endpoint(system, "/put-right", mistaken).await?;
        let refused = post_signed(&endpoint, &producers, "msg_1").await?;
        ensure_problem(&refused, 401, "signature-invalid")?;
        let path =
            format!("/api/v1/rejected-requests/{}", text(&until_kept(system, &endpoint).await?, "/id")?);
        wait::until_true("its body to be stored", BOUND, || async {
            let payload = system.api.send(Method::GET, &format!("{path}/payload"), None).await?;
            Ok(payload.status == 200)
        })
        .await?;
        let accept = format!("{path}/accept");
        let early = system.api.send(Method::POST, &accept, None).await?;
        ensure_problem(&early, 409, "conflict")?;

        system.api.patch(&endpoint.path(), &json!({ "secret": producers })).await?;
        let verdict = system.api.send(Method::POST, &format!("{path}/verify"), None).await?.expect(200)?;
        assert_eq!(verdict["verified"], true, "{verdict}");
        let accepted = system.api.send(Method::POST, &accept, None).await?.expect(200)?;
        let event = text(&accepted, "/event_id")?;
        let again = system.api.send(Method::POST, &accept, None).await?.expect(200)?;
        assert_eq!(again, accepted);

        until_status(system, &event, "SUCCESS").await?;
        let received = system.receiver.received_on("/put-right");
        assert_eq!(received.len(), 1);
        assert_eq!(
            (received[0].body.as_ref(), received[0].header("webhook-id")),
            (BODY, Some(event.as_str()))
        );
        assert_eq!(received[0].header("authorization"), None);
        Ok(())
    });
}

#[test]
fn a_payload_store_that_is_away_costs_the_copy_and_not_the_answer() {
    run(async {
        let (proxy, stores) = behind_s3().await?;
        on(System::builder().stores(stores), async |system| {
            let standard = json!({ "verification": { "type": "standard_webhooks" } });
            let endpoint = endpoint(system, "/no-copy", standard).await?;
            proxy.set(Mode::Cut);
            let refused = post_signed(&endpoint, &another_secret(), "msg_1").await?;
            ensure_problem(&refused, 401, "signature-invalid")?;
            let path = format!("{}/rejected-requests/counts", endpoint.path());
            wait::until_true("it to be counted as not kept", BOUND, || async {
                let counts = system.api.get(&path).await?;
                Ok((&counts["kept"], &counts["not_kept"]) == (&json!(0), &json!(1)))
            })
            .await?;
            assert!(system.api.list("/api/v1/rejected-requests").await?.is_empty());

            proxy.set(Mode::Pass);
            wait::until_true("a request to be kept again", BOUND, || async {
                let refused = post_signed(&endpoint, &another_secret(), "msg_2").await?;
                ensure_problem(&refused, 401, "signature-invalid")?;
                Ok(!system.api.list("/api/v1/rejected-requests").await?.is_empty())
            })
            .await
        })
        .await
    });
}
