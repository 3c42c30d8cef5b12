//! What the schema promises by itself: there is a partition for tomorrow (PROTOCOLS D1), an update of a status leaves indexes
//! alone (D3), and a commit is a promise (D4).

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_store::ConnectError;
use ravenpost_store::Store;
use ravenpost_store::migrations::SchemaError;
use ravenpost_testkit::wait;
use sqlx::{AssertSqlSafe, Executor};

use crate::support::World;

const BOUND: Duration = Duration::from_secs(30);
const PARENTS: [&str; 3] = ["events", "event_headers", "deliveries"];

fn now() -> DateTime<Utc> {
    DateTime::<Utc>::UNIX_EPOCH + ravenpost_testkit::clock::now()
}

/// Partitions of a parent that hold a day which is not over.
async fn ahead(world: &World, parent: &str) -> i64 {
    sqlx::query_scalar(
        "select count(*) from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = $1::regclass and right(c.relname, 8) >= to_char(now() at time zone 'UTC', 'YYYYMMDD')",
    )
    .bind(parent)
    .fetch_one(&world.pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn there_are_partitions_for_a_week_and_those_that_are_missing_are_made_once() {
    let world = World::new().await;
    let system = world.store.system();
    for parent in PARENTS {
        assert_eq!(ahead(&world, parent).await, 8, "{parent}: today and seven days");
    }
    assert_eq!(system.ensure_partitions(7).await.unwrap(), 0);
    let tomorrow = (now() + TimeDelta::days(1)).format("%Y%m%d").to_string();
    for parent in PARENTS {
        world.pool.execute(AssertSqlSafe(format!("drop table {parent}_{tomorrow}"))).await.unwrap();
    }
    let (one, other) = tokio::join!(system.ensure_partitions(7), system.ensure_partitions(7));
    assert_eq!(one.unwrap() + other.unwrap(), 3);
    // An event of tomorrow has its place before tomorrow comes.
    let mut early = world;
    let acme = early.organization().await;
    early.now += TimeDelta::days(1);
    early.routed(&acme, &[(acme.first, Some(true))]).await;
}

#[tokio::test]
async fn a_clock_that_is_off_by_more_than_five_seconds_is_not_trusted() {
    let world = World::new().await;
    for clock in
        [(|| now() - TimeDelta::seconds(4)) as fn() -> DateTime<Utc>, || now() + TimeDelta::seconds(4)]
    {
        world.store.check(clock).await.unwrap();
    }
    for clock in
        [(|| now() - TimeDelta::seconds(8)) as fn() -> DateTime<Utc>, || now() + TimeDelta::seconds(8)]
    {
        let refused = world.store.check(clock).await.unwrap_err();
        assert!(matches!(refused, ConnectError::ClockSkew(off) if off.abs() >= 6), "{refused}");
    }
}

#[tokio::test]
async fn updates_of_a_status_leave_all_indexes_alone() {
    let world = World::new().await;
    let acme = world.organization().await;
    for _ in 0..20 {
        let event = world.routed(&acme, &[(acme.first, Some(false))]).await;
        acme.tenant.replay(event, None, world.now).await.unwrap();
    }
    let today = format!("events_{}", world.now.format("%Y%m%d"));
    let query = "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relname = $1";
    // Sessions tell what they have done when they have been idle for a moment.
    let (updates, hot): (i64, i64) = wait::until("the updates to be counted", BOUND, || async {
        let counts: (i64, i64) = sqlx::query_as(query).bind(&today).fetch_one(&world.pool).await?;
        Ok(Some(counts).filter(|(updates, _)| *updates >= 40))
    })
    .await
    .unwrap();
    assert_eq!(updates, hot, "some have moved to another page or touched an index");
}

#[tokio::test]
async fn a_database_that_forgets_commits_is_refused() {
    let world = World::new().await;
    world.store.require_schema().await.unwrap();
    let off = "do $$ begin execute format('alter database %I set synchronous_commit = off', current_database()); end $$";
    world.pool.execute(off).await.unwrap();
    let store = Store::new(&world.settings(), None).unwrap();
    let refused = store.require_schema().await.unwrap_err();
    assert!(matches!(refused, SchemaError::AsynchronousCommit), "{refused}");
    assert!(refused.to_string().contains("synchronous_commit=off"));
}
