//! Programs that `check` needs and no Rust toolchain brings: built from their package once, into the cache.

use std::{path::PathBuf, process::Command};

use anyhow::Result;
use ravenpost_testkit::stack::{Progress, install};

/// A linter of GitHub's workflow files.
pub(crate) async fn actionlint(progress: &Progress) -> Result<PathBuf> {
    const VERSION: &str = "v1.7.12";
    let folder = install::part(&format!("actionlint-{VERSION}"), progress, |folder| {
        install::run(
            Command::new("go")
                .args(["install", &format!("github.com/rhysd/actionlint/cmd/actionlint@{VERSION}")])
                .env("GOBIN", folder),
            "Go 1.24 or later (Debian: apt-get install golang)",
        )
    })
    .await?;
    Ok(folder.join("actionlint"))
}

/// The judge of our dependencies. Takes minutes to build, once.
pub(crate) async fn cargo_deny(progress: &Progress) -> Result<PathBuf> {
    const VERSION: &str = "0.20.2";
    let folder = install::part(&format!("cargo-deny-{VERSION}"), progress, |folder| {
        install::run(
            Command::new("cargo")
                .args(["install", "--quiet", "--locked", "--version", VERSION, "cargo-deny"])
                // A target folder of its own: the workspace's would be locked meanwhile.
                .env("CARGO_TARGET_DIR", folder.join("target"))
                .arg("--root")
                .arg(folder),
            "cargo with access to the crates registry",
        )?;
        std::fs::remove_dir_all(folder.join("target"))?;
        Ok(())
    })
    .await?;
    Ok(folder.join("bin/cargo-deny"))
}
