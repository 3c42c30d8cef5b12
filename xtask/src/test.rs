//! `cargo xtask test`: builds everything, starts the stores once, runs every test executable, and counts.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{ExitCode, Stdio},
};

use anyhow::{Context, Result};
use ravenpost_testkit::stack::{self, Options, Progress, STACK_VARIABLE, Stack};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use crate::{cargo, folder, signals::Signals};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Packages (`store`, `e2e`), test files, or parts of the names of tests; everything when empty
    names: Vec<String>,
}

/// A built test executable.
#[derive(Debug)]
pub(crate) struct Executable {
    package: String,
    target: String,
    path: PathBuf,
    /// The package's folder, where cargo runs its tests too.
    directory: PathBuf,
}

impl Executable {
    /// Whether it is this target of this package.
    pub(crate) fn is(&self, package: &str, target: &str) -> bool {
        self.package == package && self.target == target
    }

    /// Runs it as cargo would.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.current_dir(&self.directory).env("CARGO_MANIFEST_DIR", &self.directory);
        command
    }
}

/// What libtest's closing lines add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: usize,
    failed: usize,
    ignored: usize,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let suite = folder::suite();
    fs::create_dir_all(&suite)?;
    let lock = File::create(folder::stack().join("suite.lock"))?;
    lock.try_lock().context("another `cargo xtask test` runs in this checkout")?;
    let outcome = tokio::select! {
        outcome = everything(arguments) => outcome,
        () = signals.next() => Err(anyhow::anyhow!("interrupted")),
    };
    // Also what a killed test left: its processes have their pid files below the suite's folder.
    stack::stop_all(&suite)?;
    let count = outcome?;
    println!("\n{}", closing_line(count));
    Ok(if count.failed == 0 && count.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn closing_line(count: Count) -> String {
    let skipped = if count.ignored > 0 { format!(", {} skipped", count.ignored) } else { String::new() };
    format!("{} passed, {} failed{skipped}", count.passed, count.failed)
}

async fn everything(arguments: &Arguments) -> Result<Count> {
    let suite = folder::suite();
    stack::stop_all(&suite)?;
    fs::remove_dir_all(&suite)?;
    let temporary = suite.join("tmp");
    fs::create_dir_all(&temporary)?;

    let progress = Progress::printed(2 + Stack::STEPS);
    progress.step("building the services", cargo::build(false)).await?;
    let executables = progress.step("building the tests", build_tests()).await?;
    let (executables, filters) = select(executables, &arguments.names);

    let stores = Stack::start(&suite.join("stores"), &Options::for_tests(), &progress).await?;
    let stack_file = suite.join("stack.json");
    stack::write_addresses(&stack_file, &stores.addresses())?;
    let mut count = Count::default();
    for executable in &executables {
        println!("\n=== {} / {}", executable.package, executable.target);
        let mut command = executable.command();
        command
            .args(&filters)
            .env(STACK_VARIABLE, &stack_file)
            // Stores and processes that a test starts for itself are found below here when it is killed.
            .env("TMPDIR", &temporary);
        count.add(run_one(command).await?);
    }
    stores.stop()?;
    Ok(count)
}

pub(crate) async fn build_tests() -> Result<Vec<Executable>> {
    let output = cargo::cargo()
        .args(["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()?
        .wait_with_output()
        .await?;
    anyhow::ensure!(output.status.success(), "the tests don't build");
    let mut executables: Vec<Executable> =
        String::from_utf8_lossy(&output.stdout).lines().filter_map(executable).collect();
    // Units first, the system last: what is quick fails first.
    executables.sort_by_key(|found| (found.package == "e2e", found.package.clone(), found.target.clone()));
    Ok(executables)
}

/// One of cargo's messages, when it tells of a test executable.
fn executable(message: &str) -> Option<Executable> {
    let message: Value = serde_json::from_str(message).ok()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let manifest = PathBuf::from(message["manifest_path"].as_str()?);
    let directory = manifest.parent()?.to_path_buf();
    let id = message["package_id"].as_str()?;
    let folder = directory.file_name()?.to_str()?;
    // An id ends with `#name@version`, or with `/folder#version` when the folder has the package's name.
    let package =
        id.rsplit_once('#').and_then(|(_, tail)| tail.rsplit_once('@')).map_or(folder, |(name, _)| name);
    Some(Executable {
        package: package.to_owned(),
        target: message["target"]["name"].as_str()?.to_owned(),
        path: PathBuf::from(message["executable"].as_str()?),
        directory,
    })
}

/// Names of packages and test files choose executables; every other name is part of a test's name.
fn select(executables: Vec<Executable>, names: &[String]) -> (Vec<Executable>, Vec<String>) {
    let means = |executable: &Executable, name: &str| {
        executable.package == name
            || executable.package.strip_prefix("ravenpost-") == Some(name)
            || executable.target == name
    };
    let (chosen, filters): (Vec<&String>, Vec<&String>) =
        names.iter().partition(|name| executables.iter().any(|executable| means(executable, name)));
    let filters = filters.into_iter().cloned().collect();
    let executables = executables
        .into_iter()
        .filter(|executable| chosen.is_empty() || chosen.iter().any(|name| means(executable, name)))
        .collect();
    (executables, filters)
}

/// Runs one executable, its output passed on line by line.
async fn run_one(mut command: Command) -> Result<Count> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let stdout = child.stdout.take().context("the output of a test")?;
    let mut lines = BufReader::new(stdout).lines();
    let mut count = None;
    while let Some(line) = lines.next_line().await? {
        println!("{line}");
        count = closing_count(&line).or(count);
    }
    let status = child.wait().await?;
    Ok(match count {
        Some(count) if status.success() || count.failed > 0 => count,
        // It died before it could count, or after.
        count => {
            println!("the test executable ended with {status}");
            let mut count = count.unwrap_or_default();
            count.failed += 1;
            count
        }
    })
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; …`
fn closing_count(line: &str) -> Option<Count> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |word: &str| {
        let before = rest.split(word).next()?;
        before.split_whitespace().last()?.parse().ok()
    };
    Some(Count { passed: number(" passed")?, failed: number(" failed")?, ignored: number(" ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtests_closing_line_is_understood() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 4 filtered out; finished in 1s";
        let count = Count { passed: 12, failed: 3, ignored: 1 };
        assert_eq!(closing_count(line), Some(count));
        assert_eq!(closing_count("test a ... ok"), None);
        assert_eq!(closing_line(count), "12 passed, 3 failed, 1 skipped");
        assert_eq!(closing_line(Count { ignored: 0, ..count }), "12 passed, 3 failed");
    }

    fn built(package: &str, target: &str) -> Executable {
        let (path, directory) = (PathBuf::new(), PathBuf::new());
        Executable { package: package.to_owned(), target: target.to_owned(), path, directory }
    }

    #[test]
    fn a_name_is_a_package_a_file_or_part_of_a_test() {
        let select = |names: &[&str]| {
            let all = vec![built("ravenpost-store", "ravenpost_store"), built("e2e", "delivery")];
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let (executables, filters) = select(all, &names);
            (executables.into_iter().map(|executable| executable.target).collect::<Vec<_>>(), filters)
        };
        assert_eq!(select(&[]), (vec!["ravenpost_store".to_owned(), "delivery".to_owned()], vec![]));
        assert_eq!(select(&["store"]), (vec!["ravenpost_store".to_owned()], vec![]));
        assert_eq!(select(&["delivery", "twice"]), (vec!["delivery".to_owned()], vec!["twice".to_owned()]));
    }

    #[test]
    fn cargos_message_is_understood() {
        let message = r#"{"reason":"compiler-artifact","package_id":"path+file:///x/tests#e2e@0.1.0","manifest_path":"/x/tests/Cargo.toml","target":{"name":"delivery"},"profile":{"test":true},"executable":"/x/target/debug/deps/delivery-1"}"#;
        let found = executable(message).unwrap();
        assert_eq!((found.package.as_str(), found.target.as_str()), ("e2e", "delivery"));
        assert!(executable(&message.replace(r#""test":true"#, r#""test":false"#)).is_none());
    }
}
