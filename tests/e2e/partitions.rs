//! Partitions are added while events are on their way (PROTOCOLS W1): each is delivered, once, by whoever owns its endpoint now.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use ravenpost_core::topic;
use ravenpost_testkit::{
    kafka,
    ledger::{findings, ledger},
    system::{Service, System},
    wait,
};
use serde_json::json;

use crate::support::{BOUND, Endpoint, alone, by_event, endpoint, send, until_all_succeed};

const ENDPOINTS: usize = 16;
const MANY: usize = 200;
const MORE: usize = 3 * kafka::PARTITIONS as usize;

async fn one_each(endpoints: &[Endpoint], sent: &mut BTreeSet<String>) -> Result<()> {
    for endpoint in endpoints {
        sent.insert(send(endpoint, "{}").await?);
    }
    Ok(())
}

#[test]
fn partitions_that_are_added_lose_nothing_and_double_nothing() {
    alone(System::builder(), async |system| {
        let (mut endpoints, mut sent) = (Vec::new(), BTreeSet::new());
        for number in 0..ENDPOINTS {
            endpoints.push(endpoint(system, &format!("/{number}"), json!({})).await?);
        }
        one_each(&endpoints, &mut sent).await?;
        until_all_succeed(system, &sent, BOUND).await?;
        // What waits in the schedule, and what lies in partitions that nobody has read yet.
        for endpoint in &endpoints[..ENDPOINTS / 2] {
            system.api.post(&format!("{}/pause", endpoint.destination_path()), &json!(null)).await?;
        }
        one_each(&endpoints[..ENDPOINTS / 2], &mut sent).await?;
        wait::until_true("them to be held", BOUND, || async {
            let held = system.database.number("select count(*) from scheduled_deliveries").await?;
            Ok(usize::try_from(held)? == ENDPOINTS / 2)
        })
        .await?;
        system.workers[0].daemon().pause()?;
        one_each(&endpoints, &mut sent).await?;
        let topic = system.topic(topic::INGEST);
        kafka::add_partitions(&system.stores.kafka_brokers, &topic, MORE).await?;
        system.workers[0].daemon().resume()?;

        wait::until("the worker to end, to share them anew", BOUND, || {
            let ended = system.workers[0].daemon().ensure_running().err();
            async move { Ok(ended) }
        })
        .await?;
        let worker = &mut system.workers[0];
        worker.restart().await?;
        system.add(Service::DeliveryWorker).await?;
        one_each(&endpoints, &mut sent).await?;
        for endpoint in &endpoints[..ENDPOINTS / 2] {
            system.api.post(&format!("{}/resume", endpoint.destination_path()), &json!(null)).await?;
        }
        until_all_succeed(system, &sent, BOUND).await?;
        wait::until_true("ingress to follow", BOUND, || async {
            one_each(&endpoints, &mut sent.clone()).await?;
            let messages = system.messages(topic::INGEST).await?;
            Ok(messages.iter().any(|message| message.partition >= kafka::PARTITIONS))
        })
        .await?;
        // Many at once go by another client than few.
        let at_once = (0..MANY).map(|number| send(&endpoints[number % ENDPOINTS], "{}"));
        let at_once = futures::future::try_join_all(at_once).await?;
        until_all_succeed(system, &at_once.iter().cloned().collect(), BOUND).await?;
        sent.extend(at_once);
        let arrived = by_event(system.receiver.received());
        let twice: Vec<&String> =
            sent.iter().filter(|id| arrived.get(*id).is_none_or(|all| all.len() != 1)).collect();
        ensure!(twice.is_empty(), "came twice or never: {twice:?}");
        let books = ledger(system, &[]).await?;
        ensure!(findings(&books).is_empty(), "{books}");
        Ok(())
    });
}
