//! What waits: listed in its order, brought forward, cancelled; payloads expunged. Always against the worker's own record.

use chrono::TimeDelta;
use ravenpost_core::delivery::{DeliveryKey, KeptBy, WaitingReason};
use ravenpost_core::destination::DestinationStatus;
use ravenpost_core::event::EventStatus;
use ravenpost_core::ids::{DestinationId, EventId};
use ravenpost_store::system::{Park, ParkReason, Record};
use ravenpost_store::tenant::{
    DestinationChange, Event, Expunged, ReplayError, Scheduled, ScheduledFilter, ScheduledList,
};

use crate::ledger::books;
use crate::support::{Organization, World};

async fn event(organization: &Organization, id: EventId) -> Event {
    organization.tenant.event(id).await.unwrap().unwrap()
}

async fn waiting(organization: &Organization, filter: ScheduledFilter) -> Vec<(EventId, DestinationId)> {
    let found = organization.tenant.scheduled(&filter, None, 100).await.unwrap();
    found.rows.iter().map(|row| (row.event_id, row.destination_id)).collect()
}

async fn row(organization: &Organization, id: EventId, destination: DestinationId) -> Option<Scheduled> {
    let filter =
        ScheduledFilter { event: Some(id), destination: Some(destination), ..ScheduledFilter::default() };
    organization.tenant.scheduled(&filter, None, 1).await.unwrap().rows.pop()
}

async fn reasons(world: &World, id: EventId) -> Vec<String> {
    sqlx::query_scalar("select reason from dead_letters where event_id = $1 order by destination_id")
        .bind(id.0)
        .fetch_all(&world.pool)
        .await
        .unwrap()
}

async fn balances(world: &World) {
    let (account, findings) = books(world, 100).await;
    assert_eq!((findings, account.unaccounted()), (vec![], 0));
}

fn first(event_id: EventId, destination_id: DestinationId) -> DeliveryKey {
    DeliveryKey { event_id, destination_id, run: 0, attempt_number: 1 }
}

fn second(event_id: EventId, destination_id: DestinationId) -> DeliveryKey {
    DeliveryKey { attempt_number: 2, ..first(event_id, destination_id) }
}

#[tokio::test]
async fn what_waits_is_listed_soonest_first_and_page_by_page() {
    let world = World::new().await;
    let (acme, other) = (world.organization().await, world.organization().await);
    world.routed(&other, &[(other.first, None)]).await;
    let mut all = Vec::new();
    for minutes in [30, 10, 20] {
        let id = world.routed(&acme, &[(acme.first, None), (acme.second, None)]).await;
        for destination in [acme.first, acme.second] {
            let due = world.now + TimeDelta::minutes(minutes);
            sqlx::query(
                "update scheduled_deliveries set due_at = $3 where event_id = $1 and destination_id = $2",
            )
            .bind(id.0)
            .bind(destination.0)
            .bind(due)
            .execute(&world.pool)
            .await
            .unwrap();
            all.push((due, id, destination));
        }
    }
    all.sort_unstable();
    for limit in [1, 2, 4, 6] {
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let filter = ScheduledFilter::default();
            let ScheduledList { rows, next } = acme.tenant.scheduled(&filter, after, limit).await.unwrap();
            paged.extend(rows.iter().map(|row| (row.due_at, row.event_id, row.destination_id)));
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(paged, all, "{limit}");
    }
    let of = |destination| ScheduledFilter { destination: Some(destination), ..ScheduledFilter::default() };
    assert_eq!(waiting(&acme, of(acme.second)).await.len(), 3);
    assert!(waiting(&acme, of(other.first)).await.is_empty());
    let of_event = ScheduledFilter { event: Some(all[0].1), ..ScheduledFilter::default() };
    assert_eq!(waiting(&acme, of_event).await.len(), 2);
    assert!(waiting(&other, of_event).await.is_empty());
    let held = ScheduledFilter { reason: Some(WaitingReason::Held), ..ScheduledFilter::default() };
    assert!(waiting(&acme, held).await.is_empty());
    let of_endpoint = ScheduledFilter { endpoint: Some(acme.endpoint), ..ScheduledFilter::default() };
    assert_eq!(waiting(&acme, of_endpoint).await.len(), 6);
}

