//! Bulk replay (PROTOCOLS D5) and its accidents: several who work on it, processes that die within a page, people who
//! steer it midway, destinations that go, attempts in the air.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use ravenpost_core::delivery::DeliveryKey;
use ravenpost_core::event::EventStatus::{self, Dropped, Failed, Success};
use ravenpost_core::ids::{EventId, ReplayJobId};
use ravenpost_core::replay::{ReplayFilter, ReplayKind, ReplayState, Steer};
use ravenpost_store::system::{Record, ReplayStep};
use ravenpost_store::tenant::{
    DeadLetterFilter, DeadLetterPage, Deleted, Matched, NewReplayJob, ReplayJob, ReplayJobError, Steered,
};
use ravenpost_testkit::wait;
use sqlx::Executor;

use crate::support::{Organization, World, random};

const BOUND: Duration = Duration::from_secs(30);
/// What one step looks at.
const PAGE: u64 = 1_000;

/// Events of one status with the first destination, so many, in order.
pub(crate) async fn seed(world: &World, organization: &Organization, status: &str, count: i64) {
    sqlx::query(
        "with event as (
             insert into events (id, organization_id, endpoint_id, instance_id, received_at, updated_at, s3_offset,
                 s3_length, slot, status, s3_key, body_sha256, event_type, pending, delivered, dead)
             select uuidv7(), $1, $2, $2, now(), now(), 0, 2, 0, $4, 'x', '', 'push', '{}',
                 case $4 when 'SUCCESS' then array[$3::uuid] else '{}' end,
                 case $4 when 'FAILED' then array[$3::uuid] else '{}' end
             from generate_series(1, $5) returning id)
         insert into dead_letters (event_id, destination_id, organization_id, endpoint_id, run, reason)
         select id, $3, $1, $2, 0, 'timeout' from event where $4 = 'FAILED'",
    )
    .bind(organization.id.0)
    .bind(organization.endpoint.0)
    .bind(organization.first.0)
    .bind(status)
    .bind(count)
    .execute(&world.pool)
    .await
    .unwrap();
}

pub(crate) fn to_first(organization: &Organization, status: &[EventStatus]) -> ReplayFilter {
    ReplayFilter {
        destination_id: Some(organization.first),
        status: status.to_vec(),
        ..ReplayFilter::default()
    }
}

pub(crate) async fn make(
    world: &World,
    organization: &Organization,
    filter: &ReplayFilter,
    rate: Option<u32>,
) -> ReplayJob {
    let id = ReplayJobId::new(world.now, random());
    let new = NewReplayJob { id, kind: ReplayKind::Replay, filter, rate };
    organization.tenant.create_replay_job(&new, world.now).await.unwrap()
}

pub(crate) async fn job(organization: &Organization, id: ReplayJobId) -> ReplayJob {
    organization.tenant.replay_job(id).await.unwrap().unwrap()
}

pub(crate) async fn step(world: &World) -> Option<ReplayStep> {
    world.store.system().replay_step(world.now).await.unwrap()
}

/// Steps until nothing is to be done now.
pub(crate) async fn steps(world: &World) {
    while step(world).await.is_some() {}
    world.store.system().finish_replay_jobs(world.now).await.unwrap();
}

pub(crate) async fn number(world: &World, query: &'static str) -> u64 {
    let number: i64 = sqlx::query_scalar(query).fetch_one(&world.pool).await.unwrap();
    number.unsigned_abs()
}

pub(crate) const WAITING: &str = "select count(*) from scheduled_deliveries";
pub(crate) const DEAD: &str = "select count(*) from dead_letters";
const FAILED: &str = "select count(*) from events where status = 'FAILED' and cardinality(dead) = 1";
const PENDING: &str = "select count(*) from events where status = 'PENDING' and cardinality(pending) = 1";

async fn steer(world: &World, organization: &Organization, id: ReplayJobId, steer: Steer) -> Steered {
    organization.tenant.steer_replay_job(id, steer, world.now).await.unwrap()
}

pub(crate) async fn steered(
    world: &World,
    organization: &Organization,
    id: ReplayJobId,
    how: Steer,
) -> ReplayJob {
    match steer(world, organization, id, how).await {
        Steered::Changed(job) => *job,
        other => panic!("{how:?}: {other:?}"),
    }
}

