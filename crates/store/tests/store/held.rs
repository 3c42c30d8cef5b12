//! A destination for which very much waits costs nobody anything: what the workers ask for all the time reads as few
//! blocks as ever (PROTOCOLS W7). Blocks are counted and not time, so that a loaded machine changes nothing.

use std::io::Write as _;
use std::time::Duration;

use chrono::TimeDelta;
use ravenpost_core::delivery::DeliveryKey;
use ravenpost_core::destination::DestinationStatus;
use ravenpost_core::ids::{DestinationId, EventId};
use ravenpost_store::system::{Ask, Record, Routed};
use ravenpost_store::tenant::{DestinationChange, DestinationChanged};
use ravenpost_store::{Settings, Store, System};
use ravenpost_testkit::{held, wait};
use sqlx::{AssertSqlSafe, Executor};

use crate::support::{Organization, PARTITION, World};

/// What a calm destination has waiting.
const FEW: i64 = 1_000;
/// Rows that a worker asks for at once: what fits into a lane, and one more.
const ROOM: i64 = 81;
/// So often each is asked: a prepared statement gets its general plan with the sixth time.
const RUNS: i64 = 12;
const SESSIONS: usize = 3;
/// So many come when everything is planned.
const FILLED: i64 = 20_000;
/// How many times as much may be read: an index of very many rows is a level or two higher.
const FACTOR: i64 = 3;
/// Blocks by which small numbers may differ nevertheless.
const MARGIN: i64 = 20;
const BOUND: Duration = Duration::from_secs(30);

/// What was read, in blocks, by what was asked.
type Cost = Vec<(&'static str, i64)>;

/// Blocks of tables and indexes that the sessions of this database have read and reported.
async fn blocks(world: &World) -> i64 {
    let query = "select coalesce(sum(coalesce(heap_blks_read, 0) + coalesce(heap_blks_hit, 0)
            + coalesce(idx_blks_read, 0) + coalesce(idx_blks_hit, 0) + coalesce(toast_blks_read, 0)
            + coalesce(toast_blks_hit, 0) + coalesce(tidx_blks_read, 0) + coalesce(tidx_blks_hit, 0)), 0)::bigint
        from pg_statio_user_tables";
    sqlx::query_scalar(query).fetch_one(&world.pool).await.unwrap()
}

async fn sessions(world: &World) -> Vec<i32> {
    let query = "select pid from pg_stat_activity where datname = current_database() and application_name = 'ravenpost'";
    sqlx::query_scalar(query).fetch_all(&world.pool).await.unwrap()
}

/// What one run of `ask` reads, at its best: other sessions may report just then what they have read before.
async fn cost(world: &World, ask: impl AsyncFn(&System)) -> i64 {
    let mut least = i64::MAX;
    for _ in 0..SESSIONS {
        least = least.min(cost_of_session(world, &ask).await);
    }
    least
}

/// Of many runs on a session of their own, the average: a session reports when it ends at the latest.
async fn cost_of_session(world: &World, ask: &impl AsyncFn(&System)) -> i64 {
    let (others, before) = (sessions(world).await, blocks(world).await);
    let settings = Settings { database_connections: 1, ..world.settings() };
    let store = Store::new(&settings, None).unwrap();
    let system = store.system();
    for _ in 0..RUNS {
        ask(&system).await;
    }
    drop((system, store));
    wait::until_true("the session to end", BOUND, || async {
        Ok(sessions(world).await.iter().all(|pid| others.contains(pid)))
    })
    .await
    .unwrap();
    (blocks(world).await - before) / RUNS
}

