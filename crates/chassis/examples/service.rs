//! The smallest service: its settings and one callback.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use ravenpost_chassis::{Context, Service, Settings as Chassis, http, problem};
use ravenpost_core::trace::Traceparent;

/// Says hello.
#[derive(Debug, clap::Parser)]
struct Settings {
    /// Where it listens.
    #[arg(long, env = "RAVENPOST_EXAMPLE_ADDR", value_name = "IP:PORT", default_value = "127.0.0.1:8099")]
    addr: SocketAddr,

    /// The name that is greeted. It has no default.
    #[arg(long, env = "RAVENPOST_EXAMPLE_NAME", hide_env_values = true)]
    name: String,

    #[command(flatten)]
    chassis: Chassis,
}

impl Service for Settings {
    const NAME: &'static str = "example";
    const ADMIN_ADDR: &'static str = "127.0.0.1:9099";

    fn chassis(&self) -> &Chassis {
        &self.chassis
    }
}

fn main() -> ExitCode {
    ravenpost_chassis::serve(run)
}

async fn run(settings: Settings, ctx: Context) -> anyhow::Result<()> {
    let greeted = ctx.metrics.counter("example_greeted_total", "Greetings.");
    ctx.probe("self", Duration::from_secs(5), Duration::from_secs(1), async || Ok::<_, std::io::Error>(()));

    let hello = async move |headers: axum::http::HeaderMap| {
        let header = headers.get("traceparent").and_then(|value| value.to_str().ok());
        let incoming = header.and_then(Traceparent::parse);
        let span = tracing::info_span!(target: "ravenpost_example", "hello", name = settings.name);
        ravenpost_chassis::trace::follow(&span, incoming.as_ref());
        let traceparent = ravenpost_chassis::trace::current(&span, incoming.as_ref());
        let _entered = span.enter();
        greeted.inc();
        tracing::info!("greeted");
        format!("hello, traced as {traceparent}\n")
    };
    let router = problem::guard(Router::new().route("/", get(hello)));
    let listener = http::bind("RAVENPOST_EXAMPLE_ADDR", settings.addr)?;
    http::serve(listener, router, http::Limits::default(), &ctx).await
}
