//! What is taken away is gone everywhere within a second: at replicas that remember it, also when the connection over
//! which they hear of it is lost.

use std::time::{Duration, Instant};

use ravenpost_testkit::wait;
use serde_json::json;

use crate::support::{Customer, Service};

const PROMISED: Duration = Duration::from_secs(1);
/// Longer than anything takes here.
const BOUND: Duration = Duration::from_secs(30);

/// Waits until a caller gets that status, and answers how long that took.
async fn until(caller: &Customer, path: &str, status: u16) -> Duration {
    let started = Instant::now();
    wait::until_true("what was taken away to be gone", BOUND, || async {
        Ok(caller.get(path).await.status == status)
    })
    .await
    .unwrap();
    started.elapsed()
}

#[tokio::test]
async fn a_revoked_key_is_refused_by_every_replica_within_a_second() {
    let (service, issuer) = Service::with_logins().await;
    let owner = service.person(&issuer, "owner").await;
    let other = service.replica(&issuer);
    for _ in 0..3 {
        let new = json!({ "name": "k", "scopes": ["events:read"] });
        let key = owner.post("/api-keys", new).await.json();
        let program = owner.with_key(key["key"].as_str());
        let elsewhere = program.through(other.clone());
        until(&elsewhere, "/events", 200).await;
        assert_eq!(program.get("/events").await.status, 200);
        assert_eq!(owner.delete(&format!("/api-keys/{}", key["id"].as_str().unwrap())).await.status, 204);
        let took = until(&elsewhere, "/events", 401).await.max(until(&program, "/events", 401).await);
        assert!(took < PROMISED, "{took:?}");
        assert_eq!(program.get("/events").await.json()["detail"], "the API key was revoked");
    }
}

#[tokio::test]
async fn a_changed_role_counts_at_every_replica_within_a_second() {
    let (service, issuer) = Service::with_logins().await;
    let owner = service.person(&issuer, "owner").await;
    let member = service.join(&service.person(&issuer, "member").await, &owner, "developer").await;
    let elsewhere = member.through(service.replica(&issuer));
    let path = format!("/members/{}", member.id().await);
    let may = async |status: u16| {
        let started = Instant::now();
        wait::until_true("the role to count", BOUND, || async {
            // Refused for its body, or before that for the role.
            Ok(elsewhere.post("/channels", json!({ "type": "email", "address": "x" })).await.status == status)
        })
        .await
        .unwrap();
        started.elapsed()
    };
    may(422).await;
    for (role, status) in [("viewer", 403), ("developer", 422), ("viewer", 403)] {
        assert_eq!(owner.patch(&path, json!({ "role": role })).await.status, 200);
        let took = may(status).await;
        assert!(took < PROMISED, "{role}: {took:?}");
    }
    assert_eq!(owner.delete(&path).await.status, 204);
    let took = until(&elsewhere, "/events", 403).await;
    assert!(took < PROMISED, "{took:?}");
}

#[tokio::test]
async fn when_the_listening_connection_is_lost_nothing_remembered_is_believed() {
    let (service, issuer) = Service::with_logins().await;
    let owner = service.person(&issuer, "owner").await;
    for n in 0..3 {
        let new = json!({ "name": "k", "scopes": ["events:read"] });
        let key = owner.post("/api-keys", new).await.json();
        let program = owner.with_key(key["key"].as_str());
        until(&program, "/events", 200).await;
        // Revoked so that nobody is told, as if it had been while nobody could listen. The cut tells them that they
        // may have missed something.
        let unheard = format!(
            "alter table api_keys disable trigger user;
             update api_keys set revoked_at = now() where id = '{}';
             alter table api_keys enable trigger user",
            key["id"].as_str().unwrap()
        );
        service.database.execute(&unheard).await.unwrap();
        let cut = "select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid()";
        service.database.execute(cut).await.unwrap();
        let took = until(&program, "/events", 401).await;
        assert!(took < PROMISED, "{n}: {took:?}");
    }
}

#[tokio::test]
async fn a_repeat_shows_nothing_to_who_may_not_ask_any_more() {
    let (service, issuer) = Service::with_logins().await;
    let owner = service.person(&issuer, "owner").await;
    let member = service.join(&service.person(&issuer, "member").await, &owner, "admin").await;
    let body = json!({ "name": "k", "scopes": ["events:read"] }).to_string();
    let ask = async || {
        let keyed = [("idempotency-key", "once")];
        member.ask_with(axum::http::Method::POST, "/api/v1/api-keys", &keyed, Some(body.clone())).await.status
    };
    assert_eq!((ask().await.as_u16(), ask().await.as_u16()), (201, 201));
    let path = format!("/members/{}", member.id().await);
    assert_eq!(owner.patch(&path, json!({ "role": "viewer" })).await.status, 200);
    assert_eq!(ask().await, 403);
    assert_eq!(owner.patch(&path, json!({ "role": "admin" })).await.status, 200);
    assert_eq!(ask().await, 201, "and it was kept");
}
