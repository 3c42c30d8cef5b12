//! The binary: its commands, what it refuses to start on, and its exit codes.

use std::process::{Command, Output};

use ravenpost_testkit::database::Database;
use serde_json::Value;

use crate::support::{MASTER_KEY, stores};

fn run(database_url: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ravenpost-management-api"))
        .args(arguments)
        .env_clear()
        .env("RAVENPOST_DATABASE_URL", database_url)
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn migrate_then_bootstrap_and_neither_needs_the_master_key() {
    let database = Database::empty(stores().await).await.unwrap();
    let bootstrap = ["bootstrap", "--organization", "Acme"];
    let early = run(database.url(), &bootstrap, &[]);
    assert_eq!(early.status.code(), Some(1));
    assert!(stderr(&early).contains("run `ravenpost-management-api migrate` first"), "{}", stderr(&early));

    for _ in 0..2 {
        let migrated = run(database.url(), &["migrate"], &[]);
        assert_eq!(migrated.status.code(), Some(0), "{}", stderr(&migrated));
    }
    let made = run(database.url(), &bootstrap, &[]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    let text = String::from_utf8(made.stdout).unwrap();
    assert_eq!(text.lines().count(), 1);
    let made: Value = serde_json::from_str(&text).unwrap();
    assert!(made["api_key"].as_str().unwrap().starts_with("rvp_"));

    let id = made["organization_id"].as_str().unwrap();
    let invite = |id: &str, email: &str, key: &str| {
        let arguments = ["invite-owner", "--organization-id", id, "--email", email];
        let invited = run(database.url(), &arguments, &[("RAVENPOST_MASTER_KEY", key)]);
        (invited.status.code(), String::from_utf8(invited.stdout.clone()).unwrap(), stderr(&invited))
    };
    let (code, stdout, stderr) = invite(id, "ada@example.com", MASTER_KEY);
    assert_eq!(code, Some(0), "{stderr}");
    let invited: Value = serde_json::from_str(&stdout).unwrap();
    assert!(invited["invitation_id"].is_string() && !stdout.contains("rvi_"), "{stdout}");
    for (id, email, why) in [
        (id, "ada@example.com", "has an open invitation"),
        (id, "ada", "email:"),
        ("01890000-0000-7000-8000-000000000000", "ada@example.com", "there is no organization"),
    ] {
        let (code, _, stderr) = invite(id, email, MASTER_KEY);
        assert!(code == Some(1) && stderr.contains(why), "{stderr}");
    }
}

#[tokio::test]
async fn audit_verify_tells_the_first_bad_row() {
    let database = Database::fresh(stores().await).await.unwrap();
    let bootstrap = |name| run(database.url(), &["bootstrap", "--organization", name], &[]);
    let made: Value = serde_json::from_slice(&bootstrap("Acme").stdout).unwrap();
    assert_eq!(bootstrap("Other").status.code(), Some(0));
    let id = made["organization_id"].as_str().unwrap();

    let whole = run(database.url(), &["audit", "verify"], &[]);
    let text = String::from_utf8(whole.stdout).unwrap();
    assert_eq!((whole.status.code(), text.lines().count()), (Some(0), 2), "{text}");
    assert!(text.lines().all(|line| line.contains("1 rows  head ")), "{text}");
    let one = run(database.url(), &["audit", "verify", "--organization", id, "--json"], &[]);
    let one: Value = serde_json::from_slice(&one.stdout).unwrap();
    assert_eq!((one["organization_id"].as_str(), &one["rows"]), (Some(id), &Value::from(1)));
    assert!(one["broken"].is_null() && one["head"].as_str().unwrap().len() == 64);

    let tamper = format!("update audit_log set actor_type = 'system' where organization_id = '{id}'");
    database.execute(&tamper).await.unwrap();
    let broken = run(database.url(), &["audit", "verify"], &[]);
    let text = String::from_utf8(broken.stdout.clone()).unwrap();
    assert_eq!(broken.status.code(), Some(1));
    assert!(text.contains("BROKEN: row 1 is not what was written"), "{text}");
    let nobody = "0199d0c4-7a68-7cc2-a54e-0a7d2a2b9c11";
    let unknown = run(database.url(), &["audit", "verify", "--organization", nobody], &[]);
    assert_eq!(unknown.status.code(), Some(1));
}

#[tokio::test]
async fn an_older_schema_is_refused() {
    let database = Database::empty(stores().await).await.unwrap();
    let variables = [
        ("RAVENPOST_MASTER_KEY", MASTER_KEY),
        ("RAVENPOST_ADMIN_ADDR", "127.0.0.1:0"),
        ("RAVENPOST_LISTEN_ADDR", "127.0.0.1:0"),
        ("RAVENPOST_S3_ACCESS_KEY_ID", "x"),
        ("RAVENPOST_S3_SECRET_ACCESS_KEY", "x"),
    ];
    let refused = run(database.url(), &[], &variables);
    assert_eq!(refused.status.code(), Some(1));
    let log = String::from_utf8(refused.stdout).unwrap();
    assert!(log.contains("run `ravenpost-management-api migrate` first"), "{log}");
}

#[test]
fn a_bad_setting_is_one_line_and_exit_code_2() {
    let url = "postgres://127.0.0.1:1/x";
    for (variables, named) in [
        (&[][..], "RAVENPOST_MASTER_KEY"),
        (&[("RAVENPOST_MASTER_KEY", "k1:short")], "RAVENPOST_MASTER_KEY"),
        (
            &[("RAVENPOST_MASTER_KEY", MASTER_KEY), ("RAVENPOST_HOOK_BASE_URL", "hooks")],
            "RAVENPOST_HOOK_BASE_URL",
        ),
        (&[("RAVENPOST_MASTER_KEY", MASTER_KEY), ("RAVENPOST_LISTEN_ADDR", "8081")], "RAVENPOST_LISTEN_ADDR"),
    ] {
        let refused = run(url, &[], variables);
        assert_eq!(refused.status.code(), Some(2), "{named}");
        let line = stderr(&refused);
        assert!(line.lines().count() == 1 && line.contains(named), "{line}");
        assert!(!line.contains(MASTER_KEY), "{line}");
    }
}

#[test]
fn the_document_needs_no_store() {
    let printed = run("postgres://127.0.0.1:1/x", &["openapi"], &[]);
    assert_eq!(printed.status.code(), Some(0));
    let document: Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
}
