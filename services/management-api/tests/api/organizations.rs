//! Who one is, and the organizations that one belongs to.

use serde_json::json;

use crate::support::Service;

#[tokio::test]
async fn a_person_sees_themselves_and_what_they_belong_to() {
    let (service, issuer) = Service::with_logins().await;
    let ada = service.person(&issuer, "ada").await;
    insta::assert_snapshot!(ada.get("/me").await.shown(), @r#"
    200 {
      "email": "ada@example.com",
      "id": "[id]",
      "name": "ada",
      "organizations": [
        {
          "id": "[id]",
          "name": "ada's organization",
          "role": "owner",
          "scopes": [
            "organization:read",
            "organization:write",
            "members:read",
            "members:write",
            "api-keys:read",
            "api-keys:write",
            "endpoints:read",
            "endpoints:write",
            "events:read",
            "events:replay",
            "alerts:read",
            "alerts:write",
            "audit:read"
          ]
        }
      ],
      "type": "user"
    }
    "#);
    let customer = service.customer().await;
    let program = customer.get("/me").await.json();
    assert_eq!((program["type"].as_str(), program["email"].as_str()), (Some("api_key"), None));
    let organizations = &program["organizations"];
    assert_eq!(organizations[0]["id"], customer.organization.to_string());
    assert_eq!((organizations[0]["role"].as_str(), organizations[0]["name"].as_str()), (None, Some("Acme")));
}

#[tokio::test]
async fn one_organization_is_meant_by_itself_and_of_several_one_is_named() {
    let (service, issuer) = Service::with_logins().await;
    let ada = service.person(&issuer, "ada").await;
    assert_eq!(ada.get("/endpoints").await.status, 200);
    let created = ada.post("/organizations", json!({ "name": "Analytical <Engines> ✓" })).await;
    // Everything that the document test has sent as well is refused.
    insta::assert_snapshot!(created.shown(), @r#"
    201 {
      "created_at": "[time]",
      "id": "[id]",
      "name": "Analytical <Engines> ✓",
      "role": "owner"
    }
    "#);
    let second = created.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(created.header("location"), format!("/api/v1/organizations/{second}"));

    insta::assert_snapshot!(ada.get("/endpoints").await.shown(), @r#"
    400 {
      "detail": "you are a member of 2 organizations: name the one you mean in Ravenpost-Organization",
      "status": 400,
      "title": "Which organization is meant",
      "type": "urn:ravenpost:problem:organization-required"
    }
    "#);
    for named in [&second, &ada.organization.to_string()] {
        assert_eq!(ada.naming(Some(named)).get("/endpoints").await.status, 200);
        // Somebody hears of its alerts from the beginning.
        let channels = ada.naming(Some(named)).get("/channels").await.json();
        let channel = &channels["data"][0];
        assert_eq!((&channel["type"], &channel["address"]), (&json!("email"), &json!("ada@example.com")));
    }
    let endpoint = ada.naming(Some(&second)).endpoint().await;
    let path = format!("/endpoints/{}", endpoint.id);
    assert_eq!(ada.naming(Some(&second)).get(&path).await.status, 200);
    assert_eq!(ada.naming(Some(&ada.organization.to_string())).get(&path).await.status, 404);

    insta::assert_snapshot!(ada.naming(Some("acme")).get("/endpoints").await.shown(), @r#"
    400 {
      "detail": "Ravenpost-Organization: it is not a valid UUID",
      "errors": [
        {
          "detail": "it is not a valid UUID",
          "field": "Ravenpost-Organization"
        }
      ],
      "status": 400,
      "title": "A parameter is invalid",
      "type": "urn:ravenpost:problem:invalid-parameter"
    }
    "#);
    // Another's, and one that is nobody's, are the same.
    let stranger = service.customer().await;
    let somebodys = ada.naming(Some(&stranger.organization.to_string())).get("/endpoints").await;
    let nobodys = ada.naming(Some("01890000-0000-7000-8000-000000000000")).get("/endpoints").await;
    assert_eq!((somebodys.status.as_u16(), somebodys.shown()), (403, nobodys.shown()));
    // A key is of its own organization alone.
    let own = stranger.organization.to_string();
    assert_eq!(stranger.naming(Some(&own)).get("/endpoints").await.status, 200);
    assert_eq!(stranger.naming(Some(&second)).get("/endpoints").await.status, 403);
}

#[tokio::test]
async fn an_organization_is_seen_and_renamed_by_its_path() {
    let (service, issuer) = Service::with_logins().await;
    let ada = service.person(&issuer, "ada").await;
    let path = format!("/organizations/{}", ada.organization);
    // Whatever the header says: the path does.
    let elsewhere = ada.naming(Some("01890000-0000-7000-8000-000000000000"));
    assert_eq!(elsewhere.get(&path).await.json()["name"], "ada's organization");
    assert_eq!(ada.patch(&path, json!({ "name": "Engines" })).await.json()["name"], "Engines");
    assert_eq!(ada.patch(&path, json!({})).await.json()["name"], "Engines");
    assert_eq!(ada.patch(&path, json!({ "name": " " })).await.status, 422);
    assert_eq!(ada.post("/organizations", json!({ "name": "" })).await.status, 422);
    assert_eq!(ada.get("/organizations").await.json()["data"][0]["name"], "Engines");
    for id in ["01890000-0000-7000-8000-000000000000", &service.customer().await.organization.to_string()] {
        let path = format!("/organizations/{id}");
        assert_eq!(ada.get(&path).await.status, 404);
        assert_eq!(ada.patch(&path, json!({ "name": "x" })).await.status, 404);
        assert_eq!(ada.send(axum::http::Method::POST, &format!("{path}/leave"), None).await.status, 404);
    }
    assert_eq!(ada.get("/organizations/acme").await.status, 400);

    let key = service.customer().await;
    let path = format!("/organizations/{}", key.organization);
    assert_eq!(key.patch(&path, json!({ "name": "Renamed" })).await.status, 200);
    assert_eq!(key.get("/organizations").await.json()["data"][0]["name"], "Renamed");
    assert_eq!(key.post("/organizations", json!({ "name": "Another" })).await.status, 403);
}

#[tokio::test]
async fn a_person_has_only_so_many_organizations() {
    let (service, issuer) = Service::with_logins().await;
    let ada = service.person(&issuer, "ada").await;
    let id = ada.id().await;
    let statement = format!(
        "with made as (insert into organizations (id, name) select uuidv7(), 'n' from generate_series(1, 49) returning id)
         insert into memberships (organization_id, user_id, role, created_at, updated_at)
         select id, '{id}', 'viewer', now(), now() from made"
    );
    service.database.execute(&statement).await.unwrap();
    let answer = ada.post("/organizations", json!({ "name": "One more" })).await;
    assert_eq!(answer.status, 409, "{}", answer.shown());
    assert!(answer.json()["detail"].as_str().unwrap().contains("50 organizations"));
}