#[tokio::test]
async fn a_pair_is_scheduled_once_whoever_works_on_it_and_whenever_they_die() {
    let world = World::new().await;
    let acme = world.organization().await;
    // What was delivered matches again as soon as it has been sent: only the cursor keeps it from being sent twice.
    seed(&world, &acme, "SUCCESS", 4_500).await;
    world
        .pool
        .execute(
            "create table scheduled_once (event_id uuid primary key);
             create function log_scheduled() returns trigger language plpgsql security definer as $$ begin
                 insert into public.scheduled_once values (new.event_id); return null; end $$;
             create trigger log after insert on scheduled_deliveries for each row execute function log_scheduled();",
        )
        .await
        .unwrap();
    let made = make(&world, &acme, &to_first(&acme, &[Success]), None).await;
    assert_eq!(made.matched, Matched { count: 4_500, exact: true });
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..3_u64 {
        let (system, now) = (world.store.system(), world.now);
        workers.spawn(async move {
            // Cut off within a page, as by kill -9: the connection's transaction is rolled back.
            let patience = |round: u64| Duration::from_millis(2 + (7 * worker + 13 * round) % 60);
            for round in 0..25 {
                let _ = tokio::time::timeout(patience(round), system.replay_step(now)).await;
            }
            while system.replay_step(now).await.unwrap().is_some() {}
        });
    }
    let sent = async {
        loop {
            world.pool.execute("delete from scheduled_deliveries").await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = sent => {}
        done = workers.join_all() => assert_eq!(done.len(), 3),
    }
    wait::until_true("the job to be done", BOUND, async || {
        world.pool.execute("delete from scheduled_deliveries").await?;
        steps(&world).await;
        Ok(job(&acme, made.id).await.state == ReplayState::Done)
    })
    .await
    .unwrap();
    assert_eq!(number(&world, "select count(*) from scheduled_once").await, 4_500);
    let done = job(&acme, made.id).await;
    assert_eq!((done.scheduled, done.skipped, done.waiting, done.error), (4_500, 0, 0, None));
}

#[tokio::test]
async fn a_filter_finds_what_it_says() {
    let mut world = World::new().await;
    let acme = world.organization().await;
    let dead = world.routed(&acme, &[(acme.first, Some(false)), (acme.second, Some(true))]).await;
    world.routed(&acme, &[(acme.first, None)]).await;
    let dropped = world.routed(&acme, &[]).await;
    world.event(&acme).await;
    let find = async |filter: ReplayFilter| acme.tenant.count_replay(&filter).await.unwrap().count;
    let all = |status: &[EventStatus]| ReplayFilter { status: status.to_vec(), ..ReplayFilter::default() };
    let first = |status: &[EventStatus]| to_first(&acme, status);
    assert_eq!(find(ReplayFilter::default()).await, 1);
    assert_eq!(find(first(&[Failed])).await, 1);
    assert_eq!(find(first(&[Success])).await, 0);
    assert_eq!(find(all(&[Success])).await, 1);
    // The dropped event to both, and the waiting one to the destination that it was not for.
    assert_eq!(find(all(&[Dropped])).await, 3);
    assert_eq!(find(first(&[Dropped])).await, 1);
    assert_eq!(find(first(&[Failed, Dropped])).await, 2);
    let reason = |reason: &str| Some(reason.to_owned());
    assert_eq!(find(ReplayFilter { reason: reason("server_error"), ..first(&[Failed]) }).await, 1);
    assert_eq!(find(ReplayFilter { reason: reason("timeout"), ..first(&[Failed]) }).await, 0);
    assert_eq!(find(ReplayFilter { event_type: reason("push"), ..first(&[Failed, Dropped]) }).await, 2);
    assert_eq!(find(ReplayFilter { event_type: reason("pull"), ..first(&[Failed, Dropped]) }).await, 0);
    let later = Some(world.now + TimeDelta::minutes(10));
    assert_eq!(find(ReplayFilter { received_before: later, ..first(&[Failed, Dropped]) }).await, 2);
    assert_eq!(find(ReplayFilter { received_after: later, ..first(&[Failed, Dropped]) }).await, 0);
    assert_eq!(find(ReplayFilter { received_before: Some(world.now), ..first(&[Failed]) }).await, 0);
    assert_eq!(find(ReplayFilter { since: later, ..first(&[Failed, Dropped]) }).await, 0);
    // Received long ago, given up just now: it has failed since.
    let recently = Some(world.now - TimeDelta::seconds(30));
    sqlx::query("update events set received_at = received_at - interval '1 minute'")
        .execute(&world.pool)
        .await
        .unwrap();
    assert_eq!(find(ReplayFilter { since: recently, ..first(&[Failed, Dropped]) }).await, 1);
    assert_eq!(find(ReplayFilter { received_after: recently, ..first(&[Failed, Dropped]) }).await, 0);

    let made = make(&world, &acme, &first(&[Failed, Dropped]), None).await;
    // Ids of one millisecond have no order.
    world.now += TimeDelta::seconds(1);
    let late = world.routed(&acme, &[(acme.first, Some(false))]).await;
    steps(&world).await;
    for (event, run) in [(dead, 1), (dropped, 1)] {
        let waiting = acme.tenant.attempts(event).await.unwrap().unwrap().waiting;
        assert_eq!((waiting.len(), waiting[0].run, waiting[0].destination_id), (1, run, acme.first));
        assert_eq!(acme.tenant.event(event).await.unwrap().unwrap().status, EventStatus::Pending);
    }
    // It came after the job.
    assert!(acme.tenant.attempts(late).await.unwrap().unwrap().waiting.is_empty());
    assert_eq!(job(&acme, made.id).await.scheduled, 2);
}

#[tokio::test]
async fn a_job_is_paused_resumed_and_cancelled_midway_and_leaves_no_trace() {
    let world = World::new().await;
    let acme = world.organization().await;
    seed(&world, &acme, "FAILED", 2_500).await;
    let id = make(&world, &acme, &to_first(&acme, &[Failed]), None).await.id;
    assert_eq!(job(&acme, id).await.state, ReplayState::Queued);
    assert_eq!(step(&world).await.unwrap().scheduled, PAGE);
    assert_eq!(job(&acme, id).await.state, ReplayState::Running);

    assert_eq!(steered(&world, &acme, id, Steer::Pause).await.state, ReplayState::Paused);
    assert_eq!(step(&world).await, None);
    assert!(matches!(steer(&world, &acme, id, Steer::Pause).await, Steered::Refused(ReplayState::Paused)));
    assert_eq!(step(&world).await, None);
    assert_eq!(steered(&world, &acme, id, Steer::Resume).await.state, ReplayState::Running);
    assert_eq!(step(&world).await.unwrap().scheduled, PAGE);
    assert_eq!((number(&world, WAITING).await, number(&world, DEAD).await), (2_000, 500));
    assert_eq!((number(&world, PENDING).await, number(&world, FAILED).await), (2_000, 500));

    // One was sent, and waits for a retry: it has begun and goes on.
    let begun: uuid::Uuid = sqlx::query_scalar("select min(event_id::text)::uuid from scheduled_deliveries")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    let key = DeliveryKey { event_id: EventId(begun), destination_id: acme.first, run: 1, attempt_number: 1 };
    let attempts = vec![world.attempt(&acme, key, 1, None)];
    world.record(Record { attempts, ..Record::default() }).await;

    assert_eq!(steered(&world, &acme, id, Steer::Cancel).await.state, ReplayState::Cancelled);
    steps(&world).await;
    assert_eq!((number(&world, WAITING).await, number(&world, DEAD).await), (1, 2_499));
    assert_eq!((number(&world, PENDING).await, number(&world, FAILED).await), (1, 2_499));
    assert_eq!(number(&world, "select count(*) from dead_letters where reason = 'timeout'").await, 2_499);
    let cancelled = job(&acme, id).await;
    assert_eq!((cancelled.scheduled, cancelled.withdrawn, cancelled.retrying), (2_000, 1_999, 1));
    assert_eq!((cancelled.state, cancelled.ended), (ReplayState::Cancelled, 1));
    for how in [Steer::Pause, Steer::Resume, Steer::Cancel] {
        let refused = steer(&world, &acme, id, how).await;
        assert!(matches!(refused, Steered::Refused(ReplayState::Cancelled)), "{how:?} {refused:?}");
    }

    // What was withdrawn is replayed under a run of its own, so that nothing in the air completes it.
    make(&world, &acme, &to_first(&acme, &[Failed]), None).await;
    steps(&world).await;
    assert_eq!(number(&world, "select count(*) from scheduled_deliveries where run = 2").await, 1_999);
    assert_eq!(number(&world, "select count(*) from scheduled_deliveries where run = 1").await, 501);
}

#[tokio::test]
async fn what_a_cancelled_job_takes_back_is_what_it_was() {
    let world = World::new().await;
    let acme = world.organization().await;
    let delivered = world.routed(&acme, &[(acme.first, Some(true))]).await;
    let dropped = world.routed(&acme, &[]).await;
    let other = world.routed(&acme, &[(acme.first, Some(false)), (acme.second, None)]).await;
    let unwanted = world.unwanted(&acme, acme.first).await;
    let all = [Failed, Success, Dropped];
    let id = make(&world, &acme, &to_first(&acme, &all), None).await.id;
    let events = async || {
        let mut events = Vec::new();
        for id in [delivered, dropped, other, unwanted] {
            let event = acme.tenant.event(id).await.unwrap().unwrap();
            events.push((event.status, event.pending.unwrap(), event.delivered, event.dead, event.filtered));
        }
        events
    };
    let before = events().await;
    assert_eq!(before[3], (Dropped, vec![], vec![], vec![], vec![acme.first]));
    assert_eq!(step(&world).await.unwrap().scheduled, 4);
    assert_eq!(events().await[3], (EventStatus::Pending, vec![acme.first], vec![], vec![], vec![]));
    steered(&world, &acme, id, Steer::Cancel).await;
    steps(&world).await;
    assert_eq!(events().await, before);
    assert_eq!(job(&acme, id).await.withdrawn, 4);
}

#[tokio::test]
async fn what_was_not_wanted_and_is_replayed_ends_in_one_place() {
    let world = World::new().await;
    let acme = world.organization().await;
    let ends = [
        (Some(true), (Success, vec![acme.first], vec![], vec![])),
        (Some(false), (Failed, vec![], vec![acme.first], vec![])),
    ];
    for (outcome, end) in ends {
        let id = world.unwanted(&acme, acme.first).await;
        make(&world, &acme, &to_first(&acme, &[Dropped]), None).await;
        assert_eq!(step(&world).await.unwrap().scheduled, 1);
        let key = DeliveryKey { event_id: id, destination_id: acme.first, run: 1, attempt_number: 1 };
        let attempts = vec![world.attempt(&acme, key, 1, outcome)];
        world.record(Record { attempts, ..Record::default() }).await;
        let event = acme.tenant.event(id).await.unwrap().unwrap();
        assert_eq!((event.status, event.delivered, event.dead, event.filtered), end);
        assert_eq!(event.pending.unwrap(), []);
        steps(&world).await;
    }
}

#[tokio::test]
async fn an_attempt_that_was_in_the_air_completes_no_replay() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.routed(&acme, &[(acme.first, Some(false))]).await;
    make(&world, &acme, &to_first(&acme, &[Failed]), None).await;
    assert_eq!(step(&world).await.unwrap().scheduled, 1);
    // A worker that was stopped wakes up with an attempt of the original run.
    for outcome in [Some(false), None] {
        let key = DeliveryKey { event_id: id, destination_id: acme.first, run: 0, attempt_number: 2 };
        let attempts = vec![world.attempt(&acme, key, 1, outcome)];
        world.record(Record { attempts, ..Record::default() }).await;
        let waiting = acme.tenant.attempts(id).await.unwrap().unwrap().waiting;
        assert_eq!((waiting.len(), waiting[0].run, waiting[0].attempt_number), (1, 1, 1));
        assert_eq!(number(&world, DEAD).await, 0);
    }
}

