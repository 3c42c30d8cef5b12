//! The right person hears it once: of every provider's schema, in a storm, and whoever dies in the middle of it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use ravenpost_core::{secret::Secret, signature::standard_webhooks, topic};
use ravenpost_testkit::{
    kafka::Writer,
    receiver::{Answer, Received, Receiver},
    system::{Builder, Service, System},
    wait,
};
use serde_json::{Value, json};

use crate::support::{BOUND, Endpoint, alone, endpoint, on, retries, run, sample, send, text};

/// What a customer may write to hurt a reader.
const HOSTILE: &str = "<!channel> <script>alert(1)</script> &";
const FAILURES: usize = 3;

fn builder() -> Builder {
    System::builder().setting("RAVENPOST_ALERT_CONSECUTIVE_FAILURES", FAILURES.to_string())
}

/// An endpoint whose destination gives an event up after as many failures as an alert takes.
async fn failing(system: &System, path: &str, name: &str) -> Result<Endpoint> {
    let refusals = (0..FAILURES).map(|_| Answer::status(500));
    system.receiver.script(path, refusals.chain([Answer::ok()]));
    endpoint(system, path, json!({ "name": name, "retry_policy": retries(&["50ms", "50ms"]) })).await
}

/// The body of a message that conforms to what the provider reads.
fn conforming(schema: &str, received: &Received) -> Result<Value> {
    let body: Value = serde_json::from_slice(&received.body)?;
    let validator = jsonschema::validator_for(&serde_json::from_str(schema)?)?;
    let errors: Vec<String> = validator.iter_errors(&body).map(|error| error.to_string()).collect();
    ensure!(errors.is_empty(), "{errors:?} in {body}");
    Ok(body)
}

async fn messages(provider: &Receiver, path: &str, count: usize) -> Result<Vec<Received>> {
    wait::until(&format!("{count} messages on {path}"), BOUND, || async {
        let received = provider.received_on(path);
        Ok((received.len() >= count).then_some(received))
    })
    .await
}

const SLACK: &str = include_str!("../../services/notifier/tests/schemas/slack.json");
const TEAMS: &str = include_str!("../../services/notifier/tests/schemas/teams.json");
const PAGERDUTY: &str = include_str!("../../services/notifier/tests/schemas/pagerduty.json");
const OPSGENIE: &str = include_str!("../../services/notifier/tests/schemas/opsgenie.json");
const WEBHOOK: &str = include_str!("../../services/notifier/tests/schemas/webhook.json");

/// All channels but mail, which has an address of its own; gives what the webhook is signed with.
async fn all_channels(system: &System, provider: &Receiver, address: &str) -> Result<Secret> {
    let mut secret = None;
    for channel in [
        json!({ "type": "slack", "url": provider.url("/slack") }),
        json!({ "type": "teams", "url": provider.url("/teams") }),
        json!({ "type": "pagerduty", "routing_key": "0123456789abcdef0123456789abcdef" }),
        json!({ "type": "opsgenie", "api_key": "eb243592-faa2-4ba2-a551-1afdf565c889" }),
        json!({ "type": "webhook", "url": provider.url("/webhook") }),
        json!({ "type": "email", "address": address }),
    ] {
        let created = system.api.post("/api/v1/channels", &channel).await?;
        secret = secret.or(created["signing_secret"].as_str().map(Secret::new));
    }
    secret.context("the webhook has a secret")
}

/// Somebody who is told of every alert, on `/one`.
async fn hearing_of_all(system: &System) -> Result<Receiver> {
    let provider = Receiver::start().await?;
    let channel = json!({ "type": "webhook", "url": provider.url("/one") });
    system.api.post("/api/v1/channels", &channel).await?;
    Ok(provider)
}

/// The message of this number that each provider was sent, by its schema.
async fn told(provider: &Receiver, number: usize) -> Result<[Value; 4]> {
    let mut bodies = Vec::new();
    for (path, schema) in
        [("/slack", SLACK), ("/teams", TEAMS), ("/pagerduty", PAGERDUTY), ("/webhook", WEBHOOK)]
    {
        bodies.push(conforming(schema, &messages(provider, path, number + 1).await?[number])?);
    }
    bodies.try_into().map_err(|_| anyhow::anyhow!("four providers"))
}

fn ensure_signed(received: &Received, secret: &Secret) -> Result<()> {
    let header = |name| received.header(name).with_context(|| format!("no {name}"));
    let timestamp: i64 = header("webhook-timestamp")?.parse()?;
    let signature = standard_webhooks::sign(secret, header("webhook-id")?, timestamp, &received.body)?;
    ensure!(header("webhook-signature")? == signature, "{received:?}");
    Ok(())
}

