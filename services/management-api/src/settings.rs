//! Settings and subcommands of the management API.

use std::net::SocketAddr;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_chassis::Service;
use ravenpost_core::duration;
use ravenpost_core::endpoint::base_url;
use ravenpost_core::ids::OrganizationId;
use ravenpost_core::limit::RateLimit;
use ravenpost_core::signature::Network;
use ravenpost_store::MasterKeySettings;
use ravenpost_store::system::StatisticsKept;
use url::Url;

use crate::auth::OidcSettings;

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

    /// What holds for every request.
    #[command(flatten)]
    pub conventions: ConventionSettings,
    /// How people log in.
    #[command(flatten)]
    pub oidc: OidcSettings,
    /// The way out, for certificates of providers.
    #[command(flatten)]
    pub egress: ravenpost_egress::Settings,
    /// How a producer's retry is recognised when a rejected request is accepted; as ingress has it.
    #[command(flatten)]
    pub deduplication: ravenpost_store::DeduplicationSettings,
    /// What is kept of rejected requests.
    #[command(flatten)]
    pub rejected: RejectedSettings,
    /// How long events are kept.
    #[command(flatten)]
    pub retention: RetentionSettings,
    /// What is kept although nobody needs it.
    #[command(flatten)]
    pub leftovers: LeftoverSettings,
    /// How long statistics are kept.
    #[command(flatten)]
    pub statistics: StatisticsSettings,

    /// A command instead of the service.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What holds for every request of the API.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct ConventionSettings {
    /// Most requests that a caller (an API key, or a person) makes a second, and at once after a pause, as in `1000:2000`, of each replica; what exceeds them is answered 429.
    #[arg(long, env = "RAVENPOST_API_RATE_LIMIT", value_name = "PER_SECOND:BURST", default_value = "1000:2000", value_parser = rate_limit)]
    pub api_rate_limit: RateLimit,
    /// Most requests without a valid key that come from an address a second, and at once after a pause, of each replica; then all from there is answered 429 for a while.
    #[arg(long, env = "RAVENPOST_API_GUESS_LIMIT", value_name = "PER_SECOND:BURST", default_value = "20:1000", value_parser = rate_limit)]
    pub api_guess_limit: RateLimit,
    /// Most requests that are worked on at once, 1 to 10,000, of one caller a quarter of them; what comes on top waits for a few seconds and is then answered 503. Each takes a megabyte at worst.
    #[arg(long, env = "RAVENPOST_API_AT_ONCE", value_name = "COUNT", default_value = "256", value_parser = at_once)]
    pub api_at_once: u32,
    /// Proxies in front of the API, as addresses and CIDRs separated by commas, such as `10.0.0.0/8`: only they are believed when `X-Forwarded-For` says where a request comes from.
    #[arg(long, env = "RAVENPOST_TRUSTED_PROXIES", value_name = "CIDR,…", value_delimiter = ',')]
    pub trusted_proxies: Vec<Network>,
    /// Pages of other origins that may call the API from a browser, separated by commas: where the console is when the API doesn't serve it. Only scheme, host and port count.
    #[arg(long, env = "RAVENPOST_CONSOLE_URL", value_name = "URL,…", value_delimiter = ',', value_parser = base_url)]
    pub console_url: Vec<Url>,
    /// The API is reached by TLS alone, so browsers are told to use nothing else (`Strict-Transport-Security`).
    #[arg(long, env = "RAVENPOST_API_BEHIND_TLS")]
    pub api_behind_tls: bool,
}

impl Default for ConventionSettings {
    fn default() -> Self {
        Self {
            api_rate_limit: RateLimit { per_second: 1_000, burst: 2_000 },
            api_guess_limit: RateLimit { per_second: 20, burst: 1_000 },
            api_at_once: 256,
            trusted_proxies: Vec::new(),
            console_url: Vec::new(),
            api_behind_tls: false,
        }
    }
}

fn at_once(text: &str) -> Result<u32, &'static str> {
    let count = text.parse().ok().filter(|count| (1..=10_000).contains(count));
    count.ok_or("a number from 1 to 10000")
}

fn rate_limit(text: &str) -> Result<RateLimit, String> {
    let numbers =
        text.split_once(':').and_then(|(rate, burst)| Some((rate.parse().ok()?, burst.parse().ok()?)));
    let (per_second, burst) = numbers.ok_or("expected requests a second and at once, such as 1000:2000")?;
    let limit = RateLimit { per_second, burst };
    limit.check().map_err(|error| error.to_string())?;
    Ok(limit)
}

