//! What `management-api reconcile` says of a system.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    process::{self, Outcome},
    system::{Service, Settings, System},
    workspace,
};

/// Runs `reconcile` with these arguments.
pub async fn reconcile(system: &System, arguments: &[&str]) -> Result<Outcome> {
    reconcile_by(&system.settings, arguments).await
}

async fn reconcile_by(settings: &Settings, arguments: &[&str]) -> Result<Outcome> {
    let program = workspace::binary(&Service::ManagementApi.binary())?;
    let arguments: Vec<&str> = ["reconcile"].iter().chain(arguments).copied().collect();
    process::run(&program, &arguments, &settings.pairs()).await
}

/// The ledger as JSON, of everything until now and with every payload read. An error when the exit code does not agree
/// with it.
pub async fn ledger(system: &System, arguments: &[&str]) -> Result<Value> {
    ledger_by(&system.settings, arguments).await
}

/// The same by other settings than those of its services.
pub async fn ledger_by(settings: &Settings, arguments: &[&str]) -> Result<Value> {
    let arguments: Vec<&str> =
        ["--json", "--grace", "0s", "--payloads", "all"].iter().chain(arguments).copied().collect();
    let outcome = reconcile_by(settings, &arguments).await?;
    let told: Value = serde_json::from_str(&outcome.stdout).with_context(|| outcome.stderr.clone())?;
    let code = i32::from(told["balanced"] != true);
    ensure!(outcome.status.code() == Some(code), "{}: {told} {}", outcome.status, outcome.stderr);
    Ok(told)
}

/// What is wrong by a ledger: an event and its fault.
pub fn findings(ledger: &Value) -> BTreeSet<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let listed = ledger["findings"]["listed"].as_array().into_iter().flatten();
    listed.map(|finding| (text(&finding["event_id"]), text(&finding["fault"]))).collect()
}

/// What the workers have said of events that waited nowhere, those that were killed included.
pub fn said_of_sweeping(system: &System) -> Result<Vec<String>> {
    let mut said = Vec::new();
    for file in fs::read_dir(system.logs())? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let log = fs::read(&path)?;
            let log = String::from_utf8_lossy(&log);
            said.extend(log.lines().filter(|line| line.contains("events waited nowhere")).map(str::to_owned));
        }
    }
    Ok(said)
}
