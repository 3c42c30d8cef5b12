//! Rejected requests: kept in batches, removed beyond their caps, and accepted each once (PROTOCOLS I10).

use chrono::{DurationRound, TimeDelta};
use ravenpost_core::deduplication::DeduplicationKey;
use ravenpost_core::event::EventStatus;
use ravenpost_core::ids::{InstanceId, RejectedRequestId};
use ravenpost_store::system::{Deduplication, NewEvent, RejectedCaps, RejectedCount};
use ravenpost_store::tenant::{Acceptance, Accepted, CountOfHour, Page, RejectedFilter};
use uuid::Uuid;

use crate::support::{Organization, World, random};

const NO_CAPS: RejectedCaps = RejectedCaps { count: i64::MAX, bytes: i64::MAX, age: TimeDelta::days(7) };

/// A rejected request on its way to become an event of its own id.
pub(crate) fn acceptance(
    world: &World,
    organization: &Organization,
    request: RejectedRequestId,
) -> Acceptance {
    Acceptance { request, event: NewEvent { body_sha256: [7; 32], ..world.new_event(organization) } }
}

fn instance(world: &World) -> InstanceId {
    InstanceId::new(world.now, random())
}

/// How many events and instances there are.
async fn made(world: &World) -> (i64, i64) {
    sqlx::query_as("select (select count(*) from events), (select count(*) from ingress_instances)")
        .fetch_one(&world.pool)
        .await
        .unwrap()
}

/// As if the rows were written so long ago.
async fn age(world: &World, minutes: i32) {
    sqlx::query("update rejected_requests set created_at = created_at - make_interval(mins => $1)")
        .bind(minutes)
        .execute(&world.pool)
        .await
        .unwrap();
}

async fn removable(world: &World, caps: RejectedCaps) -> Vec<RejectedRequestId> {
    let active_since = world.now - TimeDelta::hours(2);
    world.store.system().removable_rejected(&caps, active_since, world.now, 1_000).await.unwrap()
}

