//! The API against its own document: schemathesis makes requests of all kinds out of what is served, good ones and bad
//! ones, and judges each answer by it. Nothing fails on our side, and nothing is answered that the document does not say.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use ravenpost_testkit::stack::{Progress, schemathesis};
use ravenpost_testkit::{
    process::Process,
    system::{Service, System},
};
use serde_json::json;
use tokio::process::Command;

use crate::support::{alone, endpoint, send, until_status};

/// The same requests each time, as far as what they meet is the same.
const SEED: &str = "7";
/// How many requests of each kind are made for an operation.
const EXAMPLES: &str = "8";
/// It takes about a quarter of this on two cores; only what hangs runs into it.
const BOUND: Duration = Duration::from_secs(480);
/// What is judged. Not whether each good request is taken: what a document can say of a filter or a cursor is less than
/// what makes it one.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,negative_data_rejection,unsupported_method,ignored_auth";

#[test]
fn every_answer_is_one_that_the_document_knows() {
    alone(System::builder(), async |system| {
        let python = Box::pin(schemathesis::program(&Progress::silent())).await?;
        let there = endpoint(system, "/there", json!({})).await?;
        let event = send(&there, "{}").await?;
        until_status(system, &event, "SUCCESS").await?;
        let key = system.tenant.api_key.clone();
        let folder = system.logs().join("schemathesis");
        std::fs::create_dir_all(&folder)?;
        let api = system.replicas_of(Service::ManagementApi).first().map(Process::url);
        judge(&python, &api.context("the API listens")?, &key, &folder).await
    });
}

async fn judge(python: &Path, api_url: &str, key: &str, folder: &Path) -> Result<()> {
    let mut command = Command::new(python);
    command
        .current_dir(folder)
        .args(schemathesis::MODULE)
        .args(["run", &format!("{api_url}/api/v1/openapi.json")])
        .args(["--header", &format!("Authorization: Bearer {key}")])
        .args(["--seed", SEED, "--max-examples", EXAMPLES, "--no-shrink"])
        // Python 3.11's parser counts its depth for all threads together (cpython issue 106905), and Hypothesis parses.
        .args(["--workers", "1"])
        .args(["--phases", "examples,coverage,fuzzing", "--checks", CHECKS])
        // It does not end by itself.
        .args(["--exclude-operation-id", "stream_events"])
        .args(["--suppress-health-check", "all", "--warnings", "off"])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(BOUND, command.output()).await;
    let output = output.context("schemathesis does not end")?.context("schemathesis does not start")?;
    let told = String::from_utf8_lossy(&output.stdout).replace(key, "rvp_…");
    ensure!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
