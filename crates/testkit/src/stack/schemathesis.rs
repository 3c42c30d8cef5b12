//! Schemathesis, which makes requests of all kinds out of an OpenAPI document and judges the answers by it.

use std::path::PathBuf;

use anyhow::Result;

use super::{install, progress::Progress};

const PACKAGE: install::PythonPackage = install::PythonPackage { name: "schemathesis", version: "4.32.5" };

/// Its program, installed when it isn't there yet.
pub async fn program(progress: &Progress) -> Result<PathBuf> {
    // Its scripts name the folder that they were installed into, which is renamed when it is complete: the module is run
    // instead, by the interpreter of its environment.
    Ok(install::python(PACKAGE, progress).await?.join("bin/python"))
}

/// What runs it as a module of that interpreter.
pub const MODULE: [&str; 2] = ["-m", "schemathesis.cli"];
