use std::time::Duration;

use super::*;
use crate::settings::{LogFormat, Settings as Chassis};

#[derive(Debug, clap::Parser)]
#[command(about = "Receives webhooks")]
struct Settings {
    /// The key that seals secrets: 32 bytes, base64.
    #[arg(long, env = "RAVENPOST_MASTER_KEY", hide_env_values = true, value_parser = |text: &str| if text.len() == 3 { Ok(text.to_owned()) } else { Err(format!("bad {text}")) })]
    master_key: String,
    /// Networks, separated by commas.
    #[arg(long, env = "RAVENPOST_NETWORKS", value_delimiter = ',')]
    networks: Vec<std::net::IpAddr>,
    /// Whether it is fast.
    #[arg(long, env = "RAVENPOST_FAST")]
    fast: bool,
    #[command(flatten)]
    chassis: Chassis,
    #[command(subcommand)]
    command: Option<Subcommand>,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    /// Moves the schema.
    Migrate {
        /// How many steps.
        #[arg(long, env = "RAVENPOST_MIGRATE_STEPS")]
        steps: u32,
    },
}

impl Service for Settings {
    const NAME: &'static str = "example";
    const ADMIN_ADDR: &'static str = "127.0.0.1:9099";

    fn chassis(&self) -> &Chassis {
        &self.chassis
    }
}

fn parse(args: &[&str], variables: &[(&str, &str)]) -> Result<Settings, Halt> {
    let args = std::iter::once("example").chain(args.iter().copied()).map(OsString::from).collect();
    let lookup = |name: &str| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| OsString::from(value))
    };
    parse_from(args, &lookup)
}

fn refusal(args: &[&str], variables: &[(&str, &str)]) -> String {
    match parse(args, variables) {
        Err(Halt::Refuse(line)) => {
            assert_eq!(line.lines().count(), 1, "{line}");
            line
        }
        other => panic!("{other:?}"),
    }
}

const KEY: (&str, &str) = ("RAVENPOST_MASTER_KEY", "abc");

#[test]
fn defaults_variables_and_flags() {
    let example =
        parse(&[], &[KEY, ("RAVENPOST_LOG_FORMAT", "text"), ("RAVENPOST_OTLP_ENDPOINT", "")]).unwrap();
    assert_eq!(example.master_key, "abc");
    assert_eq!(example.chassis.admin_addr.to_string(), Settings::ADMIN_ADDR);
    assert_eq!(example.chassis.log_format, LogFormat::Text);
    assert_eq!(example.chassis.otlp_endpoint, None, "empty is not set");
    assert_eq!(example.chassis.shutdown_grace, Duration::from_secs(25));
    assert!(!example.fast && example.networks.is_empty());

    let variables = [KEY, ("RAVENPOST_FAST", "true"), ("RAVENPOST_NETWORKS", "10.0.0.1,::1")];
    let example = parse(&["--master-key", "xyz"], &variables).unwrap();
    assert_eq!(example.master_key, "xyz", "a flag wins over a variable");
    assert!(example.fast);
    assert_eq!(example.networks.len(), 2);
}

#[test]
fn a_subcommand_has_settings_too() {
    let example = parse(&["migrate"], &[KEY, ("RAVENPOST_MIGRATE_STEPS", "3")]).unwrap();
    assert!(matches!(example.command, Some(Subcommand::Migrate { steps: 3 })));
    insta::assert_snapshot!(refusal(&["migrate"], &[KEY]), @"ravenpost-example: RAVENPOST_MIGRATE_STEPS is not set: How many steps.");
}

#[test]
fn a_file_holds_the_value() {
    let path = std::env::temp_dir().join(format!("ravenpost-settings-{}", std::process::id()));
    let shown = path.to_str().unwrap();
    std::fs::write(&path, "abc\n").unwrap();
    let example = parse(&[], &[("RAVENPOST_MASTER_KEY_FILE", shown)]).unwrap();
    assert_eq!(example.master_key, "abc");
    insta::assert_snapshot!(refusal(&[], &[KEY, ("RAVENPOST_MASTER_KEY_FILE", shown)]), @"ravenpost-example: RAVENPOST_MASTER_KEY and RAVENPOST_MASTER_KEY_FILE are both set: keep one of them");
    std::fs::remove_file(&path).unwrap();
    insta::assert_snapshot!(refusal(&[], &[("RAVENPOST_MASTER_KEY_FILE", "/nowhere/key")]), @"ravenpost-example: RAVENPOST_MASTER_KEY_FILE: can't read /nowhere/key: No such file or directory (os error 2)");
}

