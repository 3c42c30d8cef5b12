//! A process that can't keep its promises says so before anything starts, in one line.

use std::fs;

use anyhow::{Context, Result, ensure};
use ravenpost_testkit::{
    database::Database,
    process::{self, Listens, Outcome, Process},
    stack::{self, WhenDropped},
    system::{Service, Settings, random_master_key},
    workspace,
};

use crate::support::run;

/// Settings with which every service would start.
async fn settings(database_url: &str) -> Result<Settings> {
    let mut settings = Settings::new(stack::shared().await?, database_url, &random_master_key());
    for name in ["RAVENPOST_ADMIN_ADDR", "RAVENPOST_LISTEN_ADDR"] {
        settings.set(name, "127.0.0.1:0");
    }
    Ok(settings)
}

async fn start(service: Service, settings: &[(String, String)]) -> Result<Outcome> {
    process::run(&workspace::binary(&service.binary())?, &[], settings).await
}

fn without(settings: &Settings, name: &str) -> Vec<(String, String)> {
    settings.pairs().into_iter().filter(|(candidate, _)| candidate != name).collect()
}

fn ensure_refused(outcome: &Outcome, variable: &str) -> Result<()> {
    ensure!(outcome.status.code() == Some(2), "{variable}: {outcome:?}");
    ensure!(
        outcome.stderr.lines().count() == 1 && outcome.stderr.contains(variable),
        "{variable}: {outcome:?}"
    );
    ensure!(outcome.stdout.is_empty(), "{variable}: something has started: {outcome:?}");
    Ok(())
}

#[test]
fn a_missing_or_malformed_setting_is_one_line_that_names_it() {
    run(async {
        let settings = settings("postgres://nobody@127.0.0.1:1/nothing").await?;
        for service in Service::ALL {
            let outcome = start(service, &without(&settings, "RAVENPOST_MASTER_KEY")).await?;
            ensure_refused(&outcome, "RAVENPOST_MASTER_KEY").context(service.name())?;
        }
        let every = [
            ("RAVENPOST_ADMIN_ADDR", "everywhere"),
            ("RAVENPOST_LOG_FORMAT", "xml"),
            ("RAVENPOST_SHUTDOWN_GRACE", "a while"),
            ("RAVENPOST_OTLP_ENDPOINT", "collector"),
            ("RAVENPOST_DATABASE_URL", "mysql://127.0.0.1/x"),
            ("RAVENPOST_DATABASE_CONNECTIONS", "ten"),
        ];
        let some = [
            (Service::Ingress, "RAVENPOST_MASTER_KEY", "k1:short"),
            (Service::Ingress, "RAVENPOST_LISTEN_ADDR", "8080"),
            (Service::Ingress, "RAVENPOST_MAX_BODY_BYTES", "-1"),
            (Service::Ingress, "RAVENPOST_COMMIT_LANES", "999"),
            (Service::Ingress, "RAVENPOST_S3_ENDPOINT", "not a url"),
            (Service::DeliveryWorker, "RAVENPOST_MASTER_KEY", "k1"),
            (Service::DeliveryWorker, "RAVENPOST_EGRESS_ALLOWED_NETWORKS", "10.0.0.0/99"),
            (Service::DeliveryWorker, "RAVENPOST_LANE_CONCURRENCY", "0"),
            (Service::DeliveryWorker, "RAVENPOST_KAFKA_SECURITY", "secure"),
            (Service::ManagementApi, "RAVENPOST_HOOK_BASE_URL", "hooks"),
            (Service::ManagementApi, "RAVENPOST_OIDC_ISSUER", "login"),
            (Service::ManagementApi, "RAVENPOST_OIDC_SKEW", "1h"),
            (Service::Notifier, "RAVENPOST_CONSOLE_URL", "console"),
            (Service::Notifier, "RAVENPOST_SMTP_URL", "mail"),
            (Service::Notifier, "RAVENPOST_ALERT_CONSECUTIVE_FAILURES", "often"),
        ];
        let every =
            Service::ALL.into_iter().flat_map(|service| every.map(|(name, value)| (service, name, value)));
        for (service, name, value) in every.chain(some) {
            let mut settings = settings.clone();
            settings.set(name, value);
            let what = || format!("{} with {name}={value}", service.name());
            let outcome = start(service, &settings.pairs()).await.with_context(what)?;
            ensure_refused(&outcome, name).with_context(what)?;
        }
        Ok(())
    });
}

#[test]
fn an_older_schema_is_refused() {
    run(async {
        let database = Database::empty(stack::shared().await?).await?;
        let settings = settings(database.url()).await?;
        for service in Service::ALL {
            let outcome = start(service, &settings.pairs()).await?;
            ensure!(outcome.status.code() == Some(1), "{}: {outcome:?}", service.name());
            ensure!(outcome.stdout.contains("run `ravenpost-management-api migrate` first"), "{outcome:?}");
        }
        Ok(())
    });
}

#[test]
fn a_setting_may_be_a_file() {
    run(async {
        let database = Database::fresh(stack::shared().await?).await?;
        let mut settings = settings(database.url()).await?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("master-key");
        fs::write(&file, format!("{}\n", settings.get("RAVENPOST_MASTER_KEY").context("no key")?))?;
        settings.set("RAVENPOST_MASTER_KEY_FILE", file.to_string_lossy());
        let service = Service::ManagementApi;
        let (program, listens) = (workspace::binary(&service.binary())?, Listens::anywhere(true)?);
        let pairs = without(&settings, "RAVENPOST_MASTER_KEY");
        let mut started =
            Process::spawn(service.name(), &program, &pairs, listens, folder.path(), WhenDropped::Kill)?;
        started.wait_until_ready().await?;

        settings.set("RAVENPOST_MASTER_KEY_FILE", "/nowhere/master-key");
        let outcome = start(service, &without(&settings, "RAVENPOST_MASTER_KEY")).await?;
        ensure_refused(&outcome, "RAVENPOST_MASTER_KEY_FILE")
    });
}
