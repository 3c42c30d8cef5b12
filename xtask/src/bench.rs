//! `cargo xtask bench`: how fast, how small, on this machine, with every store real and everything kept that is promised.

mod ground;
mod machine;
mod measure;
mod target;

mod analytics;
mod api;
mod ingest;
mod rejected;
mod replay;

mod delivery;

mod deliver;
mod drain;
mod fan;
mod isolation;
mod notifier;
mod retries;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::cargo;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    bench: Bench,
    /// Everything is built and this is the released tool box
    #[arg(long, global = true, hide = true)]
    measure: bool,
}

#[derive(clap::Subcommand)]
enum Bench {
    /// Accepting: events a second, latency, processor time, memory, and that nothing acknowledged is missing
    Ingest(ingest::Arguments),
    /// What a flood of requests that fail verification costs Postgres, and the producer next to it
    Rejected(rejected::Arguments),
    /// Replaying many dead letters: how long it takes, memory, and that each is sent once
    Replay(replay::Arguments),
    /// Mixed reads of the API beside ingest: latency
    Api(api::Arguments),
    /// Figures of 30 days over ten million attempts: how long they take
    Analytics(analytics::Arguments),
    /// Accepting and delivering: events a second, from ingest to the receiver, processor time, memory
    Deliver(deliver::Arguments),
    /// How soon a backlog of events is delivered
    Drain(drain::Arguments),
    /// What healthy destinations notice of one that hangs, is slow, fails or drips
    Isolation(isolation::Arguments),
    /// Many endpoints of many organizations against one
    Fan(fan::Arguments),
    /// How far from its time a retry arrives
    Retries(retries::Arguments),
    /// Watching many destinations: processor time, memory, and how far the notifier falls behind
    Notifier(notifier::Arguments),
}

pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    if !arguments.measure {
        return run_released().await;
    }
    match &arguments.bench {
        Bench::Ingest(arguments) => ingest::run(arguments).await,
        Bench::Rejected(arguments) => rejected::run(arguments).await,
        Bench::Replay(arguments) => replay::run(arguments).await,
        Bench::Api(arguments) => api::run(arguments).await,
        Bench::Analytics(arguments) => analytics::run(arguments).await,
        Bench::Deliver(arguments) => deliver::run(arguments).await,
        Bench::Drain(arguments) => drain::run(arguments).await,
        Bench::Isolation(arguments) => isolation::run(arguments).await,
        Bench::Fan(arguments) => fan::run(arguments).await,
        Bench::Retries(arguments) => retries::run(arguments).await,
        Bench::Notifier(arguments) => notifier::run(arguments).await,
    }
}

/// Builds everything as it is released, this tool box too, since the load comes from it, and lets that one measure.
async fn run_released() -> Result<ExitCode> {
    eprintln!("Building as released; the first time this takes long.");
    let program: PathBuf = cargo::build_released().await?.join("xtask");
    let mut measuring = Command::new(&program);
    measuring.args(std::env::args_os().skip(1)).arg("--measure");
    let status = measuring.status().await.with_context(|| program.display().to_string())?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
