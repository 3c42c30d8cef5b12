//! The books against the worker's own records, and against rows removed, doubled and altered by hand (PROTOCOLS D6, W11).

use std::cell::Cell;
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use ravenpost_core::delivery::DeliveryKey;
use ravenpost_core::event::EventStatus;
use ravenpost_core::ids::{DestinationId, EventId, InstanceId};
use ravenpost_core::ledger::{Account, Fault, Finding, State, assess};
use ravenpost_core::replay::Steer;
use ravenpost_store::system::{LedgerPage, Record, Routed};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::replay_jobs::{make, steered, step, steps, to_first};
use crate::support::{Organization, World, random};

const ALL: EventId = EventId(Uuid::max());
const NONE: EventId = EventId(Uuid::nil());
const BOUND: Duration = Duration::from_secs(60);

/// What all pages of so many events say together.
pub(crate) async fn books(world: &World, page: i64) -> (Account, Vec<Finding>) {
    let (mut account, mut findings, mut after) = (Account::default(), Vec::new(), NONE);
    while after < ALL {
        let LedgerPage { entries, payloads, strays, reached } = world
            .store
            .system()
            .ledger_page(after, ALL, world.now + TimeDelta::hours(1), page)
            .await
            .unwrap();
        assert!(entries.len() >= payloads.len(), "what is expunged has none");
        for entry in &entries {
            findings.extend(assess(entry, &mut account));
        }
        for _ in &strays {
            account.miss();
        }
        findings.extend(strays);
        after = reached;
    }
    findings.sort_unstable();
    (account, findings)
}

/// From now on whatever has no row is lost.
async fn workers_have_passed(world: &World) {
    world.store.system().met(ALL).await.unwrap();
}

async fn by_hand(world: &World, statement: &str, event: EventId) {
    let statement = statement.replace("$1", &format!("'{event}'"));
    let done = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&world.pool).await.unwrap();
    assert!(done.rows_affected() >= 1, "nothing was altered");
}

async fn rows(world: &World, event: EventId) -> Vec<(Uuid, i32, i32, String)> {
    let query = "select destination_id, run, attempt_number, reason from scheduled_deliveries
                 where event_id = $1 order by destination_id";
    sqlx::query_as(query).bind(event.0).fetch_all(&world.pool).await.unwrap()
}

async fn column(world: &World, event: EventId, query: &'static str) -> String {
    sqlx::query_scalar(query).bind(event.0).fetch_one(&world.pool).await.unwrap()
}

#[tokio::test]
async fn what_was_recorded_balances_however_it_is_paged() {
    let world = World::new().await;
    let acme = world.organization().await;
    let both = |first, second| [(acme.first, first), (acme.second, second)];
    world.routed(&acme, &both(Some(true), Some(true))).await;
    world.routed(&acme, &both(Some(true), Some(false))).await;
    world.routed(&acme, &both(None, Some(false))).await;
    let replayed = world.routed(&acme, &both(Some(true), Some(false))).await;
    acme.tenant.replay(replayed, None, world.now).await.unwrap();
    let routed = world.event(&acme).await;
    let dropped = Routed { event_id: routed, destinations: Vec::new() };
    world.record(Record { routed: vec![dropped], ..Record::default() }).await;
    world.event(&acme).await;

    for page in [1, 2, 100] {
        let (account, findings) = books(&world, page).await;
        assert_eq!(findings, []);
        assert_eq!((account.events, account.accepted, account.unaccounted()), (6, 10, 0));
        let expected = [
            (State::Delivered, 4),
            (State::Retry, 1),
            (State::Replay, 1),
            (State::NotRouted, 1),
            (State::Dead, 2),
            (State::Dropped, 1),
        ];
        assert_eq!(account.states, expected.into());
    }
}

#[tokio::test]
async fn a_deleted_destination_is_told_as_cancelled() {
    let world = World::new().await;
    let acme = world.organization().await;
    world.routed(&acme, &[(acme.first, None), (acme.second, Some(true))]).await;
    acme.tenant.delete_destination(acme.endpoint, acme.first, None, world.now).await.unwrap();
    workers_have_passed(&world).await;
    let (account, findings) = books(&world, 10).await;
    assert_eq!((findings, account.of(State::Cancelled), account.of(State::Delivered)), (vec![], 1, 1));
}

