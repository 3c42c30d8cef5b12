//! An operator sees how it goes: health, metrics, logs; and no secret in any of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ravenpost_testkit::{
    process::Process,
    receiver::Answer,
    system::{Service, System},
    wait,
};
use serde_json::{Value, json};

use crate::support::{
    BOUND, Endpoint, alone, answer, client, destination, endpoint, logs, post, retries, sample, send,
    until_status,
};

/// What each service counts, as the samples begin that are there after some traffic.
const METRICS: [(Service, &[&str]); 4] = [
    (
        Service::Ingress,
        &[
            "ravenpost_ingress_accepted_total ",
            "ravenpost_ingress_rejected_total{problem=\"unknown-token\"} ",
            "ravenpost_ingress_accept_seconds_count ",
            "ravenpost_ingress_batch_events_count ",
            "ravenpost_ingress_commit_seconds_count{stage=\"rows\"} ",
            "ravenpost_ingress_queue_events ",
            "ravenpost_kafka_producer_queue ",
            "ravenpost_postgres_connections ",
        ],
    ),
    (
        Service::DeliveryWorker,
        &[
            "ravenpost_delivery_attempts_total{outcome=\"success\"} ",
            "ravenpost_delivery_attempts_total{outcome=\"server_error\"} ",
            "ravenpost_delivery_attempt_seconds_count{result=\"failure\"} ",
            "ravenpost_delivery_delivered_seconds_count ",
            "ravenpost_delivery_dead_letters_total ",
            "ravenpost_delivery_lag_messages{partition=",
            "ravenpost_delivery_lag_seconds{partition=",
            "ravenpost_delivery_oldest_waiting_seconds ",
            "ravenpost_delivery_record_batch_count ",
            "ravenpost_delivery_in_flight ",
            "ravenpost_delivery_queued ",
            "ravenpost_postgres_connections ",
        ],
    ),
    (
        Service::ManagementApi,
        &[
            "ravenpost_api_requests_total{",
            "ravenpost_api_request_seconds_count{",
            "ravenpost_postgres_connections ",
        ],
    ),
    (
        Service::Notifier,
        &[
            "ravenpost_notifier_observed_total ",
            "ravenpost_notifier_lag_messages{",
            "ravenpost_postgres_connections ",
        ],
    ),
];

#[test]
fn health_metrics_and_logs_tell_what_happens_and_no_secret() {
    // Everything that is ever logged of ours, and what libraries tell.
    let chatty = System::builder().setting("RAVENPOST_LOG", "debug");
    alone(chatty, async |system| {
        system.receiver.script("/fails", [Answer::status(500)]);
        let signed = json!({ "verification": { "type": "standard_webhooks" } });
        let (ours, signed) =
            (endpoint(system, "/ours", json!({})).await?, endpoint(system, "/signed", signed).await?);
        destination(system, &ours, "/fails", json!({ "retry_policy": retries(&["10ms"]) })).await?;
        let event = send(&ours, r#"{"card": "4111-1111-1111-1111"}"#).await?;
        until_status(system, &event, "FAILED").await?;
        post(&signed.hook_url, &[("webhook-id", "1")], "{}").await?.expect(401)?;
        post(&format!("{}/h/nobody", system.ingress[0].url()), &[], "{}").await?.expect(404)?;

        for (service, names) in METRICS {
            let process = &system.replicas_of(service)[0];
            health(process).await.with_context(|| service.name())?;
            for name in names {
                wait::until_true(
                    &format!("{name} of {}", service.name()),
                    Duration::from_secs(10),
                    || async { Ok(sample(&process.metrics().await?, name).is_some()) },
                )
                .await?;
            }
        }
        let worker = system.workers[0].metrics().await?;
        assert_eq!(sample(&worker, "ravenpost_delivery_attempts_total{outcome=\"server_error\"}"), Some(2.0));
        assert_eq!(sample(&worker, "ravenpost_delivery_dead_letters_total"), Some(1.0));
        logs_tell(system, &event, &[&ours, &signed])
    });
}

async fn health(process: &Process) -> Result<()> {
    let get = |path: &str| answer(client().get(format!("{}{path}", process.admin_url())));
    ensure!(get("/livez").await?.status == 200, "not alive");
    let ready = get("/readyz").await?.expect(200)?;
    ensure!(ready["ready"] == true && ready["checks"]["postgres"]["ok"] == true, "{ready}");
    let metrics = get("/metrics").await?;
    let text = std::str::from_utf8(&metrics.body)?;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        ensure!(sample(line, "").is_some_and(|value| value >= 0.0), "no sample: {line}");
    }
    Ok(())
}

fn logs_tell(system: &mut System, event: &str, endpoints: &[&Endpoint]) -> Result<()> {
    for service in Service::ALL {
        system.replicas_of(service)[0].terminate(BOUND)?;
    }
    let master_key = system.settings.get("RAVENPOST_MASTER_KEY").context("no master key")?;
    let s3_secret = &system.stores.s3.secret_access_key;
    let mut secrets =
        vec![system.tenant.api_key.as_str(), &master_key[3..], s3_secret, "whsec_", "4111-1111"];
    for endpoint in endpoints {
        // The token is all that an unsigned endpoint is protected by.
        let token = endpoint.hook_url.rsplit('/').next().context("no token")?;
        secrets.extend([&endpoint.signing_secret[6..], token]);
        secrets.extend(endpoint.secret.get(6..));
    }
    for (name, log) in logs(system.logs())? {
        ensure!(!log.is_empty(), "{name} says nothing");
        for line in log.lines() {
            let record: Value = serde_json::from_str(line).with_context(|| format!("{name}: {line}"))?;
            for field in ["time", "level", "service", "target", "message"] {
                ensure!(record[field].is_string(), "{name} without {field}: {line}");
            }
            if let Some(secret) = secrets.iter().find(|secret| line.contains(**secret)) {
                panic!("{name} tells {secret}: {line}");
            }
        }
        let about = log.lines().filter(|line| line.contains(event)).count();
        if name.starts_with("delivery-worker") {
            ensure!(about > 0 && log.contains(r#""event_id""#), "{name} does not tell of {event}");
        }
    }
    Ok(())
}
