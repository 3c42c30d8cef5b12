//! Counts over very much end early, and say so.

use ravenpost_core::event::EventStatus;
use ravenpost_core::ids::DestinationId;
use ravenpost_core::replay::ReplayFilter;
use ravenpost_store::tenant::{MOST_WAITING_COUNTED, Matched};

use crate::replay_jobs::seed;
use crate::support::{Organization, World};

/// So many rows wait for a destination, by two reasons in turns.
async fn leave_waiting(world: &World, organization: &Organization, destination: DestinationId, count: u32) {
    sqlx::query(
        "insert into scheduled_deliveries
             (event_id, destination_id, organization_id, endpoint_id, due_at, run, attempt_number, reason)
         select uuidv7(), $1, $2, $3, now(), 0, 2, case when n % 2 = 0 then 'retry' else 'held' end
         from generate_series(1, $4) n",
    )
    .bind(destination.0)
    .bind(organization.id.0)
    .bind(organization.endpoint.0)
    .bind(i64::from(count))
    .execute(&world.pool)
    .await
    .unwrap();
}

#[tokio::test]
async fn a_replay_to_many_destinations_is_counted_up_to_a_bound() {
    let world = World::new().await;
    let acme = world.organization().await;
    // Less than a page, so that each destination's first page is its last one.
    seed(&world, &acme, "DROPPED", 4_900).await;
    let filter = ReplayFilter { status: vec![EventStatus::Dropped], ..ReplayFilter::default() };
    let matched = acme.tenant.count_replay(&filter).await.unwrap();
    assert_eq!(matched, Matched { count: 2 * 4_900, exact: true });
    for _ in 2..21 {
        world.destination(&acme.tenant, acme.endpoint).await;
    }
    let matched = acme.tenant.count_replay(&filter).await.unwrap();
    assert_eq!(matched, Matched { count: 100_000, exact: false }, "of 102,900");
}

#[tokio::test]
async fn what_waits_for_an_endpoint_is_counted_up_to_a_bound_for_each_destination() {
    let world = World::new().await;
    let acme = world.organization().await;
    let counted = async || {
        let health = acme.tenant.endpoint_health(acme.endpoint).await.unwrap();
        (health.waiting.iter().map(|(_, count)| count).sum::<u64>(), health.waiting_more)
    };
    for destination in [acme.first, acme.second] {
        leave_waiting(&world, &acme, destination, MOST_WAITING_COUNTED).await;
    }
    let both = 2 * u64::from(MOST_WAITING_COUNTED);
    assert_eq!(counted().await, (both, false));
    leave_waiting(&world, &acme, acme.first, 500).await;
    assert_eq!(counted().await, (both + 1, true), "one more, which tells that there are more");
}
