//! Invitations: who may, what is told, who can accept. That they arrive by mail is shown end to end.

use ravenpost_core::access::InvitationToken;
use serde_json::{Value, json};

use crate::support::{Customer, Service};

/// The token of the only invitation of a mail that has not left, as the notifier reads it.
async fn token(service: &Service) -> String {
    let taken = service.store.system().take_invitations(10).await.unwrap();
    assert_eq!(taken.len(), 1);
    taken[0].token.as_ref().unwrap().reveal().to_owned()
}

async fn accept(person: &Customer, token: &str) -> crate::support::Answer {
    person.post("/invitations/accept", json!({ "token": token })).await
}

#[tokio::test]
async fn an_invited_person_becomes_a_member_once() {
    let (service, issuer) = Service::with_logins().await;
    let owner = service.person(&issuer, "owner").await;
    let invited =
        owner.post("/invitations", json!({ "email": "Ada@Example.com", "role": "developer" })).await;
    insta::assert_snapshot!(invited.shown(), @r#"
    201 {
      "created_at": "[time]",
      "email": "Ada@Example.com",
      "expires_at": "[time]",
      "id": "[id]",
      "invited_by": {
        "email": "owner@example.com",
        "id": "[id]",
        "name": "owner"
      },
      "mail": "waiting",
      "mail_error": null,
      "mailed_at": null,
      "role": "developer"
    }
    "#);
    let token = token(&service).await;
    let ada = service.person(&issuer, "ada").await;
    let eve = service.person(&issuer, "eve").await;
    insta::assert_snapshot!(accept(&eve, &token).await.shown(), @r#"
    403 {
      "detail": "the invitation is for another e-mail address than the one you have logged in with",
      "status": 403,
      "title": "The caller may not do this",
      "type": "urn:ravenpost:problem:forbidden"
    }
    "#);
    let mut unverified = issuer.claims("nobody");
    unverified["email"] = json!("ada@example.com");
    unverified["email_verified"] = json!(false);
    let nobody = eve.with_key(Some(&issuer.token_with(&unverified)));
    assert_eq!(accept(&nobody, &token).await.status, 403);

    let accepted = accept(&ada, &token).await;
    insta::assert_snapshot!(accepted.shown(), @r#"
    200 {
      "created_at": "[time]",
      "id": "[id]",
      "name": "owner's organization",
      "role": "developer"
    }
    "#);
    let there = ada.naming(accepted.json()["id"].as_str());
    assert_eq!(there.get("/endpoints").await.status, 200);
    assert_eq!(there.get("/me").await.json()["organizations"].as_array().unwrap().len(), 2);
    for _ in 0..2 {
        assert_eq!(accept(&ada, &token).await.status, 404);
    }
    assert_eq!(owner.get("/invitations").await.json()["data"], json!([]));
    let member = owner.post("/invitations", json!({ "email": "ada@example.com", "role": "viewer" })).await;
    assert_eq!(member.json()["detail"], "somebody with this address is a member already");
    let sealed =
        service.database.number("select count(*) from invitations where sealed_token is not null").await;
    assert_eq!(sealed.unwrap(), 0, "the token of an accepted invitation is forgotten");
}

#[tokio::test]
async fn only_what_is_ones_own_to_give_is_offered() {
    let (service, issuer) = Service::with_logins().await;
    let owner = service.person(&issuer, "owner").await;
    let admin = service.join(&service.person(&issuer, "admin").await, &owner, "admin").await;
    let developer = service.join(&service.person(&issuer, "developer").await, &owner, "developer").await;
    let new = |role: &str| json!({ "email": format!("{role}@new.example"), "role": role });
    assert_eq!(developer.post("/invitations", new("viewer")).await.status, 403);
    assert_eq!(admin.post("/invitations", new("owner")).await.status, 403);
    assert_eq!(admin.post("/invitations", new("admin")).await.status, 201);
    let of_owner = owner.post("/invitations", new("owner")).await.json();
    let path = format!("/invitations/{}", of_owner["id"].as_str().unwrap());
    assert_eq!(admin.delete(&path).await.status, 403);
    assert_eq!(owner.delete(&path).await.status, 204);
    assert_eq!(owner.delete(&path).await.status, 404);
    for (field, value) in [
        ("email", json!("nobody")),
        ("email", json!("a@example.com\r\nBcc: b@example.com")),
        ("role", json!("king")),
        ("expires_in", json!("1m")),
        ("expires_in", json!("31d")),
    ] {
        let mut body = new("viewer");
        body[field] = value;
        let answer = owner.post("/invitations", body).await;
        assert_eq!(answer.status, 422, "{}", answer.shown());
        assert_eq!(answer.json()["errors"][0]["field"], field);
    }
}

#[tokio::test]
async fn an_address_has_one_open_invitation_and_a_day_so_many() {
    let (service, issuer) = Service::with_logins().await;
    let owner = service.person(&issuer, "owner").await;
    let new = json!({ "email": "ada@example.com", "role": "viewer", "expires_in": "1h" });
    let first = owner.post("/invitations", new.clone()).await;
    assert_eq!(first.status, 201);
    let again = owner.post("/invitations", new.clone()).await;
    assert_eq!(again.status, 409);
    let token_of_first = token(&service).await;
    let ada = service.person(&issuer, "ada").await;
    let over = "update invitations set expires_at = now() - interval '1 second'";
    service.database.execute(over).await.unwrap();
    assert_eq!(accept(&ada, &token_of_first).await.status, 404, "it has expired");
    assert_eq!(owner.get("/invitations").await.json()["data"].as_array().unwrap().len(), 1);
    // One that has expired gives way.
    let second = owner.post("/invitations", new).await.json();
    let token = token(&service).await;
    assert_eq!(owner.delete(&format!("/invitations/{}", second["id"].as_str().unwrap())).await.status, 204);
    assert_eq!(accept(&ada, &token).await.status, 404, "it was revoked");
    for none in [InvitationToken::new([7; 32]).reveal(), "rvi_x", ""] {
        assert_eq!(accept(&ada, none).await.status, 404);
    }

    let many = "insert into invitations (organization_id, id, email, role, token_hash, created_at, expires_at, revoked_at, send_at)
        select organization_id, uuidv7(), n || '@example.com', 'viewer', sha256(n::text::bytea), now(), now(), now(), now()
        from (select organization_id from invitations limit 1) i, generate_series(1, 98) n";
    service.database.execute(many).await.unwrap();
    let answer = owner.post("/invitations", json!({ "email": "more@example.com", "role": "viewer" })).await;
    assert_eq!(answer.status, 429, "{}", answer.shown());
    let wait: u32 = answer.header("retry-after").parse().unwrap();
    assert!((86_000..=86_400).contains(&wait), "{wait}");
}

#[tokio::test]
async fn a_program_invites_too_and_nobody_is_shown_the_token() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let invited = customer.post("/invitations", json!({ "email": "ada@example.com", "role": "admin" })).await;
    assert_eq!((invited.status.as_u16(), &invited.json()["invited_by"]), (201, &Value::Null));
    let token = token(&service).await;
    for answer in [invited, customer.get("/invitations").await] {
        assert!(!String::from_utf8_lossy(&answer.bytes).contains(&token[4..]));
    }
    let in_clear = format!("select count(*) from invitations i where i::text like '%{}%'", &token[4..]);
    assert_eq!(service.database.number(in_clear.leak()).await.unwrap(), 0);
}
