//! On what it was measured.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use ravenpost_testkit::{
    stack::{Stack, usage},
    workspace,
};
use serde::Serialize;
use tokio::process::Command;

/// Over this time it is looked whether the machine is quiet.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) cpu: String,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    pub(crate) rustc: String,
    pub(crate) commit: String,
    pub(crate) stores: Vec<String>,
}

pub(crate) async fn describe() -> Result<Machine> {
    let stores = Stack::versions().map(|(name, version)| format!("{name} {version}")).to_vec();
    Ok(Machine {
        cores: thread::available_parallelism()?.get(),
        cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned()),
        memory_gib: memory_gib(),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        rustc: said("rustc", &["--version"]).await,
        commit: said("git", &["describe", "--always", "--dirty"]).await,
        stores,
    })
}

impl Machine {
    pub(crate) fn line(&self) -> String {
        let Self { cores, cpu, memory_gib, kernel, rustc, commit, stores } = self;
        let stores = stores.join(", ");
        format!(
            "{cores} cores of {cpu}, {memory_gib} GiB, Linux {kernel}; {stores}; {rustc}; commit {commit}"
        )
    }
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory_gib() -> u64 {
    let kib = field("/proc/meminfo", "MemTotal").unwrap_or_default();
    kib.trim_end_matches(" kB").parse().unwrap_or(0) / 1_048_576
}

/// The first line of what a program says; a program that isn't there is no reason not to measure.
async fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(workspace::root()).output().await;
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().map_or_else(|| format!("{program} unknown"), str::to_owned)
}

/// Has the kernel write to the disk what nobody has flushed. It would do so half a minute later, all at once, and whoever
/// flushes just then waits for all of it (`vm.dirty_expire_centisecs`).
pub(crate) async fn write_out() -> Result<()> {
    let status = Command::new("sync").status().await.context("starting sync")?;
    ensure!(status.success(), "sync failed ({status})");
    Ok(())
}

/// Waits until everything on this machine together, our idle stores too, takes no more than so many cores, or until the
/// deadline.
pub(crate) async fn wait_for_quiet(most_cores: f64, deadline: Instant) -> Result<()> {
    loop {
        let (started, before) = (Instant::now(), usage::machine_cpu()?);
        tokio::time::sleep(LOOK).await;
        let busy = usage::machine_cpu()?.saturating_sub(before);
        if busy.as_secs_f64() / started.elapsed().as_secs_f64() <= most_cores || Instant::now() >= deadline {
            return Ok(());
        }
    }
}
