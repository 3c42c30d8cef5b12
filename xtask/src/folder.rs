//! `.stack/`: what a running system of this checkout leaves on the disk.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use ravenpost_testkit::{system, workspace};

/// `.stack/`, which git ignores.
pub(crate) fn stack() -> PathBuf {
    workspace::root().join(".stack")
}

/// The data of the stores.
pub(crate) fn stores() -> PathBuf {
    stack().join("stores")
}

/// Logs and pid files of the services.
pub(crate) fn logs() -> PathBuf {
    stack().join("logs")
}

/// What other programs start from.
pub(crate) fn stack_json() -> PathBuf {
    stack().join("stack.json")
}

/// What was seeded, secrets included.
pub(crate) fn demo_json() -> PathBuf {
    stack().join("demo.json")
}

/// The stack of `cargo xtask test`.
pub(crate) fn suite() -> PathBuf {
    stack().join("suite")
}

/// The stores of `cargo xtask bench`.
pub(crate) fn bench() -> PathBuf {
    stack().join("bench")
}

/// The stack of `cargo xtask chaos`.
pub(crate) fn chaos() -> PathBuf {
    stack().join("chaos")
}

/// The master key of this checkout's data; made once, as data sealed with it can't be read with another.
pub(crate) fn master_key() -> Result<String> {
    let file = stack().join("master.key");
    match fs::read_to_string(&file) {
        Ok(key) => Ok(key.trim().to_owned()),
        Err(_absent) => {
            let key = system::random_master_key();
            write_secret(&file, key.as_bytes())?;
            Ok(key)
        }
    }
}

/// Writes a file that its owner alone may read.
pub(crate) fn write_secret(file: &Path, content: &[u8]) -> Result<()> {
    let write = || {
        // The mode counts when a file is made, so an older one with another mode must not remain.
        let _ = fs::remove_file(file);
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?.write_all(content)
    };
    write().with_context(|| format!("writing {}", file.display()))
}
