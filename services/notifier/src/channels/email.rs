//! E-mail by SMTP, to the operator's own relay.

use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::AsyncSmtpTransport;
use lettre::{AsyncTransport, Message, Tokio1Executor};
use ravenpost_store::system::DueAlert;

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

/// The way by e-mail. Cheap to clone.
#[derive(Clone)]
pub struct Email {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

/// One mail: plain text to one address.
#[derive(Debug, Clone)]
pub struct Mail<'a> {
    /// To whom.
    pub address: &'a str,
    /// One line.
    pub subject: String,
    /// Lines.
    pub body: String,
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
    /// The relay did not take it.
    #[error("the SMTP relay did not take the mail")]
    Relay(#[from] lettre::transport::smtp::Error),
}

impl EmailError {
    /// Whether trying again is no use: the address is none, or the relay will never take it.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Address(_) | Self::Compose(_) => true,
            Self::Relay(error) => error.is_permanent(),
        }
    }
}

impl Email {
    /// Prepares the transport; nothing is sent yet.
    pub fn new(settings: &SmtpSettings) -> Result<Self, EmailError> {
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(&settings.smtp_url)?.build();
        Ok(Self { transport, from: settings.smtp_from.clone() })
    }

    /// Sends a mail.
    pub async fn send(&self, mail: Mail<'_>) -> Result<(), EmailError> {
        self.transport.send(self.compose(mail)?).await?;
        Ok(())
    }

    fn compose(&self, mail: Mail<'_>) -> Result<Message, EmailError> {
        let message = Message::builder()
            .from(self.from.clone())
            .to(mail.address.parse()?)
            .subject(mail.subject)
            .header(ContentType::TEXT_PLAIN)
            .body(mail.body)?;
        Ok(message)
    }
}

/// What an address is told of an alert.
pub fn of_alert<'a>(alert: &DueAlert, address: &'a str) -> Mail<'a> {
    let subject =
        format!("[Ravenpost] {} keeps failing ({} attempts in a row)", alert.endpoint_name, alert.failures);
    Mail { address, subject, body: body(alert) }
}

fn body(alert: &DueAlert) -> String {
    let DueAlert {
        endpoint_name,
        endpoint_id,
        destination_id,
        destination_url,
        failures,
        organization_name,
        ..
    } = alert;
    // A query often carries a credential, and mail is read by many.
    let destination_url = destination_url.split('?').next().unwrap_or_default();
    let error = alert.last_error.as_deref().unwrap_or("unknown");
    let opened = alert.opened_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    format!(
        "A destination of {organization_name} has failed {failures} times in a row.\n\n\
         Endpoint:     {endpoint_name} ({endpoint_id})\n\
         Destination:  {destination_url} ({destination_id})\n\
         Last error:   {error}\n\
         Since:        {opened}\n\n\
         Events go on being accepted and are tried again by the destination's retry policy; those that were given up\n\
         can be replayed. This alert is resolved by the next delivery that succeeds.\n"
    )
}
