//! How long events are kept (PROTOCOLS D2): a day goes with all that belongs to it, and never while something waits for an
//! event of it, whoever is in between.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use ravenpost_core::delivery::{DeliveryKey, Outcome};
use ravenpost_core::ids::{DestinationId, EventId, Slot};
use ravenpost_core::ledger::State;
use ravenpost_store::system::{Attempt, DayDropped, Keeping, Leftover, Record};
use sqlx::{AssertSqlSafe, Executor};
use uuid::Uuid;

use crate::ledger::books;
use crate::support::{Organization, PARTITION, World};

const KEPT: TimeDelta = TimeDelta::days(30);
const KEEPING: Keeping = Keeping { of_deleted: TimeDelta::zero(), replay_jobs: TimeDelta::zero() };

/// A world whose clock says that it is so many days ago, with a partition of that day, and an organization of today.
async fn days_ago(days: i64) -> (World, Organization, NaiveDate) {
    so_long_ago(World::new().await, days).await
}

async fn so_long_ago(mut world: World, days: i64) -> (World, Organization, NaiveDate) {
    let acme = world.organization().await;
    world.now -= TimeDelta::days(days);
    let day = world.now.date_naive();
    for parent in ["events", "event_headers", "deliveries"] {
        let (from, to) = (floor(day), floor(day.succ_opt().unwrap()));
        let child = format!("{parent}_{}", day.format("%Y%m%d"));
        let make =
            format!("create table {child} partition of {parent} for values from ('{from}') to ('{to}')");
        sql(&world, &make).await;
        let give = format!(
            "do $$ begin execute format('alter table {child} owner to %I', (select tableowner from pg_tables
                 where schemaname = 'public' and tablename = '{parent}')); end $$"
        );
        sql(&world, &give).await;
    }
    // What has no row anywhere would have been found by now.
    sql(&world, &format!("update sweeper set swept_through = '{}'", Uuid::max())).await;
    world.store.system().met(EventId(Uuid::max())).await.unwrap();
    keep(&world, KEPT + TimeDelta::days(1)).await;
    keep(&world, KEPT).await;
    (world, acme, day)
}

/// As if the bound before had stood for a day.
async fn keep(world: &World, kept: TimeDelta) {
    sql(world, "update retention set moved_at = '-infinity'").await;
    world.store.system().keep_events(kept).await.unwrap();
}

fn floor(day: NaiveDate) -> EventId {
    EventId::floor(day.and_time(chrono::NaiveTime::MIN).and_utc())
}

async fn sql(world: &World, statement: &str) {
    world.pool.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
}

async fn drop_day(world: &World) -> DayDropped {
    world.store.system().drop_day().await.unwrap()
}

async fn count(world: &World, table: &str) -> i64 {
    let count = AssertSqlSafe(format!("select count(*) from {table}"));
    sqlx::query_scalar(count).fetch_one(&world.pool).await.unwrap()
}

/// The pairs that are to be given up, of all slots.
async fn expiring(world: &World) -> Vec<(EventId, DestinationId, i32)> {
    let expiring = world.store.system().expiring(None, 100, 1, &[PARTITION]).await.unwrap();
    expiring.rows.iter().map(|row| (row.event_id, row.destination_id, row.version)).collect()
}

/// As the worker gives them up.
async fn give_up(world: &World, acme: &Organization) {
    let rows = world.store.system().expiring(None, 100, 1, &[PARTITION]).await.unwrap().rows;
    let attempts = rows.into_iter().map(|row| {
        let (event_id, destination_id) = (row.event_id, row.destination_id);
        let key = DeliveryKey { event_id, destination_id, run: row.run, attempt_number: row.attempt_number };
        Attempt { outcome: Outcome::Expired, ..world.attempt(acme, key, row.version, Some(false)) }
    });
    world.record(Record { attempts: attempts.collect(), ..Record::default() }).await;
}

async fn aged(world: &World) {
    sql(world, "update scheduled_deliveries set created_at = now() - interval '2 days'").await;
}

