//! E-mail by SMTP, to the operator's own relay.

use std::time::Duration;

use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::AsyncSmtpTransport;
use lettre::{AsyncTransport, Message, Tokio1Executor};

use super::NotSent;
use crate::message::Message as Told;

/// How long the relay may take for each step.
const TIMEOUT: Duration = Duration::from_secs(15);

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
}

fn smtp_url(text: &str) -> Result<String, String> {
    AsyncSmtpTransport::<Tokio1Executor>::from_url(text)
        .map(|_| text.to_owned())
        .map_err(|_| "expected smtp://host:port or smtps://user:password@host".to_owned())
}

/// The way by e-mail.
pub struct Email {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

/// Why a mail was not sent.
#[derive(Debug, thiserror::Error)]
pub enum EmailError {
    /// The address of a channel is none.
    #[error("the address of a channel can't be mailed to")]
    Address(#[from] lettre::address::AddressError),
    /// The mail could not be composed.
    #[error("the mail can't be composed")]
    Compose(#[from] lettre::error::Error),
    /// The relay did not take it.
    #[error("the SMTP relay did not take the mail: {0}")]
    Relay(#[from] lettre::transport::smtp::Error),
}

impl From<EmailError> for NotSent {
    /// Permanent when the address is none, or the relay will never take it.
    fn from(error: EmailError) -> Self {
        let permanent = match &error {
            EmailError::Address(_) | EmailError::Compose(_) => true,
            EmailError::Relay(error) => error.is_permanent(),
        };
        Self { message: error.to_string(), permanent, retry_after: None }
    }
}

impl Email {
    /// Prepares the transport; nothing is sent yet.
    pub fn new(settings: &SmtpSettings) -> Result<Self, EmailError> {
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(&settings.smtp_url)?;
        Ok(Self { transport: builder.timeout(Some(TIMEOUT)).build(), from: settings.smtp_from.clone() })
    }

    /// Mails a message to one address.
    pub async fn send(&self, message: &Told, address: &str) -> Result<(), NotSent> {
        let mail = self.compose(message, address)?;
        self.transport.send(mail).await.map_err(EmailError::from)?;
        Ok(())
    }

    fn compose(&self, message: &Told, address: &str) -> Result<Message, EmailError> {
        // Known by its first notification, so that a mail which is sent twice is recognised (RFC 5322, 3.6.4).
        let id = format!("<{}@{}>", message.id, self.from.email.domain());
        let mail = Message::builder()
            .from(self.from.clone())
            .to(address.parse()?)
            .subject(format!("[Ravenpost] {}", message.title))
            .message_id(Some(id))
            .multipart(MultiPart::alternative_plain_html(text(message), html(message)))?;
        Ok(mail)
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