/// What is kept of each endpoint's rejected requests; ingress keeps less of a flood than these allow.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct RejectedSettings {
    /// Most rejected requests that are kept of an endpoint, the newest.
    #[arg(long, env = "RAVENPOST_REJECTED_COUNT", value_name = "COUNT", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rejected_count: u32,
    /// Most bytes of rejected requests that are kept of an endpoint.
    #[arg(long, env = "RAVENPOST_REJECTED_BYTES", value_name = "BYTES", default_value = "67108864", value_parser = clap::value_parser!(u32).range(1_048_576..))]
    pub rejected_bytes: u32,
    /// How long rejected requests are kept.
    #[arg(long, env = "RAVENPOST_REJECTED_AGE", value_name = "DURATION", default_value = "7d", value_parser = rejected_age)]
    pub rejected_age: Duration,
}

fn rejected_age(text: &str) -> Result<Duration, String> {
    let age = duration::parse(text).map_err(|error| error.to_string())?;
    let bounds = Duration::from_hours(1)..=Duration::from_hours(24 * 365);
    if bounds.contains(&age) { Ok(age) } else { Err("from 1h to 365d".to_owned()) }
}

/// How long events are kept, with their headers, attempts, dead letters and payloads.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct RetentionSettings {
    /// How long events are kept, in whole days: those of a day are dropped together, with their attempts, dead letters and payloads. What still waits a day before is given up, counted and alerted. Longer than Kafka keeps `webhooks.ingest`, and at least 9d.
    #[arg(long, env = "RAVENPOST_EVENT_RETENTION", value_name = "DURATION", default_value = "30d", value_parser = event_retention)]
    pub event_retention: Duration,
}

fn event_retention(text: &str) -> Result<Duration, String> {
    let retention = duration::parse(text).map_err(|error| error.to_string())?;
    // Retries may take seven days, and the last day is for what is replayed then.
    let bounds = Duration::from_hours(24 * 9)..=Duration::from_hours(24 * 3_650);
    if bounds.contains(&retention) { Ok(retention) } else { Err("from 9d to 3650d".to_owned()) }
}

/// How long something is kept that nobody needs.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct LeftoverSettings {
    /// How long a bulk replay is listed after its end. What it has replayed is told by the deliveries.
    #[arg(long, env = "RAVENPOST_REPLAY_JOB_RETENTION", value_name = "DURATION", default_value = "90d", value_parser = replay_job_retention)]
    pub replay_job_retention: Duration,
}

fn replay_job_retention(text: &str) -> Result<Duration, String> {
    let retention = duration::parse(text).map_err(|error| error.to_string())?;
    let bounds = Duration::from_hours(1)..=Duration::from_hours(24 * 3_650);
    if bounds.contains(&retention) { Ok(retention) } else { Err("from 1h to 3650d".to_owned()) }
}

/// How long statistics are kept.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct StatisticsSettings {
    /// How long figures by the minute are kept.
    #[arg(long, env = "RAVENPOST_STATISTICS_MINUTES", value_name = "DURATION", default_value = "3d", value_parser = statistics_retention)]
    pub statistics_minutes: Duration,

    /// How long figures by the hour are kept.
    #[arg(long, env = "RAVENPOST_STATISTICS_HOURS", value_name = "DURATION", default_value = "90d", value_parser = statistics_retention)]
    pub statistics_hours: Duration,

    /// How long figures by the day are kept.
    #[arg(long, env = "RAVENPOST_STATISTICS_DAYS", value_name = "DURATION", default_value = "1095d", value_parser = statistics_retention)]
    pub statistics_days: Duration,
}

impl StatisticsSettings {
    /// By grain.
    pub fn kept(&self) -> StatisticsKept {
        let length = |length| TimeDelta::from_std(length).unwrap_or(TimeDelta::MAX);
        StatisticsKept {
            minutes: length(self.statistics_minutes),
            hours: length(self.statistics_hours),
            days: length(self.statistics_days),
        }
    }
}

fn statistics_retention(text: &str) -> Result<Duration, String> {
    let retention = duration::parse(text).map_err(|error| error.to_string())?;
    let bounds = Duration::from_hours(1)..=Duration::from_hours(24 * 3_650);
    if bounds.contains(&retention) { Ok(retention) } else { Err("from 1h to 3650d".to_owned()) }
}

/// What to do instead of serving.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Bring the schema to this program's version and make the coming days' partitions. Safe to run at any time.
    Migrate,
    /// Make an organization and an API key that carries every scope; prints both as one line of JSON.
    Bootstrap(Bootstrap),
    /// Invite somebody to own an organization that has no owner to do so, such as one that `bootstrap` has made. Needs the master key; the notifier sends the mail.
    InviteOwner(InviteOwner),
    /// Prove that the ledger balances: everything accepted was delivered, waits, is dead or was dropped, and its payload is there. Exits with 1, and names what is wrong, when it does not.
    Reconcile(Reconcile),
    /// What becomes of the audit log.
    Audit(Audit),
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

