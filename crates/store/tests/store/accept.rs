//! What ingress relies on when it commits, with the accident of each rule (PROTOCOLS I3, I4, I7).

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_core::deduplication::DeduplicationKey;
use ravenpost_core::ids::{EventId, EventIds, InstanceId};
use ravenpost_store::system::{Accepted, Deduplication, NewEvent, Peer};
use ravenpost_store::{Error, Settings, Store};
use ravenpost_testkit::wait;
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use crate::support::{Organization, World, random};

const BOUND: std::time::Duration = std::time::Duration::from_secs(20);
/// Above every id.
const END: EventId = EventId(Uuid::max());

async fn registered(world: &World, lanes: i32) -> InstanceId {
    let instance = InstanceId::new(world.now, random());
    world.store.system().register_instance(instance, lanes).await.unwrap();
    instance
}

fn events(world: &World, organization: &Organization, keys: impl Iterator<Item = u8>) -> Vec<NewEvent> {
    let mut ids = EventIds::default();
    let expires_at = world.now + TimeDelta::hours(1);
    keys.map(|key| NewEvent {
        id: ids.next(world.now, random()),
        deduplication: Some(deduplication(key, expires_at)),
        ..world.new_event(organization)
    })
    .collect()
}

fn deduplication(key: u8, expires_at: DateTime<Utc>) -> Deduplication {
    Deduplication { key: DeduplicationKey { hash: [key; 16], same_body: false }, expires_at }
}

/// A statement of ingress that is still under way: it holds its lane and has inserted an event.
async fn under_way(
    world: &World,
    organization: &Organization,
    instance: InstanceId,
    id: EventId,
) -> Transaction<'static, Postgres> {
    let like = world.event(organization).await;
    let mut transaction = world.pool.begin().await.unwrap();
    let held = sqlx::query("select from ingress_lanes where instance_id = $1 and lane = 0 for share")
        .bind(instance.0)
        .execute(&mut *transaction)
        .await
        .unwrap();
    assert_eq!(held.rows_affected(), 1);
    for statement in [
        "insert into events select (jsonb_populate_record(e, jsonb_build_object('id', $1, 'instance_id', $2))).*
         from events e where id = $3",
        "insert into event_headers select (jsonb_populate_record(h, jsonb_build_object('event_id', $1))).*
         from event_headers h where $2 is not null and event_id = $3",
    ] {
        let inserted = sqlx::query(statement).bind(id.0).bind(instance.0).bind(like.0);
        assert_eq!(inserted.execute(&mut *transaction).await.unwrap().rows_affected(), 1);
    }
    transaction
}

/// Waits until somebody waits for a lock.
async fn until_blocked(world: &World) {
    let blocked = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    wait::until_true("a statement to wait for a lock", BOUND, || async {
        let waiting: i64 = sqlx::query_scalar(blocked).fetch_one(&world.pool).await?;
        Ok(waiting > 0)
    })
    .await
    .unwrap();
}

async fn unpublished(world: &World, instance: InstanceId) -> Vec<EventId> {
    let first = EventId(Uuid::nil());
    let rows = world.store.system().unpublished(instance, first, END, 100).await.unwrap();
    assert!(rows.iter().all(|row| !row.headers.is_empty()));
    rows.into_iter().map(|row| row.id).collect()
}

#[tokio::test]
async fn adopting_waits_for_what_is_under_way_and_refuses_what_comes_later() {
    let world = World::new().await;
    let acme = world.organization().await;
    let system = world.store.system();
    let instance = registered(&world, 1).await;
    let id = EventIds::of(instance).next(world.now, random());
    let transaction = under_way(&world, &acme, instance, id).await;
    let adopting = tokio::spawn({
        let (system, seen) = (system.clone(), Peer { id: instance, heartbeat: 0, adopted: false });
        async move { system.adopt_instance(seen).await.unwrap() }
    });
    until_blocked(&world).await;
    transaction.commit().await.unwrap();
    let published = adopting.await.unwrap().expect("the heartbeat stood still");
    assert!(published < id);
    assert_eq!(unpublished(&world, instance).await, [id], "what was under way is found");
    let late = world.new_event(&acme);
    assert_eq!(system.accept(instance, 0, &[late]).await.unwrap(), Accepted::Adopted);
    assert_eq!(unpublished(&world, instance).await, [id]);
    assert!(!system.heartbeat(instance, None).await.unwrap(), "it learns that it was adopted");
}

