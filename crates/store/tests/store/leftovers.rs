//! What nobody needs any more goes, and nothing else: not what is in its grace, still runs, was taken back, or is held by
//! somebody, whatever moment the remover believes it is.

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_core::event::EventStatus::Failed;
use ravenpost_core::ids::DestinationId;
use ravenpost_core::pacing::Health;
use ravenpost_core::replay::{ReplayState, Steer};
use ravenpost_store::system::{Keeping, Leftover, Record, Removed};
use ravenpost_store::tenant::Deleted;
use sqlx::{AssertSqlSafe, Executor};

use crate::replay_jobs::{job, make, number, seed, steered, step, steps, to_first};
use crate::sending::{another_signing_secret, first_key, rotate};
use crate::support::{Organization, World};

/// As the service keeps them.
const KEEPING: Keeping = Keeping { of_deleted: TimeDelta::days(1), replay_jobs: TimeDelta::days(90) };
/// Destinations without, and with, what they are sent with.
const EMPTY: &str = "select count(*) from destinations where signing_secret = '' and headers is null
        and authentication is null and tls is null";
const FULL: &str = "select count(*) from destinations where signing_secret <> '' and headers is not null
        and authentication is not null and tls is not null and deleted_at is null";
const NOTHING_KEPT: Keeping = Keeping { of_deleted: TimeDelta::zero(), replay_jobs: TimeDelta::zero() };

async fn remove(world: &World, leftover: Leftover, keeping: Keeping, at: DateTime<Utc>) -> Option<Removed> {
    world.store.system().remove_leftovers(leftover, keeping, at).await.unwrap()
}

/// One step of each kind: which of them found something, and how much.
async fn removed(world: &World, keeping: Keeping, at: DateTime<Utc>) -> Vec<(&'static str, u64)> {
    let mut found = Vec::new();
    for leftover in Leftover::ALL {
        let removed = remove(world, leftover, keeping, at).await.unwrap();
        assert!(!removed.more, "{leftover:?}");
        if removed.count > 0 {
            found.push((leftover.as_str(), removed.count));
        }
    }
    found
}

async fn sql(world: &World, statement: impl Into<String>) -> u64 {
    world.pool.execute(AssertSqlSafe(statement.into())).await.unwrap().rows_affected()
}

async fn has_state(world: &World, organization: &Organization, destination: DestinationId) {
    let state = world.state(organization, destination, Health::default());
    world.record(Record { states: vec![state], ..Record::default() }).await;
}

#[tokio::test]
async fn what_still_counts_stays_whatever_the_remover_believes() {
    let world = World::new().await;
    // Two secrets of the endpoint, a former one of the destination in its grace, a key, a state, a job that is queued.
    let (owner, _) = world.everything().await;
    sql(&world, "update endpoint_secrets set expires_at = now() + interval '1 hour'").await;
    sql(&world, "update signing_keys set expires_at = now() + interval '1 hour'").await;
    for at in [world.now, world.now + TimeDelta::days(3_650)] {
        assert_eq!(removed(&world, NOTHING_KEPT, at).await, []);
    }
    let route = world.store.system().route(owner.endpoint).await.unwrap().unwrap();
    let config = route.destination(owner.first).unwrap().delivery.as_ref().unwrap();
    assert_eq!(config.former_secrets.len(), 1);
}

#[tokio::test]
async fn secrets_and_keys_go_when_their_grace_is_over() {
    let world = World::new().await;
    let (owner, _) = world.everything().await;
    rotate(&world, &owner, world.now - TimeDelta::hours(2), 3_600).await;
    sql(&world, "update endpoint_secrets set expires_at = now() - interval '1 minute'").await;
    sql(&world, "update signing_keys set expires_at = now() - interval '1 minute'").await;
    // A second key, which signs, and a second former secret of another destination, which counts.
    first_key(&world, &owner).await;
    let other = world.organization().await;
    another_signing_secret(&world, &other).await;
    let expected = [("destination_secrets", 2), ("endpoint_secrets", 1), ("signing_keys", 1)];
    assert_eq!(removed(&world, KEEPING, world.now).await, expected);
    assert_eq!(removed(&world, KEEPING, world.now).await, []);
    assert_eq!(number(&world, "select count(*) from destination_secrets").await, 1);
    assert_eq!(number(&world, "select count(*) from signing_keys where expires_at is null").await, 1);
    // What counts of the endpoint is the newest one, in its row.
    assert_eq!(owner.tenant.secrets(owner.endpoint, world.now).await.unwrap().len(), 1);
}

