//! The settings of the notifier: its own, and those of what it stands on.

use url::Url;

use crate::channels::SmtpSettings;

/// Tells people what is going wrong: watches the outcomes of attempts and notifies channels.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "ravenpost-notifier", version)]
pub struct Settings {
    /// After how many failed attempts in a row a destination's alert opens.
    #[arg(long, env = "RAVENPOST_ALERT_CONSECUTIVE_FAILURES", value_name = "COUNT", default_value = "5", value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub alert_consecutive_failures: i32,
    /// Where browsers find the console: what links in mails begin with.
    #[arg(long, env = "RAVENPOST_CONSOLE_URL", value_name = "URL", default_value = "http://127.0.0.1:8081", value_parser = ravenpost_core::endpoint::base_url)]
    pub console_url: Url,
    /// What opens the tokens of invitations; as the management API has it.
    #[command(flatten)]
    pub master_key: ravenpost_store::MasterKeySettings,
    /// E-mail.
    #[command(flatten)]
    pub smtp: SmtpSettings,
    /// Postgres.
    #[command(flatten)]
    pub store: ravenpost_store::Settings,
    /// Kafka.
    #[command(flatten)]
    pub bus: ravenpost_bus::Settings,
    /// The process.
    #[command(flatten)]
    pub chassis: ravenpost_chassis::Settings,
}

impl ravenpost_chassis::Service for Settings {
    const NAME: &'static str = "notifier";
    const ADMIN_ADDR: &'static str = "127.0.0.1:9093";

    fn chassis(&self) -> &ravenpost_chassis::Settings {
        &self.chassis
    }
}
