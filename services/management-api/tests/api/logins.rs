//! Access tokens: which are believed, which are not and why, and the keys that they are signed with.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ravenpost_chassis::clock;
use ravenpost_testkit::{sign, wait};
use serde_json::{Value, json};

use crate::support::{Customer, Issuer, Key, Service, message};

/// Longer than anything takes here.
const BOUND: Duration = Duration::from_secs(30);

/// Asserts that a token is refused, and answers what is said of it.
async fn refused(person: &Customer, token: &str) -> String {
    let answer = person.with_key(Some(token)).get("/me").await;
    assert_eq!(answer.status, 401, "{}", answer.shown());
    assert_eq!(answer.header("www-authenticate"), r#"Bearer error="invalid_token""#);
    assert_eq!(answer.json()["type"], "urn:ravenpost:problem:access-token-invalid");
    answer.json()["detail"].as_str().unwrap().to_owned()
}

fn with(issuer: &Issuer, name: &str, value: Value) -> String {
    let mut claims = issuer.claims("ada");
    claims[name] = value;
    issuer.token_with(&claims)
}

#[tokio::test]
async fn a_token_counts_with_the_right_claims_alone() {
    let (service, issuer) = Service::with_logins().await;
    let ada = service.person(&issuer, "ada").await;
    let now = clock::now().timestamp();
    for (name, value, said) in [
        ("iss", json!("https://login.evil.example"), "the access token is of another issuer"),
        ("iss", json!([issuer.url, "https://login.evil.example"]), "the access token is malformed"),
        ("aud", json!("account"), "the access token is for another audience"),
        ("aud", json!([]), "the access token is for another audience"),
        ("aud", Value::Null, "the access token lacks exp, iss, aud or sub"),
        ("exp", json!(now - 60), "the access token has expired"),
        ("exp", json!("9999999999"), "the access token is malformed"),
        ("exp", Value::Null, "the access token is malformed"),
        ("nbf", json!(now + 60), "the access token is not valid yet"),
        ("nbf", json!("0"), "the access token is malformed"),
        ("iat", json!(now + 60), "the access token is not valid yet"),
        ("sub", json!(""), "the subject of the access token is empty or too long"),
        ("sub", json!("a".repeat(256)), "the subject of the access token is empty or too long"),
        ("sub", Value::Null, "the access token is malformed"),
    ] {
        let token = with(&issuer, name, value.clone());
        assert_eq!(refused(&ada, &token).await, said, "{name} = {value}");
    }
    // A clock that is off by less than the skew does no harm.
    for (name, value) in [("exp", now - 20), ("nbf", now + 20), ("iat", now + 20)] {
        let token = with(&issuer, name, json!(value));
        assert_eq!(ada.with_key(Some(&token)).get("/me").await.status, 200, "{name}");
    }
}

#[tokio::test]
async fn a_token_counts_with_a_signature_of_the_issuers_key_alone() {
    let (service, issuer) = Service::with_logins().await;
    let ada = service.person(&issuer, "ada").await;
    let (key, claims) = (issuer.key(), issuer.claims("ada"));
    let right = key.sign(&key.header(), &claims);
    let (signed, signature) = right.rsplit_once('.').unwrap();

    let other = Key::new().sign(&key.header(), &claims);
    assert_eq!(refused(&ada, &other).await, "the signature of the access token is wrong");
    let mut changed = claims.clone();
    changed["sub"] = json!("eve");
    let moved = format!("{}.{signature}", message(&key.header(), &changed));
    assert_eq!(refused(&ada, &moved).await, "the signature of the access token is wrong");
    assert_eq!(refused(&ada, &format!("{signed}.")).await, "the signature of the access token is wrong");

    for none in ["none", "None", ""] {
        let unsigned = message(&json!({ "alg": none, "typ": "JWT", "kid": key.id }), &claims);
        for token in [format!("{unsigned}."), format!("{unsigned}.{signature}")] {
            assert_eq!(refused(&ada, &token).await, "the access token is no JWT of a known form", "{none}");
        }
    }
    // The public key as the secret of an HMAC: the classic confusion.
    let hmac = message(&json!({ "alg": "HS256", "typ": "JWT", "kid": key.id }), &claims);
    let point = key.public().to_string();
    let mac = URL_SAFE_NO_PAD.encode(sign::hmac_sha256(point.as_bytes(), hmac.as_bytes()));
    assert_eq!(
        refused(&ada, &format!("{hmac}.{mac}")).await,
        "the access token is signed by an algorithm that is not accepted"
    );
    let header = |name: &str, value: Value| {
        let mut header = key.header();
        header[name] = value;
        header
    };
    for (name, value, said) in [
        ("alg", json!("ES384"), "the access token is signed by an algorithm that is not accepted"),
        ("alg", json!("RS256"), "the access token is signed by an algorithm that is not accepted"),
        ("kid", Value::Null, "the access token does not name its key"),
        ("crit", json!(["exp"]), "the access token demands an extension that is not known here"),
    ] {
        let token = key.sign(&header(name, value.clone()), &claims);
        assert_eq!(refused(&ada, &token).await, said, "{name} = {value}");
    }
    // A key that comes along with the token is nobody's.
    let own = Key::new();
    let mut brought = own.header();
    brought["kid"] = json!(key.id);
    brought["jwk"] = own.public();
    assert_eq!(
        refused(&ada, &own.sign(&brought, &claims)).await,
        "the signature of the access token is wrong"
    );
    for text in ["a.b.c", "token", "a.b", &"x".repeat(20_000)] {
        refused(&ada, text).await;
    }
    assert_eq!(ada.with_key(Some(&right)).get("/me").await.status, 200);
}

#[tokio::test]
async fn unknown_keys_are_asked_for_but_not_by_everybody() {
    let (service, issuer) = Service::with_logins().await;
    let ada = service.person(&issuer, "ada").await;
    let (asked, started) = (issuer.asked(), Instant::now());
    let attempts = (0..40).map(|_| {
        let (ada, key) = (ada.clone(), Key::new());
        let token = key.sign(&key.header(), &issuer.claims("eve"));
        tokio::spawn(async move { refused(&ada, &token).await })
    });
    for attempt in attempts.collect::<Vec<_>>() {
        let said = attempt.await.unwrap();
        assert_eq!(said, "the access token is signed with a key that the issuer does not have");
    }
    let most = 1 + started.elapsed().as_secs() / 5;
    let fetches = issuer.asked() - asked;
    assert!(u64::try_from(fetches).unwrap() <= most, "{fetches} fetches for 40 tokens");
}

#[tokio::test]
async fn new_keys_are_found_and_former_ones_outlive_an_issuer_that_is_away() {
    let (service, issuer) = Service::with_logins().await;
    let ada = service.person(&issuer, "ada").await;
    let former = ada.key.clone().unwrap();

    issuer.rotate(true);
    let renewed = issuer.token("ada");
    // The issuer was asked a moment ago, and is not asked again at once.
    wait::until_true("the new key to be known", BOUND, || async {
        Ok(ada.with_key(Some(&renewed)).get("/me").await.status == 200)
    })
    .await
    .unwrap();

    issuer.away(true);
    issuer.rotate(true);
    for known in [&former, &renewed] {
        assert_eq!(ada.with_key(Some(known)).get("/me").await.status, 200);
    }
    // It may be a good one: that can't be told just now.
    let unknown = issuer.token("ada");
    wait::until_true("the issuer to be missed", BOUND, || async {
        let answer = ada.with_key(Some(&unknown)).get("/me").await;
        Ok(answer.status == 503 && answer.header("retry-after") == "10")
    })
    .await
    .unwrap();

    issuer.away(false);
    issuer.rotate(false);
    let last = issuer.token("ada");
    wait::until_true("the last key to be known", BOUND, || async {
        Ok(ada.with_key(Some(&last)).get("/me").await.status == 200)
    })
    .await
    .unwrap();
    for withdrawn in [former, renewed] {
        refused(&ada, &withdrawn).await;
    }
}

#[tokio::test]
async fn however_many_first_requests_race_there_is_one_person_with_one_organization() {
    let (service, issuer) = Service::with_logins().await;
    let routers = [service.replica(&issuer), service.replica(&issuer)];
    let nobody = service.customer().await;
    let requests = (0..24).map(|n| {
        let caller = nobody.with_key(Some(&issuer.token("grace"))).through(routers[n % 2].clone());
        tokio::spawn(async move { caller.get("/me").await.json() })
    });
    let mut answers = Vec::new();
    for request in requests.collect::<Vec<_>>() {
        answers.push(request.await.unwrap());
    }
    assert_eq!(answers[0]["organizations"].as_array().unwrap().len(), 1);
    assert_eq!(answers[0]["organizations"][0]["name"], "grace's organization");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let people = service.database.number("select count(*) from users").await.unwrap();
    let owned =
        service.database.number("select count(*) from memberships where role = 'owner'").await.unwrap();
    // Beside the customer's, who was made by the operator and has no member.
    let organizations = service.database.number("select count(*) from organizations").await.unwrap();
    assert_eq!((people, owned, organizations), (1, 1, 2));
}

#[tokio::test]
async fn an_address_that_is_not_verified_is_not_kept_and_a_new_one_replaces_the_old() {
    let (service, issuer) = Service::with_logins().await;
    let mut claims = issuer.claims("ada");
    claims["email_verified"] = json!(false);
    let ada = service.customer().await.with_key(Some(&issuer.token_with(&claims)));
    assert_eq!(ada.get("/me").await.json()["email"], Value::Null);
    claims["email_verified"] = json!(true);
    claims["email"] = json!("lovelace@example.com");
    claims["name"] = json!("Ada\r\nLovelace");
    let ada = ada.with_key(Some(&issuer.token_with(&claims)));
    let me = ada.get("/me").await.json();
    assert_eq!(
        (me["email"].as_str(), me["name"].as_str()),
        (Some("lovelace@example.com"), Some("Ada  Lovelace"))
    );
    let members = ada.get("/members").await.json();
    assert_eq!(members["data"][0]["user"]["email"], "lovelace@example.com");
    assert_eq!(service.database.number("select count(*) from users").await.unwrap(), 1);
}

#[tokio::test]
async fn without_an_issuer_tokens_are_no_credentials() {
    let (service, issuer) = (Service::new().await, Issuer::start().await);
    let customer = service.customer().await.with_key(Some(&issuer.token("ada")));
    let answer = customer.get("/me").await;
    assert_eq!((answer.status.as_u16(), answer.header("www-authenticate")), (401, "Bearer"));
}
