//! Statistics: each attempt and each event counts once, whatever is repeated, late, concurrent or added up meanwhile.

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_core::delivery::{DeliveryKey, Outcome};
use ravenpost_core::ids::{DestinationId, EventId, InstanceId};
use ravenpost_core::statistics::{Figures, Grain, Span};
use ravenpost_store::system::{Attempt, Record, Routed, StatisticsKept};
use ravenpost_store::tenant::{Counted, Page};

use crate::support::{Organization, World, random};

/// The hour around now.
fn lately(world: &World, grain: Grain) -> Span {
    let (from, to) = (world.now - TimeDelta::minutes(30), world.now + TimeDelta::minutes(30));
    Span::covering(from, to, Some(grain)).unwrap()
}

async fn total(world: &World, organization: &Organization, counted: Counted) -> Figures {
    organization.tenant.series(counted, lately(world, Grain::Minute)).await.unwrap().total()
}

/// Adds up everything. Nobody else does in this database, but a step may be lost to another test's look at it.
async fn roll(world: &World) {
    while world.store.system().roll_statistics().await.unwrap().unwrap().more {}
}

async fn deltas(world: &World) -> i64 {
    sqlx::query_scalar("select count(*) from delivery_deltas").fetch_one(&world.pool).await.unwrap()
}

fn attempt(world: &World, acme: &Organization, event: EventId, number: i32, outcome: Outcome) -> Attempt {
    let key = DeliveryKey { event_id: event, destination_id: acme.first, run: 0, attempt_number: number };
    let success = Some(outcome.is_success()).filter(|success| *success);
    Attempt { outcome, duration_ms: 100, ..world.attempt(acme, key, 0, success) }
}

fn of(attempts: Vec<Attempt>) -> Record {
    Record { attempts, ..Record::default() }
}

/// What was accepted so long ago that nothing below can still be committed.
async fn accepted(world: &World, acme: &Organization, at: DateTime<Utc>, bytes: i64) -> EventId {
    let mut event = world.new_event(acme);
    event.id = EventId::new(at, random());
    event.received_at = at;
    event.payload.s3_length = bytes;
    let instance = InstanceId::new(world.now, random());
    world.store.system().register_instance(instance, 1).await.unwrap();
    world.store.system().accept(instance, 0, std::slice::from_ref(&event)).await.unwrap();
    event.id
}