#[tokio::test]
async fn one_peer_adopts_and_none_who_lives() {
    let world = World::new().await;
    let system = world.store.system();
    let (instance, other) = (registered(&world, 2).await, registered(&world, 1).await);
    assert!(system.heartbeat(instance, None).await.unwrap());
    let of = |peers: Vec<Peer>| peers.into_iter().find(|peer| peer.id == instance).unwrap();
    let seen = of(system.peers(other).await.unwrap());
    assert_eq!((seen.heartbeat, seen.adopted), (1, false));
    let through = EventId::new(world.now, random());
    assert!(system.heartbeat(instance, Some(through)).await.unwrap());
    assert_eq!(system.adopt_instance(seen).await.unwrap(), None, "its heart has beaten since");
    let seen = of(system.peers(other).await.unwrap());
    let (one, two) = tokio::join!(system.adopt_instance(seen), system.adopt_instance(seen));
    let adopted: Vec<_> = [one.unwrap(), two.unwrap()].into_iter().flatten().collect();
    assert_eq!(adopted, [through]);
    assert!(of(system.peers(other).await.unwrap()).adopted);
    let further = through.successor();
    system.heartbeat_for(instance, further).await.unwrap();
    let again = of(system.peers(other).await.unwrap());
    assert_eq!(system.adopt_instance(again).await.unwrap(), Some(further), "if the adopter dies, too");
    system.retire_instance(instance).await.unwrap();
    assert_eq!(system.peers(other).await.unwrap(), []);
}

#[tokio::test]
async fn a_statement_that_arrives_after_its_lane_was_replaced_inserts_nothing() {
    let world = World::new().await;
    let acme = world.organization().await;
    let system = world.store.system();
    let instance = registered(&world, 1).await;
    let id = EventId::new(world.now, random());
    let transaction = under_way(&world, &acme, instance, id).await;
    let replacing = tokio::spawn({
        let system = system.clone();
        async move { system.replace_lane(instance, 0, 1).await.unwrap() }
    });
    until_blocked(&world).await;
    transaction.commit().await.unwrap();
    assert!(replacing.await.unwrap());
    assert_eq!(unpublished(&world, instance).await, [id], "what was under way is found");
    let late = world.new_event(&acme);
    assert_eq!(system.accept(instance, 0, &[late]).await.unwrap(), Accepted::Adopted);
    let next = world.new_event(&acme);
    let committed = Accepted::Committed(HashSet::from([next.id]));
    assert_eq!(system.accept(instance, 1, &[next]).await.unwrap(), committed);
    assert!(system.replace_lane(instance, 0, 1).await.unwrap(), "whose answer was lost, asks again");
    assert!(!system.replace_lane(instance, 0, 2).await.unwrap(), "a lane that is gone is not replaced");
}

#[tokio::test]
async fn what_is_left_behind_waits_for_a_peer() {
    let world = World::new().await;
    let acme = world.organization().await;
    let system = world.store.system();
    let (instance, other) = (registered(&world, 3).await, registered(&world, 1).await);
    let left = world.new_event(&acme);
    system.accept(instance, 2, std::slice::from_ref(&left)).await.unwrap();
    assert!(system.heartbeat(instance, None).await.unwrap());
    system.abandon_instance(instance).await.unwrap();
    let peers = system.peers(other).await.unwrap();
    let seen = peers.into_iter().find(|peer| peer.id == instance).unwrap();
    assert_eq!((seen.heartbeat, seen.adopted), (0, true));
    assert!(system.adopt_instance(seen).await.unwrap().is_some());
    assert_eq!(unpublished(&world, instance).await, [left.id]);
}

#[tokio::test]
async fn of_two_batches_with_the_same_keys_each_key_wins_once() {
    let world = World::new().await;
    let acme = world.organization().await;
    let system = world.store.system();
    let instance = registered(&world, 2).await;
    for _ in 0..10 {
        sqlx::query("truncate ingest_dedup").execute(&world.pool).await.unwrap();
        let there = events(&world, &acme, 0..=99);
        let back = events(&world, &acme, (0..=99).rev());
        let (one, two) = tokio::join!(system.accept(instance, 0, &there), system.accept(instance, 1, &back));
        let (Accepted::Committed(one), Accepted::Committed(two)) = (one.unwrap(), two.unwrap()) else {
            panic!("both lanes are there")
        };
        assert_eq!(one.len() + two.len(), 100, "each key once");
        let keys: Vec<_> = (0..=99).map(|key| (acme.endpoint, [key; 16])).collect();
        let winners = system.winners(&keys).await.unwrap();
        let winning: HashSet<_> = winners.values().map(|winner| winner.event_id).collect();
        assert_eq!(winning, &one | &two);
        for loser in there.iter().chain(&back).filter(|event| !winning.contains(&event.id)) {
            assert!(acme.tenant.event(loser.id).await.unwrap().is_none());
        }
    }
}

