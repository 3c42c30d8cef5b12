//! What an endpoint lets in and answers is as it is set, everywhere and soon; what nobody has asked for costs little.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, stream};
use rand::{RngExt as _, distr::Alphanumeric};
use ravenpost_testkit::{
    api::Answer,
    fault::{FaultProxy, Mode},
    sign,
    stack::{self, Addresses},
    system::{Service, System},
    wait,
};
use serde_json::{Value, json};

use crate::support::{
    BOUND, Endpoint, SHARED, alone, endpoint, ensure_problem, header, on, post, run, sample, send, text,
};

/// Longer than it takes for a replica to hear of a change, and far shorter than it believes what it has read.
const SOON: Duration = Duration::from_secs(5);

/// Sends until something else than 202 is answered; gives that, and how many were accepted.
pub(crate) async fn until_refused(endpoint: &Endpoint) -> Result<(Answer, u32)> {
    let started = Instant::now();
    for accepted in 0.. {
        let answer = post(&endpoint.hook_url, &[], "{}").await?;
        if answer.status != 202 {
            return Ok((answer, accepted));
        }
        ensure!(started.elapsed() < BOUND, "nothing is refused");
    }
    unreachable!()
}

#[test]
fn a_rate_is_kept_and_told() {
    SHARED.run(async |system| {
        let limit = json!({ "rate_limit": { "per_second": 1, "burst": 3 } });
        let endpoint = endpoint(system, "/rate", limit).await?;
        let started = Instant::now();
        let first = post(&endpoint.hook_url, &[], "{}").await?;
        first.expect(202)?;
        assert_eq!(header(&first.headers, "ratelimit-policy"), Some(r#""endpoint";q=3;w=3"#));
        assert_eq!(header(&first.headers, "ratelimit"), Some(r#""endpoint";r=2;t=1"#));
        let (refused, accepted) = until_refused(&endpoint).await?;
        let most = 3.0 + started.elapsed().as_secs_f64();
        ensure!(
            accepted >= 2 && f64::from(accepted + 1) <= most,
            "{accepted} after the first, at most {most}"
        );
        ensure_problem(&refused, 429, "too-many-requests")?;
        assert_eq!(header(&refused.headers, "retry-after"), Some("1"));
        assert_eq!(header(&refused.headers, "ratelimit"), Some(r#""endpoint";r=0;t=1"#));
        wait::until_true("the next one to be accepted", BOUND, || async {
            Ok(post(&endpoint.hook_url, &[], "{}").await?.status == 202)
        })
        .await
    });
}

#[test]
fn requests_that_are_not_believed_take_nothing_from_a_rate() {
    SHARED.run(async |system| {
        let fields = json!({
            "rate_limit": { "per_second": 1, "burst": 2 }, "verification": { "type": "standard_webhooks" }
        });
        let endpoint = endpoint(system, "/believed", fields).await?;
        for _ in 0..20 {
            post(&endpoint.hook_url, &[], "{}").await?.expect(401)?;
        }
        for id in ["msg_1", "msg_2"] {
            let headers = sign::standard_webhooks(&endpoint.secret, id, b"{}")?;
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            post(&endpoint.hook_url, &headers, "{}").await?.expect(202)?;
        }
        Ok(())
    });
}

#[test]
fn endpoints_of_an_organization_share_its_rate() {
    alone(System::builder().setting("RAVENPOST_ENDPOINT_RATE_LIMIT", "1000:2000"), async |system| {
        let first = endpoint(system, "/first", json!({})).await?;
        let second = endpoint(system, "/second", json!({})).await?;
        let answer = post(&first.hook_url, &[], "{}").await?;
        assert_eq!(header(&answer.headers, "ratelimit-policy"), Some(r#""endpoint";q=2000;w=2"#));
        let pool = system.database.pool().await?;
        let limit = "update organizations set rate_limit = '{\"per_second\": 1, \"burst\": 10}'";
        sqlx::query(limit).execute(&pool).await?;
        wait::until_true("the organization's limit to be heard of", SOON, || async {
            let answer = post(&first.hook_url, &[], "{}").await?;
            let policy = header(&answer.headers, "ratelimit-policy").unwrap_or_default();
            Ok(policy == r#""endpoint";q=2000;w=2, "organization";q=10;w=10"#)
        })
        .await?;
        let (refused, _) = until_refused(&first).await?;
        ensure_problem(&refused, 429, "too-many-requests")?;
        let started = Instant::now();
        let (_, accepted) = until_refused(&second).await?;
        ensure!(f64::from(accepted) <= 1.0 + started.elapsed().as_secs_f64(), "{accepted} by the other one");
        let (_, stranger) = system.another_organization("Stranger").await?;
        let new = json!({ "name": "x", "target_url": system.receiver.url("/x"), "verification": { "type": "none" } });
        let free = text(&stranger.post("/api/v1/endpoints", &new).await?, "/hook_url")?;
        for _ in 0..20 {
            post(&free, &[], "{}").await?.expect(202)?;
        }
        Ok(())
    });
}

#[test]
fn only_accepted_content_types_come_in() {
    SHARED.run(async |system| {
        let types = json!({ "content_types": ["application/json", "text/*"] });
        let endpoint = endpoint(system, "/types", types).await?;
        let send = async |headers: &[(&str, &str)]| post(&endpoint.hook_url, headers, "{}").await;
        for accepted in ["application/json; charset=utf-8", "APPLICATION/JSON", "text/csv"] {
            send(&[("content-type", accepted)]).await?.expect(202)?;
        }
        for refused in ["application/xml", "application/ld+json", "json"] {
            ensure_problem(&send(&[("content-type", refused)]).await?, 415, "unsupported-media-type")?;
        }
        ensure_problem(&send(&[]).await?, 415, "unsupported-media-type")?;
        Ok(())
    });
}

#[test]
fn an_answer_is_as_its_producer_insists() {
    SHARED.run(async |system| {
        let answer = json!({ "answer": { "status": 200, "body": "[ok]", "content_type": "text/x-ok" } });
        let endpoint = endpoint(system, "/answer", answer).await?;
        let told = post(&endpoint.hook_url, &[], "{}").await?;
        assert_eq!((told.status.as_u16(), &told.body[..]), (200, &b"[ok]"[..]));
        assert_eq!(header(&told.headers, "content-type"), Some("text/x-ok"));
        let id = header(&told.headers, "ravenpost-event-id").context("no id")?.to_owned();
        system.api.get(&format!("/api/v1/events/{id}")).await?;

        let without_body = json!({ "status": 204, "body": null, "content_type": null });
        system.api.patch(&endpoint.path(), &json!({ "answer": without_body })).await?;
        let told = wait::until("the other answer", SOON, || async {
            let told = post(&endpoint.hook_url, &[], "{}").await?;
            Ok(Some(told).filter(|told| told.status == 204))
        })
        .await?;
        ensure!(told.body.is_empty() && header(&told.headers, "content-length").is_none(), "{told:?}");
        ensure!(header(&told.headers, "ravenpost-event-id").is_some(), "no id");

        let shown = system.api.patch(&endpoint.path(), &json!({ "answer": null })).await?;
        assert_eq!(shown["answer"], Value::Null);
        let told = wait::until("the ordinary answer", SOON, || async {
            let told = post(&endpoint.hook_url, &[], "{}").await?;
            Ok(Some(told).filter(|told| told.status == 202))
        })
        .await?;
        assert_eq!(header(&told.headers, "ravenpost-event-id"), Some(text(&told.json()?, "/id")?.as_str()));
        Ok(())
    });
}

/// The endpoint's URL at another replica.
fn hook_at(system: &System, replica: usize, endpoint: &Endpoint) -> Result<String> {
    let (_, path) = endpoint.hook_url.split_once("/h/").context("a hook URL")?;
    Ok(format!("{}/h/{path}", system.ingress[replica].url()))
}

#[test]
fn a_change_reaches_every_replica_within_a_second() {
    alone(System::builder().replicas(Service::Ingress, 2), async |system| {
        let endpoint = endpoint(system, "/change", json!({})).await?;
        let urls = [hook_at(system, 0, &endpoint)?, hook_at(system, 1, &endpoint)?];
        for url in &urls {
            post(url, &[], "12345").await?.expect(202)?;
        }
        let mut took = Vec::new();
        for (bytes, status) in [(4, 413), (5, 202), (3, 413), (6, 202), (2, 413)] {
            system.api.patch(&endpoint.path(), &json!({ "max_body_bytes": bytes })).await?;
            let changed = Instant::now();
            for url in &urls {
                wait::until_true("the change to be heard of", SOON, || async {
                    Ok(post(url, &[], "12345").await?.status == status)
                })
                .await?;
            }
            took.push(changed.elapsed());
        }
        took.sort();
        // Most of them: a machine under load may once be busy with something else for longer.
        ensure!(took[3] < Duration::from_secs(1), "changes took {took:?}");
        system.api.delete(&endpoint.path()).await?;
        for url in &urls {
            wait::until_true("the endpoint to be gone", SOON, || async {
                Ok(post(url, &[], "1").await?.status == 410)
            })
            .await?;
        }
        Ok(())
    });
}

/// The shared stores, with Postgres behind a network that fails on command, and its real address.
async fn behind_postgres() -> Result<(FaultProxy, Addresses, String)> {
    let mut stores = stack::shared().await?.clone();
    let (_, rest) = stores.postgres_url.split_once('@').context("the URL of Postgres")?;
    let address = rest.split_once('/').context("the URL of Postgres")?.0.to_owned();
    let proxy = FaultProxy::start(&address).await?;
    stores.postgres_url = stores.postgres_url.replace(&address, &proxy.address());
    Ok((proxy, stores, address))
}

#[test]
fn an_endpoint_is_known_while_postgres_is_away_and_read_again_when_it_is_back() {
    run(async {
        let (proxy, stores, address) = behind_postgres().await?;
        on(System::builder().stores(stores), async |system| {
            let known = endpoint(system, "/known", json!({ "max_body_bytes": 4 })).await?;
            send(&known, "1234").await?;
            let url = system.database.url().replace(&proxy.address(), &address);
            proxy.set(Mode::Cut);
            // Longer than it is believed without news.
            let until = Instant::now() + Duration::from_secs(4);
            while Instant::now() < until {
                ensure_problem(&post(&known.hook_url, &[], "12345").await?, 413, "payload-too-large")?;
            }
            ensure_problem(&post(&known.hook_url, &[], "1234").await?, 503, "unavailable")?;
            // Nobody who listens through the network hears of this.
            let direct = sqlx::PgPool::connect(&url).await?;
            sqlx::query("update endpoints set max_body_bytes = 5").execute(&direct).await?;
            direct.close().await;
            proxy.set(Mode::Pass);
            wait::until_true("the change to be seen after all", BOUND, || async {
                Ok(post(&known.hook_url, &[], "12345").await?.status == 202)
            })
            .await
        })
        .await
    });
}

fn guess() -> String {
    rand::rng().sample_iter(Alphanumeric).take(43).map(char::from).collect()
}

async fn lookups(system: &System, result: &str) -> Result<f64> {
    let name = format!("ravenpost_ingress_lookups_total{{result=\"{result}\"}}");
    Ok(sample(&system.ingress[0].metrics().await?, &name).unwrap_or_default())
}

#[test]
fn guessing_tokens_costs_others_nothing_noticeable() {
    const GUESSES: usize = 5_000;
    alone(System::builder(), async |system| {
        let good = endpoint(system, "/good", json!({})).await?;
        send(&good, "{}").await?;
        let base = system.ingress[0].url();
        let one = guess();
        let before = lookups(system, "unknown").await?;
        for _ in 0..100 {
            let url = format!("{base}/h/{one}");
            ensure_problem(&post(&url, &[], "{}").await?, 404, "unknown-token")?;
        }
        for malformed in ["x".repeat(65), "a.b".to_owned(), "%00".to_owned(), "\u{fc}".to_owned()] {
            let answer = post(&format!("{base}/h/{malformed}"), &[], "{}").await?;
            assert_eq!(answer.status, 404, "{malformed}");
        }
        ensure!(lookups(system, "unknown").await? - before <= 1.0, "one token is looked up again and again");

        let flood = stream::iter(0..GUESSES)
            .map(|_| async {
                let answer = post(&format!("{base}/h/{}", guess()), &[], "{}").await?;
                Ok(answer.status.as_u16())
            })
            .buffer_unordered(200)
            .map(|status: Result<u16>| status);
        let good_ones = async {
            let mut slowest = Duration::ZERO;
            for _ in 0..50 {
                let started = Instant::now();
                send(&good, "{}").await?;
                slowest = slowest.max(started.elapsed());
            }
            Ok::<_, anyhow::Error>(slowest)
        };
        let (statuses, slowest) = tokio::join!(flood.collect::<Vec<_>>(), good_ones);
        let slowest = slowest?;
        ensure!(slowest < Duration::from_secs(2), "an event took {slowest:?}");
        for status in statuses {
            let status = status?;
            ensure!(status == 404 || status == 503, "{status} for a token that nobody has");
        }
        // A new one is found all the same.
        let new = endpoint(system, "/new", json!({})).await?;
        send(&new, "{}").await?;
        Ok(())
    });
}
