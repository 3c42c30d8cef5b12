//! Recording under attack: twice, late, and by a worker that has lost its partition (PROTOCOLS W2, W3, W5).

use ravenpost_core::delivery::DeliveryKey;
use ravenpost_core::event::EventStatus;
use ravenpost_core::ids::{DestinationId, EventId};
use ravenpost_store::system::{Ask, Attempt, Filtered, OfPartition, Park, ParkReason, Record, Routed};
use sqlx::Executor;

use crate::support::{Organization, PARTITION, World};

fn key(event_id: EventId, destination_id: DestinationId, attempt_number: i32) -> DeliveryKey {
    DeliveryKey { event_id, destination_id, run: 0, attempt_number }
}

fn routed(event_id: EventId, destinations: &[DestinationId]) -> Vec<Routed> {
    vec![Routed { event_id, destinations: destinations.to_vec() }]
}

async fn status(acme: &Organization, id: EventId) -> EventStatus {
    acme.tenant.event(id).await.unwrap().unwrap().status
}

/// How many pairs of an event wait, and how many are dead.
async fn left(world: &World, id: EventId) -> (i64, i64) {
    sqlx::query_as(
        "select (select count(*) from scheduled_deliveries where event_id = $1),
                (select count(*) from dead_letters where event_id = $1)",
    )
    .bind(id.0)
    .fetch_one(&world.pool)
    .await
    .unwrap()
}

async fn attempts(world: &World, id: EventId) -> i64 {
    sqlx::query_scalar("select count(*) from deliveries where event_id = $1")
        .bind(id.0)
        .fetch_one(&world.pool)
        .await
        .unwrap()
}

/// Records as a worker that still believes in an epoch that is over.
async fn record_as_zombie(world: &World, attempts: Vec<Attempt>) {
    let record = Record { attempts, ..Record::default() };
    let current = world.store.system().record(PARTITION, world.epoch - 1, &record).await.unwrap();
    assert!(!current, "an old epoch is told so");
}

#[tokio::test]
async fn the_same_record_twice_moves_nothing_twice() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.event(&acme).await;
    let record = Record {
        routed: routed(id, &[acme.first, acme.second]),
        attempts: vec![
            world.attempt(&acme, key(id, acme.first, 1), 0, Some(false)),
            world.attempt(&acme, key(id, acme.second, 1), 0, None),
        ],
        ..Record::default()
    };
    for _ in 0..2 {
        world.record(record.clone()).await;
        let event = acme.tenant.event(id).await.unwrap().unwrap();
        assert_eq!((event.status, event.pending.unwrap()), (EventStatus::Pending, vec![acme.second]));
        assert_eq!(event.dead, vec![acme.first]);
        assert_eq!(attempts(&world, id).await, 2);
        assert_eq!(left(&world, id).await, (1, 1));
    }
}

#[tokio::test]
async fn an_event_that_a_record_routes_twice_lists_each_destination_once() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.event(&acme).await;
    let both = [acme.first, acme.second];
    world
        .record(Record {
            // It stands in the log twice.
            routed: [routed(id, &both), routed(id, &both)].concat(),
            attempts: vec![world.attempt(&acme, key(id, acme.first, 1), 0, Some(false))],
            ..Record::default()
        })
        .await;
    let event = acme.tenant.event(id).await.unwrap().unwrap();
    assert_eq!((event.pending.unwrap(), event.dead), (vec![acme.second], vec![acme.first]));
}

/// Tells how statements are planned on the connections that write events.
const TELL_PLANNING: &str = "
    create table planned (told text);
    create function tell_planning() returns trigger language plpgsql security definer as $$ begin
        insert into public.planned values (concat_ws(' ', tg_op, current_setting('plan_cache_mode'),
            current_setting('enable_seqscan'), current_setting('enable_hashjoin'),
            current_setting('enable_mergejoin'), current_setting('enable_material')));
        return null;
    end $$;
    create trigger tell after insert or update on events for each row execute function tell_planning();";

