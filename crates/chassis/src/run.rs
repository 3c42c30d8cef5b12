//! A process from its first line to its exit code.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::lifecycle::{Context, Outcome, STARTED, Supervisor, signals};
use crate::metrics::Metrics;
use crate::settings::{Halt, Service, parse_from, unknown_variables};
use crate::telemetry::{self, Output, Telemetry};
use crate::{admin, http};

/// The exit code for settings that can't be started with.
const BAD_SETTINGS: u8 = 2;
/// How long blocking code may hold up the exit.
const RUNTIME_STOP: Duration = Duration::from_millis(500);

/// Parses the settings and runs the service: a service's whole `main`.
///
/// `run` gets the settings and the context and is the service. It may serve until [`Context::stopping`], or set
/// everything up, spawn its tasks and return. An error from it takes the process down.
///
/// The exit code is 0 after a signal and a finished shutdown, 2 for bad settings, and 1 for everything else.
pub fn serve<S, F, Fut>(run: F) -> ExitCode
where
    S: Service,
    F: FnOnce(S, Context) -> Fut,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    match parse::<S>() {
        Ok(settings) => serve_with(settings, run),
        Err(code) => code,
    }
}

/// Parses the settings from arguments, environment and files.
///
/// An `Err` is the exit code to end with: whatever was to be said (help, version, reference, or the one line that
/// names the bad setting) has been printed.
pub fn parse<S: Service>() -> Result<S, ExitCode> {
    parse_from(std::env::args_os().collect(), &|name| std::env::var_os(name)).map_err(|halt| match halt {
        Halt::Print(text) => {
            // Nobody is left to tell when the reader has gone.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Halt::Refuse(line) => refuse(&line),
    })
}

/// Runs a service with settings that were parsed before; see [`serve`].
pub fn serve_with<S, F, Fut>(settings: S, run: F) -> ExitCode
where
    S: Service,
    F: FnOnce(S, Context) -> Fut,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let (telemetry, runtime) = match boot(&settings, Output::Stdout) {
        Ok(booted) => booted,
        Err(code) => return code,
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "ravenpost-{} starts", S::NAME);
    let outcome = runtime.block_on(live(settings, run)).unwrap_or_else(|error| {
        tracing::error!(error = %format!("{error:#}"), "the process can't start");
        Outcome::Failed
    });
    match outcome {
        Outcome::Aborted => runtime.shutdown_background(),
        Outcome::Clean | Outcome::Failed => runtime.shutdown_timeout(RUNTIME_STOP),
    }
    tracing::info!(?outcome, "ravenpost-{} has stopped", S::NAME);
    telemetry.flush();
    if outcome == Outcome::Clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a command that ends by itself, such as a migration: no admin port, logs on stderr, so that stdout is the
/// command's own. A signal drops it. The exit code is 0, or 1 with the error logged.
pub fn once<S, F, Fut>(settings: S, run: F) -> ExitCode
where
    S: Service,
    F: FnOnce(S) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let (telemetry, runtime) = match boot(&settings, Output::Stderr) {
        Ok(booted) => booted,
        Err(code) => return code,
    };
    let result = runtime.block_on(async {
        let mut signals = signals().context("signals can't be listened to")?;
        tokio::select! {
            result = run(settings) => result,
            Some(signal) = signals.recv() => Err(anyhow::anyhow!("interrupted by {signal}")),
        }
    });
    runtime.shutdown_timeout(RUNTIME_STOP);
    if let Err(error) = &result {
        tracing::error!(error = %format!("{error:#}"), "the command failed");
    }
    telemetry.flush();
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn boot<S: Service>(settings: &S, output: Output) -> Result<(Telemetry, Runtime), ExitCode> {
    // rustls asks for the process's choice of cryptography wherever a library builds a client; ours is ring. An error
    // means that it has been chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let telemetry = telemetry::boot(S::NAME, settings.chassis(), output)
        .map_err(|error| refuse(&format!("ravenpost-{}: {error}", S::NAME)))?;
    for (variable, nearest) in unknown_variables::<S>(std::env::vars_os().map(|(name, _)| name)) {
        // Settings of a sibling service are no mistake: the suite often shares one environment.
        if let Some(known) = nearest {
            tracing::warn!(variable, "{variable} is no setting of this service; is {known} meant?");
        }
    }
    let runtime = Builder::new_multi_thread().enable_all().build().map_err(|error| {
        tracing::error!(%error, "the runtime can't start");
        ExitCode::FAILURE
    })?;
    Ok((telemetry, runtime))
}

async fn live<S, F, Fut>(settings: S, run: F) -> anyhow::Result<Outcome>
where
    S: Service,
    F: FnOnce(S, Context) -> Fut,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let chassis = settings.chassis();
    let supervisor = Supervisor::new(Metrics::with_process(), chassis.shutdown_delay, chassis.shutdown_grace);
    let ctx = supervisor.context();
    // Registered before anybody can ask: a process that has just begun is not ready.
    ctx.health.register(STARTED);
    let signals = signals().context("signals can't be listened to")?;
    let listener = http::bind("RAVENPOST_ADMIN_ADDR", chassis.admin_addr)?;
    // The admin port outlives the shutdown, so that it can be watched: the runtime's end takes it down.
    let admin = http::Server {
        router: admin::router(ctx.clone()),
        limits: http::Limits::default(),
        metrics: http::HttpMetrics::unseen(),
    };
    tokio::spawn(admin.run(listener, CancellationToken::new(), CancellationToken::new()));
    Ok(supervisor.supervise(run(settings, ctx), signals).await)
}

fn refuse(line: &str) -> ExitCode {
    // Nobody is left to tell when stderr is closed; the code still says it.
    let _ = writeln!(std::io::stderr(), "{line}");
    ExitCode::from(BAD_SETTINGS)
}