#[test]
fn every_channel_hears_of_an_alert_and_of_its_end_once() {
    run(async {
        let provider = Receiver::start().await?;
        let builder = builder()
            .setting("RAVENPOST_PAGERDUTY_URL", provider.url("/pagerduty"))
            .setting("RAVENPOST_OPSGENIE_URL", provider.url("/opsgenie"));
        on(builder, async |system| {
            let address = format!("all-{}@example.com", provider.port());
            let secret = all_channels(system, &provider, &address).await?;
            let failing = failing(system, "/all", HOSTILE).await?;
            send(&failing, "{}").await?;
            let [slack, teams, paged, webhook] = told(&provider, 0).await?;
            ensure!(!slack["blocks"][1].to_string().contains("<!channel>"), "{slack}");
            ensure!(!teams.to_string().contains("<script>"), "{teams}");
            ensure!(paged["event_action"] == "trigger", "{paged}");
            ensure!(webhook["data"]["alerts"][0]["destination_id"] == failing.destination, "{webhook}");
            ensure_signed(&provider.received_on("/webhook")[0], &secret)?;
            let created = conforming(OPSGENIE, &messages(&provider, "/opsgenie/v2/alerts", 1).await?[0])?;
            mails(system, &address, 1).await?;

            send(&failing, "{}").await?;
            let [_, _, resolved, over] = told(&provider, 1).await?;
            ensure!(resolved["dedup_key"] == paged["dedup_key"], "{resolved}");
            ensure!(resolved["event_action"] == "resolve", "{resolved}");
            ensure!(over["type"] == "alert.resolved", "{over}");
            let alias = text(&created, "/alias")?;
            let closed = format!("/opsgenie/v2/alerts/{alias}/close?identifierType=alias");
            conforming(OPSGENIE, &messages(&provider, &closed, 1).await?[0])?;
            mails(system, &address, 2).await?;
            for path in ["/slack", "/teams", "/pagerduty", "/webhook"] {
                ensure!(provider.received_on(path).len() == 2, "{path} was told more than it should be");
            }
            Ok(())
        })
        .await
    });
}

async fn mails(system: &System, address: &str, count: usize) -> Result<()> {
    let mails = wait::until(&format!("{count} mails"), BOUND, || async {
        Ok(Some(system.mails_to(address)?).filter(|mails| mails.len() >= count))
    })
    .await?;
    ensure!(mails.len() == count, "{mails:?}");
    for mail in mails {
        // In the text it is harmless, and as it was written.
        let html = mail.body.split("text/html").nth(1).context("no HTML")?;
        ensure!(html.contains("&lt;script") && !html.contains("<script"), "{mail:?}");
    }
    Ok(())
}

/// How often each destination was told of on a path, by messages of this type, and by how many messages.
fn told_of(provider: &Receiver, path: &str, kind: &str) -> Result<(BTreeMap<String, usize>, usize)> {
    let (mut told, mut count) = (BTreeMap::new(), 0);
    for received in provider.received_on(path) {
        let body: Value = serde_json::from_slice(&received.body)?;
        if body["type"] != kind {
            continue;
        }
        count += 1;
        for alert in body["data"]["alerts"].as_array().context("alerts")? {
            *told.entry(text(alert, "/destination_id")?).or_default() += 1;
        }
    }
    Ok((told, count))
}

/// So many endpoints whose destinations fail all at once.
async fn storm(system: &System, count: usize) -> Result<Vec<Endpoint>> {
    let mut endpoints = Vec::new();
    for number in 0..count {
        endpoints.push(failing(system, &format!("/storm/{number}"), &format!("Storm {number}")).await?);
    }
    for endpoint in &endpoints {
        send(endpoint, "{}").await?;
    }
    Ok(endpoints)
}

async fn until_all_told(provider: &Receiver, path: &str, kind: &str, endpoints: &[Endpoint]) -> Result<()> {
    wait::until_true(&format!("everybody to be told of on {path}"), BOUND, || async {
        let (told, _) = told_of(provider, path, kind)?;
        Ok(endpoints.iter().all(|endpoint| told.contains_key(&endpoint.destination)))
    })
    .await
}

#[test]
fn a_storm_is_few_messages_and_each_alert_once() {
    const COUNT: usize = 30;
    alone(builder().replicas(Service::Notifier, 2), async |system| {
        let provider = Receiver::start().await?;
        for path in ["/one", "/other"] {
            let channel = json!({ "type": "webhook", "url": provider.url(path) });
            system.api.post("/api/v1/channels", &channel).await?;
        }
        let endpoints = storm(system, COUNT).await?;
        for path in ["/one", "/other"] {
            until_all_told(&provider, path, "alert.fired", &endpoints).await?;
        }
        for endpoint in &endpoints {
            send(endpoint, "{}").await?;
        }
        for path in ["/one", "/other"] {
            until_all_told(&provider, path, "alert.resolved", &endpoints).await?;
            for kind in ["alert.fired", "alert.resolved"] {
                let (told, messages) = told_of(&provider, path, kind)?;
                ensure!(told.len() == COUNT && told.values().all(|times| *times == 1), "{kind}: {told:?}");
                ensure!(messages <= COUNT / 3, "{messages} messages of {kind}");
            }
        }
        Ok(())
    });
}