/// See docs/decisions/0040-planned-once.md.
#[tokio::test]
async fn only_what_is_recorded_is_planned_once_and_finds_rows_by_their_keys() {
    let world = World::new().await;
    let acme = world.organization().await;
    world.pool.execute(TELL_PLANNING).await.unwrap();
    // Accepted and recorded by the system; replayed by the tenant.
    let id = world.routed(&acme, &[(acme.first, Some(false))]).await;
    acme.tenant.replay(id, None, world.now).await.unwrap();
    let told: Vec<String> = sqlx::query_scalar("select distinct told from planned order by told")
        .fetch_all(&world.pool)
        .await
        .unwrap();
    let expected =
        ["INSERT auto on on on on", "UPDATE auto on on on on", "UPDATE force_generic_plan off off off off"];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_zombie_neither_schedules_nor_buries_but_its_attempt_is_known() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.event(&acme).await;
    world.record(Record { routed: routed(id, &[acme.first]), ..Record::default() }).await;
    for outcome in [None, Some(false)] {
        record_as_zombie(&world, vec![world.attempt(&acme, key(id, acme.first, 1), 0, outcome)]).await;
        assert_eq!(left(&world, id).await, (0, 0));
        assert_eq!(status(&acme, id).await, EventStatus::Pending);
    }
    let known = &world.store.system().known(&[id]).await.unwrap()[&id];
    assert_eq!(known.pending.as_ref().unwrap().iter().collect::<Vec<_>>(), [&acme.first]);
    assert_eq!(known.attempts[&acme.first], 1);
    // The owner makes the same attempt again, and its decision counts although the key is taken.
    let attempt = world.attempt(&acme, key(id, acme.first, 1), 0, None);
    world.record(Record { attempts: vec![attempt], ..Record::default() }).await;
    assert_eq!(left(&world, id).await, (1, 0));
}

#[tokio::test]
async fn a_zombies_success_is_terminal_whatever_was_decided_meanwhile() {
    let world = World::new().await;
    let acme = world.organization().await;
    for decided in [None, Some(false)] {
        let id = world.routed(&acme, &[(acme.first, decided)]).await;
        record_as_zombie(&world, vec![world.attempt(&acme, key(id, acme.first, 1), 0, Some(true))]).await;
        assert_eq!(status(&acme, id).await, EventStatus::Success);
        assert_eq!(left(&world, id).await, (0, 0), "nothing is sent again");
    }
}

#[tokio::test]
async fn nothing_turns_a_success_back() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.routed(&acme, &[(acme.first, Some(true))]).await;
    for outcome in [None, Some(false)] {
        let late = |number| world.attempt(&acme, key(id, acme.first, number), 0, outcome);
        record_as_zombie(&world, vec![late(1), late(2)]).await;
        assert_eq!(status(&acme, id).await, EventStatus::Success);
        assert_eq!(left(&world, id).await, (0, 0));
    }
    let attempts = acme.tenant.attempts(id).await.unwrap().unwrap();
    assert!(attempts.deliveries.iter().any(|delivery| delivery.outcome.is_success()));
}

#[tokio::test]
async fn partitions_that_are_recorded_together_are_judged_each_by_its_own_epoch() {
    let world = World::new().await;
    let acme = world.organization().await;
    let (ours, lost) = (world.event(&acme).await, world.event(&acme).await);
    let (system, other) = (world.store.system(), PARTITION + 1);
    let stale = system.take_partition(other).await.unwrap();
    system.take_partition(other).await.unwrap();
    let failed = |id| Record {
        routed: routed(id, &[acme.first]),
        attempts: vec![world.attempt(&acme, key(id, acme.first, 1), 0, Some(false))],
        ..Record::default()
    };
    let records = [(PARTITION, world.epoch, failed(ours)), (other, stale, failed(lost))];
    let all: Vec<_> = records
        .iter()
        .map(|(partition, epoch, record)| OfPartition { partition: *partition, epoch: *epoch, record })
        .collect();
    assert_eq!(system.record_all(&all).await.unwrap(), [PARTITION]);
    assert_eq!(left(&world, ours).await, (0, 1), "it is given up");
    assert_eq!(left(&world, lost).await, (0, 0), "that is another owner's to decide");
    let attempts = acme.tenant.attempts(lost).await.unwrap().unwrap();
    assert_eq!(attempts.deliveries.len(), 1, "but it was made");
}

#[tokio::test]
async fn a_success_before_the_event_is_routed_is_not_forgotten() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.event(&acme).await;
    let zombie = Record {
        routed: routed(id, &[acme.first, acme.second]),
        attempts: vec![world.attempt(&acme, key(id, acme.first, 1), 0, Some(true))],
        ..Record::default()
    };
    assert!(!world.store.system().record(PARTITION, world.epoch - 1, &zombie).await.unwrap());
    let known = &world.store.system().known(&[id]).await.unwrap()[&id];
    assert_eq!(known.pending.as_ref().unwrap().iter().collect::<Vec<_>>(), [&acme.second]);
}