#[tokio::test]
async fn a_persons_replay_is_not_taken_back_with_the_job() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.routed(&acme, &[(acme.first, Some(false))]).await;
    let made = make(&world, &acme, &to_first(&acme, &[Failed]), None).await.id;
    assert_eq!(step(&world).await.unwrap().scheduled, 1);
    acme.tenant.replay(id, Some(acme.first), world.now).await.unwrap();
    steered(&world, &acme, made, Steer::Cancel).await;
    steps(&world).await;
    assert_eq!(acme.tenant.attempts(id).await.unwrap().unwrap().waiting[0].run, 2);
}

#[tokio::test]
async fn a_destination_that_goes_midway_ends_its_part_and_no_other() {
    let world = World::new().await;
    let acme = world.organization().await;
    seed(&world, &acme, "DROPPED", 2_500).await;
    let filter = ReplayFilter { status: vec![Dropped], ..ReplayFilter::default() };
    let id = make(&world, &acme, &filter, None).await.id;
    let (one, other) = (step(&world).await.unwrap(), step(&world).await.unwrap());
    assert_ne!(one.destination_id, other.destination_id, "they take turns");
    assert_eq!(
        acme.tenant.delete_destination(acme.endpoint, acme.first, None, world.now).await.unwrap(),
        Deleted::Deleted
    );
    steps(&world).await;
    let left = job(&acme, id).await;
    assert_eq!(left.error.as_deref(), Some("the destination was deleted"));
    assert_eq!((left.erring, left.scheduled, left.waiting), (vec![acme.first], 3_500, 2_500));
    assert_eq!(number(&world, WAITING).await, 2_500);
    assert_eq!(number(&world, PENDING).await, 2_500);
}

