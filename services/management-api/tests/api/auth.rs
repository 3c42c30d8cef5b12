//! Who may: every operation of the document wants its scope, and nothing else gets in.

use axum::http::Method;
use ravenpost_core::access::{Demand, OPERATIONS, Scope, demand_of};

use crate::support::Service;

#[tokio::test]
async fn no_key_or_one_that_is_none_is_refused() {
    let service = Service::new().await;
    let customer = service.customer().await;
    let nobody = customer.with_key(None).get("/endpoints").await;
    assert_eq!(nobody.header("www-authenticate"), "Bearer");
    insta::assert_snapshot!(nobody.shown(), @r#"
    401 {
      "detail": "the request carries no API key: send Authorization: Bearer rvp_…",
      "status": 401,
      "title": "The API key is not valid",
      "type": "urn:ravenpost:problem:api-key-invalid"
    }
    "#);
    insta::assert_snapshot!(customer.with_key(Some("rvp_x")).get("/endpoints").await.shown(), @r#"
    401 {
      "detail": "the Authorization header is not of the form Bearer rvp_…",
      "status": 401,
      "title": "The API key is not valid",
      "type": "urn:ravenpost:problem:api-key-invalid"
    }
    "#);

    let key = customer.key.clone().unwrap();
    let (start, last) = key.split_at(key.len() - 1);
    let wrong = format!("{start}{}", if last == "0" { "1" } else { "0" });
    insta::assert_snapshot!(customer.with_key(Some(&wrong)).get("/endpoints").await.shown(), @r#"
    401 {
      "detail": "the API key is not known",
      "status": 401,
      "title": "The API key is not valid",
      "type": "urn:ravenpost:problem:api-key-invalid"
    }
    "#);
    assert_eq!(customer.get("/endpoints").await.status, 200);
}

#[tokio::test]
async fn an_expired_key_is_refused() {
    let service = Service::new().await;
    let customer = service.customer().await;
    service.database.execute("update api_keys set expires_at = now() - interval '1 second'").await.unwrap();
    insta::assert_snapshot!(customer.get("/endpoints").await.shown(), @r#"
    401 {
      "detail": "the API key has expired",
      "status": 401,
      "title": "The API key is not valid",
      "type": "urn:ravenpost:problem:api-key-invalid"
    }
    "#);
}

/// Every operation of the document, with ids that nobody has in its path, and what it demands.
async fn operations(service: &Service) -> Vec<(Method, String, Demand)> {
    let document = service.customer().await.with_key(None).get("/openapi.json").await;
    assert_eq!((document.status.as_u16(), document.header("content-type")), (200, "application/json"));
    let document = document.json();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let path = path.strip_prefix("/api/v1").unwrap().replace(['{', '}'], "");
            let segments = path.split('/').map(|segment| {
                if segment.ends_with("_id") { "01890000-0000-7000-8000-000000000000" } else { segment }
            });
            let path = segments.collect::<Vec<_>>().join("/");
            let demand = demand_of(operation["operationId"].as_str().unwrap()).unwrap();
            operations.push((method.to_uppercase().parse().unwrap(), path, demand));
        }
    }
    assert_eq!(operations.len(), OPERATIONS.len());
    operations
}

#[tokio::test]
async fn every_operation_wants_a_caller_and_the_scope_of_the_table() {
    let service = Service::new().await;
    let operations = operations(&service).await;
    let nobody = service.customer().await.with_key(None);
    for (method, path, _) in &operations {
        assert_eq!(nobody.send(method.clone(), path, None).await.status, 401, "{method} {path}");
    }
    for scope in Scope::ALL {
        let customer = service.customer().await;
        let statement = format!(
            "update api_keys set scopes = array['{}'] where organization_id = '{}'",
            scope.as_str(),
            customer.organization
        );
        service.database.execute(&statement).await.unwrap();
        for (method, path, demand) in &operations {
            let path = path.replace(
                "/organizations/01890000-0000-7000-8000-000000000000",
                &format!("/organizations/{}", customer.organization),
            );
            let answer = customer.send(method.clone(), &path, None).await;
            let name = format!("{method} {path} with {}", scope.as_str());
            let detail = match demand {
                Demand::Scope(wanted) if wanted != scope => {
                    format!("the API key lacks the scope {}", wanted.as_str())
                }
                Demand::Person => "only a person who has logged in can do this, not an API key".to_owned(),
                _ => {
                    assert!(![401, 403].contains(&answer.status.as_u16()), "{name}: {}", answer.shown());
                    continue;
                }
            };
            assert_eq!(answer.status, 403, "{name}");
            assert_eq!(answer.json()["detail"], detail, "{name}");
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    let service = Service::new().await;
    let customer = service.customer().await;
    insta::assert_snapshot!(customer.get("/nothing").await.shown(), @r#"
    404 {
      "detail": "there is nothing at /api/v1/nothing",
      "status": 404,
      "title": "There is no such thing",
      "type": "urn:ravenpost:problem:not-found"
    }
    "#);
    let answer = customer.send(Method::PUT, "/endpoints", None).await;
    assert_eq!(answer.header("allow"), "GET,HEAD,POST");
    insta::assert_snapshot!(answer.shown(), @r#"
    405 {
      "detail": "PUT is not allowed at /api/v1/endpoints",
      "status": 405,
      "title": "The method is not allowed here",
      "type": "urn:ravenpost:problem:method-not-allowed"
    }
    "#);
}
