//! Replay and cancellation against the worker's own record, in every state a pair can be in (PROTOCOLS W5, W6, W8).

use std::time::Duration;

use ravenpost_core::delivery::{DeliveryKey, WaitingReason};
use ravenpost_core::event::EventStatus;
use ravenpost_core::ids::{DestinationId, EventId};
use ravenpost_store::system::Record;
use ravenpost_store::tenant::{Attempts, Deleted, Event, ReplayError, Replayed, ScheduledFilter};
use ravenpost_testkit::wait;
use sqlx::{Postgres, Transaction};

use crate::support::{Organization, World};

async fn event(organization: &Organization, id: EventId) -> Event {
    organization.tenant.event(id).await.unwrap().unwrap()
}

async fn attempts(organization: &Organization, id: EventId) -> Attempts {
    organization.tenant.attempts(id).await.unwrap().unwrap()
}

async fn replay(
    world: &World,
    organization: &Organization,
    id: EventId,
    only: Option<DestinationId>,
) -> Vec<Replayed> {
    organization.tenant.replay(id, only, world.now).await.unwrap()
}

async fn dead_letters(world: &World, id: EventId) -> i64 {
    sqlx::query_scalar("select count(*) from dead_letters where event_id = $1")
        .bind(id.0)
        .fetch_one(&world.pool)
        .await
        .unwrap()
}

async fn version(world: &World, id: EventId, destination: DestinationId) -> i32 {
    sqlx::query_scalar("select version from scheduled_deliveries where event_id = $1 and destination_id = $2")
        .bind(id.0)
        .bind(destination.0)
        .fetch_one(&world.pool)
        .await
        .unwrap()
}

fn key(event_id: EventId, destination_id: DestinationId, run: i32) -> DeliveryKey {
    DeliveryKey { event_id, destination_id, run, attempt_number: 1 }
}

#[tokio::test]
async fn what_was_given_up_waits_again_and_can_succeed() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.routed(&acme, &[(acme.first, Some(true)), (acme.second, Some(false))]).await;
    assert_eq!(event(&acme, id).await.status, EventStatus::Failed);
    assert_eq!(dead_letters(&world, id).await, 1);

    let replayed = replay(&world, &acme, id, Some(acme.second)).await;
    assert_eq!((replayed[0].destination_id, replayed[0].run), (acme.second, 1));
    let waits = event(&acme, id).await;
    assert_eq!((waits.status, waits.pending.unwrap()), (EventStatus::Pending, vec![acme.second]));
    assert!(waits.dead.is_empty());
    assert_eq!(dead_letters(&world, id).await, 0);
    assert_eq!(attempts(&acme, id).await.waiting[0].reason, WaitingReason::Replay);

    let attempt = world.attempt(&acme, key(id, acme.second, 1), 1, Some(true));
    world.record(Record { attempts: vec![attempt], ..Record::default() }).await;
    let done = event(&acme, id).await;
    assert_eq!((done.status, done.delivered.len()), (EventStatus::Success, 2));
    let all = attempts(&acme, id).await;
    assert_eq!((all.deliveries.len(), all.waiting.len()), (3, 0));
}

#[tokio::test]
async fn what_was_delivered_is_sent_again_and_stays_delivered() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.routed(&acme, &[(acme.first, Some(true))]).await;
    replay(&world, &acme, id, Some(acme.first)).await;
    let again = event(&acme, id).await;
    assert_eq!((again.status, again.delivered), (EventStatus::Success, vec![acme.first]));

    let attempt = world.attempt(&acme, key(id, acme.first, 1), 1, Some(false));
    world.record(Record { attempts: vec![attempt], ..Record::default() }).await;
    assert_eq!(event(&acme, id).await.status, EventStatus::Success);
    assert!(attempts(&acme, id).await.waiting.is_empty());

    let next = replay(&world, &acme, id, Some(acme.first)).await;
    assert_eq!(next[0].run, 2);
    assert_eq!(dead_letters(&world, id).await, 0);
}

