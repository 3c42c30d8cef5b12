//! What every bench stands on: stores with empty data, gone afterwards, and a file for what was found.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use ravenpost_testkit::{
    stack::{self, Options, Progress, Stack},
    workspace,
};
use serde::Serialize;

use crate::{folder, signals::Signals};

/// Running stores of this bench alone.
pub(crate) struct Ground {
    place: PathBuf,
    pub(crate) stack: Stack,
    pub(crate) progress: Progress,
}

impl Ground {
    /// Starts them; old data would be others' costs. So many further steps are told.
    pub(crate) async fn start(further_steps: usize) -> Result<Self> {
        let place = folder::bench();
        stack::stop_all(&place)?;
        let _ = fs::remove_dir_all(&place);
        let progress = Progress::printed(Stack::STEPS + further_steps);
        let options = Options { usual_ports: false, ..Options::for_people() };
        let stack = Stack::start(&place, &options, &progress).await?;
        stack.postgres.break_in().await?;
        Ok(Self { place, stack, progress })
    }

    /// Stops them and removes their data.
    pub(crate) fn end(self) -> Result<()> {
        self.stack.stop()?;
        let _ = fs::remove_dir_all(&self.place);
        Ok(())
    }
}

/// Measures until it is done or somebody interrupts it.
pub(crate) async fn interruptible(measuring: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    tokio::select! {
        code = measuring => code,
        () = signals.next() => anyhow::bail!("interrupted"),
    }
}

/// Writes what was found to `target/bench/<name>.json`.
pub(crate) fn write(name: &str, results: &impl Serialize) -> Result<()> {
    let file = workspace::root().join(format!("target/bench/{name}.json"));
    fs::create_dir_all(file.parent().context("the file has a folder")?)?;
    fs::write(&file, serde_json::to_vec_pretty(results)?).with_context(|| file.display().to_string())?;
    println!("\nWritten to {}.", file.display());
    Ok(())
}