#[test]
fn what_is_wrong_is_one_line_that_names_the_variable() {
    insta::assert_snapshot!(refusal(&[], &[]), @"ravenpost-example: RAVENPOST_MASTER_KEY is not set: The key that seals secrets: 32 bytes, base64.");
    insta::assert_snapshot!(refusal(&[], &[KEY, ("RAVENPOST_SHUTDOWN_GRACE", "soon")]), @"ravenpost-example: RAVENPOST_SHUTDOWN_GRACE: `soon` is not a duration: write a whole number and a unit, such as 500ms, 30s, 5m, 1h or 7d. How long work in flight may take to finish once no more is taken; what is left then is cut off.");
    insta::assert_snapshot!(refusal(&[], &[KEY, ("RAVENPOST_LOG_FORMAT", "xml")]), @"ravenpost-example: RAVENPOST_LOG_FORMAT: `xml` is not valid: choose one of json, text. How log records look: one JSON object a line, or text for people.");
    insta::assert_snapshot!(refusal(&[], &[KEY, ("RAVENPOST_LOG", "info=,=")]), @"ravenpost-example: RAVENPOST_LOG: `info=,=` is not valid: invalid filter directive. What is logged, as levels by module: `info`, or `info,ravenpost_store=debug`.");
    insta::assert_snapshot!(refusal(&[], &[KEY, ("RAVENPOST_ADMIN_ADDR", "9090")]), @"ravenpost-example: RAVENPOST_ADMIN_ADDR: `9090` is not valid: invalid socket address syntax. Where `/livez`, `/readyz` and `/metrics` are served, such as `0.0.0.0:9090`. Keep it away from the public.");
    insta::assert_snapshot!(refusal(&[], &[KEY, ("RAVENPOST_TRACE_RATIO", "2")]), @"ravenpost-example: RAVENPOST_TRACE_RATIO: `2` is not valid: write a number from 0 to 1, such as 0.1. The share of traces, from 0 to 1, that is recorded when the caller has not decided.");
    insta::assert_snapshot!(refusal(&[], &[KEY, ("RAVENPOST_OTLP_ENDPOINT", "collector:4318")]), @"ravenpost-example: RAVENPOST_OTLP_ENDPOINT: `collector:4318` is not valid: write an http or https URL, such as http://collector:4318. The OpenTelemetry collector that gets traces (OTLP over HTTP, protobuf), as in `http://collector:4318`. Without it no traces are recorded.");
    insta::assert_snapshot!(refusal(&[], &[KEY, ("RAVENPOST_FAST", "perhaps")]), @"ravenpost-example: RAVENPOST_FAST: write true or false");
    insta::assert_snapshot!(refusal(&["--fats"], &[KEY]), @"ravenpost-example: unexpected argument '--fats' found");
}

#[test]
fn a_secret_is_not_repeated() {
    let line = refusal(&[], &[("RAVENPOST_MASTER_KEY", "hunter2")]);
    assert!(!line.contains("hunter2"), "{line}");
    insta::assert_snapshot!(line, @"ravenpost-example: RAVENPOST_MASTER_KEY: the value is not valid: it is malformed. The key that seals secrets: 32 bytes, base64.");
    let Err(Halt::Print(help)) = parse(&["--help"], &[KEY]) else { panic!("no help") };
    assert!(help.contains("[env: RAVENPOST_MASTER_KEY]") && !help.contains("abc"), "{help}");
}

#[test]
fn the_reference_needs_no_settings() {
    let Err(Halt::Print(page)) = parse(&["--settings-reference"], &[]) else { panic!("no page") };
    insta::assert_snapshot!(page, @"
    ### `ravenpost-example`

    | Variable | Flag | Default | Meaning |
    |---|---|---|---|
    | `RAVENPOST_MASTER_KEY` | `--master-key` | required | The key that seals secrets: 32 bytes, base64. |
    | `RAVENPOST_NETWORKS` | `--networks` | none | Networks, separated by commas. |
    | `RAVENPOST_FAST` | `--fast` | `false` | Whether it is fast. |
    | `RAVENPOST_LOG` | `--log` | `info` | What is logged, as levels by module: `info`, or `info,ravenpost_store=debug`. |
    | `RAVENPOST_LOG_FORMAT` | `--log-format` | `json` | How log records look: one JSON object a line, or text for people. One of `json`, `text`. |
    | `RAVENPOST_OTLP_ENDPOINT` | `--otlp-endpoint` | none | The OpenTelemetry collector that gets traces (OTLP over HTTP, protobuf), as in `http://collector:4318`. Without it no traces are recorded. |
    | `RAVENPOST_TRACE_RATIO` | `--trace-ratio` | `1.0` | The share of traces, from 0 to 1, that is recorded when the caller has not decided. |
    | `RAVENPOST_SHUTDOWN_DELAY` | `--shutdown-delay` | `0s` | How long the process goes on taking work, unready, after it was asked to stop, so that load balancers notice. |
    | `RAVENPOST_SHUTDOWN_GRACE` | `--shutdown-grace` | `25s` | How long work in flight may take to finish once no more is taken; what is left then is cut off. |
    | `RAVENPOST_ADMIN_ADDR` | `--admin-addr` | `127.0.0.1:9099` | Where `/livez`, `/readyz` and `/metrics` are served, such as `0.0.0.0:9090`. Keep it away from the public. |

    ### `ravenpost-example migrate`

    | Variable | Flag | Default | Meaning |
    |---|---|---|---|
    | `RAVENPOST_MIGRATE_STEPS` | `--steps` | required | How many steps. |
    ");
    assert_eq!(parse(&["--version"], &[]).unwrap_err(), Halt::Print("ravenpost-example 0.1.0\n".to_owned()));
}

#[test]
fn unknown_variables_are_told_with_the_nearest_known() {
    let present = [
        "RAVENPOST_MASTER_KEY_FILE",
        "RAVENPOST_MASTRE_KEY",
        "RAVENPOST_SOMETHING_ELSE",
        "RAVENPOST_INGRESS_SERVICE_HOST",
        "RAVENPOST_INGRESS_PORT_8080_TCP_ADDR",
        "PATH",
    ];
    let unknown = unknown_variables::<Settings>(present.into_iter().map(OsString::from));
    let expected = [
        ("RAVENPOST_MASTRE_KEY".to_owned(), Some("RAVENPOST_MASTER_KEY".to_owned())),
        ("RAVENPOST_SOMETHING_ELSE".to_owned(), None),
    ];
    assert_eq!(unknown, expected);
}
