//! `cargo xtask chaos`: lets processes and stores fail at random under load, for as long as one likes, and holds what
//! was promised against what is there.

use std::{fs, fs::File, process::ExitCode};

use anyhow::{Context, Result};
use ravenpost_testkit::stack::{self, Progress, STACK_VARIABLE};

use crate::{cargo, folder, signals::Signals, test};

/// Rounds whose seed nobody has chosen begin somewhere below this.
const SEEDS: u64 = 1_000_000;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What has to keep its promises
    #[arg(value_enum)]
    subject: Subject,
    /// Of the first round; each further round adds one. Random when left out, and printed
    #[arg(long)]
    seed: Option<u64>,
    /// How long the faults of a round last together
    #[arg(long, default_value = "120", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How many rounds, each on a fresh system
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Subject {
    /// What was answered 202 survives, whatever happens to ingress, Postgres, S3 and Kafka
    Ingress,
    /// What was answered 202 is delivered, whatever happens to workers, Postgres, S3, Kafka and destinations
    Delivery,
}

impl Subject {
    /// The test in `tests/chaos`.
    fn test(self) -> &'static str {
        match self {
            Self::Ingress => "what_ingress_acknowledges_survives",
            Self::Delivery => "what_is_accepted_is_delivered",
        }
    }
}

pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let folder = folder::chaos();
    fs::create_dir_all(&folder)?;
    let lock = File::create(folder::stack().join("chaos.lock"))?;
    lock.try_lock().context("another `cargo xtask chaos` runs in this checkout")?;
    stack::stop_all(&folder)?;
    fs::remove_dir_all(&folder)?;
    fs::create_dir_all(&folder)?;
    let outcome = tokio::select! {
        outcome = rounds(arguments) => outcome,
        () = signals.next() => Err(anyhow::anyhow!("interrupted")),
    };
    // What a test that was ended has left: its processes have their pid files below this folder.
    stack::stop_all(&folder)?;
    outcome
}

async fn rounds(arguments: &Arguments) -> Result<ExitCode> {
    let progress = Progress::printed(2);
    progress.step("building the services", cargo::build(false)).await?;
    let executables = progress.step("building the tests", test::build_tests()).await?;
    let chaos =
        executables.iter().find(|found| found.is("e2e", "chaos")).context("tests/chaos is not there")?;
    let seed = arguments.seed.unwrap_or_else(|| rand::random_range(0..SEEDS));
    let mut command = chaos.command();
    command
        .args(["--exact", arguments.subject.test(), "--nocapture"])
        // The chaos has stores of its own, which are put beside this file.
        .env(STACK_VARIABLE, folder::chaos().join("stack.json"))
        .env("RAVENPOST_CHAOS_SEED", seed.to_string())
        .env("RAVENPOST_CHAOS_SECONDS", arguments.seconds.to_string())
        .env("RAVENPOST_CHAOS_ROUNDS", arguments.rounds.to_string());
    println!("The first seed is {seed}.");
    let status = command.kill_on_drop(true).status().await.context("starting the chaos")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
