//! What was acknowledged arrives, whatever is killed meanwhile; and only what was in the air may arrive twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Result, ensure};
use futures::{StreamExt as _, stream};
use ravenpost_testkit::{
    receiver::{Answer, Received},
    system::{Service, System},
    wait,
};
use serde_json::json;

use crate::support::{
    BOUND, Endpoint, alone, by_event, endpoint, number, recorded, retries, send, tell, until_all_succeed,
    until_balanced,
};

/// An attempt that was in the air for more than a second when its worker died comes due after two minutes.
const IN_THE_AIR: Duration = Duration::from_secs(180);
/// Producers at the same time.
const AT_ONCE: usize = 24;

/// Sends events, and calls `meanwhile` after each answer with what is acknowledged by then; gives all of that.
async fn send_many(
    endpoints: &[Endpoint],
    count: usize,
    mut meanwhile: impl FnMut(&BTreeSet<String>) -> Result<()>,
) -> Result<BTreeSet<String>> {
    let mut acknowledged = BTreeSet::new();
    let mut answers = stream::iter((0..count).map(|number| {
        let endpoint = &endpoints[number % endpoints.len()];
        send(endpoint, number.to_string())
    }))
    .buffer_unordered(AT_ONCE);
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(id) => {
                acknowledged.insert(id);
                meanwhile(&acknowledged)?;
            }
            // It may or may not arrive: its producer would send it again.
            Err(error) => tell(&format!("not acknowledged: {error:#}")),
        }
    }
    Ok(acknowledged)
}

async fn endpoints(system: &System, count: usize) -> Result<Vec<Endpoint>> {
    let mut endpoints = Vec::new();
    for number in 0..count {
        let policy = json!({ "retry_policy": retries(&["200ms"; 10]) });
        endpoints.push(endpoint(system, &format!("/{number}"), policy).await?);
    }
    Ok(endpoints)
}

/// What arrived, each acknowledged event at least once.
fn arrived(system: &System, acknowledged: &BTreeSet<String>) -> Result<BTreeMap<String, Vec<Received>>> {
    let arrived = by_event(system.receiver.received());
    for id in acknowledged {
        ensure!(arrived.contains_key(id), "{id} was acknowledged and has not arrived");
    }
    Ok(arrived)
}

/// How many requests there were beyond one an event.
fn repeats(arrived: &BTreeMap<String, Vec<Received>>) -> usize {
    arrived.values().map(|requests| requests.len() - 1).sum()
}

#[test]
fn ingress_is_killed_right_after_it_said_202() {
    alone(System::builder(), async |system| {
        let endpoints = endpoints(system, 3).await?;
        let first = send(&endpoints[0], "{}").await?;
        system.ingress[0].kill9()?;
        system.ingress[0].restart().await?;

        // And in the middle of many: whoever was told 202 can rely on it.
        let ingress = &mut system.ingress[0];
        let mut acknowledged =
            send_many(
                &endpoints,
                300,
                |acknowledged| {
                    if acknowledged.len() == 100 { ingress.kill9() } else { Ok(()) }
                },
            )
            .await?;
        assert!((100..300).contains(&acknowledged.len()), "{} were acknowledged", acknowledged.len());
        system.ingress[0].restart().await?;
        acknowledged.insert(first);
        until_all_succeed(system, &acknowledged, BOUND).await?;
        let arrived = arrived(system, &acknowledged)?;
        assert_eq!(repeats(&arrived), 0, "no worker has died");
        Ok(())
    });
}

#[test]
fn a_worker_is_killed_while_it_sends() {
    const EVENTS: usize = 8;
    alone(System::builder(), async |system| {
        system.receiver.script("/0", [Answer::hang()]);
        let endpoints = endpoints(system, 1).await?;
        let sent = send_many(&endpoints, EVENTS, |_| Ok(())).await?;
        system.receiver.wait_for(EVENTS, BOUND).await?;
        system.workers[0].kill9()?;
        system.receiver.script("/0", [Answer::ok()]);
        system.workers[0].restart().await?;
        until_all_succeed(system, &sent, IN_THE_AIR).await?;
        let arrived = arrived(system, &sent)?;
        assert!(repeats(&arrived) <= EVENTS, "{} repeats of {EVENTS} in the air", repeats(&arrived));
        Ok(())
    });
}

