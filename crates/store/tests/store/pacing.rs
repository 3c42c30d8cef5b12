//! How destinations fare: recorded with the attempts, read before the first send, and void once somebody resumes them
//! (PROTOCOLS W2, W6).

use chrono::TimeDelta;
use ravenpost_core::delivery::{DeliveryKey, Outcome};
use ravenpost_core::destination::DestinationStatus;
use ravenpost_core::event::EventStatus;
use ravenpost_core::ids::DestinationId;
use ravenpost_core::pacing::{DisabledReason, Health};
use ravenpost_store::system::{Ask, DestinationState, Pace, Record};
use ravenpost_store::tenant::{Destination, DestinationChange, DestinationChanged};

use crate::support::{Organization, PARTITION, World};

async fn pace(world: &World, destination: DestinationId) -> Pace {
    world.store.system().paces(&[destination], world.now).await.unwrap().remove(0)
}

async fn shown(acme: &Organization) -> Destination {
    acme.tenant.destination(acme.endpoint, acme.first).await.unwrap().unwrap()
}

async fn set(world: &World, acme: &Organization, status: DestinationStatus) -> Destination {
    let change = DestinationChange { status: Some(status), ..DestinationChange::default() };
    let changed =
        acme.tenant.change_destination(acme.endpoint, acme.first, &change, world.now).await.unwrap();
    let DestinationChanged::Changed(destination) = changed else { panic!("{changed:?}") };
    *destination
}

fn states(state: DestinationState) -> Record {
    Record { states: vec![state], ..Record::default() }
}

fn slow(world: &World) -> Health {
    let later = world.now + TimeDelta::hours(1);
    Health {
        slow_until: Some(later),
        opened_at: Some(world.now),
        probe_at: Some(later),
        trips: 3,
        failures: 7,
        failing_since: Some(world.now),
        last_failure_at: Some(world.now),
        concurrency: Some(1),
        ..Health::default()
    }
}

fn gone(follows: Option<chrono::DateTime<chrono::Utc>>) -> Health {
    Health { disabled_reason: Some(DisabledReason::Gone), ..Health::new(follows) }
}

#[tokio::test]
async fn whoever_takes_the_partition_knows_how_its_destinations_fare() {
    let world = World::new().await;
    let acme = world.organization().await;
    let nothing = pace(&world, acme.first).await;
    assert_eq!((nothing.health, nothing.held, nothing.behind), (Health::default(), false, false));
    let state = world.state(&acme, acme.first, slow(&world));
    world.record(states(state.clone())).await;
    let known = pace(&world, acme.first).await;
    assert_eq!((known.health, known.organization_id), (slow(&world), acme.id));
    assert_eq!(shown(&acme).await.health, slow(&world), "and its owner sees it");

    // A zombie's decision does not count.
    let late = states(DestinationState { health: Health::default(), ..state });
    assert!(!world.store.system().record(PARTITION, world.epoch - 1, &late).await.unwrap());
    assert_eq!(pace(&world, acme.first).await.health, slow(&world));
}

#[tokio::test]
async fn a_destination_that_is_gone_is_disabled_and_a_person_enables_it() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.routed(&acme, &[(acme.first, None)]).await;
    world.record(states(world.state(&acme, acme.first, gone(None)))).await;
    let disabled = shown(&acme).await;
    assert_eq!(disabled.status, DestinationStatus::Disabled);
    assert_eq!((disabled.disabled.unwrap().0, disabled.waiting), (DisabledReason::Gone, 1));
    let later = world.now + TimeDelta::hours(2);
    assert!(
        world.store.system().due(&[Ask::oldest(acme.first, 9)], later).await.unwrap().is_empty(),
        "it is held"
    );
    assert!(pace(&world, acme.first).await.held);
    assert!(world.store.system().waiting().await.unwrap().is_empty());

    let enabled = set(&world, &acme, DestinationStatus::Active).await;
    assert_eq!(
        (enabled.status, enabled.disabled, enabled.health.disabled_reason),
        (DestinationStatus::Active, None, None)
    );
    let known = pace(&world, acme.first).await;
    assert_eq!((known.held, known.health), (false, Health::new(Some(world.now))), "it starts anew");
    assert_eq!(world.store.system().due(&[Ask::oldest(acme.first, 9)], later).await.unwrap()[0].event_id, id);

    // A 410 that was in the air when it was enabled follows nothing any more.
    world.record(states(world.state(&acme, acme.first, gone(None)))).await;
    assert_eq!(shown(&acme).await.status, DestinationStatus::Active);
    world.record(states(world.state(&acme, acme.first, gone(Some(world.now))))).await;
    assert_eq!(shown(&acme).await.status, DestinationStatus::Disabled);
}