#[tokio::test]
async fn a_day_goes_with_all_that_belongs_to_it_and_the_books_balance() {
    let (world, acme, day) = days_ago(40).await;
    let gone = world.routed(&acme, &[(acme.first, Some(true)), (acme.second, Some(false))]).await;
    let mut today = world;
    today.now += TimeDelta::days(40);
    let kept = today.routed(&acme, &[(acme.first, Some(false))]).await;
    assert_eq!(books(&today, 10).await.0.accepted, 3);

    assert_eq!(drop_day(&today).await, DayDropped::Dropped(day));
    assert_eq!(drop_day(&today).await, DayDropped::NotYet);
    assert_eq!((count(&today, "events").await, count(&today, "event_headers").await), (1, 1));
    assert_eq!(count(&today, "deliveries").await, 1);
    let system = today.store.system();
    assert_eq!(system.kept_from().await.unwrap(), floor(day.succ_opt().unwrap()));
    assert!(acme.tenant.replay(gone, None, today.now).await.is_err(), "there is nothing to replay");

    // Between the one and the other, too.
    for letters in [2, 1] {
        assert_eq!(count(&today, "dead_letters").await, letters);
        let (account, findings) = books(&today, 1).await;
        assert_eq!((findings, account.events, account.of(State::Dead)), (vec![], 1, 1));
        let removed = system.remove_leftovers(Leftover::DeadLetters, KEEPING, today.now).await.unwrap();
        assert_eq!(removed.unwrap().count, u64::try_from(letters - 1).unwrap());
    }
    let left: Uuid =
        sqlx::query_scalar("select event_id from dead_letters").fetch_one(&today.pool).await.unwrap();
    assert_eq!(left, kept.0);
}

#[tokio::test]
async fn what_is_to_be_kept_for_longer_is_not_dropped() {
    let (world, acme, _) = days_ago(29).await;
    world.routed(&acme, &[(acme.first, Some(true))]).await;
    assert_eq!(drop_day(&world).await, DayDropped::NotYet);
    let day = world.now.date_naive();
    let by_hand = sqlx::query("select drop_day($1)").bind(day).execute(&world.pool).await;
    assert!(by_hand.unwrap_err().to_string().contains("are still kept"));
    assert_eq!(count(&world, "events").await, 1);
}

#[tokio::test]
async fn what_waits_is_given_up_before_its_day_is_dropped() {
    let (world, acme, day) = days_ago(40).await;
    let waits = world.routed(&acme, &[(acme.first, None), (acme.second, Some(true))]).await;
    // Held, and due long ago: neither matters.
    sql(&world, "update destinations set status = 'paused'").await;
    assert_eq!(drop_day(&world).await, DayDropped::Waiting(day));
    assert_eq!(expiring(&world).await, [(waits, acme.first, 1)]);
    let counted = count(&world, "delivery_deltas").await;

    give_up(&world, &acme).await;
    assert_eq!(expiring(&world).await, []);
    assert_eq!(count(&world, "delivery_deltas").await, counted, "what was not sent is not counted as sent");
    let (account, findings) = books(&world, 10).await;
    assert_eq!((findings, account.of(State::Dead), account.of(State::Delivered)), (vec![], 1, 1));
    let reason: String =
        sqlx::query_scalar("select reason from dead_letters").fetch_one(&world.pool).await.unwrap();
    assert_eq!(reason, "expired");
    assert_eq!(drop_day(&world).await, DayDropped::Dropped(day));
    assert_eq!(books(&world, 10).await.1, []);
}

