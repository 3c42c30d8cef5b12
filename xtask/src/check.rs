//! `cargo xtask check`: what can be said about a change without running it. Every check is made, and what failed
//! is told together at the end.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, ensure};
use ravenpost_testkit::{stack::Progress, workspace};

use crate::{cargo, generate, tools};

pub(crate) async fn run() -> Result<ExitCode> {
    let progress = Progress::printed(6);
    let outcomes = [
        ("format", progress.step("format", format()).await),
        ("generated files", generated(&progress).await),
        ("lints", progress.step("lints", lints()).await),
        ("fuzz targets", progress.step("fuzz targets", fuzz_targets()).await),
        ("dependencies", dependencies(&progress).await),
        ("workflows", workflows(&progress).await),
    ];
    let mut failed = Vec::new();
    for (name, outcome) in outcomes {
        if let Err(error) = outcome {
            eprintln!("\n{name}: {error:#}");
            failed.push(name);
        }
    }
    if failed.is_empty() {
        println!("All checks passed.");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("\nChecks that failed: {}.", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

async fn format() -> Result<()> {
    cargo::succeed(cargo::cargo().args(["fmt", "--all", "--check"]), "cargo fmt --check").await
}

async fn lints() -> Result<()> {
    let arguments = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    cargo::succeed(cargo::cargo().args(arguments), "cargo clippy").await
}

/// Compiles the fuzz targets, which are no part of the workspace: on stable and without libFuzzer, as far as the compiler can
/// tell whether they still fit what they are about. Their lock files are the workspace's, and what libFuzzer needs.
async fn fuzz_targets() -> Result<()> {
    for name in ["core", "egress"] {
        let mut command = cargo::cargo();
        command.args(["check", "--quiet", "--locked", "--no-default-features"]);
        command.arg("--manifest-path").arg(workspace::root().join(format!("crates/{name}/fuzz/Cargo.toml")));
        command.arg("--target-dir").arg(workspace::root().join("target/fuzz"));
        cargo::succeed(&mut command, &format!("cargo check of crates/{name}/fuzz")).await?;
    }
    Ok(())
}

/// Advisories aren't asked for: they change without a change here, and their database isn't in a registry.
async fn dependencies(progress: &Progress) -> Result<()> {
    let deny = tools::cargo_deny(progress).await?;
    let mut command = tokio::process::Command::new(deny);
    command.current_dir(workspace::root()).args([
        "--log-level",
        "error",
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]);
    progress.step("dependencies", cargo::succeed(&mut command, "cargo deny")).await
}

async fn generated(progress: &Progress) -> Result<()> {
    let differences = generate::differences(&generate::all(progress).await?);
    let names: Vec<String> = differences.iter().map(|path| path.display().to_string()).collect();
    ensure!(names.is_empty(), "not as generated: {}. Run `cargo xtask gen`.", names.join(", "));
    Ok(())
}

async fn workflows(progress: &Progress) -> Result<()> {
    let actionlint: PathBuf = tools::actionlint(progress).await?;
    let mut command = tokio::process::Command::new(actionlint);
    // Without the helpers that a machine happens to have, so that every machine finds the same.
    command.current_dir(workspace::root()).args(["-shellcheck=", "-pyflakes="]);
    progress.step("workflows", cargo::succeed(&mut command, "actionlint")).await
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ravenpost_core::topic;

    use super::*;

    /// Words of a text that begin so.
    fn words<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
        let words = text.split(|one: char| !one.is_ascii_alphanumeric() && one != '_');
        words.filter(|word| word.starts_with(start)).collect()
    }

    #[test]
    fn compose_sets_what_there_is_and_makes_the_topics_that_are_used() {
        let read = |path: &str| fs::read_to_string(workspace::root().join(path)).unwrap();
        let compose = read("docker-compose.yml");
        let known = [read("docs/settings.md"), read("deploy/keycloak/ravenpost-realm.json")].concat();
        let set = words(&compose, "RAVENPOST_");
        assert!(set.len() > 10, "{set:?}");
        for name in set {
            assert!(words(&known, "RAVENPOST_").contains(&name), "nothing reads {name}");
        }
        assert!(
            compose.contains(&format!("for topic in {};", topic::ALL.join(" "))),
            "other topics are made"
        );
    }
}
