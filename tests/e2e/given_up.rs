//! What can't be delivered is given up in the open: `FAILED`, a dead letter, an alert, a mail; and it can be sent
//! again.

use anyhow::{Context, Result};
use ravenpost_core::topic;
use ravenpost_testkit::{kafka::Message, mail::Mail, receiver::Receiver, system::System, wait};
use serde_json::{Value, json};

use crate::support::{BOUND, Endpoint, SHARED, column, deliveries, endpoint, retries, send, until_status};

const BODY: &str = r#"{"order": 17}"#;

#[test]
fn a_destination_that_refuses_is_given_up_told_of_and_replayed() {
    SHARED.run(async |system| {
        // Whoever has had a port and left it is refused there.
        let receiver = Receiver::start().await?;
        let (url, port) = (receiver.url("/refused"), receiver.port());
        drop(receiver);
        let address = format!("oncall-{port}@example.com");
        system.api.post("/api/v1/channels", &json!({ "type": "email", "address": address })).await?;
        let name = format!("Orders {port}");
        let fields = json!({ "name": name, "target_url": url, "retry_policy": retries(&["50ms", "50ms"]) });
        let endpoint = endpoint(system, "/refused", fields).await?;

        let id = send(&endpoint, BODY).await?;
        let event = until_status(system, &id, "FAILED").await?;
        assert_eq!(event["dead"], json!([endpoint.destination]));
        let told = deliveries(system, &id).await?;
        assert_eq!(column(&told, "outcome"), ["connect", "connect", "connect"]);
        assert_eq!(told["waiting"], json!([]));
        a_dead_letter(system, &endpoint, &id).await?;
        let alert = an_alert(system, &endpoint, true).await?;
        assert!(alert["failures"].as_u64() >= Some(3) && alert["resolved_at"].is_null(), "{alert}");
        let mail = a_mail(system, &address, &name).await?;
        // Quoted-printable breaks long lines so (RFC 2045, 6.7).
        assert!(mail.body.replace("=\n", "").contains(&endpoint.destination), "{mail:?}");

        let listening = Receiver::start_on(port).await?;
        let replayed = system.api.post(&format!("/api/v1/events/{id}/replay"), &json!({})).await?;
        assert_eq!(replayed["runs"][0]["run"], 1);
        let event = until_status(system, &id, "SUCCESS").await?;
        assert_eq!((&event["delivered"], &event["dead"]), (&json!([endpoint.destination]), &json!([])));
        let replays = listening.received();
        assert_eq!(replays.len(), 1);
        assert_eq!(
            (replays[0].header("webhook-id"), replays[0].body.as_ref()),
            (Some(id.as_str()), BODY.as_bytes())
        );
        let told = deliveries(system, &id).await?;
        assert_eq!(column(&told, "run"), [0, 0, 0, 1]);
        assert_eq!(column(&told, "attempt_number"), [1, 2, 3, 1]);
        an_alert(system, &endpoint, false).await?;
        Ok(())
    });
}

async fn a_dead_letter(system: &System, endpoint: &Endpoint, id: &str) -> Result<()> {
    let mut letters: Vec<Message> = system.messages(topic::DLQ).await?;
    letters.retain(|letter| letter.header("ce_id") == Some(id));
    assert_eq!(letters.len(), 1, "{letters:?}");
    let letter = &letters[0];
    assert_eq!(
        (letter.value.as_slice(), letter.key.as_deref()),
        (BODY.as_bytes(), Some(endpoint.id.as_bytes()))
    );
    for (name, value) in [
        ("ce_specversion", "1.0"),
        ("ce_type", "ravenpost.event"),
        ("ce_source", &format!("/endpoints/{}", endpoint.id)),
        ("organization-id", &system.tenant.organization_id),
        ("content-type", "application/json"),
        ("destination-id", &endpoint.destination),
        ("dead-letter-reason", "connect"),
        ("payload-s3-length", &BODY.len().to_string()),
    ] {
        assert_eq!(letter.header(name), Some(value), "{name}");
    }
    for name in ["ce_time", "traceparent", "payload-s3-key", "payload-s3-offset", "producer-headers"] {
        assert!(letter.header(name).is_some(), "{name}");
    }
    Ok(())
}

/// The destination's alert, as soon as it is open, or resolved.
async fn an_alert(system: &System, endpoint: &Endpoint, open: bool) -> Result<Value> {
    wait::until(&format!("an alert of {} with open={open}", endpoint.destination), BOUND, || async {
        let alerts = system.api.list("/api/v1/alerts").await?;
        let mut alerts = alerts.into_iter().filter(|alert| alert["destination_id"] == endpoint.destination);
        let alert = alerts.next();
        assert!(alerts.next().is_none(), "one alert is enough");
        Ok(alert.filter(|alert| alert["resolved_at"].is_null() == open))
    })
    .await
}

async fn a_mail(system: &System, address: &str, endpoint: &str) -> Result<Mail> {
    wait::until("the alert's mail", BOUND, || async {
        let mails = system.mails_to(address)?;
        Ok(mails.into_iter().find(|mail| mail.subject.contains(endpoint)))
    })
    .await
    .with_context(|| format!("to {address}"))
}

#[test]
fn one_failure_of_a_default_policy_waits_for_its_retry() {
    SHARED.run(async |system| {
        let fields = json!({ "target_url": "http://127.0.0.1:1/nobody-listens" });
        let endpoint = endpoint(system, "/waits", fields).await?;
        let id = send(&endpoint, BODY).await?;
        let told = wait::until("the retry to wait", BOUND, || async {
            let told = deliveries(system, &id).await?;
            Ok(Some(told).filter(|told| told["waiting"][0]["reason"] == "retry"))
        })
        .await?;
        assert_eq!(column(&told, "outcome"), ["connect"]);
        assert_eq!(system.api.get(&format!("/api/v1/events/{id}")).await?["status"], "PENDING");
        Ok(())
    });
}
