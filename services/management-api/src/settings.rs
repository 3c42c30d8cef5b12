//! Settings and subcommands of the management API.

use std::net::SocketAddr;

use ravenpost_chassis::Service;
use ravenpost_core::endpoint::base_url;
use ravenpost_store::MasterKeySettings;
use url::Url;

/// What customers run their webhooks with: the REST API, and the schema's keeper.
#[derive(Debug, clap::Parser)]
#[command(subcommand_negates_reqs = true)]
pub struct Settings {
    /// The process.
    #[command(flatten)]
    pub chassis: ravenpost_chassis::Settings,
    /// Postgres.
    #[command(flatten)]
    pub store: ravenpost_store::Settings,
    /// The payload store.
    #[command(flatten)]
    pub payloads: ravenpost_store::payloads::Settings,
    /// What seals secrets; the service does not start without, commands do.
    #[command(flatten)]
    pub master_key: Option<MasterKeySettings>,

    /// Where the API is served.
    #[arg(long, env = "RAVENPOST_LISTEN_ADDR", value_name = "IP:PORT", default_value = "127.0.0.1:8081")]
    pub listen_addr: SocketAddr,
    /// Where ingress is reached from outside: what the `hook_url` of an endpoint begins with.
    #[arg(long, env = "RAVENPOST_HOOK_BASE_URL", value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = base_url)]
    pub hook_base_url: Url,

    /// A command instead of the service.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do instead of serving.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Bring the schema to this program's version and make the coming days' partitions. Safe to run at any time.
    Migrate,
    /// Make an organization and an API key that carries every scope; prints both as one line of JSON.
    Bootstrap(Bootstrap),
    /// Print the OpenAPI document.
    Openapi,
}

/// Arguments of `bootstrap`.
#[derive(Debug, Clone, clap::Args)]
pub struct Bootstrap {
    /// The organization's name.
    #[arg(long, value_name = "NAME")]
    pub organization: String,
}

impl Service for Settings {
    const NAME: &'static str = "management-api";
    const ADMIN_ADDR: &'static str = "127.0.0.1:9092";

    fn chassis(&self) -> &ravenpost_chassis::Settings {
        &self.chassis
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use ravenpost_chassis::settings::{Halt, parse_from};

    use super::*;

    fn parse(args: &[&str], variables: &[(&str, &str)]) -> Result<Settings, Halt> {
        let args =
            std::iter::once("management-api").chain(args.iter().copied()).map(OsString::from).collect();
        parse_from(args, &|name| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| OsString::from(value))
        })
    }

    const KEY: (&str, &str) = ("RAVENPOST_MASTER_KEY", "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");

    #[test]
    fn the_service_needs_a_master_key_and_commands_do_not() {
        let settings = parse(&[], &[KEY]).unwrap();
        assert!(settings.command.is_none() && settings.master_key.is_some());
        for args in [&["migrate"][..], &["openapi"], &["bootstrap", "--organization", "Acme"]] {
            assert!(parse(args, &[]).unwrap().command.is_some(), "{args:?}");
        }
        let Halt::Refuse(line) = parse(&[], &[]).unwrap_err() else { panic!() };
        assert!(line.contains("RAVENPOST_MASTER_KEY") && line.lines().count() == 1, "{line}");
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_by_name() {
        for (variable, value) in [
            ("RAVENPOST_HOOK_BASE_URL", "hooks.example.com"),
            ("RAVENPOST_LISTEN_ADDR", "8081"),
            ("RAVENPOST_MASTER_KEY", "k1:short"),
        ] {
            let Halt::Refuse(line) = parse(&["migrate"], &[(variable, value)]).unwrap_err() else { panic!() };
            assert!(line.contains(variable), "{line}");
        }
    }
}