/// Somebody else is just taking a key; what becomes of it is open.
async fn taking(
    world: &World,
    organization: &Organization,
    key: u8,
) -> (EventId, Transaction<'static, Postgres>) {
    let id = EventId::new(world.now, random());
    let mut transaction = world.pool.begin().await.unwrap();
    sqlx::query("insert into ingest_dedup values ($1, $2, $3, $4, now() + interval '1 hour')")
        .bind(organization.endpoint.0)
        .bind([key; 16].as_slice())
        .bind(id.0)
        .bind([0_u8; 32].as_slice())
        .execute(&mut *transaction)
        .await
        .unwrap();
    (id, transaction)
}

#[tokio::test]
async fn a_winner_that_is_rolled_back_is_none() {
    let world = World::new().await;
    let acme = world.organization().await;
    let system = world.store.system();
    let instance = registered(&world, 1).await;
    for commits in [false, true] {
        let key = u8::from(commits);
        let (winner, transaction) = taking(&world, &acme, key).await;
        let batch = events(&world, &acme, [key].into_iter());
        let id = batch[0].id;
        let accepting = tokio::spawn({
            let system = system.clone();
            async move { system.accept(instance, 0, &batch).await.unwrap() }
        });
        until_blocked(&world).await;
        let committed = if commits {
            transaction.commit().await.unwrap();
            HashSet::new()
        } else {
            transaction.rollback().await.unwrap();
            HashSet::from([id])
        };
        assert_eq!(accepting.await.unwrap(), Accepted::Committed(committed));
        let known = system.winners(&[(acme.endpoint, [key; 16])]).await.unwrap();
        let expected = if commits { winner } else { id };
        assert_eq!(known[&(acme.endpoint, [key; 16])].event_id, expected);
    }
}

async fn accept_until(
    world: &World,
    acme: &Organization,
    instance: InstanceId,
    expires_at: DateTime<Utc>,
) -> bool {
    let mut batch = events(world, acme, [7].into_iter());
    batch[0].deduplication = Some(deduplication(7, expires_at));
    let accepted = world.store.system().accept(instance, 0, &batch).await.unwrap();
    accepted == Accepted::Committed(HashSet::from([batch[0].id]))
}

#[tokio::test]
async fn a_key_is_remembered_for_its_window_and_then_swept() {
    let world = World::new().await;
    let acme = world.organization().await;
    let (instance, system) = (registered(&world, 1).await, world.store.system());
    let (past, future) = (world.now - TimeDelta::hours(1), world.now + TimeDelta::hours(1));
    assert!(accept_until(&world, &acme, instance, past).await);
    assert!(accept_until(&world, &acme, instance, future).await, "the window is over");
    assert!(!accept_until(&world, &acme, instance, future).await, "it is not");
    assert_eq!(system.sweep_deduplication(10).await.unwrap(), 0);
    sqlx::query("update ingest_dedup set expires_at = now() - interval '1 s'")
        .execute(&world.pool)
        .await
        .unwrap();
    assert_eq!(system.sweep_deduplication(10).await.unwrap(), 1);
    assert!(accept_until(&world, &acme, instance, future).await);
}

/// What Postgres tells of a statement that raises this.
async fn raised(world: &World, statement: &'static str) -> Error {
    sqlx::query(statement).execute(&world.pool).await.unwrap_err().into()
}

#[tokio::test]
async fn only_what_certainly_did_nothing_counts_so() {
    let world = World::new().await;
    for (statement, nothing) in [
        ("do $$ begin raise exception 'no' using errcode = '22000'; end $$", true),
        ("do $$ begin raise exception 'canceled' using errcode = '57014'; end $$", true),
        // As a pooler says that its server's connection broke.
        ("do $$ begin raise exception 'server conn crashed?' using errcode = '08P01'; end $$", false),
        ("do $$ begin raise exception 'shutting down' using errcode = '57P01'; end $$", false),
        // A session that ends.
        ("select pg_terminate_backend(pg_backend_pid())", false),
    ] {
        assert_eq!(raised(&world, statement).await.did_nothing(), nothing, "{statement}");
    }
    let nobody =
        Settings { database_url: "postgres://nobody@127.0.0.1:1/none".to_owned(), ..world.settings() };
    let nobody = Store::new(&nobody, None).unwrap();
    let error = nobody.system().heartbeat(InstanceId::new(world.now, random()), None).await.unwrap_err();
    assert!(error.is_transient() && error.did_nothing(), "nothing was sent");
}