#[tokio::test]
async fn a_parked_attempt_completes_its_own_row_only() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.event(&acme).await;
    let park = Park {
        event_id: id,
        destination_id: acme.first,
        organization_id: acme.id,
        endpoint_id: acme.endpoint,
        run: 0,
        attempt_number: 1,
        version: 0,
        due_at: world.now,
        reason: ParkReason::Parked,
    };
    let parked = Record { routed: routed(id, &[acme.first]), parks: vec![park], ..Record::default() };
    world.record(parked).await;
    let waiting = world.store.system().waiting().await.unwrap();
    assert_eq!(waiting[0].destination_id, acme.first);
    let due = world.store.system().due(&[Ask::oldest(acme.first, 10)], world.now).await.unwrap();
    assert_eq!((due[0].event_id, due[0].version, due[0].attempt_number), (id, 1, 1));

    // A replay comes while the parked attempt is in the air: the attempt's end must not delete it (W8).
    acme.tenant.replay(id, Some(acme.first), world.now).await.unwrap();
    let attempt = world.attempt(&acme, key(id, acme.first, 1), 1, Some(false));
    world.record(Record { attempts: vec![attempt], ..Record::default() }).await;
    assert_eq!(left(&world, id).await, (1, 0));
    assert_eq!(status(&acme, id).await, EventStatus::Pending);
}

#[tokio::test]
async fn what_is_put_off_keeps_its_row_and_changes_its_version() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.routed(&acme, &[(acme.first, None)]).await;
    let later = world.now + chrono::TimeDelta::minutes(5);
    let park = Park {
        event_id: id,
        destination_id: acme.first,
        organization_id: acme.id,
        endpoint_id: acme.endpoint,
        run: 0,
        attempt_number: 2,
        version: 1,
        due_at: later,
        reason: ParkReason::Parked,
    };
    for _ in 0..2 {
        // The second time the version has moved on, and nothing happens.
        world.record(Record { parks: vec![park.clone()], ..Record::default() }).await;
        let due = world.store.system().due(&[Ask::oldest(acme.first, 10)], later).await.unwrap();
        assert_eq!((due[0].version, due[0].attempt_number, due[0].due_at), (2, 2, later));
    }
    let early = world.store.system().due(&[Ask::oldest(acme.first, 10)], world.now).await.unwrap();
    assert!(early.is_empty());
}

#[tokio::test]
async fn a_pair_that_a_zombie_has_delivered_is_not_tried_again() {
    let world = World::new().await;
    let acme = world.organization().await;
    for decision in [None, Some(false)] {
        let id = world.event(&acme).await;
        world.record(Record { routed: routed(id, &[acme.first]), ..Record::default() }).await;
        record_as_zombie(&world, vec![world.attempt(&acme, key(id, acme.first, 1), 0, Some(true))]).await;
        let failed = world.attempt(&acme, key(id, acme.first, 2), 0, decision);
        world.record(Record { attempts: vec![failed], ..Record::default() }).await;
        assert_eq!(status(&acme, id).await, EventStatus::Success);
        assert_eq!(left(&world, id).await, (0, 0));
    }
}

#[tokio::test]
async fn what_is_paused_is_not_due() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.routed(&acme, &[(acme.first, None), (acme.second, None)]).await;
    let later = world.now + chrono::TimeDelta::hours(2);
    sqlx::query("update destinations set status = 'paused' where id = $1")
        .bind(acme.first.0)
        .execute(&world.pool)
        .await
        .unwrap();
    let due = world
        .store
        .system()
        .due(&[Ask::oldest(acme.first, 10), Ask::oldest(acme.second, 10)], later)
        .await
        .unwrap();
    assert_eq!(
        due.iter().map(|row| (row.event_id, row.destination_id)).collect::<Vec<_>>(),
        [(id, acme.second)]
    );
    let waiting = world.store.system().waiting().await.unwrap();
    assert_eq!(waiting.iter().map(|waiting| waiting.destination_id).collect::<Vec<_>>(), [acme.second]);
}

#[tokio::test]
async fn a_damaged_destination_harms_no_other_of_its_endpoint() {
    let world = World::new().await;
    let acme = world.organization().await;
    sqlx::query("update destinations set retry_policy = '{}' where id = $1")
        .bind(acme.first.0)
        .execute(&world.pool)
        .await
        .unwrap();
    let route = world.store.system().route(acme.endpoint).await.unwrap().unwrap();
    let damaged = route.destination(acme.first).unwrap().delivery.as_ref().unwrap_err().to_string();
    assert!(damaged.starts_with("destinations.retry_policy of "), "{damaged}");
    assert!(route.destination(acme.second).unwrap().delivery.is_ok());
}