#[test]
fn no_alert_is_lost_when_notifiers_die_in_a_storm() {
    const COUNT: usize = 30;
    alone(builder().replicas(Service::Notifier, 2), async |system| {
        let provider = hearing_of_all(system).await?;
        let endpoints = storm(system, COUNT).await?;
        // One in the middle of it; then the other, while the group gives the partitions of the first away.
        system.notifiers[0].kill9()?;
        messages(&provider, "/one", 1).await?;
        system.notifiers[1].kill9()?;
        for notifier in &mut system.notifiers {
            notifier.restart().await?;
        }
        until_all_told(&provider, "/one", "alert.fired", &endpoints).await?;
        // Whoever tells twice has died between sending and noting it: never the same alert under two ids.
        let alerts = system.api.list("/api/v1/alerts").await?;
        ensure!(alerts.len() == COUNT, "{} alerts", alerts.len());
        for endpoint in &endpoints {
            send(endpoint, "{}").await?;
        }
        until_all_told(&provider, "/one", "alert.resolved", &endpoints).await
    });
}

#[test]
fn who_is_about_to_be_disabled_is_warned_of_and_told_of_when_it_is() {
    alone(builder(), async |system| {
        let provider = hearing_of_all(system).await?;
        system.receiver.script("/only-fails", [Answer::status(404)]);
        let policy = json!({ "retry_policy": retries(&["200ms"; 29]) });
        let endpoint = endpoint(system, "/only-fails", policy).await?;
        system.api.patch(&endpoint.destination_path(), &json!({ "disable_after": "2s" })).await?;
        send(&endpoint, "{}").await?;
        wait::until_true("both alerts", BOUND, || async {
            let mut told = BTreeSet::new();
            for message in provider.received_on("/one") {
                let alerts = conforming(WEBHOOK, &message)?["data"]["alerts"].take();
                for alert in alerts.as_array().into_iter().flatten() {
                    ensure!(alert["destination_id"] == endpoint.destination, "{alert}");
                    told.insert(text(alert, "/condition")?);
                }
            }
            Ok(["disable_warning", "destination_disabled"].iter().all(|condition| told.contains(*condition)))
        })
        .await
    });
}

#[test]
fn a_broken_channel_disables_itself_and_another_one_tells_of_it() {
    alone(builder(), async |system| {
        let provider = Receiver::start().await?;
        provider.script("/gone", [Answer::status(404)]);
        let channel = |path: &str| json!({ "type": "webhook", "url": provider.url(path) });
        let broken = system.api.post("/api/v1/channels", &channel("/gone")).await?;
        system.api.post("/api/v1/channels", &channel("/works")).await?;
        let path = format!("/api/v1/channels/{}", text(&broken, "/id")?);
        system.api.post(&format!("{path}/test"), &json!({})).await?;
        let notice = messages(&provider, "/works", 1).await?;
        let notice = conforming(WEBHOOK, &notice[0])?;
        ensure!(notice["type"] == "channel.disabled", "{notice}");
        let shown = system.api.get(&path).await?;
        ensure!(shown["enabled"] == false && text(&shown, "/disabled_reason")?.contains("404"), "{shown}");
        let told = system.api.get(&format!("{path}/notifications")).await?;
        ensure!(told["data"][0]["state"] == "failed" && told["data"][0]["attempts"] == 5, "{told}");
        Ok(())
    });
}

#[test]
fn what_is_no_report_is_counted_and_skipped() {
    alone(builder(), async |system| {
        let provider = hearing_of_all(system).await?;
        let failing = failing(system, "/failing", "Failing").await?;
        let writer = Writer::new(&system.stores.kafka_brokers, &system.topic(topic::DELIVERIES))?;
        let lies: [&[u8]; 6] =
            [b"", b"{", b"null", b"\xff\xfe", b"{\"specversion\":\"1.0\",\"type\":\"x\"}", &[b'['; 10_000]];
        // To the partition of the endpoint's reports, too.
        for key in (0..50).map(|number| number.to_string()).chain([failing.id.clone()]) {
            for lie in lies {
                writer.write(&key, lie)?;
            }
        }
        writer.flush()?;
        send(&failing, "{}").await?;
        messages(&provider, "/one", 1).await?;
        let count = f64::from(51 * u32::try_from(lies.len())?);
        wait::until_true("all lies to be counted", BOUND, || async {
            let metrics = system.notifiers[0].metrics().await?;
            Ok(sample(&metrics, "ravenpost_notifier_undecodable_messages_total") == Some(count))
        })
        .await?;
        // Somebody who begins anew reads them again, counts them no more, and stays.
        system.notifiers[0].restart().await?;
        send(&failing, "{}").await?;
        messages(&provider, "/one", 2).await?;
        Ok(())
    });
}
