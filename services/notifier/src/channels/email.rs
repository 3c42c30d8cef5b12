//! E-mail by SMTP, to the operator's own relay.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lettre::message::header::ContentType;
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::AsyncSmtpTransport;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncTransport, Message, Tokio1Executor};
use ravenpost_core::duration;
use url::Url;
use uuid::Uuid;

use super::NotSent;
use crate::message::{Message as Told, line};

/// The longest that a relay may take: less than a sender has for what it has claimed.
const MAX_TIMEOUT: Duration = Duration::from_secs(25);
/// The most characters that are told of why a mail did not leave.
const MAX_ERROR: usize = 300;

/// Enhanced status codes (RFC 3463) of an address or a mailbox that is at fault. A bare 550 may as well be about what the
/// operator may send through the relay.
const NO_MAILBOX: [&str; 2] = ["5.1.", "5.2."];

/// How mail is sent.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct SmtpSettings {
    /// The SMTP relay: `smtp://host:port`, `smtps://user:password@host`, or `smtp://user:password@host?tls=required`
    /// for STARTTLS.
    #[arg(long, env = "RAVENPOST_SMTP_URL", value_name = "URL", default_value = "smtp://127.0.0.1:1025", hide_env_values = true, value_parser = smtp_url)]
    pub smtp_url: String,
    /// Whom alerts come from.
    #[arg(
        long,
        env = "RAVENPOST_SMTP_FROM",
        value_name = "ADDRESS",
        default_value = "Ravenpost <ravenpost@localhost>"
    )]
    pub smtp_from: Mailbox,
    /// A file of certificates, PEM, that the relay's has to lead to, beside those that the machine trusts. For a relay with
    /// TLS alone.
    #[arg(long, env = "RAVENPOST_SMTP_CA_FILE", value_name = "FILE")]
    pub smtp_ca_file: Option<PathBuf>,
    /// How long the relay may take for a mail, from the connection on, up to `25s`.
    #[arg(long, env = "RAVENPOST_SMTP_TIMEOUT", value_name = "DURATION", default_value = "15s", value_parser = timeout)]
    pub smtp_timeout: Duration,
}

fn timeout(text: &str) -> Result<Duration, String> {
    let timeout = duration::parse(text).map_err(|error| error.to_string())?;
    let bounds = Duration::from_millis(1)..=MAX_TIMEOUT;
    if bounds.contains(&timeout) { Ok(timeout) } else { Err("from 1ms to 25s".to_owned()) }
}

fn smtp_url(text: &str) -> Result<String, String> {
    let in_the_clear = Url::parse(text).is_ok_and(|url| {
        url.scheme() == "smtp"
            && url.password().is_some()
            // `opportunistic` goes on without, if somebody on the way says that there is none.
            && !url.query_pairs().any(|(name, value)| name == "tls" && value == "required")
    });
    if in_the_clear {
        return Err("a password needs TLS: write smtps://, or add ?tls=required".to_owned());
    }
    AsyncSmtpTransport::<Tokio1Executor>::from_url(text)
        .map(|_| text.to_owned())
        .map_err(|_| "expected smtp://host:port or smtps://user:password@host".to_owned())
}

/// The way by e-mail. Cheap to clone.
#[derive(Clone)]
pub struct Email {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    timeout: Duration,
}

/// One mail to one address.
#[derive(Debug, Clone)]
pub struct Mail<'a> {
    /// The same whenever it is sent again, so that it is recognised (RFC 5322, section 3.6.4).
    pub id: Uuid,
    /// To whom.
    pub address: &'a str,
    /// One line.
    pub subject: String,
    /// Lines.
    pub text: String,
    /// The same in HTML.
    pub html: Option<String>,
}

/// Why a mail was not sent.
#[derive(Debug, thiserror::Error)]
pub enum EmailError {
    /// The address is none.
    #[error("the address can't be mailed to")]
    Address(#[from] lettre::address::AddressError),
    /// The mail could not be composed.
    #[error("the mail can't be composed")]
    Compose(#[from] lettre::error::Error),
    /// RAVENPOST_SMTP_CA_FILE is of no use.
    #[error("RAVENPOST_SMTP_CA_FILE: {0}")]
    Authority(String),
    /// The relay did not answer in time.
    #[error("the SMTP relay did not answer within {}", duration::format(*.0))]
    Silent(Duration),
    /// The relay did not take it.
    #[error("the SMTP relay did not take the mail")]
    Relay(#[from] lettre::transport::smtp::Error),
}

impl EmailError {
    /// Whether trying again is no use: the address is none, or the relay knows no such mailbox. What it refuses otherwise
    /// (a login, what the operator may send through it) is not the address's fault, and mends when the operator does.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Address(_) | Self::Compose(_) => true,
            Self::Authority(_) | Self::Silent(_) => false,
            Self::Relay(_) => names_no_mailbox(&self.told()),
        }
    }

    /// What people of the organization are told of it: what the relay says, in one line.
    pub fn told(&self) -> String {
        let source = self.source().map(|source| format!(": {source}")).unwrap_or_default();
        line(&format!("{self}{source}"), MAX_ERROR)
    }
}

/// Whether a relay's reply has a status of [`NO_MAILBOX`] in it.
pub(super) fn names_no_mailbox(reply: &str) -> bool {
    let mut words = reply.split(|one: char| !one.is_ascii_digit() && one != '.');
    words.any(|word| word.matches('.').count() == 2 && NO_MAILBOX.iter().any(|class| word.starts_with(class)))
}

impl From<EmailError> for NotSent {
    fn from(error: EmailError) -> Self {
        Self { message: error.told(), permanent: error.is_permanent(), retry_after: None }
    }
}

impl Email {
    /// Prepares the transport; nothing is sent yet.
    pub fn new(settings: &SmtpSettings) -> Result<Self, EmailError> {
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(&settings.smtp_url)?;
        if let Some(file) = &settings.smtp_ca_file {
            builder = builder.tls(trusting(&settings.smtp_url, file)?);
        }
        let (from, timeout) = (settings.smtp_from.clone(), settings.smtp_timeout);
        Ok(Self { transport: builder.build(), from, timeout })
    }