#[tokio::test]
async fn a_batch_reads_back_and_its_counts_add_up() {
    let world = World::new().await;
    let acme = world.organization().await;
    let ids = world.rejected(&acme, 3).await;
    let mut odd = World::new_rejected(&acme, world.now);
    odd.detail = "a\0b".to_owned();
    odd.reason = "stale";
    let hour = (world.now - TimeDelta::hours(5)).duration_trunc(TimeDelta::hours(1)).unwrap();
    let count = |at, kept, not_kept| RejectedCount {
        organization_id: acme.id,
        endpoint_id: acme.endpoint,
        at,
        kept,
        not_kept,
    };
    let system = world.store.system();
    system.keep_rejected(std::slice::from_ref(&odd), &[count(hour, 1, 40)]).await.unwrap();
    system.keep_rejected(&[], &[count(hour + TimeDelta::minutes(59), -1, 2)]).await.unwrap();

    let page = Page { after: None, limit: 250 };
    let all = acme.tenant.rejected_requests(&RejectedFilter::default(), page).await.unwrap().rows;
    assert_eq!(all.len(), 4);
    let stale = RejectedFilter { endpoint: Some(acme.endpoint), reason: Some("stale") };
    let stale = acme.tenant.rejected_requests(&stale, page).await.unwrap().rows;
    assert_eq!((stale.len(), stale[0].detail.as_str()), (1, "a\u{fffd}b"));

    let read = acme.tenant.rejected_request(ids[0]).await.unwrap().unwrap();
    assert_eq!(read.head, odd.head);
    assert_eq!((read.request.body.s3_length, read.request.peer), (100, odd.peer));
    assert_eq!(read.request.body.s3_key, format!("rejected/{}", ids[0]));
    let head: Vec<u8> = sqlx::query_scalar("select head from rejected_requests where id = $1")
        .bind(ids[0].0)
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert!(!head.windows(4).any(|part| part == b"hush"), "a head is sealed");

    let counts = acme.tenant.rejected_counts(acme.endpoint).await.unwrap();
    assert_eq!(counts.len(), 2);
    assert_eq!(counts[0].kept, 3);
    assert_eq!(counts[1], CountOfHour { hour, kept: 0, not_kept: 42 });
    system.remove_rejected_counts(world.now - TimeDelta::hours(4)).await.unwrap();
    assert_eq!(acme.tenant.rejected_counts(acme.endpoint).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_oldest_beyond_a_cap_go_and_other_endpoints_lose_nothing() {
    let world = World::new().await;
    let (acme, other) = (world.organization().await, world.organization().await);
    let ids = world.rejected(&acme, 10).await;
    world.rejected(&other, 2).await;
    let three = RejectedCaps { count: 3, ..NO_CAPS };
    assert!(removable(&world, three).await.is_empty(), "their bodies may be on their way");
    age(&world, 2).await;
    assert!(removable(&world, NO_CAPS).await.is_empty());
    assert_eq!(removable(&world, three).await, ids[..7]);
    // Bodies are of 100 bytes, and sealed heads of less.
    let bytes = RejectedCaps { bytes: 550, ..NO_CAPS };
    let beyond = removable(&world, bytes).await;
    assert!((5..10).contains(&beyond.len()) && beyond == ids[..beyond.len()], "{beyond:?}");

    world.store.system().remove_rejected(&ids[..7]).await.unwrap();
    assert!(removable(&world, three).await.is_empty());
    // An endpoint of which nothing was kept lately is not looked at.
    let later = world.store.system();
    let two = RejectedCaps { count: 2, ..NO_CAPS };
    let idle =
        later.removable_rejected(&two, world.now + TimeDelta::hours(2), world.now, 1_000).await.unwrap();
    assert!(idle.is_empty());
    assert_eq!(removable(&world, two).await, ids[7..8]);
}

#[tokio::test]
async fn what_is_old_or_deleted_or_without_a_body_goes() {
    let world = World::new().await;
    let acme = world.organization().await;
    let ids = world.rejected(&acme, 4).await;
    assert!(acme.tenant.delete_rejected_request(ids[1], world.now).await.unwrap());
    assert!(!acme.tenant.delete_rejected_request(ids[1], world.now).await.unwrap());
    world.store.system().disown_rejected(&[ids[2]], world.now).await.unwrap();
    for gone in [ids[1], ids[2]] {
        assert!(acme.tenant.rejected_request(gone).await.unwrap().is_none());
    }
    assert!(removable(&world, NO_CAPS).await.is_empty(), "not yet");
    age(&world, 2).await;
    assert_eq!(removable(&world, NO_CAPS).await, ids[1..3]);
    // Their ids tell how old they are.
    let (system, later) = (world.store.system(), world.now + TimeDelta::days(8));
    assert_eq!(system.removable_rejected(&NO_CAPS, later, later, 1_000).await.unwrap(), ids);
    assert_eq!(system.removable_rejected(&NO_CAPS, later, later, 3).await.unwrap(), ids[..3]);
}

#[tokio::test]
async fn accepting_makes_pending_events_under_an_instance_that_is_born_dead() {
    let world = World::new().await;
    let acme = world.organization().await;
    let ids = world.rejected(&acme, 2).await;
    let acceptances: Vec<_> = ids.iter().map(|id| acceptance(&world, &acme, *id)).collect();
    let instance = instance(&world);
    let accepted = acme.tenant.accept_rejected(&acceptances, instance, world.now).await.unwrap();
    let expected: Vec<_> =
        acceptances.iter().map(|new| Accepted { request: new.request, event: new.event.id }).collect();
    assert_eq!(accepted, expected);

    for new in &acceptances {
        let event = acme.tenant.event(new.event.id).await.unwrap().unwrap();
        assert_eq!((event.status, event.pending), (EventStatus::Pending, None));
        assert_eq!((event.received_at, event.payload), (world.now, new.event.payload.clone()));
        assert_eq!(
            acme.tenant.event_headers(new.event.id).await.unwrap()["content-type"],
            "application/json"
        );
        let request = acme.tenant.rejected_request(new.request).await.unwrap().unwrap().request;
        assert_eq!((request.event_id, request.accepted_at), (Some(new.event.id), Some(world.now)));
    }
    let adoptable: Vec<(Uuid, i64)> = sqlx::query_as(
        "select i.id, (select count(*) from events e where e.instance_id = i.id) from ingress_instances i
         where not exists (select from events e where e.instance_id = i.id and e.id <= i.published_through)
         and not exists (select from ingress_lanes l where l.instance_id = i.id)",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    assert_eq!(adoptable, [(instance.0, 2)]);
    assert!(acme.tenant.unaccepted_requests(acme.endpoint, None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_request_is_accepted_once_however_many_try_at_the_same_time() {
    let world = World::new().await;
    let acme = world.organization().await;
    let id = world.rejected(&acme, 1).await[0];
    let tries = (0..8).map(|_| {
        let (tenant, new) = (acme.tenant.clone(), acceptance(&world, &acme, id));
        let (instance, now) = (instance(&world), world.now);
        tokio::spawn(async move { tenant.accept_rejected(&[new], instance, now).await.unwrap() })
    });
    let mut answers = Vec::new();
    for attempt in tries.collect::<Vec<_>>() {
        answers.extend(attempt.await.unwrap());
    }
    assert_eq!(answers.len(), 8);
    assert!(answers.iter().all(|answer| answer == &answers[0]), "{answers:?}");
    assert_eq!(made(&world).await, (1, 1));
}

#[tokio::test]
async fn what_is_gone_is_not_accepted_and_its_neighbours_are() {
    let world = World::new().await;
    let acme = world.organization().await;
    let ids = world.rejected(&acme, 3).await;
    acme.tenant.delete_rejected_request(ids[1], world.now).await.unwrap();
    let before = acceptance(&world, &acme, ids[0]);
    acme.tenant.accept_rejected(std::slice::from_ref(&before), instance(&world), world.now).await.unwrap();
    let again: Vec<_> = ids.iter().map(|id| acceptance(&world, &acme, *id)).collect();
    let mut accepted = acme.tenant.accept_rejected(&again, instance(&world), world.now).await.unwrap();
    accepted.sort_by_key(|accepted| accepted.request);
    let expected = [
        Accepted { request: ids[0], event: before.event.id },
        Accepted { request: ids[2], event: again[2].event.id },
    ];
    assert_eq!(accepted, expected);
}

#[tokio::test]
async fn unaccepted_requests_come_oldest_first_after_a_cursor() {
    let world = World::new().await;
    let acme = world.organization().await;
    let ids = world.rejected(&acme, 5).await;
    let found = async |after, limit| {
        let found = acme.tenant.unaccepted_requests(acme.endpoint, after, limit).await.unwrap();
        found.iter().map(|found| found.request.id).collect::<Vec<_>>()
    };
    assert_eq!(found(None, 2).await, ids[..2]);
    assert_eq!(found(Some(ids[1].0), 10).await, ids[2..]);
}

#[tokio::test]
async fn what_a_producer_sent_again_and_again_is_one_event() {
    let world = World::new().await;
    let acme = world.organization().await;
    let expires_at = world.now + TimeDelta::hours(1);
    let key =
        |same_body| Some(Deduplication { key: DeduplicationKey { hash: [9; 16], same_body }, expires_at });
    let mut acceptances = Vec::new();
    for request in world.rejected(&acme, 4).await {
        let mut new = acceptance(&world, &acme, request);
        new.event.deduplication = key(false);
        acceptances.push(new);
    }
    // The same Idempotency-Key with another body: a person says that it counts.
    acceptances[3].event.deduplication = key(true);
    acceptances[3].event.body_sha256 = [8; 32];
    let accepted = acme.tenant.accept_rejected(&acceptances, instance(&world), world.now).await.unwrap();
    assert_eq!(accepted.len(), 4);
    let events: std::collections::HashSet<_> = accepted.iter().map(|accepted| accepted.event).collect();
    assert_eq!(events.len(), 2, "{accepted:?}");
    for event in &events {
        assert!(acme.tenant.event(*event).await.unwrap().is_some());
    }
    let stored: i64 = sqlx::query_scalar(
        "select count(*) from events where instance_id <> all
        (select instance_id from ingress_lanes)",
    )
    .fetch_one(&world.pool)
    .await
    .unwrap();
    assert_eq!(stored, 2);
}

#[tokio::test]
async fn what_repeats_events_of_before_makes_neither_events_nor_an_instance() {
    let world = World::new().await;
    let acme = world.organization().await;
    let requests = world.rejected(&acme, 2).await;
    let repeat = |request| {
        let mut new = acceptance(&world, &acme, request);
        let key = DeduplicationKey { hash: [3; 16], same_body: true };
        new.event.deduplication = Some(Deduplication { key, expires_at: world.now + TimeDelta::hours(1) });
        new
    };
    let first = repeat(requests[0]);
    acme.tenant.accept_rejected(std::slice::from_ref(&first), instance(&world), world.now).await.unwrap();
    let second = repeat(requests[1]);
    let accepted = acme.tenant.accept_rejected(&[second], instance(&world), world.now).await.unwrap();
    assert_eq!(accepted, [Accepted { request: requests[1], event: first.event.id }]);
    assert_eq!(made(&world).await, (1, 1));
}
