//! Events are kept for a time: what still waits at its end is given up in the open, and what comes after it stops nothing.

use std::time::Duration;

use anyhow::ensure;
use ravenpost_core::topic;
use ravenpost_testkit::{
    ledger::{findings, ledger},
    receiver::Answer,
    system::{Service, System},
    wait,
};
use serde_json::{Value, json};

use crate::support::{BOUND, alone, column, deliveries, destination, endpoint, logs, send, until_status};

/// As if everything that was ever accepted had been kept for long enough.
const ALL_OVER: &str = "update retention set expires_before = uuid_v7_floor(now() + interval '1 day'),
    ends_before = uuid_v7_floor(now() + interval '1 day')";

/// As if the attempts of a day had just been dropped that ends now.
const DROPPED: &str = "do $$
    declare
        today text := 'deliveries_' || to_char(now() at time zone 'UTC', 'YYYYMMDD');
        bound uuid := uuid_v7_floor(clock_timestamp());
    begin
        execute format('alter table deliveries detach partition %I', today);
        execute format('create table rest_of_today partition of deliveries for values from (%L) to (%L)', bound,
            uuid_v7_floor(date_trunc('day', now(), 'UTC') + interval '1 day'));
        update retention set kept_from = bound;
    end $$";

/// How long the receiver takes: longer than it takes to drop a day.
const SLOW: Duration = Duration::from_secs(4);

#[test]
fn what_was_held_for_as_long_as_events_are_kept_is_given_up_and_told() {
    alone(System::builder(), async |system| {
        let endpoint = endpoint(system, "/in-time", json!({})).await?;
        let held = destination(system, &endpoint, "/never", json!({})).await?;
        let path = format!("{}/destinations/{held}", endpoint.path());
        system.api.patch(&path, &json!({ "status": "paused" })).await?;
        let id = send(&endpoint, "{}").await?;
        wait::until_true("it is delivered to one and waits for the other", BOUND, || async {
            let told = deliveries(system, &id).await?;
            Ok(told["data"][0]["outcome"] == "success" && told["waiting"][0]["reason"] == "held")
        })
        .await?;

        system.database.execute(ALL_OVER).await?;
        let event = until_status(system, &id, "FAILED").await?;
        assert_eq!(
            (&event["dead"], &event["delivered"]),
            (&json!([held]), &json!([endpoint.destination])),
            "{event}"
        );
        let told = deliveries(system, &id).await?;
        assert_eq!(column(&told, "outcome"), ["success", "expired"]);
        let expired = &told["data"][1];
        assert!(expired["response_code"].is_null() && expired["destination_id"] == held, "{expired}");
        assert!(system.receiver.received_on("/never").is_empty(), "it was not sent");
        let letters = system.messages(topic::DLQ).await?;
        let reasons: Vec<_> = letters.iter().map(|letter| letter.header("dead-letter-reason")).collect();
        assert_eq!(reasons, [Some("expired")]);
        assert_eq!(letters[0].header("destination-id"), Some(held.as_str()));

        let alert = wait::until("an alert", BOUND, || async {
            Ok(system.api.list("/api/v1/alerts").await?.pop().filter(|alert| alert["destination_id"] == held))
        })
        .await?;
        assert_eq!(alert["kind"], "dead_letters", "{alert}");
        let books = ledger(system, &[]).await?;
        ensure!(findings(&books).is_empty(), "{books}");
        Ok(())
    });
}

#[test]
fn what_a_worker_has_to_record_of_a_dropped_day_stops_nothing() {
    alone(System::builder().replicas(Service::DeliveryWorker, 1), async |system| {
        let endpoint = endpoint(system, "/late", json!({})).await?;
        system.receiver.script("/late", [Answer::ok().after(SLOW), Answer::ok()]);
        send(&endpoint, "{}").await?;
        wait::until_true("it is sent", BOUND, || async {
            Ok(!system.receiver.received_on("/late").is_empty())
        })
        .await?;
        system.database.execute(DROPPED).await?;
        wait::until_true("the worker to leave it out", BOUND, || async {
            Ok(logs(system.logs())?
                .values()
                .any(|log| log.contains("of events that are kept no longer is left out")))
        })
        .await?;
        let next = send(&endpoint, "{}").await?;
        let event: Value = until_status(system, &next, "SUCCESS").await?;
        assert_eq!(event["delivered"], json!([endpoint.destination]));
        Ok(())
    });
}