    /// Sends a mail.
    pub async fn send(&self, mail: Mail<'_>) -> Result<(), EmailError> {
        // The transport's own bound is on connecting alone.
        let sent = tokio::time::timeout(self.timeout, self.transport.send(self.compose(mail)?)).await;
        sent.map_err(|_| EmailError::Silent(self.timeout))??;
        Ok(())
    }

    fn compose(&self, mail: Mail<'_>) -> Result<Message, EmailError> {
        let message = Message::builder()
            .from(self.from.clone())
            .to(mail.address.parse()?)
            .subject(mail.subject)
            .message_id(Some(format!("<{}@{}>", mail.id, self.from.email.domain())));
        Ok(match mail.html {
            Some(html) => message.multipart(MultiPart::alternative_plain_html(mail.text, html))?,
            None => message.header(ContentType::TEXT_PLAIN).body(mail.text)?,
        })
    }
}

/// TLS in the way that the URL asks for, with an authority of the operator's own.
fn trusting(url: &str, file: &Path) -> Result<Tls, EmailError> {
    let unusable = |why: String| EmailError::Authority(format!("{}: {why}", file.display()));
    let pem = std::fs::read(file).map_err(|error| unusable(error.to_string()))?;
    let authority = Certificate::from_pem(&pem).map_err(|error| unusable(error.to_string()))?;
    let url: Url = url.parse().map_err(|_| unusable("the relay's URL can't be read".to_owned()))?;
    let host = url.host_str().unwrap_or_default().to_owned();
    let tls = TlsParameters::builder(host).add_root_certificate(authority).build()?;
    let asked = url.query_pairs().find(|(name, _)| name == "tls").map(|(_, value)| value.into_owned());
    match (url.scheme(), asked.as_deref()) {
        ("smtps", _) => Ok(Tls::Wrapper(tls)),
        (_, Some("required")) => Ok(Tls::Required(tls)),
        (_, Some("opportunistic")) => Ok(Tls::Opportunistic(tls)),
        _ => Err(unusable("the relay's URL asks for no TLS: smtps://, or ?tls=required".to_owned())),
    }
}

/// What an address is told of alerts.
pub(super) fn of_message<'a>(message: &Told, address: &'a str) -> Mail<'a> {
    Mail {
        id: message.id.0,
        address,
        subject: format!("[Ravenpost] {}", message.title),
        text: text(message),
        html: Some(html(message)),
    }
}

pub(super) fn text(message: &Told) -> String {
    let mut lines = vec![message.title.clone(), String::new()];
    lines.extend(message.facts.iter().map(|(name, value)| format!("{name}: {value}")));
    if !message.items.is_empty() {
        lines.push(String::new());
    }
    lines.extend(message.items.iter().map(|item| format!("- {item}")));
    lines.extend([String::new(), format!("Open in the console: {}", message.link)]);
    lines.extend(message.mute_link.iter().map(|mute| format!("Mute: {mute}")));
    lines.push(String::new());
    lines.join("\n")
}

pub(super) fn html(message: &Told) -> String {
    let mut parts = vec![format!(
        "<!doctype html><html><body style=\"font-family:sans-serif\"><h2>{}</h2><table>",
        escaped(&message.title)
    )];
    let row = |(name, value): &(&str, String)| {
        let value = escaped(value);
        format!("<tr><td style=\"color:#666;padding-right:1em\">{name}</td><td>{value}</td></tr>")
    };
    parts.extend(message.facts.iter().map(row));
    parts.push("</table><ul>".to_owned());
    parts.extend(message.items.iter().map(|item| format!("<li>{}</li>", escaped(item))));
    let link = |url: &str, text: &str| format!("<a href=\"{}\">{text}</a>", escaped(url));
    parts.push(format!("</ul><p>{}", link(message.link.as_str(), "Open in the console")));
    parts.extend(message.mute_link.iter().map(|mute| format!(" · {}", link(mute.as_str(), "Mute"))));
    parts.push("</p></body></html>".to_owned());
    parts.concat()
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for one in text.chars() {
        match one {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            one => escaped.push(one),
        }
    }
    escaped
}