/// As if the schema had been there for long.
async fn count_from_the_start(world: &World) {
    sqlx::query("update statistics_progress set counted_through = '00000000-0000-0000-0000-000000000000'")
        .execute(&world.pool)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_attempt_counts_once_and_a_late_success_moves() {
    let world = World::new().await;
    let acme = world.organization().await;
    let event = world.event(&acme).await;
    let routed = Routed { event_id: event, destinations: vec![acme.first] };
    let first = attempt(&world, &acme, event, 1, Outcome::Timeout);
    let record = Record { routed: vec![routed], ..of(vec![first.clone()]) };
    world.record(record.clone()).await;
    world.record(record.clone()).await;
    // A worker that has lost the partition tells it again.
    assert!(!world.store.system().record(crate::support::PARTITION, world.epoch - 1, &record).await.unwrap());
    for counted in [Counted::Organization, Counted::Endpoint(acme.endpoint), Counted::Destination(acme.first)]
    {
        let figures = total(&world, &acme, counted).await;
        assert_eq!((figures.outcomes.attempts(), figures.outcomes.timeouts), (1, 1), "{counted:?}");
        assert_eq!(figures.latency.total(), 1);
    }
    assert_eq!(total(&world, &acme, Counted::Destination(acme.second)).await, Figures::default());

    roll(&world).await;
    assert_eq!(deltas(&world).await, 0);
    world.record(of(vec![Attempt { outcome: Outcome::Success, next_retry_at: None, ..first.clone() }])).await;
    for _ in 0..2 {
        for counted in
            [Counted::Organization, Counted::Endpoint(acme.endpoint), Counted::Destination(acme.first)]
        {
            let figures = total(&world, &acme, counted).await;
            let outcomes = figures.outcomes;
            assert_eq!(
                (outcomes.attempts(), outcomes.successes, outcomes.timeouts),
                (1, 1, 0),
                "{counted:?}"
            );
            assert_eq!(figures.latency.total(), 1);
        }
        roll(&world).await;
    }
}

#[tokio::test]
async fn each_outcome_has_its_class_in_every_grain() {
    let world = World::new().await;
    let acme = world.organization().await;
    let event = world.event(&acme).await;
    let attempts: Vec<Attempt> = (1..)
        .zip(Outcome::ALL)
        .map(|(number, outcome)| attempt(&world, &acme, event, number, outcome))
        .collect();
    let mut expected = Figures::default();
    for attempt in attempts.iter().filter(|attempt| attempt.outcome.is_of_an_attempt()) {
        expected.outcomes.add(&ravenpost_core::statistics::Outcomes::of(attempt.outcome));
        expected.latency.record(attempt.duration_ms);
    }
    world.record(of(attempts)).await;
    for added_up in [false, true] {
        for grain in Grain::ALL {
            let series =
                acme.tenant.series(Counted::Endpoint(acme.endpoint), lately(&world, grain)).await.unwrap();
            assert_eq!(series.total(), expected, "{grain:?} {added_up}");
            let busy: Vec<_> =
                series.buckets.iter().filter(|(_, figures)| *figures != Figures::default()).collect();
            assert_eq!(busy.len(), 1);
            assert_eq!(busy[0].0, grain.floor(world.now));
        }
        roll(&world).await;
    }
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_while_many_record_and_add_up() {
    const WRITERS: i32 = 6;
    const RECORDS: i32 = 20;
    let world = World::new().await;
    let acme = world.organization().await;
    let event = world.event(&acme).await;
    let store = &world.store;
    let writers = (0..WRITERS).map(|writer| {
        let (world, acme) = (&world, &acme);
        async move {
            for n in 0..RECORDS {
                let number = writer * RECORDS + n + 1;
                let one = attempt(world, acme, event, number, Outcome::Connect);
                // Half of them twice.
                for _ in 0..=number % 2 {
                    store
                        .system()
                        .record(crate::support::PARTITION, world.epoch, &of(vec![one.clone()]))
                        .await
                        .unwrap();
                }
            }
        }
    });
    let adders = (0..2).map(|_| async {
        for _ in 0..15 {
            // Whoever is not elected leaves it to the other one.
            let _ = store.system().roll_statistics().await.unwrap();
        }
    });
    futures::future::join(futures::future::join_all(writers), futures::future::join_all(adders)).await;
    let figures = total(&world, &acme, Counted::Destination(acme.first)).await;
    assert_eq!(figures.outcomes.unreachable, i64::from(WRITERS * RECORDS));
    roll(&world).await;
    assert_eq!(total(&world, &acme, Counted::Destination(acme.first)).await, figures);
    assert_eq!(total(&world, &acme, Counted::Organization).await, figures);
}

#[tokio::test]
async fn events_are_counted_once_and_not_before_nothing_can_come_below() {
    let world = World::new().await;
    count_from_the_start(&world).await;
    let (acme, other) = (world.organization().await, world.organization().await);
    let ago = |seconds| world.now - TimeDelta::seconds(seconds);
    accepted(&world, &acme, ago(120), 10).await;
    accepted(&world, &acme, ago(121), 20).await;
    accepted(&world, &other, ago(122), 40).await;
    accepted(&world, &acme, world.now, 80).await;
    for _ in 0..2 {
        roll(&world).await;
        for counted in [Counted::Organization, Counted::Endpoint(acme.endpoint)] {
            let figures = total(&world, &acme, counted).await;
            assert_eq!(
                (figures.accepted, figures.accepted_bytes),
                (2, 30),
                "the newest may have company yet"
            );
        }
    }
    let series = acme.tenant.series(Counted::Organization, lately(&world, Grain::Minute)).await.unwrap();
    assert!(series.accepted_through >= ago(60) && series.accepted_through <= world.now, "{series:?}");
    assert_eq!(total(&world, &other, Counted::Organization).await.accepted_bytes, 40);
    let foreign =
        other.tenant.series(Counted::Endpoint(acme.endpoint), lately(&world, Grain::Hour)).await.unwrap();
    assert_eq!(foreign.total(), Figures::default());
    let foreign =
        other.tenant.series(Counted::Destination(acme.first), lately(&world, Grain::Hour)).await.unwrap();
    assert_eq!(foreign.total(), Figures::default());
}

#[tokio::test]
async fn an_instance_that_has_not_published_holds_the_count_back() {
    let world = World::new().await;
    count_from_the_start(&world).await;
    let acme = world.organization().await;
    let ago = |seconds| world.now - TimeDelta::seconds(seconds);
    // It may still commit what it has drawn.
    let behind = InstanceId::new(ago(100), random());
    world.store.system().register_instance(behind, 1).await.unwrap();
    accepted(&world, &acme, ago(120), 1).await;
    accepted(&world, &acme, ago(90), 1).await;
    roll(&world).await;
    assert_eq!(total(&world, &acme, Counted::Organization).await.accepted, 1);
    world.store.system().retire_instance(behind).await.unwrap();
    roll(&world).await;
    assert_eq!(total(&world, &acme, Counted::Organization).await.accepted, 2);
}

#[tokio::test]
async fn endpoints_are_listed_with_their_figures() {
    let world = World::new().await;
    let acme = world.organization().await;
    world.routed(&acme, &[(acme.first, Some(true)), (acme.second, Some(false))]).await;
    for _ in 0..2 {
        let page = Page { after: None, limit: 10 };
        let (from, to) = (world.now - TimeDelta::hours(24), world.now + TimeDelta::seconds(1));
        let rows = acme.tenant.endpoint_figures(Grain::coarse(to - from), from, to, page).await.unwrap().rows;
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].endpoint_id, rows[0].name.as_str()), (acme.endpoint, "Orders"));
        let outcomes = rows[0].figures.outcomes;
        assert_eq!((outcomes.attempts(), outcomes.successes), (2, 1));
        roll(&world).await;
    }
}

