//! Running cargo.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context, Result, ensure};
use ravenpost_testkit::workspace;
use tokio::process::Command;

/// Cargo with the checked-in query data, whatever `DATABASE_URL` this shell has.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(workspace::root())
        .env("SQLX_OFFLINE", "true")
        .kill_on_drop(true)
        .stdin(Stdio::null());
    for variable in std::env::vars().map(|(name, _)| name).filter(|name| is_about_us(name)) {
        command.env_remove(variable);
    }
    command
}

/// What cargo tells the program that it runs about itself. Build scripts (ring's) read the same names: inherited, they
/// would be built anew whenever cargo is run by us and by hand in turns, and half of the dependencies after them.
fn is_about_us(variable: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| variable.starts_with(prefix))
}

/// Runs a command to its success; what it prints goes to the terminal.
pub(crate) async fn succeed(command: &mut Command, what: &str) -> Result<()> {
    let status = command.status().await.with_context(|| format!("starting {what}"))?;
    ensure!(status.success(), "{what} failed ({status})");
    Ok(())
}

/// Builds the services; gives the folder that they are in. Not xtask, which would replace itself while it runs.
pub(crate) async fn build(release: bool) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--workspace", "--exclude", "xtask", "--bins"]);
    if release {
        command.arg("--release");
    }
    succeed(&mut command, "cargo build").await?;
    built(if release { "release" } else { "debug" })
}

/// Builds everything as it is released, xtask too; gives the folder that all of it is in.
pub(crate) async fn build_released() -> Result<PathBuf> {
    succeed(cargo().args(["build", "--workspace", "--bins", "--release"]), "cargo build --release").await?;
    built("release")
}

fn built(profile: &str) -> Result<PathBuf> {
    let folder = workspace::binaries()?;
    // We run from `target/<profile>` ourselves.
    Ok(folder.parent().context("the target folder")?.join(profile))
}
