//! Whoever listens hears of each change, or that something may have been missed.

use std::time::Duration;

use ravenpost_core::endpoint::EndpointStatus;
use ravenpost_store::system::{Change, Changes};
use ravenpost_store::tenant::EndpointChange;
use tokio::time::timeout;

use crate::support::World;

/// Longer than a change takes, and than a connection takes to be made again.
const BOUND: Duration = Duration::from_secs(30);

async fn next(changes: &mut Changes) -> Change {
    timeout(BOUND, changes.next()).await.unwrap().unwrap()
}

async fn nothing_more(changes: &mut Changes) {
    // Far shorter than the silence after which the connection is tried, which must not be cancelled.
    let heard = timeout(Duration::from_millis(200), changes.next()).await;
    assert!(heard.is_err(), "{heard:?}");
}

#[tokio::test]
async fn changes_are_heard_of() {
    let world = World::new().await;
    let mut changes = world.store.system().configuration_changes();
    assert_eq!(next(&mut changes).await, Change::Everything, "what was before the connection went unheard");
    let organization = world.organization().await;
    let token: String =
        sqlx::query_scalar("select token from endpoints").fetch_one(&world.pool).await.unwrap();
    let this = Change::Endpoint(token.clone());
    assert_eq!(next(&mut changes).await, this, "a new endpoint");

    let (id, tenant) = (organization.endpoint, &organization.tenant);
    let paused = EndpointChange { status: Some(EndpointStatus::Paused), ..EndpointChange::default() };
    tenant.change_endpoint(id, &paused, world.now).await.unwrap();
    assert_eq!(next(&mut changes).await, this, "a change");
    tenant.delete_endpoint(id, None, world.now).await.unwrap();
    assert_eq!(next(&mut changes).await, this, "a deletion");

    let rename = "update organizations set name = 'Other'";
    sqlx::query(rename).execute(&world.pool).await.unwrap();
    nothing_more(&mut changes).await;
    let limit = "update organizations set rate_limit = '{\"per_second\": 1, \"burst\": 1}'";
    sqlx::query(limit).execute(&world.pool).await.unwrap();
    assert_eq!(next(&mut changes).await, Change::Everything);
    sqlx::query("update endpoints set token = token || 'x'").execute(&world.pool).await.unwrap();
    assert_eq!(next(&mut changes).await, Change::Endpoint(format!("{token}x")));
    assert_eq!(next(&mut changes).await, this, "the old token leads nowhere now");
    nothing_more(&mut changes).await;
}

#[tokio::test]
async fn a_lost_connection_is_made_again_and_counts_as_a_change_of_everything() {
    let world = World::new().await;
    let mut changes = world.store.system().configuration_changes();
    assert_eq!(next(&mut changes).await, Change::Everything);
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and query like 'LISTEN%'";
    let cut = sqlx::query(cut).fetch_all(&world.pool).await.unwrap();
    assert_eq!(cut.len(), 1);
    // An error says that nothing is heard at the moment; then it goes on.
    let mut again = timeout(BOUND, changes.next()).await.unwrap();
    if again.is_err() {
        again = timeout(BOUND, changes.next()).await.unwrap();
    }
    assert_eq!(again.unwrap(), Change::Everything);
    world.organization().await;
    assert!(matches!(next(&mut changes).await, Change::Endpoint(_)));
}
