//! The local stack: real Postgres, S3 and Kafka, and a mail server that keeps what it gets, each an ordinary
//! process of this machine.
//!
//! Each store is a type of its own, so that a test can have one to itself and kill it; [`Stack`] is all of them in
//! one folder. [`shared`] is the stack that all tests of a run use together, each with a database, a topic prefix
//! and a key prefix of its own. [`Keycloak`] is no part of it: it is large and slow, so only those who need it start it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::{s3::S3Address, workspace};

pub mod daemon;
pub mod install;
pub mod port;
mod proc;
pub mod usage;

mod java;
mod kafka;
pub mod keycloak;
mod postgres;
mod progress;
pub mod schemathesis;
mod seaweedfs;
mod smtp;

pub use daemon::{Daemon, Spec, WhenDropped};
pub use kafka::Kafka;
pub use keycloak::Keycloak;
pub use postgres::Postgres;
pub use progress::Progress;
pub use seaweedfs::SeaweedFs;
pub use smtp::{Guard, Smtp};

/// Names the `stack.json` of the stack that tests shall use.
pub const STACK_VARIABLE: &str = "RAVENPOST_STACK";

/// How stores are started.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Take the ports that people remember when they are free, instead of any.
    pub usual_ports: bool,
    /// Flush to the disk what is acknowledged. Without, a killed process still loses nothing, a lost machine does.
    pub durable: bool,
    /// What happens when the store is dropped.
    pub when_dropped: WhenDropped,
    /// Kafka tells its clients where it is. With this port it has one more listener, and tells who comes through that
    /// one to come by this port: that of a [`crate::fault::FaultProxy`].
    pub kafka_proxy_port: Option<u16>,
}

impl Options {
    /// For a person's stack.
    pub fn for_people() -> Self {
        Self { usual_ports: true, durable: true, when_dropped: WhenDropped::Stop, kafka_proxy_port: None }
    }

    /// For tests: any ports, no waiting for the disk.
    pub fn for_tests() -> Self {
        Self { usual_ports: false, durable: false, when_dropped: WhenDropped::Stop, kafka_proxy_port: None }
    }

    fn usual(self, port: u16) -> Option<u16> {
        self.usual_ports.then_some(port)
    }
}

/// Where the stores are. Also what `stack.json` has under `stores`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Addresses {
    /// The URL of the server's own database, as a superuser.
    pub postgres_url: String,
    pub s3: S3Address,
    pub kafka_brokers: String,
    pub smtp_url: String,
    /// The Maildir with what was mailed.
    pub mailbox: PathBuf,
}

/// The part of `stack.json` that tests read.
#[derive(Debug, Serialize, Deserialize)]
struct StackFile {
    stores: Addresses,
}

/// All stores, running.
#[derive(Debug)]
pub struct Stack {
    pub postgres: Postgres,
    pub s3: SeaweedFs,
    pub kafka: Kafka,
    pub smtp: Smtp,
}

impl Stack {
    /// How many steps [`Stack::start`] counts when nothing has to be fetched.
    pub const STEPS: usize = 4;

    /// Starts every store on the data in `folder` and waits until they are ready. An error stops those that had
    /// started.
    pub async fn start(folder: &Path, options: &Options, progress: &Progress) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        // A store that is told where its data is by a relative path would look for it from its own folder.
        let folder = folder.canonicalize()?;
        let place = |store: &str| folder.join(store);
        let (postgres, s3, kafka, smtp) =
            (place("postgres"), place("seaweedfs"), place("kafka"), place("smtp"));
        let (postgres, s3, kafka, smtp) = tokio::try_join!(
            progress.step("PostgreSQL", Postgres::start(&postgres, options, progress)),
            progress.step("SeaweedFS (S3)", SeaweedFs::start(&s3, options, progress)),
            progress.step("Kafka", Kafka::start(&kafka, options, progress)),
            progress.step("mail sink", Smtp::start(&smtp, options, progress)),
        )?;
        Ok(Self { postgres, s3, kafka, smtp })
    }

    /// Which versions these are, by name.
    pub fn versions() -> [(&'static str, &'static str); 3] {
        [("PostgreSQL", Postgres::VERSION), ("SeaweedFS", SeaweedFs::VERSION), ("Kafka", Kafka::VERSION)]
    }

    /// Where the stores are.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            postgres_url: self.postgres.admin_url(),
            s3: self.s3.address(),
            kafka_brokers: self.kafka.brokers(),
            smtp_url: self.smtp.url(),
            mailbox: self.smtp.mailbox().to_path_buf(),
        }
    }

    /// The processes, to be watched.
    pub fn daemons(&mut self) -> [&mut Daemon; 4] {
        [self.postgres.daemon(), self.s3.daemon(), self.kafka.daemon(), self.smtp.daemon()]
    }

    /// Stops all stores at the same time.
    pub fn stop(mut self) -> Result<()> {
        daemon::stop_together(self.daemons())
    }
}

/// Stops every process that was started with a folder below `folder`; gives the names of those that ran.
pub fn stop_all(folder: &Path) -> Result<Vec<String>> {
    let mut running = Daemon::find_all(folder)?;
    daemon::stop_together(running.iter_mut())?;
    Ok(running.iter().map(|daemon| daemon.name().to_owned()).collect())
}

/// The stack that tests share. [`STACK_VARIABLE`] names its `stack.json` when `cargo xtask test` has started one;
/// else it is `.stack/test`, which the first test of a plain `cargo test` starts and `cargo xtask down` stops.
pub async fn shared() -> Result<&'static Addresses> {
    static SHARED: OnceCell<Addresses> = OnceCell::const_new();
    SHARED.get_or_try_init(find_or_start).await
}

/// The folder of the shared stack, for what tests put beside it: their processes end when it is stopped.
pub fn shared_folder() -> PathBuf {
    let file = std::env::var_os(STACK_VARIABLE).map(PathBuf::from);
    let named = file.as_deref().and_then(Path::parent).map(Path::to_path_buf);
    named.unwrap_or_else(|| workspace::root().join(".stack/test"))
}

async fn find_or_start() -> Result<Addresses> {
    if let Some(file) = std::env::var_os(STACK_VARIABLE) {
        return read_addresses(Path::new(&file));
    }
    let folder = shared_folder();
    fs::create_dir_all(&folder)?;
    let lock = File::create(folder.join("lock"))?;
    // Test executables run beside each other: one starts the stack, the others wait here.
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await??;
    let file = folder.join("stack.json");
    let stores = folder.join("stores");
    if Daemon::find_all(&stores)?.len() == Stack::STEPS
        && let Ok(addresses) = read_addresses(&file)
    {
        return Ok(addresses);
    }
    stop_all(&stores)?;
    let options = Options { when_dropped: WhenDropped::Leave, ..Options::for_tests() };
    let addresses = Stack::start(&stores, &options, &Progress::silent()).await?.addresses();
    write_addresses(&file, &addresses)?;
    drop(lock);
    Ok(addresses)
}

/// Reads where the stores are from a `stack.json`.
pub fn read_addresses(file: &Path) -> Result<Addresses> {
    let text = fs::read(file).with_context(|| file.display().to_string())?;
    let StackFile { stores } = serde_json::from_slice(&text).with_context(|| file.display().to_string())?;
    Ok(stores)
}

/// Writes a `stack.json` that has the stores alone.
pub fn write_addresses(file: &Path, addresses: &Addresses) -> Result<()> {
    let content = StackFile { stores: addresses.clone() };
    fs::write(file, serde_json::to_vec_pretty(&content)?).with_context(|| file.display().to_string())
}
