//! `cargo xtask gen`: files that are made from code, so that they can't disagree with it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use ravenpost_testkit::{
    clock, database, process,
    stack::{Options, Postgres, Progress},
    system::Service,
    workspace,
};

use crate::{access, alerts, cargo, providers};

/// The only package whose queries are checked against a database when it is compiled.
const QUERIES_IN: &str = "ravenpost-store";
const SETTINGS_HEAD: &str = "\
# Settings

Every setting is an environment variable or a flag; the flag wins. Generated from the code by `cargo xtask gen`.
";

/// Generated files by their path in the workspace.
pub(crate) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Folders in which every file is generated, so that one more than generated is one too many.
const WHOLE_FOLDERS: [&str; 1] = [".sqlx"];

pub(crate) async fn run() -> Result<ExitCode> {
    let progress = Progress::printed(3);
    // First, since without it the services may not build.
    write(&query_data(&progress).await?)?;
    write(&from_binaries(&progress).await?)?;
    Ok(ExitCode::SUCCESS)
}

/// Everything generated, without writing it.
pub(crate) async fn all(progress: &Progress) -> Result<Files> {
    let mut files = query_data(progress).await?;
    files.extend(from_binaries(progress).await?);
    Ok(files)
}

/// Paths of generated files that aren't in the workspace as they were generated, and of those that shouldn't be
/// there any more.
pub(crate) fn differences(files: &Files) -> Vec<PathBuf> {
    let root = workspace::root();
    let changed = files
        .iter()
        .filter(|(path, content)| fs::read(root.join(path)).ok().as_ref() != Some(*content))
        .map(|(path, _)| path.clone());
    changed.chain(stale(files)).collect()
}

fn stale(files: &Files) -> Vec<PathBuf> {
    let root = workspace::root();
    let mut found = Vec::new();
    for folder in WHOLE_FOLDERS {
        for entry in fs::read_dir(root.join(folder)).into_iter().flatten().flatten() {
            found.push(Path::new(folder).join(entry.file_name()));
        }
    }
    // A folder is only judged when something was generated into it this time.
    found.retain(|path| {
        let folder = path.parent();
        files.keys().any(|file| file.parent() == folder) && !files.contains_key(path)
    });
    found
}

fn write(files: &Files) -> Result<()> {
    let root = workspace::root();
    for path in stale(files) {
        fs::remove_file(root.join(&path))?;
        println!("removed {}", path.display());
    }
    for path in differences(files) {
        let file = root.join(&path);
        fs::create_dir_all(file.parent().context("a generated file has a folder")?)?;
        fs::write(&file, &files[&path]).with_context(|| file.display().to_string())?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

/// `.sqlx`: what each query takes and gives, so that the workspace builds without a database. sqlx' macros write
/// it themselves, while they check the queries against a live one.
async fn query_data(progress: &Progress) -> Result<Files> {
    let scratch = tempfile::tempdir()?;
    let queries = scratch.path().join("sqlx");
    fs::create_dir(&queries)?;
    progress
        .step("query data (.sqlx)", async {
            let options = Options::for_tests();
            let postgres = Postgres::start(&scratch.path().join("postgres"), &options, progress).await?;
            let url = database::create_and_migrate(&postgres.admin_url(), "generate").await?;
            // Cargo doesn't know that the outcome depends on the database; a flag that was never there before makes
            // it compile the package again, and it alone.
            let fresh = format!("generated_{}", clock::now().as_nanos());
            cargo::succeed(
                cargo::cargo()
                    .args(["rustc", "--quiet", "--package", QUERIES_IN, "--lib", "--profile", "check", "--"])
                    .args(["--cfg", &fresh])
                    .env("CARGO_INCREMENTAL", "0")
                    .env("DATABASE_URL", url)
                    .env("SQLX_OFFLINE", "false")
                    .env("SQLX_OFFLINE_DIR", &queries),
                "compiling the queries against a database",
            )
            .await
        })
        .await?;
    let mut files = Files::new();
    for entry in fs::read_dir(&queries)? {
        let entry = entry?;
        files.insert(Path::new(".sqlx").join(entry.file_name()), fs::read(entry.path())?);
    }
    Ok(files)
}

/// What the binaries tell about themselves.
async fn from_binaries(progress: &Progress) -> Result<Files> {
    let binaries = progress.step("building the services", cargo::build(false)).await?;
    progress
        .step("documents", async {
            let mut settings = SETTINGS_HEAD.to_owned();
            for service in Service::ALL {
                let program = binaries.join(service.binary());
                let page = process::run(&program, &["--settings-reference"], &[]).await?.into_stdout()?;
                settings.push('\n');
                settings.push_str(page.trim());
                settings.push('\n');
            }
            let program = binaries.join(Service::ManagementApi.binary());
            let document = process::run(&program, &["openapi"], &[]).await?.into_stdout()?;
            Ok(Files::from([
                (PathBuf::from("docs/settings.md"), settings.into_bytes()),
                (PathBuf::from("docs/providers.md"), providers::page().into_bytes()),
                (PathBuf::from("docs/alerts.md"), alerts::page()?.into_bytes()),
                (PathBuf::from("docs/api/access.md"), access::page(&document)?.into_bytes()),
                (PathBuf::from("docs/api/openapi.json"), format!("{}\n", document.trim_end()).into_bytes()),
            ]))
        })
        .await
}
