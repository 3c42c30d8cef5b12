//! Members and their roles: who may make what of whom, and that an owner is always left.

use axum::http::Method;
use serde_json::json;

use crate::support::Service;

#[tokio::test]
async fn roles_are_changed_by_those_who_have_them_to_give() {
    let (service, issuer) = Service::with_logins().await;
    let owner = service.person(&issuer, "owner").await;
    let admin = service.join(&service.person(&issuer, "admin").await, &owner, "admin").await;
    let developer = service.join(&service.person(&issuer, "developer").await, &owner, "developer").await;
    let path = async |person: &crate::support::Customer| format!("/members/{}", person.id().await);
    let (of_owner, of_admin, of_developer) = (path(&owner).await, path(&admin).await, path(&developer).await);

    let listed = developer.get("/members").await.json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 3);
    insta::assert_snapshot!(admin.patch(&of_developer, json!({ "role": "viewer" })).await.shown(), @r#"
    200 {
      "created_at": "[time]",
      "role": "viewer",
      "user": {
        "email": "developer@example.com",
        "id": "[id]",
        "name": "developer"
      }
    }
    "#);
    insta::assert_snapshot!(admin.patch(&of_developer, json!({ "role": "owner" })).await.shown(), @r#"
    403 {
      "detail": "only an owner makes owners",
      "status": 403,
      "title": "The caller may not do this",
      "type": "urn:ravenpost:problem:forbidden"
    }
    "#);
    for (method, body) in [(Method::PATCH, Some(r#"{"role": "viewer"}"#.to_owned())), (Method::DELETE, None)]
    {
        let answer = admin.send(method, &of_owner, body).await;
        assert_eq!(answer.status, 403);
        assert_eq!(answer.json()["detail"], "only an owner may do this to an owner");
    }
    assert_eq!(developer.patch(&of_admin, json!({ "role": "viewer" })).await.status, 403);
    assert_eq!(developer.delete(&of_admin).await.status, 403);
    assert_eq!(admin.patch(&of_admin, json!({ "role": "king" })).await.status, 422);
    // A stranger is not told what they could not be made.
    let stranger = format!("/members/{}", service.person(&issuer, "stranger").await.id().await);
    for role in ["viewer", "owner"] {
        assert_eq!(admin.patch(&stranger, json!({ "role": role })).await.status, 404);
    }
    // A key acts for no owner, and gives no more than it carries.
    let keys = json!({ "name": "k", "scopes": ["members:read", "members:write"] });
    let key = owner.post("/api-keys", keys).await.json()["key"].as_str().unwrap().to_owned();
    let program = owner.with_key(Some(&key)).naming(None);
    assert_eq!(program.patch(&of_developer, json!({ "role": "admin" })).await.status, 403);
    assert_eq!(program.delete(&of_owner).await.status, 403);
    assert_eq!(owner.patch(&of_admin, json!({ "role": "owner" })).await.status, 200);
    assert_eq!(admin.patch(&of_owner, json!({ "role": "developer" })).await.status, 200);
    assert_eq!(owner.delete(&of_admin).await.status, 403);
}

#[tokio::test]
async fn who_is_removed_or_has_left_is_out_at_once() {
    let (service, issuer) = Service::with_logins().await;
    let owner = service.person(&issuer, "owner").await;
    let viewer = service.join(&service.person(&issuer, "viewer").await, &owner, "viewer").await;
    let admin = service.join(&service.person(&issuer, "admin").await, &owner, "admin").await;
    assert_eq!(viewer.get("/endpoints").await.status, 200);
    assert_eq!(owner.delete(&format!("/members/{}", viewer.id().await)).await.status, 204);
    assert_eq!(viewer.get("/endpoints").await.status, 403);
    assert_eq!(viewer.get(&format!("/organizations/{}", owner.organization)).await.status, 404);
    assert_eq!(owner.delete(&format!("/members/{}", viewer.id().await)).await.status, 404);

    let leave = format!("/organizations/{}/leave", owner.organization);
    assert_eq!(admin.send(Method::POST, &leave, None).await.status, 204);
    assert_eq!(admin.get("/endpoints").await.status, 403);
    assert_eq!(admin.send(Method::POST, &leave, None).await.status, 404);
    assert_eq!(owner.get("/members").await.json()["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_last_owner_stays_also_when_two_go_at_once() {
    let (service, issuer) = Service::with_logins().await;
    let first = service.person(&issuer, "first").await;
    let leave = format!("/organizations/{}/leave", first.organization);
    let demote = async |person: &crate::support::Customer| {
        let path = format!("/members/{}", person.id().await);
        person.patch(&path, json!({ "role": "viewer" })).await
    };
    insta::assert_snapshot!(first.send(Method::POST, &leave, None).await.shown(), @r#"
    409 {
      "detail": "an organization keeps an owner, and this is the last one: make somebody else an owner first",
      "status": 409,
      "title": "The request conflicts with what exists",
      "type": "urn:ravenpost:problem:conflict"
    }
    "#);
    assert_eq!(demote(&first).await.status, 409);
    assert_eq!(first.delete(&format!("/members/{}", first.id().await)).await.status, 409);

    let first = first.naming(Some(&first.organization.to_string()));
    let second = service.person(&issuer, "second").await;
    for _ in 0..10 {
        let second = service.join(&second, &first, "owner").await;
        service.join(&first, &first, "owner").await;
        let leaving = |person: &crate::support::Customer| {
            let (person, leave) = (person.clone(), leave.clone());
            tokio::spawn(async move { person.send(Method::POST, &leave, None).await.status.as_u16() })
        };
        let (one, other) = (leaving(&first), leaving(&second));
        let mut left = [one.await.unwrap(), other.await.unwrap()];
        left.sort_unstable();
        assert_eq!(left, [204, 409]);
        let owners = format!(
            "select count(*) from memberships where role = 'owner' and organization_id = '{}'",
            first.organization
        );
        assert_eq!(service.database.number(owners.leak()).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn nobody_comes_back_by_an_invitation_of_their_own() {
    let (service, issuer) = Service::with_logins().await;
    let owner = service.person(&issuer, "owner").await;
    let admin = service.join(&service.person(&issuer, "admin").await, &owner, "admin").await;
    let second = service.join(&service.person(&issuer, "second").await, &owner, "owner").await;
    let invite = async |by: &crate::support::Customer, email: &str, role: &str| {
        let invited = by.post("/invitations", json!({ "email": email, "role": role })).await;
        assert_eq!(invited.status, 201, "{}", invited.shown());
    };
    let open = async || {
        let listed = owner.get("/invitations").await.json();
        let emails =
            listed["data"].as_array().unwrap().iter().map(|one| one["email"].as_str().unwrap().to_owned());
        let mut emails: Vec<String> = emails.collect();
        emails.sort();
        emails
    };
    invite(&admin, "twin@example.com", "admin").await;
    invite(&second, "heir@example.com", "owner").await;
    invite(&second, "help@example.com", "viewer").await;
    invite(&owner, "new@example.com", "viewer").await;
    assert_eq!(owner.delete(&format!("/members/{}", admin.id().await)).await.status, 204);
    assert_eq!(open().await, ["heir@example.com", "help@example.com", "new@example.com"]);
    let path = format!("/members/{}", second.id().await);
    assert_eq!(owner.patch(&path, json!({ "role": "admin" })).await.status, 200);
    assert_eq!(open().await, ["help@example.com", "new@example.com"], "an admin makes no owners");
    assert_eq!(owner.patch(&path, json!({ "role": "developer" })).await.status, 200);
    assert_eq!(open().await, ["new@example.com"]);
}
