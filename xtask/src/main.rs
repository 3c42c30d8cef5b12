//! The tool box: `cargo xtask …`. Everything that is done to this repository more than once is a command here.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "these commands talk to the person who ran them"
)]

mod access;
mod alerts;
mod bench;
mod cargo;
mod chaos;
mod check;
mod demo;
mod down;
mod folder;
mod generate;
mod login;
mod providers;
mod receiver;
mod signals;
mod test;
mod tools;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The tool box of Ravenpost", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts everything on this machine, migrated and seeded, and prints URLs, an API key and a curl to paste
    Up(up::Arguments),
    /// Stops what `up` (or a plain `cargo test`) started; the data stay
    Down(down::Arguments),
    /// Runs everything a change must pass, against real stores; ends with one closing count
    Test(test::Arguments),
    /// Kills, pauses and cuts off processes and stores under load, and checks what was promised
    Chaos(chaos::Arguments),
    /// Checks format, lints, dependencies, generated files and workflows
    Check,
    /// Writes the generated files: .sqlx, docs/api/openapi.json, docs/api/access.md, docs/settings.md, docs/providers.md, docs/alerts.md
    Gen,
    /// Measures, as released, on real stores; prints a table and writes JSON to target/bench/
    Bench(bench::Arguments),
    /// Prints arriving webhooks; `up --detach` starts it
    #[command(hide = true)]
    Receiver(receiver::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Up(arguments) => up::run(&arguments).await,
        Command::Down(arguments) => down::run(&arguments),
        Command::Test(arguments) => test::run(&arguments).await,
        Command::Chaos(arguments) => chaos::run(&arguments).await,
        Command::Check => check::run().await,
        Command::Gen => generate::run().await,
        Command::Bench(arguments) => bench::run(&arguments).await,
        Command::Receiver(arguments) => receiver::run(&arguments).await,
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("\nerror: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("  because: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}
