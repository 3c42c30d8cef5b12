//! What has no outcome, as it is found in real rows: what waits, what has gone silent, what was refused.

use chrono::{DurationRound, TimeDelta};
use ravenpost_core::alert::judge::{Received, Waits};
use ravenpost_core::alert::{ConditionName, RuleKey};
use ravenpost_store::system::{Absence, Fact, RejectedCount, Subject};
use sqlx::{AssertSqlSafe, Executor};

use crate::support::{Organization, World};

async fn absence(world: &World) -> Absence {
    world.store.system().absence().await.unwrap().unwrap()
}

async fn sql(world: &World, statement: &str) {
    world.pool.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
}

fn of_endpoint(organization: &Organization) -> Subject {
    Subject {
        organization_id: organization.id,
        endpoint_id: Some(organization.endpoint),
        destination_id: None,
    }
}

#[tokio::test]
async fn what_waits_is_found_unless_it_is_held_on_purpose() {
    let world = World::new().await;
    let organization = world.organization().await;
    for _ in 0..3 {
        world.routed(&organization, &[(organization.first, None)]).await;
    }
    assert_eq!(absence(&world).await.facts, [], "it is not due yet");
    sql(&world, "update scheduled_deliveries set due_at = now() - interval '2 minutes'").await;
    let oldest =
        sqlx::query_scalar("select min(due_at) from scheduled_deliveries").fetch_one(&world.pool).await;
    let subject = Subject { destination_id: Some(organization.first), ..of_endpoint(&organization) };
    let waits = Waits { waiting: 3, oldest_due_at: oldest.unwrap() };
    assert_eq!(absence(&world).await.facts, [(subject, Fact::Waits(waits))]);
    for (held, again) in [
        ("update destinations set status = 'paused'", "update destinations set status = 'active'"),
        ("update endpoints set status = 'paused'", "update endpoints set status = 'active'"),
        (
            "update scheduled_deliveries set reason = 'held'",
            "update scheduled_deliveries set reason = 'parked'",
        ),
    ] {
        sql(&world, held).await;
        assert_eq!(absence(&world).await.facts, [], "{held}");
        sql(&world, again).await;
        assert_eq!(absence(&world).await.facts.len(), 1, "{again}");
    }
}

#[tokio::test]
async fn an_endpoint_that_has_gone_silent_is_found_by_its_hours() {
    let world = World::new().await;
    let organization = world.organization().await;
    let insert = |hours: &str| {
        format!(
            "insert into delivery_stats select '{0}', '{1}', '00000000-0000-0000-0000-000000000000', 'hour',
                 date_trunc('hour', now(), 'UTC') - n * interval '1 hour', 5, 0, 0, 0, 0, 0, 0, 0, '{{}}'
             from generate_series({hours}) as n",
            organization.id, organization.endpoint
        )
    };
    // What was long before the last day of events does not count.
    sql(&world, &insert("100, 110")).await;
    sql(&world, &insert("10, 25")).await;
    let last = sqlx::query_scalar("select max(starts_at) + interval '1 hour' from delivery_stats");
    let received = Received { busy_hours: 16, last_at: last.fetch_one(&world.pool).await.unwrap() };
    assert_eq!(absence(&world).await.facts, [(of_endpoint(&organization), Fact::Received(received))]);
    sql(&world, "update endpoints set deleted_at = now()").await;
    assert_eq!(absence(&world).await.facts, []);
}

#[tokio::test]
async fn refused_requests_are_counted_by_the_minute() {
    let world = World::new().await;
    let organization = world.organization().await;
    let count = |minutes: i64, kept, not_kept| RejectedCount {
        organization_id: organization.id,
        endpoint_id: organization.endpoint,
        at: world.now - TimeDelta::minutes(minutes),
        kept,
        not_kept,
    };
    let system = world.store.system();
    for one in [count(0, 2, 40), count(0, 1, 0), count(0, -1, 1), count(20, 0, 7), count(300, 9, 9)] {
        system.keep_rejected(&[], &[one]).await.unwrap();
    }
    let minute = |ago| (world.now - TimeDelta::minutes(ago)).duration_trunc(TimeDelta::minutes(1)).unwrap();
    let mut facts = absence(&world).await.facts;
    let Some((subject, Fact::Rejected(mut minutes))) = facts.pop() else { panic!("{facts:?}") };
    minutes.sort_unstable();
    assert_eq!(subject, of_endpoint(&organization));
    assert_eq!(minutes, [(minute(20), 7), (minute(0), 43)]);
    // A row that a release before has written has no minutes.
    sql(&world, "update rejected_counts set by_minute = null").await;
    assert_eq!(absence(&world).await.facts, []);
    system.keep_rejected(&[], &[count(0, 0, 5)]).await.unwrap();
    assert_eq!(absence(&world).await.facts, [(subject, Fact::Rejected(vec![(minute(0), 5)]))]);
}

#[tokio::test]
async fn one_at_a_time_asks_and_knows_what_is_open() {
    let world = World::new().await;
    let organization = world.organization().await;
    let rule = RuleKey::Default(ConditionName::Backlog);
    let mut turn = crate::alerts::fires(&world, &organization, rule);
    turn.fires.as_mut().unwrap().condition = ConditionName::Backlog;
    world.store.system().turn(&[turn.clone()]).await.unwrap();
    assert_eq!(absence(&world).await.open, [(turn.subject, rule, ConditionName::Backlog)]);
    let mut other = world.pool.begin().await.unwrap();
    other.execute("select pg_advisory_xact_lock(125762923753215)").await.unwrap();
    assert!(world.store.system().absence().await.unwrap().is_none(), "somebody else is at it");
}
