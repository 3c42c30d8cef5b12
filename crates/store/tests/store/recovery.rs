//! Replay by itself when a destination has recovered: once for each recovery, and nothing for ever.

use chrono::TimeDelta;
use ravenpost_core::delivery::DeliveryKey;
use ravenpost_core::event::EventStatus;
use ravenpost_core::ids::{DestinationId, EventId, ReplayJobId};
use ravenpost_core::replay::{OUTAGE_FAILURES, ReplayFilter, ReplayKind, Steer};
use ravenpost_store::system::{Observed, Record};
use ravenpost_store::tenant::{DestinationChange, DestinationChanged};
use sqlx::Executor;

use crate::replay_jobs::{DEAD, WAITING, make, number, seed, steered, step, steps, to_first};
use crate::support::{Organization, World, random};

/// What the notifier reads of the first destination: attempts that failed (`false`) and succeeded.
async fn observe(world: &World, organization: &Organization, offset: &mut i64, outcomes: &[bool]) {
    let known =
        sqlx::query_scalar("select failures_in_a_row from destination_health where destination_id = $1");
    let known: Option<i32> = known.bind(organization.first.0).fetch_optional(&world.pool).await.unwrap();
    let mut failures = known.unwrap_or_default();
    for success in outcomes {
        *offset += 1;
        let recovered = *success && failures >= OUTAGE_FAILURES;
        failures = if *success { 0 } else { failures + 1 };
        let row = Observed {
            recovered,
            ..crate::alerts::observed(organization, *offset, u32::try_from(failures).unwrap())
        };
        world.store.system().observe(&[row], &[]).await.unwrap();
    }
}

/// Lets the time pass after which a recovery is believed.
async fn settle(world: &World) {
    world
        .pool
        .execute("update destination_health set recovered_at = recovered_at - interval '11 seconds'")
        .await
        .unwrap();
}

async fn recovered(world: &World) -> Option<Option<ReplayJobId>> {
    let id = ReplayJobId::new(world.now, random());
    let now = chrono::DateTime::UNIX_EPOCH + ravenpost_testkit::clock::now();
    world.store.system().replay_recovered(id, now).await.unwrap().map(|recovered| recovered.job_id)
}

/// Gives up everything that waits for the first destination.
async fn give_up(world: &World, organization: &Organization) {
    let rows: Vec<(uuid::Uuid, i32, i32)> =
        sqlx::query_as("select event_id, run, version from scheduled_deliveries")
            .fetch_all(&world.pool)
            .await
            .unwrap();
    let attempt = |(event, run, version): &(uuid::Uuid, i32, i32)| {
        let destination_id: DestinationId = organization.first;
        let key = DeliveryKey { event_id: EventId(*event), destination_id, run: *run, attempt_number: 1 };
        world.attempt(organization, key, *version, Some(false))
    };
    let attempts = rows.iter().map(attempt).collect();
    world.record(Record { attempts, ..Record::default() }).await;
}

#[tokio::test]
async fn a_recovery_replays_dead_letters_once_and_none_for_ever() {
    let world = World::new().await;
    let acme = world.organization().await;
    let mut offset = 0;
    seed(&world, &acme, "FAILED", 5).await;
    observe(&world, &acme, &mut offset, &[false, false, false, true]).await;
    settle(&world).await;
    assert_eq!(recovered(&world).await, None, "it is not switched on");
    let change = DestinationChange { replay_on_recovery: Some(true), ..DestinationChange::default() };
    let changed =
        acme.tenant.change_destination(acme.endpoint, acme.first, &change, world.now).await.unwrap();
    let DestinationChanged::Changed(destination) = changed else { panic!("{changed:?}") };
    assert!(destination.replay_on_recovery);

    let mut runs = Vec::new();
    for _ in 0..5 {
        // Two failures are no outage, and a recovery that has just failed again is none.
        observe(&world, &acme, &mut offset, &[false, false, false, true, false]).await;
        settle(&world).await;
        assert_eq!(recovered(&world).await, None);
        observe(&world, &acme, &mut offset, &[true]).await;
        let made = recovered(&world).await.expect("it has recovered");
        assert_eq!(recovered(&world).await, None, "once for each recovery");
        steps(&world).await;
        runs.push(number(&world, WAITING).await);
        assert_eq!(made.is_some(), runs.last() != Some(&0));
        give_up(&world, &acme).await;
        steps(&world).await;
        assert_eq!((number(&world, WAITING).await, number(&world, DEAD).await), (0, 5));
    }
    assert_eq!(runs, [5, 5, 5, 0, 0], "three times at most");
    let page = ravenpost_store::tenant::Page { after: None, limit: 9 };
    let jobs = acme.tenant.replay_jobs(page).await.unwrap().rows;
    assert!(jobs.iter().all(|job| job.kind == ReplayKind::Automatic && job.scheduled == 5));
    assert_eq!(jobs.len(), 3);
}

#[tokio::test]
async fn what_a_cancelled_recovery_takes_back_is_as_old_as_it_was() {
    let world = World::new().await;
    let acme = world.organization().await;
    seed(&world, &acme, "FAILED", 3).await;
    let age = "update dead_letters set created_at = created_at - interval '30 days'";
    world.pool.execute(age).await.unwrap();
    let since = |days| ReplayFilter {
        since: Some(world.now - TimeDelta::days(days)),
        ..to_first(&acme, &[EventStatus::Failed])
    };
    let id = make(&world, &acme, &since(31), None).await.id;
    assert_eq!(step(&world).await.unwrap().scheduled, 3);
    // As a replica of the release before schedules it.
    let forget = "update scheduled_deliveries set died_at = null
        where event_id = (select event_id from scheduled_deliveries limit 1)";
    world.pool.execute(forget).await.unwrap();
    steered(&world, &acme, id, Steer::Cancel).await;
    steps(&world).await;
    assert_eq!((number(&world, WAITING).await, number(&world, DEAD).await), (0, 3));
    let found = async |days| acme.tenant.count_replay(&since(days)).await.unwrap().count;
    assert_eq!((found(1).await, found(31).await), (1, 3), "only what is of no known age died just now");
}