#[tokio::test]
async fn what_keeps_it_is_told() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.routed(&acme, &[(acme.first, None)]).await;
    assert_eq!(row(&acme, id, acme.first).await.unwrap().kept_by, None);
    let change =
        DestinationChange { status: Some(DestinationStatus::Paused), ..DestinationChange::default() };
    acme.tenant.change_destination(acme.endpoint, acme.first, &change, world.now).await.unwrap();
    assert_eq!(row(&acme, id, acme.first).await.unwrap().kept_by, Some(KeptBy::DestinationPaused));
}

#[tokio::test]
async fn it_is_brought_forward_as_the_attempt_that_it_was_going_to_be() {
    let world = World::new().await;
    let (acme, other) = (world.organization().await, world.organization().await);
    let id = world.routed(&acme, &[(acme.first, None), (acme.second, Some(true))]).await;
    assert!(acme.tenant.run_scheduled(id, acme.second, world.now).await.unwrap().is_none());
    assert!(other.tenant.run_scheduled(id, acme.first, world.now).await.unwrap().is_none());
    assert!(row(&acme, id, acme.first).await.unwrap().due_at > world.now);
    let run = acme.tenant.run_scheduled(id, acme.first, world.now).await.unwrap().unwrap();
    assert_eq!((run.due_at, run.run, run.attempt_number), (world.now, 0, 2));
    // Whoever had taken the row completes it: it kept its version.
    let attempt = world.attempt(&acme, second(id, acme.first), 1, Some(true));
    world.record(Record { attempts: vec![attempt], ..Record::default() }).await;
    assert!(row(&acme, id, acme.first).await.is_none());
    assert_eq!(event(&acme, id).await.status, EventStatus::Success);
    balances(&world).await;
}

#[tokio::test]
async fn what_is_in_the_air_is_not_run_again() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.routed(&acme, &[(acme.first, None)]).await;
    let due_at = world.now + TimeDelta::seconds(40);
    let park = Park {
        event_id: id,
        destination_id: acme.first,
        organization_id: acme.id,
        endpoint_id: acme.endpoint,
        run: 0,
        attempt_number: 2,
        version: 1,
        due_at,
        reason: ParkReason::Parked,
    };
    world.record(Record { parks: vec![park], ..Record::default() }).await;
    let run = acme.tenant.run_scheduled(id, acme.first, world.now).await.unwrap().unwrap();
    assert_eq!((run.due_at, run.reason), (due_at, WaitingReason::Parked));
}

#[tokio::test]
async fn what_is_cancelled_is_dead_and_can_be_replayed() {
    let world = World::new().await;
    let (acme, other) = (world.organization().await, world.organization().await);
    let id = world.routed(&acme, &[(acme.first, None), (acme.second, Some(true))]).await;
    assert!(!other.tenant.cancel_scheduled(id, acme.first, world.now).await.unwrap());
    assert!(!acme.tenant.cancel_scheduled(id, acme.second, world.now).await.unwrap());
    assert!(acme.tenant.cancel_scheduled(id, acme.first, world.now).await.unwrap());
    assert!(
        !acme.tenant.cancel_scheduled(id, acme.first, world.now).await.unwrap(),
        "nothing waits any more"
    );
    let cancelled = event(&acme, id).await;
    assert_eq!((cancelled.status, cancelled.dead), (EventStatus::Failed, vec![acme.first]));
    assert_eq!(reasons(&world, id).await, ["cancelled"]);
    balances(&world).await;
    acme.tenant.replay(id, Some(acme.first), world.now).await.unwrap();
    assert_eq!(event(&acme, id).await.status, EventStatus::Pending);
    balances(&world).await;
}

#[tokio::test]
async fn an_attempt_in_the_air_ends_as_it_does_when_its_pair_is_cancelled() {
    for delivered in [Some(true), Some(false), None] {
        let world = World::new().await;
        let acme = world.organization().await;
        let id = world.routed(&acme, &[(acme.first, None)]).await;
        acme.tenant.cancel_scheduled(id, acme.first, world.now).await.unwrap();
        let attempt = world.attempt(&acme, second(id, acme.first), 1, delivered);
        world.record(Record { attempts: vec![attempt], ..Record::default() }).await;
        let ended = event(&acme, id).await;
        let expected = if delivered == Some(true) { EventStatus::Success } else { EventStatus::Failed };
        assert_eq!(ended.status, expected, "{delivered:?}");
        assert!(row(&acme, id, acme.first).await.is_none(), "{delivered:?}");
        balances(&world).await;
    }
}