#[tokio::test]
async fn of_what_was_deleted_credentials_and_state_go_and_the_row_stays() {
    let world = World::new().await;
    let (owner, _) = world.everything().await;
    has_state(&world, &owner, owner.second).await;
    sql(&world, "update destinations set headers = 'h', authentication = 'a', tls = 't'").await;
    let deleted = world.now - TimeDelta::hours(23);
    assert_eq!(
        owner.tenant.delete_destination(owner.endpoint, owner.first, None, deleted).await.unwrap(),
        Deleted::Deleted
    );
    assert_eq!(removed(&world, KEEPING, world.now).await, [], "its deletion can be taken back");

    let expected = [("destination_states", 1), ("destination_credentials", 1), ("destination_secrets", 1)];
    assert_eq!(removed(&world, KEEPING, world.now + TimeDelta::hours(2)).await, expected);
    assert_eq!(removed(&world, KEEPING, world.now + TimeDelta::hours(2)).await, []);
    assert_eq!(number(&world, EMPTY).await, 1);
    assert_eq!(number(&world, FULL).await, 1);
    // An attempt that was in the air makes the state anew.
    has_state(&world, &owner, owner.first).await;
    assert_eq!(removed(&world, NOTHING_KEPT, world.now).await, [("destination_states", 1)]);
}

#[tokio::test]
async fn an_endpoint_that_was_deleted_answers_so_without_its_secrets() {
    let world = World::new().await;
    let (owner, event) = world.everything().await;
    let token = owner.tenant.endpoint(owner.endpoint).await.unwrap().unwrap().token;
    assert_eq!(
        owner.tenant.delete_endpoint(owner.endpoint, None, world.now).await.unwrap(),
        Deleted::Deleted
    );
    let expected = [
        ("destination_states", 1),
        ("destination_credentials", 2),
        ("endpoint_credentials", 1),
        ("destination_secrets", 1),
        ("endpoint_secrets", 1),
    ];
    assert_eq!(removed(&world, NOTHING_KEPT, world.now).await, expected);
    let system = world.store.system();
    let endpoint = system.endpoint_by_token(&token).await.unwrap().unwrap();
    assert!(endpoint.deleted && endpoint.secrets.is_empty());
    let route = system.route(owner.endpoint).await.unwrap().unwrap();
    assert!(
        route.destinations.len() == 2 && route.destinations.iter().all(|destination| destination.deleted)
    );
    assert!(owner.tenant.attempts(event).await.unwrap().is_some());
}

#[tokio::test]
async fn a_destination_whose_deletion_was_taken_back_keeps_everything() {
    let world = World::new().await;
    let (owner, _) = world.everything().await;
    assert_eq!(
        owner.tenant.delete_destination(owner.endpoint, owner.first, None, world.now).await.unwrap(),
        Deleted::Deleted
    );
    assert_eq!(
        sql(&world, "update destinations set deleted_at = null where deleted_at is not null").await,
        1
    );
    assert_eq!(removed(&world, NOTHING_KEPT, world.now + TimeDelta::days(2)).await, []);
    let route = world.store.system().route(owner.endpoint).await.unwrap().unwrap();
    assert!(route.destination(owner.first).unwrap().delivery.is_ok());
}

#[tokio::test]
async fn jobs_go_long_after_their_end_and_not_while_anything_of_them_waits() {
    let world = World::new().await;
    let acme = world.organization().await;
    seed(&world, &acme, "FAILED", 3).await;
    let id = make(&world, &acme, &to_first(&acme, &[Failed]), None).await.id;
    let later = world.now + TimeDelta::days(91);
    let stays = async |why: &str| {
        assert_eq!(removed(&world, KEEPING, later).await, [], "{why}");
        assert!(acme.tenant.replay_job(id).await.unwrap().is_some(), "{why}");
    };
    stays("queued").await;
    assert_eq!(step(&world).await.unwrap().scheduled, 3);
    stays("running").await;
    steered(&world, &acme, id, Steer::Pause).await;
    stays("paused").await;
    steered(&world, &acme, id, Steer::Resume).await;
    // A retry of one waits, for a destination that is paused for a year, say.
    sql(
        &world,
        "update scheduled_deliveries set attempt_number = 2 where event_id =
        (select min(event_id::text)::uuid from scheduled_deliveries)",
    )
    .await;
    steered(&world, &acme, id, Steer::Cancel).await;
    assert!(
        sql(&world, "update replay_jobs set finished_at = finished_at where finished_at is not null").await
            == 1
    );
    stays("cancelled, and has not taken back what it scheduled").await;
    steps(&world).await;
    assert_eq!(job(&acme, id).await.state, ReplayState::Cancelled);
    stays("cancelled, and a retry waits").await;
    sql(&world, "delete from scheduled_deliveries").await;
    assert_eq!(removed(&world, KEEPING, world.now + TimeDelta::days(89)).await, [], "not yet");
    assert_eq!(removed(&world, KEEPING, later).await, [("replay_jobs", 1)]);
    assert!(acme.tenant.replay_job(id).await.unwrap().is_none());
    assert_eq!(number(&world, "select count(*) from replay_job_destinations").await, 0);
}