#[tokio::test]
async fn an_event_without_destinations_is_dropped() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.event(&acme).await;
    world.record(Record { routed: routed(id, &[]), ..Record::default() }).await;
    assert_eq!(status(&acme, id).await, EventStatus::Dropped);
}

fn unwanted(event_id: EventId, destination_id: DestinationId, run: i32, version: i32) -> Record {
    Record { filtered: vec![Filtered { event_id, destination_id, run, version }], ..Record::default() }
}

#[tokio::test]
async fn what_no_destination_wants_is_dropped_and_what_one_wants_is_not() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.event(&acme).await;
    let both = routed(id, &[acme.first, acme.second]);
    for _ in 0..2 {
        world.record(Record { routed: both.clone(), ..unwanted(id, acme.first, 0, 0) }).await;
        let event = acme.tenant.event(id).await.unwrap().unwrap();
        assert_eq!((event.status, event.pending.unwrap()), (EventStatus::Pending, vec![acme.second]));
        assert_eq!(event.filtered, [acme.first]);
    }
    let other = world.event(&acme).await;
    let delivered = world.attempt(&acme, key(other, acme.second, 1), 0, Some(true));
    world
        .record(Record {
            routed: routed(other, &[acme.first, acme.second]),
            attempts: vec![delivered],
            ..unwanted(other, acme.first, 0, 0)
        })
        .await;
    assert_eq!(status(&acme, other).await, EventStatus::Success);

    world.record(unwanted(id, acme.second, 0, 0)).await;
    let event = acme.tenant.event(id).await.unwrap().unwrap();
    assert_eq!(
        (event.status, event.filtered.len(), event.pending.unwrap().len()),
        (EventStatus::Dropped, 2, 0)
    );
    assert!(world.store.system().known(&[id]).await.unwrap()[&id].pending.as_ref().unwrap().is_empty());
}

#[tokio::test]
async fn a_filter_decides_only_for_the_owner_and_never_against_a_success() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.event(&acme).await;
    world.record(Record { routed: routed(id, &[acme.first]), ..Record::default() }).await;
    let late = unwanted(id, acme.first, 0, 0);
    assert!(!world.store.system().record(PARTITION, world.epoch - 1, &late).await.unwrap());
    assert_eq!(status(&acme, id).await, EventStatus::Pending);

    world.record(unwanted(id, acme.first, 0, 0)).await;
    assert_eq!(status(&acme, id).await, EventStatus::Dropped);
    record_as_zombie(&world, vec![world.attempt(&acme, key(id, acme.first, 1), 0, Some(true))]).await;
    world.record(unwanted(id, acme.first, 0, 0)).await;
    let event = acme.tenant.event(id).await.unwrap().unwrap();
    assert_eq!(
        (event.status, event.delivered, event.filtered),
        (EventStatus::Success, vec![acme.first], vec![])
    );
}

#[tokio::test]
async fn a_filter_completes_the_row_it_was_asked_for_and_no_replay_that_came_meanwhile() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.event(&acme).await;
    let park = Park {
        event_id: id,
        destination_id: acme.first,
        organization_id: acme.id,
        endpoint_id: acme.endpoint,
        run: 0,
        attempt_number: 1,
        version: 0,
        due_at: world.now,
        reason: ParkReason::Parked,
    };
    world.record(Record { routed: routed(id, &[acme.first]), parks: vec![park], ..Record::default() }).await;
    // It was taken at version 1; somebody has replayed it since.
    acme.tenant.replay(id, Some(acme.first), world.now).await.unwrap();
    for version in [0, 1] {
        world.record(unwanted(id, acme.first, 0, version)).await;
        assert_eq!(left(&world, id).await.0, 1);
        assert_eq!(status(&acme, id).await, EventStatus::Pending);
    }
    let due = world.store.system().due(&[Ask::oldest(acme.first, 10)], world.now).await.unwrap();
    assert_eq!((due[0].run, due[0].version, due[0].unfiltered), (1, 2, true));
    world.record(unwanted(id, acme.first, 1, 2)).await;
    assert_eq!(left(&world, id).await.0, 0);
    assert_eq!(status(&acme, id).await, EventStatus::Dropped);

    // Replayed, it waits and is no longer counted as filtered; for all, the filter is asked again.
    acme.tenant.replay(id, None, world.now).await.unwrap();
    let event = acme.tenant.event(id).await.unwrap().unwrap();
    assert_eq!((event.status, event.filtered), (EventStatus::Pending, vec![]));
    let due = world.store.system().due(&[Ask::oldest(acme.first, 10)], world.now).await.unwrap();
    assert!(!due[0].unfiltered);
}
