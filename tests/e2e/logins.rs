//! Logging in through the real Keycloak: by the authorization-code flow with PKCE, as the console will; and that nothing
//! but a token of this realm for this API comes in.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::Method;
use ravenpost_testkit::{
    api::{Answer, Api},
    keycloak::{Address, User},
    mail,
    stack::keycloak,
    system::{Builder, System},
    wait,
};
use serde_json::json;

use crate::support::{BOUND, alone, on, run};

/// As the realm of the tests knows the console.
const CONSOLE: &str = "http://127.0.0.1:8081/";
const ME: &str = "/api/v1/me";

fn with_logins(realm: &Address) -> Builder {
    // No clock is off here, and a token that has expired has expired.
    System::builder()
        .setting("RAVENPOST_OIDC_ISSUER", realm.issuer())
        .setting("RAVENPOST_OIDC_SKEW", "0s")
        .setting("RAVENPOST_CONSOLE_URL", "https://console.example.com")
}

/// Somebody whom no other test knows.
fn somebody() -> User {
    User::new(format!("{:016x}@example.com", rand::random::<u64>()))
}

async fn me(system: &System, token: &str) -> Result<Answer> {
    system.api.with_key(Some(token.to_owned())).send(Method::GET, ME, None).await
}

/// Somebody who has logged in, as the API sees them.
async fn login(system: &System, realm: &Address, user: &User) -> Result<Api> {
    realm.create_user(user).await?;
    let token = realm.access_token(user, CONSOLE).await?;
    // The API may have asked for the realm's keys before there was one.
    wait::until_true("the realm's keys to be known", BOUND, || async {
        Ok(me(system, &token).await?.status == 200)
    })
    .await?;
    Ok(system.api.with_key(Some(token)))
}

