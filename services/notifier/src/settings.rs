//! The settings of the notifier: its own, and those of what it stands on.

use std::time::Duration;

use ravenpost_core::duration;
use url::Url;

use crate::channels::{ProviderSettings, SmtpSettings};

/// Tells people what is going wrong: watches the outcomes of attempts and notifies channels.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "ravenpost-notifier", version)]
pub struct Settings {
    /// After how many failed attempts in a row a destination's alert opens, where its organization has no rule that says
    /// otherwise.
    #[arg(long, env = "RAVENPOST_ALERT_CONSECUTIVE_FAILURES", value_name = "COUNT", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub alert_consecutive_failures: u32,
    /// How long a message waits for others to join it, `0s` to `1m`: what comes while it waits is told in one message. A storm
    /// that does not pause is told of after ten times that.
    #[arg(long, env = "RAVENPOST_NOTIFICATION_GATHER", value_name = "DURATION", default_value = "3s", value_parser = gather)]
    pub notification_gather: Duration,
    /// Where browsers find the console: what links in messages begin with.
    #[arg(long, env = "RAVENPOST_CONSOLE_URL", value_name = "URL", default_value = "http://127.0.0.1:8081", value_parser = ravenpost_core::endpoint::base_url)]
    pub console_url: Url,
    /// Pagers.
    #[command(flatten)]
    pub providers: ProviderSettings,
    /// E-mail.
    #[command(flatten)]
    pub smtp: SmtpSettings,
    /// The way to channels.
    #[command(flatten)]
    pub egress: ravenpost_egress::Settings,
    /// What opens the secrets of channels and the tokens of invitations; as the management API has it.
    #[command(flatten)]
    pub master_key: ravenpost_store::MasterKeySettings,
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

fn gather(text: &str) -> Result<Duration, String> {
    let gather = duration::parse(text).map_err(|error| error.to_string())?;
    if gather <= Duration::from_mins(1) { Ok(gather) } else { Err("from 0s to 1m".to_owned()) }
}

impl ravenpost_chassis::Service for Settings {
    const NAME: &'static str = "notifier";
    const ADMIN_ADDR: &'static str = "127.0.0.1:9093";

    fn chassis(&self) -> &ravenpost_chassis::Settings {
        &self.chassis
    }
}