/// A job that is cancelled while a worker has what it has scheduled for a destination that events were never meant for.
#[tokio::test]
async fn a_replay_that_is_cancelled_in_the_air_balances() {
    let world = World::new().await;
    let acme = world.organization().await;
    workers_have_passed(&world).await;
    let outcomes = [Some(true), Some(false), None];
    let mut attempts = Vec::new();
    for outcome in outcomes {
        let event_id = world.routed(&acme, &[]).await;
        let key = DeliveryKey { event_id, destination_id: acme.first, run: 1, attempt_number: 1 };
        attempts.push(world.attempt(&acme, key, 1, outcome));
    }
    let id = make(&world, &acme, &to_first(&acme, &[EventStatus::Dropped]), None).await.id;
    assert_eq!(step(&world).await.unwrap().scheduled, 3);
    steered(&world, &acme, id, Steer::Cancel).await;
    steps(&world).await;
    world.record(Record { attempts, ..Record::default() }).await;
    let (account, findings) = books(&world, 10).await;
    assert_eq!((findings, account.unaccounted()), (vec![], 0));
    assert_eq!(account.states, [(State::Delivered, 1), (State::Cancelled, 2)].into());
}

#[tokio::test]
async fn every_event_that_is_missing_is_told_however_it_is_paged() {
    let world = World::new().await;
    let acme = world.organization().await;
    workers_have_passed(&world).await;
    let mut events = Vec::new();
    for _ in 0..7 {
        events.push(world.routed(&acme, &[(acme.first, Some(true)), (acme.second, Some(false))]).await);
    }
    events.sort_unstable();
    let kept = events.remove(4);
    by_hand(&world, "delete from events where id <> $1", kept).await;
    let expected: Vec<_> = events.iter().map(|event| (*event, Fault::EventMissing)).collect();
    for page in [1, 2, 3, 100] {
        let (account, findings) = books(&world, page).await;
        let found: Vec<_> = findings.iter().map(|finding| (finding.event_id, finding.fault)).collect();
        assert_eq!(found, expected, "{page}");
        assert_eq!((account.events, account.unaccounted()), (1, 6), "{page}");
    }
}

