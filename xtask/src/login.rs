//! Logging in: the realm of a running system, and the person whom a newcomer logs in as, who owns the demo organization.
//! Made as any member is: invited, mailed, logged in, accepted; once, and remembered in `.stack/login.json`.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use ravenpost_testkit::{
    api::Api,
    keycloak::{Address, User},
    mail, process,
    process::Process,
    stack::{Keycloak, Options, Progress, Smtp},
    system::Service,
    wait,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{demo::Demo, folder, up::Plan};

const EMAIL: &str = "demo@example.com";
/// How long a mail may take to arrive.
const MAIL_BOUND: Duration = Duration::from_secs(60);
/// How long the API may take to be told the realm's keys: it asks again ten seconds after it has asked in vain.
const LOGIN_BOUND: Duration = Duration::from_secs(60);

/// What to log in with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Login {
    pub(crate) email: String,
    pub(crate) password: String,
    /// They are the demo organization's owner already.
    #[serde(default)]
    joined: Option<String>,
}

/// Starts Keycloak on the data of this checkout; it goes on starting while others do. Its people are sent back to
/// `console_url` alone.
pub(crate) async fn start(
    console_url: &str,
    smtp_port: u16,
    options: &Options,
    progress: &Progress,
) -> Result<Keycloak> {
    let smtp = smtp_port.to_string();
    let placeholders =
        [("RAVENPOST_KEYCLOAK_SMTP_PORT", smtp.as_str()), ("RAVENPOST_CONSOLE_URL", console_url)];
    Keycloak::spawn(&folder::stores().join("keycloak"), &placeholders, options, progress).await
}

/// Where the mail sink will listen; to be asked before it starts.
pub(crate) fn smtp_port(options: Options) -> Result<u16> {
    Smtp::port_in(&folder::stores().join("smtp"), &options)
}

/// Somebody who can log in and owns the demo organization.
pub(crate) async fn seed(
    plan: &Plan,
    realm: &Address,
    management: &Process,
    mailbox: &Path,
    demo: &Demo,
) -> Result<Login> {
    let mut login = read_or_draw()?;
    if login.joined.as_ref() == Some(&demo.organization_id) {
        return Ok(login);
    }
    let user = User { email: login.email.clone(), password: login.password.clone() };
    realm.create_user(&user).await?;
    invite(plan, demo).await?;
    let token = wait::until("the invitation's mail", MAIL_BOUND, || async { mailed(mailbox) }).await?;
    let access_token = realm.access_token(&user, &console_url(plan)).await.context("logging in")?;
    let api = Api::new(management.url(), Some(access_token))?;
    wait::until_true("the API to know the realm's keys", LOGIN_BOUND, || async {
        Ok(api.send(http::Method::GET, "/api/v1/me", None).await?.status == 200)
    })
    .await?;
    api.post("/api/v1/invitations/accept", &json!({ "token": token })).await?;
    login.joined = Some(demo.organization_id.clone());
    login.write()?;
    Ok(login)
}

/// Where browsers will find the console: at the management API.
pub(crate) fn console_url(plan: &Plan) -> String {
    plan.url("management-api")
}

async fn invite(plan: &Plan, demo: &Demo) -> Result<()> {
    let arguments = ["invite-owner", "--organization-id", &demo.organization_id, "--email", EMAIL];
    let program = plan.binary(Service::ManagementApi);
    let outcome = process::run(&program, &arguments, &plan.settings.pairs()).await?;
    // An interrupted start has invited before; its mail is there, or comes.
    if outcome.stderr.contains("has an open invitation already") {
        return Ok(());
    }
    outcome.into_stdout().context("inviting the demo owner").map(drop)
}

/// The token of the last invitation that was mailed.
fn mailed(mailbox: &Path) -> Result<Option<String>> {
    let mails = mail::read(mailbox)?;
    Ok(mails.iter().rev().find(|mail| mail.to.contains(EMAIL)).and_then(|mail| invitation_token(&mail.body)))
}

/// The token in the link of an invitation's mail.
fn invitation_token(body: &str) -> Option<String> {
    // Quoted-printable, should a name have made it so.
    let text = body.replace("=\n", "").replace("=3D", "=");
    let token = text.split("#token=").nth(1)?.split_whitespace().next()?;
    Some(token.to_owned())
}

fn read_or_draw() -> Result<Login> {
    if let Ok(text) = fs::read(file()) {
        return Ok(serde_json::from_slice(&text)?);
    }
    let User { email, password } = User::new(EMAIL);
    let login = Login { email, password, joined: None };
    login.write()?;
    Ok(login)
}

impl Login {
    fn write(&self) -> Result<()> {
        folder::write_secret(&file(), &serde_json::to_vec_pretty(self)?)
    }

    /// As `stack.json` shows it.
    pub(crate) fn shown(&self) -> Value {
        json!({ "email": self.email, "password": self.password })
    }
}

fn file() -> std::path::PathBuf {
    folder::stack().join("login.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_found_however_the_mail_was_encoded() {
        for body in
            ["see\n\nhttp://x/accept#token=rvi_ab\n\nbye", "see\n\nhttp://x/accept#to=\nken=3Drvi_=\nab\nbye"]
        {
            assert_eq!(invitation_token(body).as_deref(), Some("rvi_ab"));
        }
        assert_eq!(invitation_token("nothing"), None);
    }
}