/// All that is asked for, by a worker that has both destinations and by a notifier.
async fn costs(world: &World, acme: &Organization) -> Cost {
    let now = world.now + TimeDelta::minutes(1);
    let rows = |ids: &[DestinationId]| ids.iter().map(|id| Ask::oldest(*id, ROOM)).collect::<Vec<_>>();
    let (held, other) = (acme.first, acme.second);
    let waiting = cost(world, async |system| drop(system.waiting().await.unwrap())).await;
    let paces = cost(world, async |system| drop(system.paces(&[held, other], now).await.unwrap())).await;
    let due = async |ids: &[DestinationId]| {
        let asked = rows(ids);
        cost(world, async |system| drop(system.due(&asked, now).await.unwrap())).await
    };
    let (held, other, both) = (due(&[held]).await, due(&[other]).await, due(&[held, other]).await);
    // What is held on purpose is no backlog, and not counted.
    let backlog = match acme.tenant.destination(acme.endpoint, acme.first).await.unwrap().unwrap().status {
        DestinationStatus::Paused => cost(world, async |system| drop(system.absence().await.unwrap())).await,
        _ => 0,
    };
    vec![
        ("backlog", backlog),
        ("waiting", waiting),
        ("paces", paces),
        ("due of the one", held),
        ("due of the other", other),
        ("due of both", both),
    ]
}

/// Nothing but what is asked for is read: no autovacuum.
async fn nobody_cleans(world: &World) {
    let statement = "do $$ declare name text; begin
        for name in select oid::regclass from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace loop
            execute format('alter table %s set (autovacuum_enabled = off)', name);
        end loop; end $$";
    sqlx::raw_sql(statement).execute(&world.pool).await.unwrap();
}

/// Runs a statement, and reports at once what it has read.
async fn run(world: &World, statement: String) {
    let statement = format!("{statement}; select pg_stat_force_next_flush()");
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&world.pool).await.unwrap();
}

async fn set(world: &World, acme: &Organization, status: DestinationStatus) {
    let change = DestinationChange { status: Some(status), ..DestinationChange::default() };
    let changed =
        acme.tenant.change_destination(acme.endpoint, acme.first, &change, world.now).await.unwrap();
    assert!(matches!(changed, DestinationChanged::Changed(_)), "{changed:?}");
}

fn tell(what: &str, cost: &Cost) {
    let cost: Vec<String> = cost.iter().map(|(name, blocks)| format!("{name} {blocks}")).collect();
    // Past the captured output: it is told of a success, too.
    let _ = writeln!(std::io::stderr(), "blocks read, {what}: {}", cost.join(", "));
}

/// What costs much more than it did.
fn excess(what: &str, few: &Cost, many: &Cost) -> Vec<String> {
    tell(what, many);
    let pairs = few.iter().zip(many);
    pairs
        .filter(|((_, few), (_, many))| *many > FACTOR * few + MARGIN)
        .map(|((name, few), (_, many))| format!("{name}, {what}: {many} blocks instead of {few}"))
        .collect()
}

#[tokio::test]
async fn what_waits_for_one_costs_no_other_anything() {
    let world = World::new().await;
    let acme = world.organization().await;
    nobody_cleans(&world).await;
    // Of the other one three wait, due now.
    for _ in 0..3 {
        world.routed(&acme, &[(acme.second, None)]).await;
    }
    run(&world, "update scheduled_deliveries set due_at = now() - interval '1 minute'".to_owned()).await;
    let held = held::Held {
        destination_id: acme.first.0,
        // Of whatever event: none is sent.
        like: sqlx::query_scalar("select id from events limit 1").fetch_one(&world.pool).await.unwrap(),
        count: FEW,
    };
    set(&world, &acme, DestinationStatus::Paused).await;
    run(&world, held.statement(1)).await;
    run(&world, "analyze".to_owned()).await;
    let few_held = costs(&world, &acme).await;
    tell(&format!("{FEW} held"), &few_held);
    set(&world, &acme, DestinationStatus::Active).await;
    let few = costs(&world, &acme).await;
    tell(&format!("{FEW} waiting"), &few);

    let many = held::count();
    run(&world, held::Held { count: many, ..held }.statement(FEW + 1)).await;
    // Neither what the planner believes of few, nor what it knows of many, leads it astray; nor that its sample has nothing
    // of the other one, as happens to a third of the usual ones.
    let mut excessive = Vec::new();
    for (known, sampled) in [
        ("unknown to the planner", "set local default_statistics_target = 1; analyze"),
        ("the other unknown to it", "analyze"),
        ("known to it", ""),
    ] {
        set(&world, &acme, DestinationStatus::Paused).await;
        let (what, cost) = (format!("{many} held, {known}"), costs(&world, &acme).await);
        excessive.extend(excess(&what, &few_held, &cost));
        set(&world, &acme, DestinationStatus::Active).await;
        let (what, cost) = (format!("{many} waiting, {known}"), costs(&world, &acme).await);
        excessive.extend(excess(&what, &few, &cost));
        run(&world, sampled.to_owned()).await;
    }
    assert!(excessive.is_empty(), "{}", excessive.join("\n"));
}