/// Arguments of `audit`.
#[derive(Debug, Clone, clap::Args)]
pub struct Audit {
    /// What to do.
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// What can be done with the audit log.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum AuditCommand {
    /// Prove that nothing was changed in or removed from the audit log. Prints each organization's number of rows and head; exits with 1, and names the first bad row, when something was.
    Verify(AuditVerify),
}

/// Arguments of `audit verify`.
#[derive(Debug, Clone, clap::Args)]
pub struct AuditVerify {
    /// Only this organization's; all unless given.
    #[arg(long, value_name = "ID")]
    pub organization: Option<OrganizationId>,
    /// Print one JSON object for each organization instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `invite-owner`.
#[derive(Debug, Clone, clap::Args)]
pub struct InviteOwner {
    /// The organization's id.
    #[arg(long, value_name = "ID")]
    pub organization_id: OrganizationId,
    /// Whom to invite.
    #[arg(long, value_name = "ADDRESS")]
    pub email: String,
}

/// Arguments of `reconcile`.
#[derive(Debug, Clone, clap::Args)]
pub struct Reconcile {
    /// Look only at what was accepted since then: a time such as `2026-01-31T12:00:00Z`, or how long ago, such as `24h`. By default at everything.
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub since: Option<Since>,
    /// How long after its acceptance something may be on its way without a row that says so.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration::parse)]
    pub grace: Duration,
    /// Of which events the payload is read and its digest compared.
    #[arg(long, value_enum, value_name = "WHICH", default_value = "sample")]
    pub payloads: WhichPayloads,
    /// How many events are drawn for `--payloads sample`.
    #[arg(long, value_name = "COUNT", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub sample: u32,
    /// Schedule what should wait and waits nowhere, as the worker's sweeper does.
    #[arg(long)]
    pub repair: bool,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    pub json: bool,
}

/// Of which events payloads are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WhichPayloads {
    /// Of none.
    None,
    /// Of some, drawn at random.
    Sample,
    /// Of all.
    All,
}

/// A moment, or a time before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// This moment.
    At(DateTime<Utc>),
    /// So long ago.
    Ago(Duration),
}

impl Since {
    /// The moment, if it is `now`.
    pub fn moment(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::At(moment) => moment,
            Self::Ago(length) => {
                let length = TimeDelta::from_std(length).ok();
                length.and_then(|length| now.checked_sub_signed(length)).unwrap_or(DateTime::UNIX_EPOCH)
            }
        }
    }
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return Ok(Since::At(moment.to_utc()));
    }
    let neither = "write a time such as 2026-01-31T12:00:00Z, or how long ago, such as 24h";
    duration::parse(text).map(Since::Ago).map_err(|_| neither.to_owned())
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
        for args in [
            &["migrate"][..],
            &["openapi"],
            &["reconcile"],
            &["bootstrap", "--organization", "Acme"],
            &["audit", "verify"],
        ] {
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
            ("RAVENPOST_REJECTED_COUNT", "0"),
            ("RAVENPOST_REJECTED_BYTES", "1"),
            ("RAVENPOST_REJECTED_AGE", "1m"),
            ("RAVENPOST_API_RATE_LIMIT", "1000"),
            ("RAVENPOST_API_GUESS_LIMIT", "0:1"),
            ("RAVENPOST_TRUSTED_PROXIES", "10.0.0.0/33"),
            ("RAVENPOST_CONSOLE_URL", "console.example.com"),
            ("RAVENPOST_OIDC_ISSUER", "login.example.com"),
            ("RAVENPOST_OIDC_ISSUER", "https://me:hush@login.example.com"),
            ("RAVENPOST_OIDC_SKEW", "5m"),
        ] {
            let Halt::Refuse(line) = parse(&["migrate"], &[(variable, value)]).unwrap_err() else { panic!() };
            assert!(line.contains(variable), "{line}");
        }
    }

    #[test]
    fn what_to_reconcile_is_said_in_several_ways() {
        let now: DateTime<Utc> = "2026-02-01T00:00:00Z".parse().unwrap();
        for (text, moment) in
            [("2026-01-31T13:00:00+01:00", "2026-01-31T12:00:00Z"), ("36h", "2026-01-30T12:00:00Z")]
        {
            let settings = parse(&["reconcile", "--since", text], &[]).unwrap();
            let Some(Command::Reconcile(arguments)) = settings.command else { panic!() };
            assert_eq!(arguments.since.unwrap().moment(now), moment.parse::<DateTime<Utc>>().unwrap());
            assert_eq!((arguments.payloads, arguments.repair), (WhichPayloads::Sample, false));
        }
        for (option, value) in
            [("--since", "yesterday"), ("--payloads", "some"), ("--sample", "0"), ("--grace", "1")]
        {
            let Halt::Refuse(line) = parse(&["reconcile", option, value], &[]).unwrap_err() else { panic!() };
            assert!(line.contains(option) && line.lines().count() == 1, "{line}");
        }
    }
}