#[tokio::test]
async fn what_a_person_has_paused_stays_paused() {
    let world = World::new().await;
    let acme = world.organization().await;
    set(&world, &acme, DestinationStatus::Paused).await;
    world.record(states(world.state(&acme, acme.first, gone(None)))).await;
    let paused = shown(&acme).await;
    assert_eq!((paused.status, paused.disabled), (DestinationStatus::Paused, None));
}

#[tokio::test]
async fn what_rests_is_not_swept_until_it_may_be_sent_to() {
    let world = World::new().await;
    let acme = world.organization().await;
    world.routed(&acme, &[(acme.first, None), (acme.second, None)]).await;
    let waiting = async || {
        let waiting = world.store.system().waiting().await.unwrap();
        waiting.iter().map(|one| one.destination_id).collect::<Vec<_>>()
    };
    assert_eq!(waiting().await.len(), 2);
    world.record(states(world.state(&acme, acme.first, slow(&world)))).await;
    assert_eq!(waiting().await, [acme.second]);
    let over = Health { slow_until: Some(world.now - TimeDelta::seconds(10)), ..Health::default() };
    world.record(states(world.state(&acme, acme.first, over))).await;
    assert_eq!(waiting().await.len(), 2);
    world.record(states(world.state(&acme, acme.first, slow(&world)))).await;
    set(&world, &acme, DestinationStatus::Active).await;
    assert_eq!(waiting().await.len(), 2, "somebody says that it works");
}

#[tokio::test]
async fn what_is_due_knows_what_came_before_it() {
    let world = World::new().await;
    let acme = world.organization().await;
    world.routed(&acme, &[(acme.first, None)]).await;
    let later = world.now + TimeDelta::hours(2);
    let behind = world.store.system().paces(&[acme.first], later).await.unwrap().remove(0);
    assert!(behind.behind && !pace(&world, acme.first).await.behind);
    let due = world.store.system().due(&[Ask::oldest(acme.first, 9)], later).await.unwrap();
    assert_eq!((due[0].attempt_number, due[0].previous), (2, Some(Outcome::ServerError)));
}

#[tokio::test]
async fn what_waits_for_a_deleted_destination_is_cancelled_though_its_deleter_has_died() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.routed(&acme, &[(acme.first, None), (acme.second, Some(true))]).await;
    let system = world.store.system();
    let cancel = async || system.cancel_waiting(acme.id, acme.first, world.now).await.unwrap();
    assert_eq!(cancel().await, 0, "nothing of what is not deleted");
    sqlx::query("update destinations set deleted_at = now() where id = $1")
        .bind(acme.first.0)
        .execute(&world.pool)
        .await
        .unwrap();
    let waiting = system.waiting().await.unwrap();
    assert_eq!((waiting[0].destination_id, waiting[0].deleted), (acme.first, Some(acme.id)));
    assert_eq!((cancel().await, cancel().await), (1, 0));
    assert_eq!(acme.tenant.event(id).await.unwrap().unwrap().status, EventStatus::Success);
    assert!(system.waiting().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_replay_of_what_was_delivered_never_makes_it_dead() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.routed(&acme, &[(acme.first, Some(true))]).await;
    acme.tenant.replay(id, Some(acme.first), world.now).await.unwrap();
    let key = DeliveryKey { event_id: id, destination_id: acme.first, run: 1, attempt_number: 1 };
    let given_up = world.attempt(&acme, key, 1, Some(false));
    world.record(Record { attempts: vec![given_up], ..Record::default() }).await;
    assert_eq!(acme.tenant.event(id).await.unwrap().unwrap().status, EventStatus::Success);
    assert_eq!(acme.tenant.attempts(id).await.unwrap().unwrap().deliveries.len(), 2, "but it is on record");
    let dead: i64 =
        sqlx::query_scalar("select count(*) from dead_letters").fetch_one(&world.pool).await.unwrap();
    assert_eq!(dead, 0);
}