#[test]
fn what_was_parked_in_the_air_survives_its_worker() {
    const EVENTS: usize = 8;
    alone(System::builder(), async |system| {
        system.receiver.script("/0", [Answer::hang()]);
        let endpoints = endpoints(system, 1).await?;
        let sent = send_many(&endpoints, EVENTS, |_| Ok(())).await?;
        let parked = i64::try_from(EVENTS)?;
        wait::until_true("what is in the air to be parked", BOUND, || async {
            Ok(number(system, "select count(*) from scheduled_deliveries").await? == parked)
        })
        .await?;
        system.workers[0].kill9()?;
        system.receiver.script("/0", [Answer::ok()]);
        system.workers[0].restart().await?;
        // Its destination's time to answer passes.
        system.database.execute("update scheduled_deliveries set due_at = now()").await?;
        until_all_succeed(system, &sent, BOUND).await?;
        assert_eq!(
            repeats(&arrived(system, &sent)?),
            EVENTS,
            "each was in the air once and is sent once more"
        );
        Ok(())
    });
}

#[test]
fn ingress_and_worker_are_killed_together() {
    alone(System::builder(), async |system| {
        let endpoints = endpoints(system, 6).await?;
        let (ingress, worker) = (&mut system.ingress[0], &mut system.workers[0]);
        let acknowledged = send_many(&endpoints, 300, |acknowledged| {
            if acknowledged.len() == 150 {
                ingress.kill9()?;
                worker.kill9()?;
            }
            Ok(())
        })
        .await?;
        let recorded = recorded(system).await?;
        let (ingress, worker) = (&mut system.ingress[0], &mut system.workers[0]);
        tokio::try_join!(ingress.restart(), worker.restart())?;
        until_all_succeed(system, &acknowledged, IN_THE_AIR).await?;
        only_what_was_not_recorded_came_twice(&arrived(system, &acknowledged)?, &recorded)
    });
}

fn only_what_was_not_recorded_came_twice(
    arrived: &BTreeMap<String, Vec<Received>>,
    recorded: &BTreeSet<String>,
) -> Result<()> {
    for (id, requests) in arrived {
        ensure!(
            requests.len() == 1 || !recorded.contains(id),
            "{id} was recorded, and sent again after the crash"
        );
        ensure!(requests.len() <= 2, "{id} came {} times", requests.len());
    }
    Ok(())
}

#[test]
fn of_two_ingresses_and_two_workers_one_worker_is_killed_under_load() {
    const EVENTS: usize = 500;
    let two = System::builder().replicas(Service::Ingress, 2).replicas(Service::DeliveryWorker, 2);
    alone(two, async |system| {
        // A partition that changes hands while events are in the air is another story.
        until_balanced(system).await?;
        let mut endpoints = endpoints(system, 10).await?;
        let (first, second) = (system.ingress[0].url(), system.ingress[1].url());
        for endpoint in endpoints.iter_mut().step_by(2) {
            endpoint.hook_url = endpoint.hook_url.replace(&first, &second);
        }
        let worker = &mut system.workers[0];
        let sent = send_many(&endpoints, EVENTS, |acknowledged| {
            if acknowledged.len() == EVENTS / 2 { worker.kill9() } else { Ok(()) }
        })
        .await?;
        assert_eq!(sent.len(), EVENTS, "ingress has not suffered");
        let recorded = recorded(system).await?;
        until_all_succeed(system, &sent, IN_THE_AIR).await?;
        only_what_was_not_recorded_came_twice(&arrived(system, &sent)?, &recorded)?;
        for ingress in &system.ingress {
            assert!(
                ingress.metrics().await?.contains("ravenpost_ingress_accepted_total 250\n"),
                "both took part"
            );
        }
        Ok(())
    });
}

#[test]
fn whoever_is_asked_to_stop_finishes_first() {
    alone(System::builder(), async |system| {
        let endpoints = endpoints(system, 6).await?;
        for number in 0..endpoints.len() {
            let slow = Answer::ok().after(Duration::from_millis(300));
            system.receiver.script(&format!("/{number}"), [slow]);
        }
        let mut ended = Vec::new();
        let (ingress, worker) = (&mut system.ingress[0], &mut system.workers[0]);
        let acknowledged = send_many(&endpoints, 200, |acknowledged| {
            if acknowledged.len() == 100 {
                ended.push(ingress.terminate(BOUND)?);
                ended.push(worker.terminate(BOUND)?);
            }
            Ok(())
        })
        .await?;
        ended.push(system.management[0].terminate(BOUND)?);
        ended.push(system.notifiers[0].terminate(BOUND)?);
        assert!(ended.iter().all(|status| status.code() == Some(0)), "{ended:?}");

        for service in Service::ALL {
            system.replicas_of(service)[0].restart().await?;
        }
        until_all_succeed(system, &acknowledged, IN_THE_AIR).await?;
        assert_eq!(repeats(&arrived(system, &acknowledged)?), 0, "what was in the air has been recorded");
        Ok(())
    });
}
