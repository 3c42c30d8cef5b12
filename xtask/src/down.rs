//! `cargo xtask down`: stops what runs, by the pid files.

use std::{fs, process::ExitCode};

use anyhow::{Context, Result};
use ravenpost_testkit::stack;

use crate::folder;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Forget the data too: events, the demo organization, the master key, ports
    #[arg(long)]
    wipe: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    // Services first: they finish what they have begun while the stores still answer.
    let mut stopped = stack::stop_all(&folder::logs())?;
    stopped.extend(stack::stop_all(&folder::stores())?);
    stopped.extend(stack::stop_all(&folder::stack().join("test"))?);
    stopped.extend(stack::stop_all(&folder::bench())?);
    // Only a running stack has addresses.
    let _ = fs::remove_file(folder::stack_json());
    if stopped.is_empty() {
        println!("Nothing was running.");
    } else {
        println!("Stopped: {}.", stopped.join(", "));
    }
    if arguments.wipe {
        wipe()?;
        println!("The data are gone.");
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes everything but the folders of a `cargo xtask test` and a `cargo xtask chaos` that may be running.
fn wipe() -> Result<()> {
    for entry in fs::read_dir(folder::stack()).into_iter().flatten() {
        let path = entry?.path();
        if path == folder::suite() || path == folder::chaos() {
            continue;
        }
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(())
}
