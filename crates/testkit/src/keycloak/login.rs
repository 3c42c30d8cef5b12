//! People of the realm, and how one of them logs in: as a browser does, by the authorization-code flow with PKCE
//! (RFC 7636) through the login form, for the client `ravenpost-console`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::{RngExt as _, distr::Alphanumeric};
use reqwest::{Client, RequestBuilder, Response, header, redirect::Policy};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::{Address, FORM, answered, form_of};

/// The console's client in the realm.
const CLIENT: &str = "ravenpost-console";

/// Somebody of the realm.
#[derive(Clone, Debug)]
pub struct User {
    /// Their e-mail address, which is their name there as well.
    pub email: String,
    pub password: String,
}

impl User {
    /// Somebody with this address and a password that nobody else has.
    pub fn new(email: impl Into<String>) -> Self {
        Self { email: email.into(), password: random(20) }
    }
}

impl Address {
    /// Makes a person whose address counts as verified; nothing when there is one with that address.
    pub async fn create_user(&self, user: &User) -> Result<()> {
        let name = user.email.split('@').next().unwrap_or_default();
        let body = json!({
            "username": user.email, "email": user.email, "emailVerified": true, "enabled": true,
            "firstName": name, "lastName": "Example",
            "credentials": [{ "type": "password", "value": user.password, "temporary": false }],
        });
        let request = crate::http_client()?.post(self.admin("users")).bearer_auth(self.admin_token().await?);
        let answer = request.header("content-type", "application/json").body(body.to_string()).send().await?;
        let status = answer.status();
        ensure!(status == 201 || status == 409, "{status} to a new user: {}", answer.text().await?);
        Ok(())
    }

    /// Has the realm sign with a new key from now on; the former ones stay good.
    pub async fn rotate_keys(&self) -> Result<()> {
        let name = format!("rotated-{}", random(8));
        let body = json!({
            "name": name, "providerId": "rsa-generated", "providerType": "org.keycloak.keys.KeyProvider",
            "config": { "priority": ["1000"], "enabled": ["true"], "active": ["true"], "algorithm": ["RS256"],
                "keySize": ["2048"] },
        });
        let request =
            crate::http_client()?.post(self.admin("components")).bearer_auth(self.admin_token().await?);
        let answer = request.header("content-type", "application/json").body(body.to_string()).send().await?;
        ensure!(answer.status() == 201, "{} to a new key: {}", answer.status(), answer.text().await?);
        Ok(())
    }

    /// Logs in; gives what the realm answers to the code: `access_token`, `id_token`, `refresh_token` and more. `console`
    /// is where browsers find the console, as the realm knows it.
    pub async fn login(&self, user: &User, console: &str) -> Result<Value> {
        let verifier = random(64);
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
        let state = random(16);
        let query = [
            ("client_id", CLIENT),
            ("response_type", "code"),
            ("scope", "openid"),
            ("redirect_uri", console),
            ("state", &state),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        let mut browser = Browser::new()?;
        let start = format!("{}/protocol/openid-connect/auth", self.issuer());
        let page = browser.get(Url::parse_with_params(&start, query)?).await?;
        let form = form_action(&page.text().await?)?;
        let fields = [("username", user.email.as_str()), ("password", &user.password)];
        let answer = browser.post(&form, &fields).await?;
        let back = location(&answer).with_context(|| format!("{}: not logged in", answer.status()))?;
        ensure!(back.as_str().starts_with(console), "sent to {back}");
        let told: BTreeMap<_, _> = back.query_pairs().into_owned().collect();
        ensure!(told.get("state") == Some(&state), "not our state: {back}");
        let code = told.get("code").with_context(|| format!("no code: {back}"))?;
        let fields = [
            ("grant_type", "authorization_code"),
            ("client_id", CLIENT),
            ("redirect_uri", console),
            ("code", code),
            ("code_verifier", &verifier),
        ];
        let request = crate::http_client()?.post(self.token_url()).header("content-type", FORM);
        answered(request.body(form_of(&fields)?)).await
    }

    /// The access token of a login.
    pub async fn access_token(&self, user: &User, console: &str) -> Result<String> {
        let told = self.login(user, console).await?;
        Ok(told["access_token"].as_str().context("no access token")?.to_owned())
    }
}

/// As much of a browser as a login needs: it keeps cookies.
struct Browser {
    client: Client,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    fn new() -> Result<Self> {
        // Sets the process's TLS.
        crate::http_client()?;
        let client = Client::builder().no_proxy().redirect(Policy::none()).build()?;
        Ok(Self { client, cookies: BTreeMap::new() })
    }

    async fn get(&mut self, url: Url) -> Result<Response> {
        self.send(self.client.get(url)).await
    }

    async fn post(&mut self, url: &str, fields: &[(&str, &str)]) -> Result<Response> {
        self.send(self.client.post(url).header("content-type", FORM).body(form_of(fields)?)).await
    }

    async fn send(&mut self, request: RequestBuilder) -> Result<Response> {
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let answer = request.header(header::COOKIE, cookies.join("; ")).send().await?;
        for cookie in answer.headers().get_all(header::SET_COOKIE) {
            let pair = cookie.to_str()?.split(';').next().unwrap_or_default();
            if let Some((name, value)) = pair.split_once('=') {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        Ok(answer)
    }
}

fn location(answer: &Response) -> Result<Url> {
    let location = answer.headers().get(header::LOCATION).context("no Location")?;
    Ok(location.to_str()?.parse()?)
}

/// Where the login form of a page is sent.
fn form_action(page: &str) -> Result<String> {
    let form = page.split("<form").find(|form| form.contains("kc-form-login"));
    let action = form.and_then(|form| form.split("action=\"").nth(1)?.split('"').next());
    match action {
        Some(action) => Ok(action.replace("&amp;", "&")),
        None => bail!("there is no login form in {page}"),
    }
}

fn random(length: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_found_among_others() {
        let page = r#"<form id="other" action="/x"></form>
            <form id="kc-form-login" onsubmit="f();" action="http://a/b?c=1&amp;d=2" method="post">"#;
        assert_eq!(form_action(page).unwrap(), "http://a/b?c=1&d=2");
        assert!(form_action("<p>gone</p>").is_err());
    }
}
