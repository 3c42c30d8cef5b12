//! Who remembers routes hears of each change once, whatever order transactions begin and commit in.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use ravenpost_core::destination::Signing;
use ravenpost_core::endpoint::EndpointStatus;
use ravenpost_core::ids::{DestinationId, EndpointId};
use ravenpost_store::system::{Route, RouteMark};
use ravenpost_store::tenant::{DestinationChange, EndpointChange};
use sqlx::Executor;

use crate::sending::{first_key, rotate, rotate_key};
use crate::support::{Organization, World};

/// A worker that has heard of everything so far.
async fn follower(world: &World) -> RouteMark {
    let mut mark = RouteMark::default();
    assert!(
        world.store.system().route_changes(&mut mark).await.unwrap().everything,
        "nothing was heard before"
    );
    mark
}

/// The endpoints that it hears of next, each once; `None` for everything.
async fn heard(world: &World, mark: &mut RouteMark) -> Option<Vec<EndpointId>> {
    let mut news = world.store.system().route_changes(mark).await.unwrap();
    news.endpoints.sort();
    news.endpoints.dedup();
    (!news.everything).then_some(news.endpoints)
}

async fn pause(world: &World, organization: &Organization) {
    let paused = EndpointChange { status: Some(EndpointStatus::Paused), ..EndpointChange::default() };
    organization.tenant.change_endpoint(organization.endpoint, &paused, world.now).await.unwrap();
}

#[tokio::test]
async fn each_change_is_told_of_once() {
    let world = World::new().await;
    let mut mark = follower(&world).await;
    let (acme, other) = (world.organization().await, world.organization().await);
    let mut made = vec![acme.endpoint, other.endpoint];
    made.sort();
    assert_eq!(heard(&world, &mut mark).await, Some(made));
    assert_eq!(heard(&world, &mut mark).await, Some(vec![]));

    pause(&world, &acme).await;
    assert_eq!(heard(&world, &mut mark).await, Some(vec![acme.endpoint]), "an endpoint was paused");
    rotate(&world, &other, world.now, 3_600).await;
    assert_eq!(heard(&world, &mut mark).await, Some(vec![other.endpoint]), "a secret was rotated");
    acme.tenant.delete_destination(acme.endpoint, acme.first, None, world.now).await.unwrap();
    assert_eq!(heard(&world, &mut mark).await, Some(vec![acme.endpoint]), "a destination was deleted");
    world.pool.execute("insert into route_changes (endpoint_id) values (null)").await.unwrap();
    assert_eq!(heard(&world, &mut mark).await, None, "what names no endpoint concerns all");
    // What has nothing to do with routes.
    first_key(&world, &acme).await;
    world.pool.execute("update endpoints set token = token || 'x', updated_at = now()").await.unwrap();
    assert_eq!(heard(&world, &mut mark).await, Some(vec![]));
}

/// Who migrates is no superuser: what is told of keys is what its own policies let it see of destinations.
#[tokio::test]
async fn keys_concern_the_endpoints_that_are_signed_for_with_them() {
    let world = World::without_superusers().await;
    let (acme, other) = (world.organization().await, world.organization().await);
    let by_key = DestinationChange { signing: Some(Signing::Both), ..DestinationChange::default() };
    acme.tenant.change_destination(acme.endpoint, acme.first, &by_key, world.now).await.unwrap();
    let mut mark = follower(&world).await;
    first_key(&world, &acme).await;
    assert_eq!(heard(&world, &mut mark).await, Some(vec![acme.endpoint]), "the first key");
    first_key(&world, &other).await;
    rotate_key(&world, &other, 0, 60).await;
    assert_eq!(heard(&world, &mut mark).await, Some(vec![]), "nobody is signed for with it");
    rotate_key(&world, &acme, 0, 60).await;
    assert_eq!(heard(&world, &mut mark).await, Some(vec![acme.endpoint]), "another key");

    acme.tenant.delete_destination(acme.endpoint, acme.first, None, world.now).await.unwrap();
    assert_eq!(heard(&world, &mut mark).await, Some(vec![acme.endpoint]));
    rotate_key(&world, &acme, 0, 60).await;
    assert_eq!(heard(&world, &mut mark).await, Some(vec![]), "nobody is signed for with it any more");
}