async fn ensure_refused(system: &System, token: &str, why: &str) -> Result<()> {
    let answer = me(system, token).await?;
    let told = answer.headers.get("www-authenticate").context("no challenge")?;
    ensure!(told == r#"Bearer error="invalid_token""#, "{told:?}");
    let detail = answer.expect(401)?["detail"].as_str().unwrap_or_default().to_owned();
    ensure!(detail == why, "{detail}");
    Ok(())
}

#[test]
fn a_person_logs_in_and_nothing_else_comes_in() {
    run(async {
        let realm = keycloak::shared().await?;
        on(with_logins(realm), async |system| {
            let user = somebody();
            let api = login(system, realm, &user).await?;
            let told = api.get(ME).await?;
            assert_eq!(
                (told["type"].as_str(), told["email"].as_str()),
                (Some("user"), Some(user.email.as_str()))
            );
            assert_eq!(told["organizations"][0]["role"], "owner");
            let endpoint = json!({ "name": "Mine", "target_url": system.receiver.url("/mine"),
                "verification": { "type": "none" } });
            api.post("/api/v1/endpoints", &endpoint).await?;
            assert_eq!(
                system.api.get("/api/v1/endpoints").await?["data"],
                json!([]),
                "another organization's"
            );

            let logged_in = realm.login(&user, CONSOLE).await?;
            let token = logged_in["access_token"].as_str().context("no access token")?;
            let (start, signature) = token.rsplit_once('.').context("no JWT")?;
            let other = if signature.starts_with('A') { "B" } else { "A" };
            let tampered = format!("{start}.{other}{}", &signature[1..]);
            ensure_refused(system, &tampered, "the signature of the access token is wrong").await?;
            let id_token = logged_in["id_token"].as_str().context("no id token")?;
            ensure_refused(system, id_token, "the access token is for another audience").await?;

            let other_client = realm.service_client(300).await?;
            let for_another = realm.client_token(&other_client).await?;
            ensure_refused(system, &for_another, "the access token is for another audience").await?;
            let unknown = "the access token is signed with a key that the issuer does not have";
            ensure_refused(system, &realm.admin_token().await?, unknown).await?;

            let client = realm.service_client_for(1, Some("ravenpost-api")).await?;
            let short_lived = realm.client_token(&client).await?;
            wait::until_true("a token to expire", Duration::from_secs(20), || async {
                Ok(me(system, &short_lived).await?.status == 401)
            })
            .await?;
            ensure_refused(system, &short_lived, "the access token has expired").await
        })
        .await
    });
}

#[test]
fn the_realm_changes_its_keys_and_everybody_stays_logged_in() {
    run(async {
        let realm = keycloak::shared().await?;
        on(with_logins(realm), async |system| {
            let user = somebody();
            let before = login(system, realm, &user).await?;
            realm.rotate_keys().await?;
            let renewed = realm.access_token(&user, CONSOLE).await?;
            // The API asks for an unknown key, and at most once in five seconds.
            wait::until_true("the new key to be known", BOUND, || async {
                Ok(me(system, &renewed).await?.status == 200)
            })
            .await?;
            before.get(ME).await.map(drop)
        })
        .await
    });
}

#[test]
fn an_invitation_arrives_by_mail_and_makes_a_member() {
    run(async {
        let realm = keycloak::shared().await?;
        on(with_logins(realm), async |system| {
            let user = somebody();
            let invitation = json!({ "email": user.email, "role": "developer" });
            let invited = system.api.post("/api/v1/invitations", &invitation).await?;
            let mail =
                wait::until("the invitation", BOUND, || async { Ok(system.mails_to(&user.email)?.pop()) })
                    .await?;
            assert_eq!(mail.subject, "You are invited to an organization on Ravenpost");
            let token = token_of(&mail).context("no token in the mail")?;
            wait::until_true("the mail to be noted", BOUND, || async {
                let listed = system.api.get("/api/v1/invitations").await?;
                Ok(listed["data"][0]["mail"] == "sent" && listed["data"][0]["id"] == invited["id"])
            })
            .await?;
            let pool = system.database.pool().await?;
            let sealed: i64 =
                sqlx::query_scalar("select count(*) from invitations where sealed_token is not null")
                    .fetch_one(&pool)
                    .await?;
            assert_eq!(sealed, 0, "the token is forgotten once it has left");

            let api = login(system, realm, &user).await?;
            let joined = api.post("/api/v1/invitations/accept", &json!({ "token": token })).await?;
            assert_eq!(
                (joined["id"].as_str(), joined["role"].as_str()),
                (Some(system.tenant.organization_id.as_str()), Some("developer"))
            );
            let members = system.api.get("/api/v1/members").await?;
            assert_eq!(members["data"][0]["user"]["email"], user.email);
            Ok(())
        })
        .await
    });
}

/// What stands behind `#token=` in the link of a mail.
fn token_of(mail: &mail::Mail) -> Option<String> {
    let text = mail.body.replace("=\n", "").replace("=3D", "=");
    let (start, rest) = text.split_once("/accept-invitation#token=")?;
    assert!(start.ends_with("https://console.example.com"), "{text}");
    Some(rest.split_whitespace().next()?.to_owned())
}

#[test]
fn while_the_mail_server_is_away_an_invitation_waits() {
    // A port where nobody listens: the notifier says why, and goes on trying.
    alone(System::builder().setting("RAVENPOST_SMTP_URL", "smtp://127.0.0.1:1"), async |system| {
        let invitation = json!({ "email": "ada@example.com", "role": "viewer" });
        let invited = system.api.post("/api/v1/invitations", &invitation).await?;
        let listed = wait::until("the failure to be told", BOUND, || async {
            let listed = system.api.get("/api/v1/invitations").await?["data"][0].clone();
            Ok(Some(listed).filter(|listed| listed["mail_error"].is_string()))
        })
        .await?;
        assert_eq!((listed["mail"].as_str(), &listed["id"]), (Some("waiting"), &invited["id"]));
        let path = format!("/api/v1/invitations/{}", invited["id"].as_str().context("no id")?);
        system.api.send(Method::DELETE, &path, None).await?.expect(204).map(drop)
    });
}