#[tokio::test]
async fn what_is_older_than_it_is_kept_is_forgotten_by_grain() {
    let world = World::new().await;
    let acme = world.organization().await;
    world.routed(&acme, &[(acme.first, Some(true))]).await;
    roll(&world).await;
    let kept = StatisticsKept {
        minutes: TimeDelta::minutes(5),
        hours: TimeDelta::days(5),
        days: TimeDelta::days(9),
    };
    let system = world.store.system();
    assert_eq!(system.forget_statistics(kept, world.now).await.unwrap(), 0);
    // Of the destination, its endpoint and its organization.
    assert_eq!(system.forget_statistics(kept, world.now + TimeDelta::minutes(7)).await.unwrap(), 3);
    let attempts = async |grain| {
        let series = acme.tenant.series(Counted::Organization, lately(&world, grain)).await.unwrap();
        series.total().outcomes.attempts()
    };
    assert_eq!(
        (attempts(Grain::Minute).await, attempts(Grain::Hour).await, attempts(Grain::Day).await),
        (0, 1, 1)
    );
    assert_eq!(system.forget_statistics(kept, world.now + TimeDelta::days(20)).await.unwrap(), 6);
}

#[tokio::test]
async fn attempts_of_an_organization_that_somebody_listens_to_are_kept_for_a_moment() {
    let world = World::new().await;
    let (acme, other) = (world.organization().await, world.organization().await);
    let since = acme.tenant.watch(world.now).await.unwrap();
    assert_eq!(since, world.now);
    assert_eq!(acme.tenant.watch(world.now + TimeDelta::minutes(1)).await.unwrap(), since, "without a gap");
    let event = world.routed(&acme, &[(acme.first, Some(true)), (acme.second, None)]).await;
    world.routed(&other, &[(other.first, Some(true))]).await;
    let start = world.now - TimeDelta::minutes(1);
    let live = acme.tenant.live_attempts(start, 10).await.unwrap();
    let mut told: Vec<(EventId, DestinationId, Outcome)> =
        live.iter().map(|one| (one.event_id, one.destination_id, one.outcome)).collect();
    let mut expected =
        vec![(event, acme.first, Outcome::Success), (event, acme.second, Outcome::ServerError)];
    // Made within a millisecond, they have ids in any order.
    told.sort_by_key(|one| one.1);
    expected.sort_by_key(|one| one.1);
    assert_eq!(told, expected);
    assert_eq!(acme.tenant.live_events(EventId::floor(start), 10).await.unwrap().len(), 1);
    assert!(other.tenant.live_attempts(start, 10).await.unwrap().is_empty(), "nobody listens");
    let later = world.now + TimeDelta::hours(1);
    world.store.system().forget_live(later).await.unwrap();
    assert!(acme.tenant.live_attempts(start, 10).await.unwrap().is_empty());
    assert_eq!(acme.tenant.watch(later).await.unwrap(), later, "it begins anew");
}