#[tokio::test]
async fn the_schedule_is_not_flooded() {
    let world = World::new().await;
    let acme = world.organization().await;
    seed(&world, &acme, "FAILED", 10_700).await;
    let id = make(&world, &acme, &to_first(&acme, &[Failed]), None).await.id;
    steps(&world).await;
    assert_eq!((job(&acme, id).await.scheduled, number(&world, WAITING).await), (10_000, 10_000));
    assert_eq!(job(&acme, id).await.state, ReplayState::Running);
    let send = "delete from scheduled_deliveries where event_id in
        (select event_id from scheduled_deliveries order by event_id limit 300)";
    for scheduled in [10_300, 10_600, 10_700] {
        world.pool.execute(send).await.unwrap();
        wait::until_true("as much again to be scheduled", BOUND, async || {
            steps(&world).await;
            Ok(job(&acme, id).await.scheduled == scheduled)
        })
        .await
        .unwrap();
        assert!(number(&world, WAITING).await <= 10_000);
    }
    world.pool.execute("delete from scheduled_deliveries").await.unwrap();
    wait::until_true("the job to be done", BOUND, async || {
        steps(&world).await;
        Ok(job(&acme, id).await.state == ReplayState::Done)
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_rate_is_kept() {
    let world = World::new().await;
    let acme = world.organization().await;
    seed(&world, &acme, "FAILED", 1_000).await;
    let started = Instant::now();
    let id = make(&world, &acme, &to_first(&acme, &[Failed]), Some(200)).await.id;
    wait::until_true("600 to be scheduled", BOUND, async || {
        steps(&world).await;
        Ok(job(&acme, id).await.scheduled >= 600)
    })
    .await
    .unwrap();
    // The first second's worth comes at once.
    assert!(started.elapsed() >= Duration::from_millis(1_900), "{:?}", started.elapsed());
    assert!(job(&acme, id).await.scheduled <= 200 * (started.elapsed().as_secs() + 2));
}

#[tokio::test]
async fn jobs_are_made_only_where_they_make_sense_and_are_another_organizations_never() {
    let world = World::new().await;
    let acme = world.organization().await;
    let other = world.organization().await;
    seed(&world, &acme, "FAILED", 3).await;
    let refused = async |filter: &ReplayFilter| other.tenant.count_replay(filter).await.unwrap_err();
    let failed = to_first(&acme, &[Failed]);
    assert!(matches!(refused(&failed).await, ReplayJobError::NoDestination));
    let endpoint = ReplayFilter { endpoint_id: Some(acme.endpoint), ..ReplayFilter::default() };
    assert!(matches!(refused(&endpoint).await, ReplayJobError::NoEndpoint));
    assert_eq!(other.tenant.count_replay(&ReplayFilter::default()).await.unwrap().count, 0);

    let id = make(&world, &acme, &failed, None).await.id;
    assert!(other.tenant.replay_job(id).await.unwrap().is_none());
    for how in [Steer::Pause, Steer::Resume, Steer::Cancel] {
        assert!(matches!(steer(&world, &other, id, how).await, Steered::NoJob));
    }
    assert_eq!(step(&world).await.unwrap().scheduled, 3);
    assert_eq!(job(&acme, id).await.state, ReplayState::Running);

    for _ in 1..ravenpost_store::tenant::MOST_JOBS {
        make(&world, &acme, &failed, None).await;
    }
    let new = NewReplayJob {
        id: ReplayJobId::new(world.now, random()),
        kind: ReplayKind::Replay,
        filter: &failed,
        rate: None,
    };
    let error = acme.tenant.create_replay_job(&new, world.now).await.unwrap_err();
    assert!(matches!(error, ReplayJobError::TooManyJobs));
    for destination in [acme.first, acme.second] {
        assert_eq!(
            acme.tenant.delete_destination(acme.endpoint, destination, None, world.now).await.unwrap(),
            Deleted::Deleted
        );
    }
    let error = acme.tenant.count_replay(&ReplayFilter::default()).await.unwrap_err();
    assert!(matches!(error, ReplayJobError::NoDestinations));
}

#[tokio::test]
async fn dead_letters_are_listed_by_what_they_are_of() {
    let world = World::new().await;
    let acme = world.organization().await;
    let both = world.routed(&acme, &[(acme.first, Some(false)), (acme.second, Some(false))]).await;
    seed(&world, &acme, "FAILED", 3).await;
    // It was delivered, and its replay failed: the event has not failed.
    let delivered = world.routed(&acme, &[(acme.first, Some(true))]).await;
    acme.tenant.replay(delivered, Some(acme.first), world.now).await.unwrap();
    let key = DeliveryKey { event_id: delivered, destination_id: acme.first, run: 1, attempt_number: 1 };
    let attempts = vec![world.attempt(&acme, key, 1, Some(false))];
    world.record(Record { attempts, ..Record::default() }).await;

    let list = async |filter: DeadLetterFilter<'_>| {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = acme.tenant.dead_letters(&filter, DeadLetterPage { after, limit: 1 }).await.unwrap();
            all.extend(page.rows.into_iter().map(|letter| (letter.event_id, letter.destination_id)));
            after = page.next;
            if after.is_none() {
                return all;
            }
        }
    };
    let all = list(DeadLetterFilter::default()).await;
    assert_eq!(all.len(), 5);
    assert!(all.is_sorted_by(|a, b| a > b), "newest first, none twice");
    let second = DeadLetterFilter { destination: Some(acme.second), ..DeadLetterFilter::default() };
    assert_eq!(list(second).await, [(both, acme.second)]);
    let first = DeadLetterFilter { destination: Some(acme.first), ..DeadLetterFilter::default() };
    assert_eq!(list(first).await.len(), 4);
    let timeouts = DeadLetterFilter { reason: Some("timeout"), ..DeadLetterFilter::default() };
    assert_eq!(list(timeouts).await.len(), 3);
    let of_endpoint = DeadLetterFilter { endpoint: Some(acme.endpoint), ..DeadLetterFilter::default() };
    assert_eq!(list(of_endpoint).await.len(), 5);
    let later = Some(world.now + TimeDelta::minutes(30));
    assert_eq!(list(DeadLetterFilter { received_after: later, ..first }).await.len(), 0);
    assert_eq!(list(DeadLetterFilter { received_before: later, ..first }).await.len(), 4);
    let other = world.organization().await;
    let page = DeadLetterPage { after: None, limit: 9 };
    assert!(other.tenant.dead_letters(&first, page).await.unwrap().rows.is_empty());
}
