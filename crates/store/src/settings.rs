//! Settings of Postgres and of sealed secrets; the payload store's stand in [`crate::payloads::settings`].

use std::path::PathBuf;
use std::time::Duration;

use ravenpost_core::secret::Keyring;

/// How Postgres is reached.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Settings {
    /// Postgres, as `postgres://user:password@host:port/database`. The user must be a member of the roles that
    /// migrations make.
    #[arg(
        long,
        env = "RAVENPOST_DATABASE_URL",
        hide_env_values = true,
        default_value = "postgres://postgres@127.0.0.1:5432/ravenpost",
        value_parser = database_url
    )]
    pub database_url: String,
    /// TLS to Postgres: `disable`, `prefer`, `require`, `verify-ca` or `verify-full`; otherwise what `sslmode` in the
    /// URL says, or `prefer`. In production: `verify-full`.
    #[arg(long, env = "RAVENPOST_DATABASE_TLS", value_parser = tls_mode)]
    pub database_tls: Option<sqlx::postgres::PgSslMode>,
    /// A PEM file with the certificate authority that signed Postgres' certificate, if no public one did.
    #[arg(long, env = "RAVENPOST_DATABASE_CA_FILE")]
    pub database_ca_file: Option<PathBuf>,
    /// Most connections to Postgres of this process. A delivery-worker opens two more, on which it records what it has
    /// delivered, and ingress and management-api one that listens.
    #[arg(long, env = "RAVENPOST_DATABASE_CONNECTIONS", default_value = "10", value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub database_connections: u32,
    /// How long to wait for a free connection before the operation fails.
    #[arg(long, env = "RAVENPOST_DATABASE_WAIT", default_value = "3s", value_parser = ravenpost_core::duration::parse)]
    pub database_wait: Duration,
    /// Postgres cancels a statement of ours that runs longer.
    #[arg(long, env = "RAVENPOST_DATABASE_STATEMENT_TIMEOUT", default_value = "10s", value_parser = ravenpost_core::duration::parse)]
    pub database_statement_timeout: Duration,
}

/// How a producer's retry is recognised (PROTOCOLS I7).
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct DeduplicationSettings {
    /// How long a producer's retry is recognised by the id that it repeats, `1m` to `30d`.
    #[arg(long, env = "RAVENPOST_DEDUPLICATION_WINDOW", value_name = "DURATION", default_value = "3d", value_parser = deduplication_window)]
    pub deduplication_window: Duration,
}

fn deduplication_window(text: &str) -> Result<Duration, String> {
    let bounds = Duration::from_mins(1)..=Duration::from_hours(30 * 24);
    let window = ravenpost_core::duration::parse(text).map_err(|error| error.to_string())?;
    if bounds.contains(&window) { Ok(window) } else { Err("from 1m to 30d".to_owned()) }
}

fn database_url(text: &str) -> Result<String, String> {
    // The parser takes any scheme.
    let is_postgres = text.starts_with("postgres://") || text.starts_with("postgresql://");
    let usable = is_postgres && text.parse::<sqlx::postgres::PgConnectOptions>().is_ok();
    if usable {
        Ok(text.to_owned())
    } else {
        Err("expected postgres://user:password@host:port/database".to_owned())
    }
}

fn tls_mode(text: &str) -> Result<sqlx::postgres::PgSslMode, String> {
    text.parse().map_err(|_| "expected disable, prefer, require, verify-ca or verify-full".to_owned())
}

/// The master keys under which secrets are sealed.
// With its group, unlike the others: the management API's commands do without (`Option<MasterKeySettings>`).
#[derive(Debug, Clone, clap::Args)]
pub struct MasterKeySettings {
    /// Master keys that seal customers' secrets: `id:base64 of 32 bytes`, several separated by commas; the first one
    /// seals, the others still open. Make one with `echo "k1:$(openssl rand -base64 32)"` and keep it: without it
    /// no secret can be read again.
    #[arg(long, env = "RAVENPOST_MASTER_KEY", hide_env_values = true)]
    pub master_key: Keyring,
}