#[tokio::test]
async fn an_attempt_in_the_air_does_not_complete_the_replay_that_came_meanwhile() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.routed(&acme, &[(acme.first, None)]).await;
    let taken = version(&world, id, acme.first).await;
    let replayed = replay(&world, &acme, id, None).await;
    assert_eq!(replayed.iter().find(|replayed| replayed.destination_id == acme.first).unwrap().run, 1);
    assert_eq!(version(&world, id, acme.first).await, taken + 1);

    let mut retry = key(id, acme.first, 0);
    retry.attempt_number = 2;
    for outcome in [Some(false), None, Some(true)] {
        let attempt = world.attempt(&acme, retry, taken, outcome);
        world.record(Record { attempts: vec![attempt], ..Record::default() }).await;
        retry.attempt_number += 1;
        let waiting = attempts(&acme, id).await.waiting;
        let replay = waiting.iter().find(|waiting| waiting.destination_id == acme.first).unwrap();
        assert_eq!((replay.run, replay.attempt_number, replay.reason), (1, 1, WaitingReason::Replay));
        assert_eq!(dead_letters(&world, id).await, 0);
    }
}

#[tokio::test]
async fn a_destination_that_the_event_never_met_gets_it() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.routed(&acme, &[]).await;
    assert_eq!(event(&acme, id).await.status, EventStatus::Dropped);
    assert_eq!(replay(&world, &acme, id, None).await.len(), 2);
    let waits = event(&acme, id).await;
    assert_eq!((waits.status, waits.pending.unwrap().len()), (EventStatus::Pending, 2));
}

/// What a page looks at is bounded, so that one may be empty and have another behind it.
#[tokio::test]
async fn a_replay_is_listed_behind_a_long_backlog() {
    let world = World::new().await;
    let acme = world.organization().await;
    sqlx::query(
        "insert into scheduled_deliveries
             (event_id, destination_id, organization_id, endpoint_id, due_at, run, attempt_number, reason)
         select uuidv7(), $1, $2, $3, now() - interval '1 hour', 0, 2, 'retry' from generate_series(1, 10001)",
    )
    .bind(acme.first.0)
    .bind(acme.id.0)
    .bind(acme.endpoint.0)
    .execute(&world.pool)
    .await
    .unwrap();
    let id = world.routed(&acme, &[(acme.first, Some(false)), (acme.second, Some(false))]).await;
    replay(&world, &acme, id, None).await;
    let list = async |reason, after| {
        let filter = ScheduledFilter { reason: Some(reason), ..ScheduledFilter::default() };
        acme.tenant.scheduled(&filter, after, 10).await.unwrap()
    };
    assert_eq!(list(WaitingReason::Retry, None).await.rows.len(), 10);
    let first = list(WaitingReason::Replay, None).await;
    assert!(first.rows.is_empty() && first.next.is_some(), "{first:?}");
    let second = list(WaitingReason::Replay, first.next).await;
    let listed: Vec<_> = second.rows.iter().map(|row| (row.event_id, row.destination_id)).collect();
    let mut both = vec![(id, acme.first), (id, acme.second)];
    both.sort_unstable();
    assert_eq!((listed, second.next), (both, None));
}

#[tokio::test]
async fn nothing_is_replayed_where_it_makes_no_sense() {
    let world = World::new().await;
    let acme = world.organization().await;
    let fresh = world.event(&acme).await;
    let refused = async |id, only| acme.tenant.replay(id, only, world.now).await.unwrap_err();
    assert!(matches!(refused(fresh, None).await, ReplayError::NotRouted));

    let id = world.routed(&acme, &[(acme.first, Some(true))]).await;
    let other = world.organization().await;
    assert!(matches!(refused(id, Some(other.first)).await, ReplayError::NoDestination));
    for destination in [acme.first, acme.second] {
        assert_eq!(
            acme.tenant.delete_destination(acme.endpoint, destination, None, world.now).await.unwrap(),
            Deleted::Deleted
        );
    }
    assert!(matches!(refused(id, Some(acme.first)).await, ReplayError::NoDestination));
    assert!(matches!(refused(id, None).await, ReplayError::NoDestinations));
    assert_eq!(acme.tenant.delete_endpoint(acme.endpoint, None, world.now).await.unwrap(), Deleted::Deleted);
    assert!(matches!(refused(id, None).await, ReplayError::EndpointDeleted));
    assert!(attempts(&acme, id).await.waiting.is_empty());
}