/// A plan is kept for as long as Postgres counts no table anew, and the schedule fills within moments.
#[tokio::test]
async fn what_is_recorded_reads_no_more_because_its_tables_were_empty_when_it_was_planned() {
    let world = World::new().await;
    let acme = world.organization().await;
    nobody_cleans(&world).await;
    let like = world.routed(&acme, &[(acme.second, Some(true))]).await;
    let many = |count| held::Held { destination_id: acme.first.0, like: like.0, count };
    // It was as full before: only an index that grows by a level tells Postgres to plan anew.
    run(&world, many(FILLED).statement(1)).await;
    run(&world, "delete from scheduled_deliveries".to_owned()).await;
    sqlx::raw_sql("vacuum analyze").execute(&world.pool).await.unwrap();
    world.store.system().expect_growth().await.unwrap();

    let mut events = Vec::new();
    for _ in 0..2 * RUNS {
        events.push(world.event(&acme).await);
    }
    let (others, before) = (sessions(&world).await, blocks(&world).await);
    let store = Store::new(&world.settings(), None).unwrap();
    let record = async |event: EventId| {
        let key = DeliveryKey { event_id: event, destination_id: acme.second, run: 0, attempt_number: 1 };
        let attempts = vec![world.attempt(&acme, key, 0, Some(true))];
        let routed = vec![Routed { event_id: event, destinations: vec![acme.second] }];
        let record = Record { routed, attempts, ..Record::default() };
        assert!(store.system().record(PARTITION, world.epoch, &record).await.unwrap());
    };
    let (early, late) = events.split_at(events.len() / 2);
    // Planned, and kept.
    for event in early {
        record(*event).await;
    }
    let filling = blocks(&world).await;
    run(&world, many(2 * FILLED).statement(FILLED + 1)).await;
    let filled = blocks(&world).await - filling;
    for event in late {
        record(*event).await;
    }
    drop(store);
    wait::until_true("the session to end", BOUND, || async {
        Ok(sessions(&world).await.iter().all(|pid| others.contains(pid)))
    })
    .await
    .unwrap();
    let each = (blocks(&world).await - before - filled) / (2 * RUNS);
    tell(&format!("{FILLED} held since it was planned"), &vec![("a record", each)]);
    assert!(each < FILLED / 100, "{each} blocks are read for each record");
}

#[tokio::test]
async fn small_sizes_are_forgotten_without_superusers_and_without_waiting() {
    let world = World::without_superusers().await;
    nobody_cleans(&world).await;
    sqlx::raw_sql("vacuum analyze").execute(&world.pool).await.unwrap();
    // As autovacuum does.
    let mut counting = world.pool.begin().await.unwrap();
    counting.execute("lock table scheduled_deliveries in share update exclusive mode").await.unwrap();
    let forget = async || world.store.system().expect_growth().await.unwrap();
    let others = forget().await;
    assert!(others > 20, "{others} tables");
    counting.rollback().await.unwrap();
    assert_eq!((forget().await, forget().await), (1, 0));
    let counted = "select reltuples from pg_class where oid = 'scheduled_deliveries'::regclass";
    let counted: f32 = sqlx::query_scalar(counted).fetch_one(&world.pool).await.unwrap();
    assert!(counted < 0.0, "{counted}");
}