#[tokio::test]
async fn nobody_has_to_be_a_superuser_for_it() {
    let (world, acme, day) = so_long_ago(World::without_superusers().await, 40).await;
    world.routed(&acme, &[(acme.first, None), (acme.second, Some(false))]).await;
    assert_eq!(drop_day(&world).await, DayDropped::Waiting(day));
    give_up(&world, &acme).await;
    assert_eq!(drop_day(&world).await, DayDropped::Dropped(day));
    assert_eq!(count(&world, "events").await, 0);
    for (leftover, left) in
        [(Leftover::DeadLetters, 2), (Leftover::Scheduled, 0), (Leftover::ExpungedPayloads, 0)]
    {
        let removed = world.store.system().remove_leftovers(leftover, KEEPING, world.now).await.unwrap();
        assert_eq!(removed.unwrap().count, left, "{leftover:?}");
    }
    assert_eq!(world.store.system().ensure_partitions(8).await.unwrap(), 3);
}

#[tokio::test]
async fn each_worker_gives_up_what_is_its_own_page_by_page() {
    let (world, acme, _) = days_ago(40).await;
    for _ in 0..3 {
        world.routed(&acme, &[(acme.first, None), (acme.second, None)]).await;
    }
    let mine = Slot::of(acme.endpoint).partition(12);
    let system = world.store.system();
    let (mut found, mut pages, mut after) = (Vec::new(), 0, None);
    loop {
        let page = system.expiring(after, 4, 12, &[mine]).await.unwrap();
        found.extend(page.rows.iter().map(|row| (row.event_id, row.destination_id)));
        pages += 1;
        after = page.after;
        if after.is_none() {
            break;
        }
    }
    assert!(found.is_sorted() && found.len() == 6 && pages == 2, "{found:?} in {pages} pages");
    let others: Vec<i32> = (0..12).filter(|partition| *partition != mine).collect();
    let theirs = system.expiring(None, 4, 12, &others).await.unwrap();
    assert!(theirs.rows.is_empty() && theirs.after.is_some(), "they page past what is not theirs");
}

#[tokio::test]
async fn who_is_told_has_a_day_to_replay() {
    let (world, acme, _) = days_ago(30).await;
    let event = world.routed(&acme, &[(acme.first, None)]).await;
    assert_eq!(expiring(&world).await, [], "it has not waited for a day");
    aged(&world).await;
    assert_eq!(expiring(&world).await.len(), 1);
    give_up(&world, &acme).await;
    let now = DateTime::<Utc>::UNIX_EPOCH + ravenpost_testkit::clock::now();
    acme.tenant.replay(event, Some(acme.first), now).await.unwrap();
    assert_eq!(expiring(&world).await, []);
    // Its time is over.
    keep(&world, TimeDelta::days(28)).await;
    assert_eq!(expiring(&world).await.len(), 1);
}

#[tokio::test]
async fn a_bound_that_jumps_gives_a_days_notice_and_one_that_moves_back_counts_at_once() {
    let (world, acme, day) = days_ago(20).await;
    world.routed(&acme, &[(acme.first, Some(true))]).await;
    let system = world.store.system();
    system.keep_events(TimeDelta::days(9)).await.unwrap();
    system.keep_events(TimeDelta::days(9)).await.unwrap();
    assert_eq!(drop_day(&world).await, DayDropped::NotYet, "somebody has mistyped it a moment ago");
    keep(&world, TimeDelta::days(9)).await;
    assert_eq!(drop_day(&world).await, DayDropped::NotYet, "it is the same bound still");
    system.keep_events(KEPT).await.unwrap();
    keep(&world, KEPT).await;
    assert_eq!(drop_day(&world).await, DayDropped::NotYet, "it was a mistake");
    keep(&world, TimeDelta::days(10)).await;
    keep(&world, TimeDelta::days(9)).await;
    assert_eq!(drop_day(&world).await, DayDropped::Dropped(day));
}