#[tokio::test]
async fn changes_of_routes_go_when_nobody_goes_by_them() {
    let world = World::new().await;
    world.organization().await;
    let changes = number(&world, "select count(*) from route_changes").await;
    assert_eq!(removed(&world, KEEPING, world.now).await, []);
    sql(&world, "update route_changes set changed_at = now() - interval '59 minutes'").await;
    assert_eq!(removed(&world, KEEPING, world.now).await, []);
    sql(&world, "update route_changes set changed_at = now() - interval '61 minutes'").await;
    assert_eq!(removed(&world, KEEPING, world.now).await, [("route_changes", changes)]);
}

#[tokio::test]
async fn steps_are_bounded() {
    let world = World::new().await;
    let owner = world.organization().await;
    sql(
        &world,
        format!(
        "insert into destination_secrets (organization_id, id, destination_id, secret, retired_at, expires_at)
         select '{}', uuidv7(), '{}', '', now(), now() - interval '1 hour' from generate_series(1, 1100)",
        owner.id, owner.first
    ),
    )
    .await;
    one_that_counts(&world, &owner).await;
    let mut steps = Vec::new();
    loop {
        let removed = remove(&world, Leftover::DestinationSecrets, KEEPING, world.now).await.unwrap();
        steps.push(removed.count);
        if !removed.more {
            break;
        }
    }
    assert_eq!(steps, [500, 500, 100]);
    assert_eq!(number(&world, "select count(*) from destination_secrets").await, 1);
}

/// One that counts, among those that don't.
async fn one_that_counts(world: &World, owner: &Organization) {
    sql(
        world,
        format!(
        "insert into destination_secrets (organization_id, id, destination_id, secret, retired_at, expires_at)
         values ('{}', uuidv7(), '{}', '', now(), now() + interval '1 hour')",
        owner.id, owner.second
    ),
    )
    .await;
}

#[tokio::test]
async fn one_process_removes_and_gives_way_to_whoever_holds_a_row() {
    let world = World::new().await;
    let owner = world.organization().await;
    rotate(&world, &owner, world.now - TimeDelta::hours(2), 3_600).await;
    let secrets = Leftover::DestinationSecrets;
    let mut elected = world.pool.begin().await.unwrap();
    let lock = "select pg_advisory_xact_lock(125762923752962 + n) from generate_series(0, 8) n";
    elected.execute(lock).await.unwrap();
    assert_eq!(remove(&world, secrets, KEEPING, world.now).await, None, "another one is at it");
    elected.rollback().await.unwrap();

    let mut holder = world.pool.begin().await.unwrap();
    holder.execute("select from destination_secrets for update").await.unwrap();
    assert_eq!(remove(&world, secrets, KEEPING, world.now).await, None, "a row is held");
    holder.rollback().await.unwrap();
    assert_eq!(remove(&world, secrets, KEEPING, world.now).await.unwrap().count, 1);
}

#[tokio::test]
async fn the_maintenance_role_sees_no_more_than_that() {
    let world = World::new().await;
    world.everything().await;
    for (table, columns) in [
        ("destinations", "id"),
        ("endpoints", "id"),
        ("destination_state", "destination_id"),
        ("destination_secrets", "id"),
        ("endpoint_secrets", "id"),
        ("signing_keys", "id"),
        ("replay_jobs", "id"),
        ("route_changes", "xid"),
    ] {
        let mut transaction = world.pool.begin().await.unwrap();
        transaction.execute("set local role ravenpost_maintenance").await.unwrap();
        let select = AssertSqlSafe(format!("select {columns} from {table}"));
        assert_eq!(transaction.fetch_all(select).await.unwrap().len(), 0, "{table}");
    }
    for statement in [
        "select secret from destination_secrets",
        "select secret from endpoint_secrets",
        "select private_key from signing_keys",
        "select headers from destinations",
        "delete from destinations",
        "delete from endpoints",
        "delete from replay_job_destinations",
        "update destination_secrets set expires_at = now()",
        "select id from events",
    ] {
        let mut transaction = world.pool.begin().await.unwrap();
        transaction.execute("set local role ravenpost_maintenance").await.unwrap();
        let error = transaction.execute(statement).await.unwrap_err().to_string();
        assert!(error.contains("permission denied"), "{statement}: {error}");
    }
    // It may, but sees none whose event is kept; nor a dead letter.
    for table in ["scheduled_deliveries", "dead_letters", "expunged_payloads"] {
        let mut transaction = world.pool.begin().await.unwrap();
        let all = AssertSqlSafe(format!("select from {table}"));
        assert!(!transaction.fetch_all(all).await.unwrap().is_empty(), "{table} has no row to hide");
        transaction.execute("set local role ravenpost_maintenance").await.unwrap();
        let done = transaction.execute(AssertSqlSafe(format!("delete from {table}"))).await.unwrap();
        assert_eq!(done.rows_affected(), 0, "{table}");
    }
}
