//! Mail through a relay that wants TLS and a login, as relays in production do.
#![expect(clippy::unwrap_used, reason = "a test that can't go on fails there")]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser as _;
use ravenpost_notifier::channels::{Email, Mail, SmtpSettings};
use ravenpost_testkit::authority::Authority;
use ravenpost_testkit::mail;
use ravenpost_testkit::stack::{Guard, Options, Progress, Smtp};
use tempfile::TempDir;
use uuid::Uuid;

const USER: &str = "ravenpost@example.com";
const PASSWORD: &str = "a p@ss/word";

struct Relay {
    smtp: Smtp,
    implicit: bool,
    folder: TempDir,
}

impl Relay {
    async fn start(implicit: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new("an authority of the operator's own")?;
        std::fs::write(folder.path().join("ca.pem"), authority.pem())?;
        let identity = authority.issue(&["localhost"])?;
        let guard = Guard { identity: &identity, implicit, user: USER, password: PASSWORD };
        let options = Options::for_tests();
        let smtp =
            Smtp::start_guarded(&folder.path().join("smtp"), guard, &options, &Progress::silent()).await?;
        Ok(Self { smtp, implicit, folder })
    }

    fn settings(&self, password: &str, trusted: bool) -> SmtpSettings {
        let encoded = |text: &str| {
            url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
        };
        let (scheme, query) = if self.implicit { ("smtps", "") } else { ("smtp", "?tls=required") };
        let (user, password, port) = (encoded(USER), encoded(password), self.smtp.port());
        SmtpSettings {
            smtp_url: format!("{scheme}://{user}:{password}@localhost:{port}{query}"),
            smtp_from: "Ravenpost <ravenpost@example.com>".parse().unwrap(),
            smtp_ca_file: trusted.then(|| self.folder.path().join("ca.pem")),
            smtp_timeout: Duration::from_secs(15),
        }
    }
}

fn a_mail(subject: &str) -> Mail<'_> {
    Mail {
        id: Uuid::from_u128(7),
        address: "oncall@example.com",
        subject: subject.to_owned(),
        text: "It fails.\n".to_owned(),
        html: Some("<p>It fails.</p>".to_owned()),
    }
}

async fn a_relay_takes_mail(implicit: bool) -> Result<()> {
    let relay = Relay::start(implicit).await?;
    let email = Email::new(&relay.settings(PASSWORD, true))?;
    email.send(a_mail("[Ravenpost] It fails")).await?;
    let mails = mail::read(relay.smtp.mailbox())?;
    ensure!(mails.len() == 1 && mails[0].subject == "[Ravenpost] It fails", "{mails:?}");
    ensure!(mails[0].body.contains("<p>It fails.</p>"), "{mails:?}");

    let refused = Email::new(&relay.settings("wr0ng", true))?.send(a_mail("x")).await;
    let refused = refused.err().context("a wrong password is taken")?;
    ensure!(refused.told().contains("535") && !refused.told().contains("wr0ng"), "{}", refused.told());
    ensure!(!refused.is_permanent(), "the operator's fault is not the address's");
    let unknown = Email::new(&relay.settings(PASSWORD, false))?.send(a_mail("x")).await;
    let unknown = unknown.err().context("a relay of an unknown authority is believed")?;
    ensure!(!unknown.is_permanent(), "{}", unknown.told());
    ensure!(mail::read(relay.smtp.mailbox())?.len() == 1, "only the first was taken");
    Ok(())
}

#[tokio::test]
async fn a_relay_with_tls_from_the_beginning() {
    a_relay_takes_mail(true).await.unwrap();
}

#[tokio::test]
async fn a_relay_with_starttls() {
    a_relay_takes_mail(false).await.unwrap();
}

#[derive(clap::Parser)]
struct Only {
    #[command(flatten)]
    smtp: SmtpSettings,
}

#[test]
fn a_password_is_never_sent_in_the_clear() {
    let parsed =
        |url: &str| Only::try_parse_from(["notifier", "--smtp-url", url]).map(|only| only.smtp.smtp_url);
    for url in ["smtp://user:secret@localhost", "smtp://user:secret@localhost?tls=opportunistic"] {
        let refused = parsed(url).unwrap_err().to_string();
        assert!(refused.contains("a password needs TLS: write smtps://, or add ?tls=required"), "{refused}");
    }
    for url in
        ["smtp://localhost:25", "smtp://user:secret@localhost?tls=required", "smtps://user:secret@localhost"]
    {
        assert_eq!(parsed(url).unwrap(), url);
    }
}

#[tokio::test]
async fn an_authority_that_is_of_no_use_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let told = |url: &str| {
        let settings = SmtpSettings {
            smtp_url: url.to_owned(),
            smtp_from: "ravenpost@example.com".parse().unwrap(),
            smtp_ca_file: Some(file.clone()),
            smtp_timeout: Duration::from_secs(15),
        };
        Email::new(&settings).err().unwrap().to_string()
    };
    assert!(told("smtps://localhost").starts_with("RAVENPOST_SMTP_CA_FILE: "));
    std::fs::write(&file, Authority::new("x").unwrap().pem()).unwrap();
    assert!(told("smtp://localhost:25").ends_with("asks for no TLS: smtps://, or ?tls=required"));
}

#[tokio::test]
async fn a_relay_that_says_nothing_is_not_waited_for_for_ever() {
    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let settings = SmtpSettings {
        smtp_url: format!("smtp://{}", silent.local_addr().unwrap()),
        smtp_from: "ravenpost@example.com".parse().unwrap(),
        smtp_ca_file: None,
        smtp_timeout: Duration::from_millis(50),
    };
    let given_up = Email::new(&settings).unwrap().send(a_mail("x")).await.unwrap_err();
    assert_eq!(given_up.told(), "the SMTP relay did not answer within 50ms");
    assert!(!given_up.is_permanent());
}