/// Their rows stay for ever: neither how many there were nor how many are made and deleted in a day makes a route long.
#[tokio::test]
async fn a_route_has_few_of_the_destinations_that_were_deleted() {
    let world = World::new().await;
    let acme = world.organization().await;
    let route = async || world.store.system().route(acme.endpoint).await.unwrap().unwrap();
    acme.tenant.delete_destination(acme.endpoint, acme.second, None, world.now).await.unwrap();
    assert!(route().await.destination(acme.second).unwrap().deleted);
    let long_ago =
        "update destinations set deleted_at = now() - interval '25 hours' where deleted_at is not null";
    world.pool.execute(long_ago).await.unwrap();
    let ids = |route: Route| route.destinations.iter().map(|destination| destination.id).collect::<Vec<_>>();
    assert_eq!(ids(route().await), [acme.first]);

    let many = "insert into destinations (organization_id, id, endpoint_id, name, url, signing_secret, retry_policy,
            timeout_ms, slot, deleted_at)
        select organization_id, uuidv7(), endpoint_id, name, url, signing_secret, retry_policy, timeout_ms, slot,
            now() - n * interval '1 minute'
        from destinations, generate_series(1, 300) n where deleted_at is null";
    world.pool.execute(many).await.unwrap();
    let ids = ids(route().await);
    assert_eq!((ids.len(), ids.contains(&acme.first)), (101, true));
    let oldest =
        "select extract(epoch from now() - min(deleted_at))::float8 from destinations where id = any ($1)";
    let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
    let oldest: f64 = sqlx::query_scalar(oldest).bind(ids).fetch_one(&world.pool).await.unwrap();
    assert!((6_000.0..9_000.0).contains(&oldest), "the last hundred: {oldest}");
}

#[tokio::test]
async fn a_change_that_began_first_and_committed_last_is_not_missed() {
    let world = World::new().await;
    let (acme, other) = (world.organization().await, world.organization().await);
    let mut mark = follower(&world).await;
    let mut slow = world.pool.begin().await.unwrap();
    let rename = sqlx::query("update destinations set url = url || '/new' where id = $1").bind(acme.first.0);
    rename.execute(&mut *slow).await.unwrap();
    for _ in 0..2 {
        pause(&world, &other).await;
        world.pool.execute("update endpoints set status = 'active'").await.unwrap();
        assert_eq!(heard(&world, &mut mark).await, Some(vec![other.endpoint]));
        assert_eq!(heard(&world, &mut mark).await, Some(vec![]), "told once, though an older one still runs");
    }
    slow.commit().await.unwrap();
    assert_eq!(heard(&world, &mut mark).await, Some(vec![acme.endpoint]));
    assert_eq!(heard(&world, &mut mark).await, Some(vec![]));
}

#[tokio::test]
async fn what_is_rolled_back_is_not_told() {
    let world = World::new().await;
    world.organization().await;
    let mut mark = follower(&world).await;
    let mut undone = world.pool.begin().await.unwrap();
    undone.execute("update destinations set url = url || '/new'").await.unwrap();
    undone.rollback().await.unwrap();
    assert_eq!(heard(&world, &mut mark).await, Some(vec![]));
}

/// Those that are made later get nothing of what was accepted before, however late it is routed (PROTOCOLS W5); clocks may
/// differ by five seconds.
#[tokio::test]
async fn an_event_is_for_the_destinations_that_existed_when_it_was_accepted() {
    let mut world = World::new().await;
    let acme = world.organization().await;
    let accepted_at = world.now;
    world.now += TimeDelta::seconds(10);
    let later = world.destination(&acme.tenant, acme.endpoint).await;
    let route = world.store.system().route(acme.endpoint).await.unwrap().unwrap();
    let wanted = |after: i64| -> BTreeSet<DestinationId> {
        let at = accepted_at + TimeDelta::seconds(after);
        route.wanted_by(at).map(|destination| destination.id).collect()
    };
    let (both, all) = ([acme.first, acme.second].into(), [acme.first, acme.second, later].into());
    assert_eq!((wanted(-6), wanted(-5)), (BTreeSet::new(), both));
    assert_eq!((wanted(4).len(), wanted(5)), (2, all));
}
