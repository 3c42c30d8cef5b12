//! The settings that every process has, and what makes a struct of settings a service's.
//!
//! A setting is an environment variable or a flag (the flag wins), or a file: for every variable `X`, `X_FILE` may
//! name a file that holds the value, as Kubernetes and Docker mount secrets. An empty variable counts as not set.

mod arguments;
mod explain;
mod parse;
mod reference;

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

pub(crate) use parse::unknown_variables;
pub use parse::{Halt, parse_from};

/// The settings of one service: its own, with [`Settings`] flattened among them.
///
/// Every flattened struct of settings is `#[group(skip)]`.
pub trait Service: clap::Parser {
    /// The service's name without the product's, as in `ingress`.
    const NAME: &'static str;
    /// The default of `RAVENPOST_ADMIN_ADDR`, such as `127.0.0.1:9090`.
    const ADMIN_ADDR: &'static str;

    /// The flattened chassis settings.
    fn chassis(&self) -> &Settings;
}

/// Settings of the process itself.
#[derive(Debug, Clone, clap::Args)]
// Without a group: it would be named after the struct, as would every other crate's `Settings`.
#[group(skip)]
#[command(next_help_heading = "Process")]
pub struct Settings {
    /// Where `/livez`, `/readyz` and `/metrics` are served, such as `0.0.0.0:9090`. Keep it away from the public.
    #[arg(long, env = "RAVENPOST_ADMIN_ADDR", value_name = "IP:PORT")]
    pub admin_addr: SocketAddr,

    /// What is logged, as levels by module: `info`, or `info,ravenpost_store=debug`.
    #[arg(long, env = "RAVENPOST_LOG", value_name = "FILTER", default_value = "info")]
    pub log: LogFilter,

    /// How log records look: one JSON object a line, or text for people.
    #[arg(long, env = "RAVENPOST_LOG_FORMAT", value_enum, value_name = "FORMAT", default_value = "json")]
    pub log_format: LogFormat,

    /// The OpenTelemetry collector that gets traces (OTLP over HTTP, protobuf), as in `http://collector:4318`. Without it no traces are recorded.
    #[arg(long, env = "RAVENPOST_OTLP_ENDPOINT", value_name = "URL", value_parser = otlp_endpoint)]
    pub otlp_endpoint: Option<String>,

    /// The share of traces, from 0 to 1, that is recorded when the caller has not decided.
    #[arg(long, env = "RAVENPOST_TRACE_RATIO", value_name = "RATIO", default_value = "1.0", value_parser = ratio)]
    pub trace_ratio: f64,

    /// How long the process goes on taking work, unready, after it was asked to stop, so that load balancers notice.
    #[arg(long, env = "RAVENPOST_SHUTDOWN_DELAY", value_name = "DURATION", default_value = "0s", value_parser = ravenpost_core::duration::parse)]
    pub shutdown_delay: Duration,

    /// How long work in flight may take to finish once no more is taken; what is left then is cut off.
    #[arg(long, env = "RAVENPOST_SHUTDOWN_GRACE", value_name = "DURATION", default_value = "25s", value_parser = ravenpost_core::duration::parse)]
    pub shutdown_grace: Duration,

    /// Print a table of all settings and exit.
    #[arg(long)]
    pub settings_reference: bool,
}

/// How log records look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Text for people.
    Text,
}

/// A filter of log records that is known to be well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    pub(crate) fn to_filter(&self) -> EnvFilter {
        EnvFilter::new(&self.0)
    }
}

impl FromStr for LogFilter {
    type Err = tracing_subscriber::filter::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        EnvFilter::builder().parse(text).map(|_| Self(text.to_owned()))
    }
}

fn ratio(text: &str) -> Result<f64, &'static str> {
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or("write a number from 0 to 1, such as 0.1")
}

fn otlp_endpoint(text: &str) -> Result<String, &'static str> {
    let uri: Option<axum::http::Uri> = text.parse().ok();
    let usable =
        uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
    if usable {
        Ok(text.to_owned())
    } else {
        Err("write an http or https URL, such as http://collector:4318")
    }
}