#[tokio::test]
async fn cancelling_the_replay_of_what_was_delivered_leaves_it_delivered() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.routed(&acme, &[(acme.first, Some(true))]).await;
    acme.tenant.replay(id, None, world.now).await.unwrap();
    // Every destination of the endpoint was asked for; the second one never had it.
    assert!(acme.tenant.cancel_scheduled(id, acme.first, world.now).await.unwrap());
    assert!(acme.tenant.cancel_scheduled(id, acme.second, world.now).await.unwrap());
    let left = event(&acme, id).await;
    assert_eq!((left.delivered, left.dead), (vec![acme.first], vec![acme.second]));
    balances(&world).await;
}

#[tokio::test]
async fn an_expunged_event_is_given_up_and_not_replayed() {
    let world = World::new().await;
    let (acme, other) = (world.organization().await, world.organization().await);
    let fresh = world.event(&acme).await;
    assert_eq!(acme.tenant.expunge(fresh, world.now).await.unwrap(), Expunged::NotRouted);
    let id = world.routed(&acme, &[(acme.first, None), (acme.second, Some(true))]).await;
    assert_eq!(other.tenant.expunge(id, world.now).await.unwrap(), Expunged::Missing);
    for _ in 0..2 {
        let later = world.now + TimeDelta::seconds(1);
        assert_eq!(acme.tenant.expunge(id, world.now).await.unwrap(), Expunged::Since(world.now));
        assert_eq!(acme.tenant.expunge(id, later).await.unwrap(), Expunged::Since(world.now));
    }
    let expunged = event(&acme, id).await;
    assert_eq!((expunged.expunged_at, expunged.status), (Some(world.now), EventStatus::Failed));
    assert_eq!((expunged.dead, expunged.delivered), (vec![acme.first], vec![acme.second]));
    assert_eq!(reasons(&world, id).await, ["expunged"]);
    assert!(row(&acme, id, acme.first).await.is_none());
    assert!(matches!(acme.tenant.replay(id, None, world.now).await, Err(ReplayError::Expunged)));
    let system = world.store.system();
    assert!(system.is_expunged(id).await.unwrap() && !system.is_expunged(fresh).await.unwrap());
    assert_eq!(system.expunged_since(world.now - TimeDelta::seconds(1)).await.unwrap(), [id]);
    // What a lane still had is taken for cancelled, and stays given up.
    let cancelled = vec![(id, acme.first)];
    world.record(Record { cancelled, ..Record::default() }).await;
    assert_eq!(event(&acme, id).await.status, EventStatus::Failed);
    balances(&world).await;
}

#[tokio::test]
async fn what_was_delivered_stays_so_when_it_is_expunged() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.routed(&acme, &[(acme.first, Some(true)), (acme.second, Some(true))]).await;
    acme.tenant.expunge(id, world.now).await.unwrap();
    assert_eq!(event(&acme, id).await.status, EventStatus::Success);
    assert!(reasons(&world, id).await.is_empty());
    balances(&world).await;
}

#[tokio::test]
async fn what_was_said_of_a_payload_goes_with_it() {
    let world = World::new().await;
    let acme = world.organization().await;
    let pairs = [(acme.first, Some(true)), (acme.second, Some(true))];
    let (id, other) = (world.routed(&acme, &pairs).await, world.routed(&acme, &pairs).await);
    for (destination, of) in [(acme.first, id), (acme.second, other)] {
        sqlx::query(
            "update destinations set filter_error = jsonb_build_object('event_id', $2::uuid) where id = $1",
        )
        .bind(destination.0)
        .bind(of.0)
        .execute(&world.pool)
        .await
        .unwrap();
    }
    sqlx::query("update deliveries set response_body_snippet = 'ada@example.com', filter_error = 'why'")
        .execute(&world.pool)
        .await
        .unwrap();
    acme.tenant.expunge(id, world.now).await.unwrap();
    for (of, kept) in [(id, false), (other, true)] {
        for delivery in acme.tenant.attempts(of).await.unwrap().unwrap().deliveries {
            let said = (delivery.response_body_snippet.is_some(), delivery.filter_error.is_some());
            assert_eq!(said, (kept, kept));
        }
    }
    let told = "select id from destinations where filter_error is not null";
    let told: Vec<uuid::Uuid> = sqlx::query_scalar(told).fetch_all(&world.pool).await.unwrap();
    assert_eq!(told, [acme.second.0]);
}
