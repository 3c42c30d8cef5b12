//! The connection to Postgres and the two doors.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ravenpost_core::audit::Author;
use ravenpost_core::ids::{OrganizationId, UserId};
use ravenpost_core::secret::Keyring;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{Connection, Executor};

use crate::lease::bounded;
use crate::{Error, Settings, System, Tenant};

/// Postgres. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
    /// For what is recorded of deliveries alone.
    recording: PgPool,
    keyring: Option<Keyring>,
    /// How long a statement may take on our side.
    deadline: Duration,
}

/// Why Postgres can't be used as it is set up.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL does not read.
    #[error("RAVENPOST_DATABASE_URL is not a Postgres URL (postgres://user:password@host:port/database)")]
    Url(#[source] sqlx::Error),
    /// Times would be wrong: which destinations an event has, and which partition it is in, depend on them.
    #[error(
        "the clock of this machine is {0} s off that of Postgres; at most {MAX_SKEW_SECONDS} s are tolerated"
    )]
    ClockSkew(i64),
    /// It did not answer.
    #[error(transparent)]
    Store(#[from] Error),
}

/// How far clocks may be apart (PROTOCOLS D1), in seconds.
pub const MAX_SKEW_SECONDS: i64 = 5;

/// How much longer than Postgres itself we wait for a statement to end: by then the connection is dead.
const DEADLINE_MARGIN: Duration = Duration::from_secs(2);
/// How long a transaction may wait for its next statement, in milliseconds.
const IDLE_IN_TRANSACTION_MS: &str = "5000";
/// A connection that has idled for longer is asked whether it is well before it is used: to find out by a statement
/// would leave open what became of that.
const ASK_AFTER: Duration = Duration::from_secs(1);
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(300);
/// Statements that record deliveries at once, each on a connection of its own beside the pool's.
pub const RECORDERS: u32 = 2;
/// The statement that records deliveries is planned once for a connection: planning takes several times as long as doing
/// it, and more with each partition of `events`. The plan has to suit all that comes, so it finds each row by its key,
/// however small the tables were when it was made.
const PLANNED_ONCE: [(&str, &str); 5] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_material", "off"),
];

impl Store {
    /// Prepares the pool without connecting: a store that is away when a process starts is waited for by readiness.
    /// Connections act as `ravenpost_system` unless a tenant's transaction says otherwise.
    pub fn new(settings: &Settings, keyring: Option<Keyring>) -> std::result::Result<Self, ConnectError> {
        let options = bounded_options(settings)?;
        let pool = |connections: u32, options: PgConnectOptions| {
            pool_options(connections, settings).connect_lazy_with(options)
        };
        let recording = pool(RECORDERS, options.clone().options(PLANNED_ONCE));
        let pool = pool(settings.database_connections, options);
        let deadline = settings.database_statement_timeout + DEADLINE_MARGIN;
        Ok(Self { pool, recording, keyring, deadline })
    }

    /// Answers when Postgres does and its clock agrees with `clock`.
    pub async fn check(&self, clock: fn() -> DateTime<Utc>) -> std::result::Result<(), ConnectError> {
        let skew = (clock() - self.time().await?).num_seconds();
        if skew.abs() > MAX_SKEW_SECONDS {
            return Err(ConnectError::ClockSkew(skew));
        }
        Ok(())
    }

    async fn time(&self) -> crate::Result<DateTime<Utc>> {
        Ok(bounded!(self, sqlx::query_scalar("select clock_timestamp()"), fetch_one))
    }

    /// Whether a commit is a promise: `synchronous_commit` is not off.
    pub(crate) async fn commits_durably(&self) -> crate::Result<bool> {
        let durable = sqlx::query_scalar("select current_setting('synchronous_commit') <> 'off'");
        Ok(bounded!(self, durable, fetch_one))
    }

    /// Opens one organization for `author`, whose changes they are; see [`Tenant`].
    pub fn tenant(&self, organization: OrganizationId, author: Author) -> Tenant {
        Tenant::new(self.pool.clone(), self.keyring.clone(), organization, author)
    }

    /// Opens what belongs to a person alone, who stands in the place of an organization: the keys of their own requests.
    pub fn personal(&self, user: UserId, author: Author) -> Tenant {
        self.tenant(OrganizationId(user.0), author)
    }

    /// Opens the hot paths; see [`System`].
    pub fn system(&self) -> System {
        System::new(self.pool.clone(), self.recording.clone(), self.keyring.clone(), self.deadline)
    }

    /// Connections in use and idle.
    pub fn pool_size(&self) -> (u32, usize) {
        let pools = [&self.pool, &self.recording];
        (pools.map(PgPool::size).iter().sum(), pools.map(PgPool::num_idle).iter().sum())
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }
}

/// Connections as `ravenpost_system`, made when they are wanted.
fn pool_options(connections: u32, settings: &Settings) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(settings.database_wait)
        .idle_timeout(IDLE)
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > ASK_AFTER {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .after_connect(|connection, _| Box::pin(enter_system(connection)))
}

/// Connection options of the settings, without a role and without a bound on statements.
pub(crate) fn options(settings: &Settings) -> std::result::Result<PgConnectOptions, ConnectError> {
    let mut options = PgConnectOptions::from_str(&settings.database_url)
        .map_err(ConnectError::Url)?
        .application_name("ravenpost");
    if let Some(mode) = settings.database_tls {
        options = options.ssl_mode(mode);
    }
    if let Some(file) = &settings.database_ca_file {
        options = options.ssl_root_cert(file);
    }
    Ok(options)
}

fn bounded_options(settings: &Settings) -> std::result::Result<PgConnectOptions, ConnectError> {
    let timeout = settings.database_statement_timeout.as_millis().to_string();
    Ok(options(settings)?.options([
        ("statement_timeout", timeout.as_str()),
        // A process that is stopped within a transaction holds its locks no longer.
        ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_MS),
    ]))
}

pub(crate) async fn enter_system(connection: &mut PgConnection) -> sqlx::Result<()> {
    connection.execute("set role ravenpost_system").await.map(drop)
}