/// The outcomes of a pair, what is done to its rows, and what is to be found.
type Damage = (Option<bool>, &'static str, Fault);

const DAMAGES: [Damage; 17] = [
    (Some(true), "delete from events where id = $1", Fault::EventMissing),
    (Some(true), "delete from event_headers where event_id = $1", Fault::HeadersMissing),
    (Some(true), "delete from deliveries where event_id = $1", Fault::DeliveryMissing),
    (Some(false), "delete from dead_letters where event_id = $1", Fault::DeadLetterMissing),
    (None, "delete from scheduled_deliveries where event_id = $1", Fault::Lost),
    (None, "update events set pending = null where id = $1", Fault::ScheduledAndNot),
    (Some(true), "update events set status = 'PENDING' where id = $1", Fault::StatusWrong),
    (Some(true), "update events set status = 'DROPPED', delivered = '{}' where id = $1", Fault::AttemptUnlisted),
    (Some(true), "update events set delivered = delivered || delivered where id = $1", Fault::ListedTwice),
    (
        Some(true),
        "update events set dead = delivered, status = 'FAILED' where id = $1",
        Fault::ListedTwice,
    ),
    (
        Some(true),
        "update events set dead = delivered, delivered = '{}', status = 'FAILED' where id = $1",
        Fault::DeliveredAndNot,
    ),
    (
        Some(true),
        "update events set pending = delivered, delivered = '{}', status = 'PENDING' where id = $1",
        Fault::DeliveredAndNot,
    ),
    (
        Some(true),
        "insert into dead_letters (event_id, destination_id, organization_id, endpoint_id, run, reason)
         select event_id, destination_id, organization_id, endpoint_id, 0, 'timeout' from deliveries where event_id = $1",
        Fault::DeadAndNot,
    ),
    (
        Some(true),
        "insert into scheduled_deliveries
             (event_id, destination_id, organization_id, endpoint_id, due_at, run, attempt_number, reason)
         select event_id, destination_id, organization_id, endpoint_id, now(), 0, 2, 'retry'
         from deliveries where event_id = $1",
        Fault::ScheduledAndNot,
    ),
    (
        Some(false),
        "update events set dead = '{}', status = 'DROPPED' where id = $1",
        Fault::DeadAndNot,
    ),
    (Some(false), "update deliveries set outcome = 'success' where event_id = $1", Fault::DeliveredAndNot),
    (
        Some(true),
        "update deliveries set outcome = 'server_error' where event_id = $1",
        Fault::DeliveryMissing,
    ),
];

#[tokio::test]
async fn what_was_removed_doubled_or_altered_by_hand_is_found_and_named() {
    let world = World::new().await;
    let acme = world.organization().await;
    workers_have_passed(&world).await;
    world.routed(&acme, &[(acme.first, Some(true)), (acme.second, Some(true))]).await;
    let mut expected = Vec::new();
    for (outcome, statement, fault) in DAMAGES {
        let event = world.routed(&acme, &[(acme.first, outcome)]).await;
        by_hand(&world, statement, event).await;
        expected.push((event, fault));
    }
    for page in [1, 5, 100] {
        let (account, findings) = books(&world, page).await;
        let mut found: Vec<_> = findings.iter().map(|finding| (finding.event_id, finding.fault)).collect();
        found.sort_unstable();
        // An event whose set was forgotten altogether is lost as well: no worker knows of it any more.
        found.retain(|(event, fault)| expected.contains(&(*event, *fault)) || *fault != Fault::Lost);
        expected.sort_unstable();
        assert_eq!(found, expected);
        assert!(findings.iter().all(|finding| finding.organization_id == acme.id));
        assert_eq!(account.of(State::Delivered), 4, "what is whole is told beside it");
    }
}

#[tokio::test]
async fn what_is_lost_is_swept_and_nothing_else() {
    let world = World::new().await;
    let (acme, system) = (world.organization().await, world.store.system());
    let unrouted = world.event(&acme).await;
    let lost = world.routed(&acme, &[(acme.first, None), (acme.second, None)]).await;
    let statement = format!(
        "delete from scheduled_deliveries where event_id = $1 and destination_id = '{}'",
        acme.second
    );
    by_hand(&world, &statement, lost).await;
    let whole = world.routed(&acme, &[(acme.first, Some(true)), (acme.second, Some(false))]).await;
    let kept = rows(&world, lost).await;

    let (reached, swept) = system.sweep(NONE, ALL, 100).await.unwrap();
    assert_eq!(reached, ALL);
    let mut pairs = swept.pairs;
    pairs.sort_unstable();
    let mut expected = vec![(unrouted, acme.first), (unrouted, acme.second), (lost, acme.second)];
    expected.sort_unstable();
    assert_eq!((pairs, swept.dropped), (expected, vec![]));

    let parked = |destination: DestinationId, attempt| (destination.0, 0, attempt, "parked".to_owned());
    let mut expected = [parked(acme.first, 1), parked(acme.second, 1)];
    expected.sort_unstable();
    assert_eq!(rows(&world, unrouted).await, expected);
    let after = rows(&world, lost).await;
    assert!(after.len() == 2 && kept.iter().all(|row| after.contains(row)), "{kept:?} {after:?}");
    assert!(after.contains(&parked(acme.second, 2)), "the attempt after the last one that was made");
    assert_eq!(rows(&world, whole).await, []);
    workers_have_passed(&world).await;
    assert_eq!(books(&world, 10).await.1, []);

    let (_, again) = system.sweep(NONE, ALL, 100).await.unwrap();
    assert_eq!(again.count(), 0, "twice is as good as once");
    deliver(&world, &acme, unrouted, acme.first).await;
    assert_eq!(books(&world, 10).await.1, []);
}

/// The attempt of a swept row, as the worker records it.
async fn deliver(world: &World, acme: &Organization, event_id: EventId, destination_id: DestinationId) {
    let key = DeliveryKey { event_id, destination_id, run: 0, attempt_number: 1 };
    let attempts = vec![world.attempt(acme, key, 1, Some(true))];
    world.record(Record { attempts, ..Record::default() }).await;
    assert_eq!(rows(world, event_id).await.len(), 1);
}

/// The sweeper gives a row to what a deleted destination is just being relieved of: whoever comes first, nothing is left.
#[tokio::test]
async fn what_is_cancelled_while_it_is_swept_ends_cancelled() {
    const EVENTS: usize = 100;
    let world = World::new().await;
    let (acme, system) = (world.organization().await, world.store.system());
    let mut events = Vec::new();
    for number in 0..EVENTS {
        let event = world.routed(&acme, &[(acme.first, None)]).await;
        if number % 2 == 0 {
            by_hand(&world, "delete from scheduled_deliveries where event_id = $1", event).await;
        }
        events.push(event);
    }
    sqlx::query("update destinations set deleted_at = now() where id = $1")
        .bind(acme.first.0)
        .execute(&world.pool)
        .await
        .unwrap();

    let all_swept = Cell::new(false);
    let sweep = async {
        for some in events.chunks(2) {
            system.sweep_events(some).await.unwrap();
        }
        all_swept.set(true);
    };
    let cancel = async {
        let mut cancelled = 0;
        loop {
            let is_last = all_swept.get();
            // Whoever waits for a row gives way, and comes again.
            match system.cancel_waiting(acme.id, acme.first, world.now).await {
                Ok(0) if is_last => break cancelled,
                Ok(count) => cancelled += count,
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
        }
    };
    let both = tokio::time::timeout(BOUND, async { tokio::join!(sweep, cancel) });
    let ((), cancelled) = both.await.unwrap();

    assert_eq!(cancelled, EVENTS, "each once");
    for event in events {
        assert_eq!(rows(&world, event).await, []);
        assert_eq!(column(&world, event, "select status from events where id = $1").await, "DROPPED");
    }
    workers_have_passed(&world).await;
    let (account, findings) = books(&world, 30).await;
    assert_eq!((account.unaccounted(), findings), (0, vec![]));
}

#[tokio::test]
async fn a_lost_event_that_is_for_nobody_is_dropped() {
    let world = World::new().await;
    let acme = world.organization().await;
    for destination in [acme.first, acme.second] {
        acme.tenant.delete_destination(acme.endpoint, destination, None, world.now).await.unwrap();
    }
    let event = world.event(&acme).await;
    let swept = world.store.system().sweep_events(&[event]).await.unwrap();
    assert_eq!((swept.pairs, swept.dropped), (vec![], vec![event]));
    assert_eq!(column(&world, event, "select status from events where id = $1").await, "DROPPED");
}

#[tokio::test]
async fn what_was_settled_by_hand_is_not_swept() {
    let world = World::new().await;
    let acme = world.organization().await;
    let delivered = world.routed(&acme, &[(acme.first, Some(true))]).await;
    let again = "update events set pending = delivered, delivered = '{}', status = 'PENDING' where id = $1";
    by_hand(&world, again, delivered).await;
    let done = world.event(&acme).await;
    by_hand(&world, "update events set status = 'SUCCESS' where id = $1", done).await;
    let swept = world.store.system().sweep_events(&[delivered, done]).await.unwrap();
    assert_eq!(swept.count(), 0);
}

#[tokio::test]
async fn sweeping_goes_page_by_page_and_remembers_how_far() {
    let world = World::new().await;
    let (acme, system) = (world.organization().await, world.store.system());
    let mut events = Vec::new();
    for _ in 0..5 {
        events.push(world.event(&acme).await);
    }
    events.sort_unstable();
    let (mut after, mut swept) = (NONE, 0);
    for expected in [events[1], events[3], events[4]] {
        let (reached, found) = system.sweep(after, events[4], 2).await.unwrap();
        assert_eq!(reached, expected);
        let state = system.hold_sweeper(Uuid::max(), TimeDelta::seconds(60)).await.unwrap().unwrap();
        assert_eq!(state.swept_through, reached);
        (after, swept) = (reached, swept + found.count());
    }
    assert_eq!(swept, 10, "each for both destinations");
}

#[tokio::test]
async fn one_worker_at_a_time_holds_the_sweeper() {
    let world = World::new().await;
    let system = world.store.system();
    let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let lease = TimeDelta::seconds(60);
    assert!(system.hold_sweeper(one, lease).await.unwrap().is_some());
    assert!(system.hold_sweeper(other, lease).await.unwrap().is_none());
    assert!(system.hold_sweeper(one, TimeDelta::seconds(-1)).await.unwrap().is_some());
    assert!(system.hold_sweeper(other, lease).await.unwrap().is_some(), "the lease is over");
    assert!(system.hold_sweeper(one, lease).await.unwrap().is_none());
}

#[tokio::test]
async fn what_a_run_of_ingress_has_not_published_is_not_published() {
    let world = World::new().await;
    let system = world.store.system();
    let minutes = |minutes| world.now - TimeDelta::minutes(minutes);
    let idle = system.published_through().await.unwrap();
    let now = DateTime::UNIX_EPOCH + ravenpost_testkit::clock::now();
    assert!(
        idle > EventId::floor(minutes(1)) && idle < EventId::floor(now),
        "with nobody at work: all that is settled"
    );
    let instance = InstanceId::new(minutes(10), random());
    system.register_instance(instance, 1).await.unwrap();
    assert_eq!(system.published_through().await.unwrap(), EventId(instance.0));
    let cursor = EventId::new(minutes(5), random());
    assert!(system.heartbeat(instance, Some(cursor)).await.unwrap());
    assert_eq!(system.published_through().await.unwrap(), cursor);
    system.retire_instance(instance).await.unwrap();
    assert!(system.published_through().await.unwrap() >= idle);
}
