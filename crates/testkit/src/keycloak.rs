//! Looking into a Keycloak and its realm `ravenpost`, as its administrator: clients for tests, and whether a token is right.

mod login;

use anyhow::{Context, Result, ensure};
use rand::{RngExt as _, distr::Alphanumeric};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use login::User;

/// The administrator that a new Keycloak is given.
pub const ADMIN: &str = "admin";

/// Where a Keycloak is, and how its administrator gets in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Address {
    /// `http://127.0.0.1:…`
    pub url: String,
    pub admin_password: String,
}

/// A confidential client with a service account.
#[derive(Clone, Debug)]
pub struct ServiceClient {
    pub id: String,
    pub secret: String,
}

impl Address {
    /// The realm's issuer, as tokens name it (OpenID Connect Discovery 1.0).
    pub fn issuer(&self) -> String {
        format!("{}/realms/ravenpost", self.url)
    }

    /// Where the realm gives tokens.
    pub fn token_url(&self) -> String {
        format!("{}/protocol/openid-connect/token", self.issuer())
    }

    /// Makes a confidential client that gets tokens by its own credentials (RFC 6749, section 4.4), good for `lifespan`
    /// seconds. Its name and secret are random, so that tests that share a Keycloak know nothing of each other.
    pub async fn service_client(&self, lifespan: u32) -> Result<ServiceClient> {
        self.service_client_for(lifespan, None).await
    }

    /// As [`Address::service_client`], with tokens that are for `audience` as well.
    pub async fn service_client_for(&self, lifespan: u32, audience: Option<&str>) -> Result<ServiceClient> {
        let random = |length| rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect();
        let (name, secret): (String, String) = (random(8), random(32));
        // What a form has to encode, since the credentials are encoded once more for Basic (RFC 6749, section 2.3.1).
        let client = ServiceClient { id: format!("test {name}"), secret: format!("{secret}+&:%") };
        let mapper = |name: &str, audience: &str| {
            json!({
                "name": name, "protocol": "openid-connect", "protocolMapper": "oidc-audience-mapper",
                "config": { "included.custom.audience": audience, "access.token.claim": "true" },
            })
        };
        // Keycloak tells a client of those tokens alone that are for it.
        let mut mappers = vec![mapper("itself", &client.id)];
        mappers.extend(audience.map(|audience| mapper("other", audience)));
        let body = json!({
            "clientId": client.id, "secret": client.secret, "publicClient": false,
            "serviceAccountsEnabled": true, "standardFlowEnabled": false, "directAccessGrantsEnabled": false,
            "attributes": { "access.token.lifespan": lifespan.to_string() },
            "protocolMappers": mappers,
        });
        let request = crate::http_client()?.post(self.admin("clients")).body(body.to_string());
        let answer =
            request.header("content-type", "application/json").bearer_auth(self.admin_token().await?).send();
        let answer = answer.await?;
        ensure!(answer.status() == 201, "{} to a new client: {}", answer.status(), answer.text().await?);
        Ok(client)
    }

    /// A token of this client.
    pub async fn client_token(&self, client: &ServiceClient) -> Result<String> {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", client.id.as_str()),
            ("client_secret", &client.secret),
        ];
        let request = crate::http_client()?.post(self.token_url()).header("content-type", FORM);
        let token = answered(request.body(form_of(&form)?)).await?;
        token["access_token"].as_str().map(str::to_owned).context("no token for the client")
    }

    /// What the realm says of a token of this client (RFC 7662): `active` above all.
    pub async fn introspect(&self, client: &ServiceClient, token: &str) -> Result<Value> {
        let request = crate::http_client()?.post(format!("{}/introspect", self.token_url()));
        let form = [("client_id", client.id.as_str()), ("client_secret", &client.secret), ("token", token)];
        answered(request.header("content-type", FORM).body(form_of(&form)?)).await
    }

    /// How often the realm has given this client a token, and how often it has refused to.
    pub async fn logins(&self, client: &ServiceClient) -> Result<(usize, usize)> {
        let token = self.admin_token().await?;
        let url = url::Url::parse_with_params(
            &self.admin("events"),
            [("client", client.id.as_str()), ("max", "1000")],
        )?;
        let events = answered(crate::http_client()?.get(url).bearer_auth(token)).await?;
        let events = events.as_array().context("no list of events")?;
        let count = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
        Ok((count("CLIENT_LOGIN"), count("CLIENT_LOGIN_ERROR")))
    }

    fn admin(&self, resource: &str) -> String {
        format!("{}/admin/realms/ravenpost/{resource}", self.url)
    }

    /// A token of another realm, the administrator's. Anew each time, since it is good for a minute only.
    pub async fn admin_token(&self) -> Result<String> {
        let form = [
            ("grant_type", "password"),
            ("client_id", "admin-cli"),
            ("username", ADMIN),
            ("password", &self.admin_password),
        ];
        let url = format!("{}/realms/master/protocol/openid-connect/token", self.url);
        let request = crate::http_client()?.post(url).header("content-type", FORM).body(form_of(&form)?);
        let token = answered(request).await?;
        token["access_token"].as_str().map(str::to_owned).context("no token for the administrator")
    }
}

const FORM: &str = "application/x-www-form-urlencoded";

fn form_of(fields: &[(&str, &str)]) -> Result<String> {
    let url = url::Url::parse_with_params("form:", fields)?;
    Ok(url.query().unwrap_or_default().to_owned())
}

async fn answered(request: reqwest::RequestBuilder) -> Result<Value> {
    let answer = request.send().await?;
    let (status, text) = (answer.status(), answer.text().await?);
    ensure!(status.is_success(), "Keycloak answered {status}: {text}");
    serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))
}