#[tokio::test]
async fn deleting_a_destination_cancels_what_waits_for_it_and_nothing_else() {
    let world = World::new().await;
    let acme = world.organization().await;
    let (first, second) = (acme.first, acme.second);
    let both = world.routed(&acme, &[(first, None), (second, None)]).await;
    let delivered = world.routed(&acme, &[(first, None), (second, Some(true))]).await;
    let given_up = world.routed(&acme, &[(first, None), (second, Some(false))]).await;
    let alone = world.routed(&acme, &[(first, None)]).await;

    assert_eq!(
        acme.tenant.delete_destination(acme.endpoint, first, None, world.now).await.unwrap(),
        Deleted::Deleted
    );
    for (id, status) in [
        (both, EventStatus::Pending),
        (delivered, EventStatus::Success),
        (given_up, EventStatus::Failed),
        (alone, EventStatus::Dropped),
    ] {
        assert_eq!(event(&acme, id).await.status, status);
        assert!(attempts(&acme, id).await.waiting.iter().all(|waiting| waiting.destination_id == second));
    }
    assert_eq!(
        acme.tenant.delete_destination(acme.endpoint, first, None, world.now).await.unwrap(),
        Deleted::Missing
    );

    assert_eq!(acme.tenant.delete_endpoint(acme.endpoint, None, world.now).await.unwrap(), Deleted::Deleted);
    assert_eq!(event(&acme, both).await.status, EventStatus::Dropped);
    assert!(
        acme.tenant
            .destinations(acme.endpoint, ravenpost_store::tenant::Page { after: None, limit: 9 })
            .await
            .unwrap()
            .rows
            .is_empty()
    );
}

#[tokio::test]
async fn replaying_while_a_destination_is_deleted_leaves_nothing_behind() {
    let world = World::new().await;
    let acme = world.organization().await;
    for _ in 0..10 {
        let id = world.routed(&acme, &[(acme.first, Some(false))]).await;
        let tenant = acme.tenant.clone();
        let now = world.now;
        let (endpoint, first) = (acme.endpoint, acme.first);
        let deleting =
            tokio::spawn(async move { tenant.delete_destination(endpoint, first, None, now).await.unwrap() });
        let replaying = acme.tenant.replay(id, Some(acme.first), world.now).await;
        deleting.await.unwrap();
        assert!(matches!(replaying, Ok(_) | Err(ReplayError::NoDestination)), "{replaying:?}");
        let waiting = attempts(&acme, id).await.waiting;
        assert!(waiting.is_empty(), "{waiting:?}");
        sqlx::query("update destinations set deleted_at = null").execute(&world.pool).await.unwrap();
    }
}

/// Holds the event as the worker's record does, and then wants its schedule, which replay has locked by then.
#[tokio::test]
async fn where_a_replay_and_the_workers_record_wait_for_each_other_the_replay_yields() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.routed(&acme, &[(acme.first, None)]).await;
    let mut record = world.pool.begin().await.unwrap();
    lock(&mut record, "select from events where id = $1 for update", id).await;
    let (tenant, now) = (acme.tenant.clone(), world.now);
    let replay = tokio::spawn(async move { tenant.replay(id, None, now).await });
    let waits = "select count(*) from pg_stat_activity
        where wait_event_type = 'Lock' and datname = current_database()";
    wait::until("the replay to wait for the event", Duration::from_secs(10), async || {
        let waiting: i64 = sqlx::query_scalar(waits).fetch_one(&world.pool).await?;
        Ok((waiting > 0).then_some(()))
    })
    .await
    .unwrap();
    lock(&mut record, "select from scheduled_deliveries where event_id = $1 for update", id).await;
    record.commit().await.unwrap();
    assert_eq!(replay.await.unwrap().unwrap().len(), 2);
}

async fn lock(transaction: &mut Transaction<'_, Postgres>, statement: &'static str, id: EventId) {
    sqlx::query(statement).bind(id.0).execute(&mut **transaction).await.unwrap();
}
