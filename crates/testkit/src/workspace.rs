//! Where things are: the workspace, its build, and the cache of downloaded parts.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The folder of the workspace's `Cargo.toml`.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_path_buf()
}

/// `migrations/` of the workspace.
pub fn migrations() -> PathBuf {
    root().join("migrations")
}

/// Where downloaded parts live: `RAVENPOST_CACHE`, else `~/.cache/ravenpost`. Outside `target/`, so that
/// `cargo clean` costs no download.
pub fn cache() -> Result<PathBuf> {
    if let Some(path) = env::var_os("RAVENPOST_CACHE") {
        return Ok(PathBuf::from(path));
    }
    let home = env::var_os("HOME").context("neither RAVENPOST_CACHE nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cache/ravenpost"))
}

/// The folder of our built binaries: `RAVENPOST_BIN_DIR`, else beside the running executable (a test runs from
/// `target/debug/deps`, xtask from `target/debug`).
pub fn binaries() -> Result<PathBuf> {
    if let Some(path) = env::var_os("RAVENPOST_BIN_DIR") {
        return Ok(PathBuf::from(path));
    }
    let executable = env::current_exe().context("the path of the running executable")?;
    let folder = executable.parent().context("the folder of the running executable")?;
    Ok(if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder }.to_path_buf())
}

/// The path of one of our binaries, or an error that says how to build it.
pub fn binary(name: &str) -> Result<PathBuf> {
    let path = binaries()?.join(name);
    anyhow::ensure!(
        path.is_file(),
        "{} is not built: run `cargo build --workspace` (or `cargo xtask test`, which does)",
        path.display()
    );
    Ok(path)
}