#[tokio::test]
async fn a_row_without_its_event_is_removed_and_keeps_no_day() {
    let (world, acme, day) = days_ago(40).await;
    let gone = world.routed(&acme, &[(acme.first, Some(true))]).await;
    assert_eq!(drop_day(&world).await, DayDropped::Dropped(day));
    let by_hand = format!(
        "insert into scheduled_deliveries (event_id, destination_id, organization_id, endpoint_id, due_at, run,
             attempt_number, reason)
         values ('{gone}', '{}', '{}', '{}', now(), 0, 1, 'parked')",
        acme.first, acme.id, acme.endpoint
    );
    sql(&world, &by_hand).await;
    let mut today = world;
    today.now += TimeDelta::days(40);
    today.routed(&acme, &[(acme.first, None)]).await;
    let removed =
        today.store.system().remove_leftovers(Leftover::Scheduled, KEEPING, today.now).await.unwrap();
    assert_eq!(removed.unwrap().count, 1);
    assert_eq!(count(&today, "scheduled_deliveries").await, 1);
}

#[tokio::test]
async fn a_day_stays_while_it_is_not_known_whether_something_of_it_is_lost() {
    let (world, acme, day) = days_ago(40).await;
    let event = world.routed(&acme, &[(acme.first, Some(true))]).await;
    sql(&world, &format!("update sweeper set swept_through = '{event}'")).await;
    assert_eq!(drop_day(&world).await, DayDropped::Waiting(day));
    sql(&world, "delete from sweeper").await;
    assert_eq!(drop_day(&world).await, DayDropped::Waiting(day));
    assert_eq!(count(&world, "events").await, 1);
}

#[tokio::test]
async fn whoever_is_in_between_is_waited_for_and_waits_for_nobody() {
    let (world, acme, day) = days_ago(40).await;
    let event = world.routed(&acme, &[(acme.first, Some(true)), (acme.second, Some(true))]).await;
    let schedule = "insert into scheduled_deliveries
            (event_id, destination_id, organization_id, endpoint_id, due_at, run, attempt_number, reason)
        select id, $1, organization_id, endpoint_id, now(), 1, 1, 'replay' from events where id = $2 for update";
    let mut replay = world.pool.begin().await.unwrap();
    let done = sqlx::query(schedule).bind(acme.first.0).bind(event.0).execute(&mut *replay).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
    // It is not visible yet, so that only its lock tells.
    assert_eq!(drop_day(&world).await, DayDropped::Busy(day));
    // And whoever gave way has left no lock behind.
    world.store.system().known(&[event]).await.unwrap();
    replay.commit().await.unwrap();
    assert_eq!(drop_day(&world).await, DayDropped::Waiting(day));
    give_up(&world, &acme).await;

    let mut reader = world.pool.begin().await.unwrap();
    sqlx::query("select count(*) from events").execute(&mut *reader).await.unwrap();
    assert_eq!(drop_day(&world).await, DayDropped::Busy(day));
    drop(reader);
    let (one, other) = tokio::join!(drop_day(&world), drop_day(&world));
    assert!([one, other].contains(&DayDropped::Dropped(day)), "{one:?} {other:?}");
    assert_eq!(books(&world, 10).await.1, []);
}

#[tokio::test]
async fn what_comes_too_late_of_a_dropped_day_stops_nothing_else() {
    let (world, acme, day) = days_ago(40).await;
    let gone = world.routed(&acme, &[(acme.first, Some(true))]).await;
    assert_eq!(drop_day(&world).await, DayDropped::Dropped(day));
    let mut today = world;
    today.now += TimeDelta::days(40);
    let event = today.event(&acme).await;
    let key = |event_id| DeliveryKey { event_id, destination_id: acme.second, run: 0, attempt_number: 1 };
    let attempts =
        vec![today.attempt(&acme, key(gone), 0, Some(true)), today.attempt(&acme, key(event), 0, Some(true))];
    let mut record = Record { attempts, ..Record::default() };
    let system = today.store.system();
    let refused = system.record(PARTITION, today.epoch, &record).await.unwrap_err();
    assert!(!refused.is_transient() && !refused.is_about_data(), "{refused}");
    let left_out = record.split_off_below(system.kept_from().await.unwrap());
    assert_eq!((left_out.len(), record.len()), (1, 1));
    assert!(system.record(PARTITION, today.epoch, &record).await.unwrap());
    assert_eq!(count(&today, "deliveries").await, 1);
}
