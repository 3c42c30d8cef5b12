//! What a process tells about itself: log records and, when a collector is configured, traces.

mod json;

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::settings::{LogFormat, Settings};

/// How long the last spans may take to reach the collector.
const FLUSH: Duration = Duration::from_secs(5);
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where log records go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    Stdout,
    Stderr,
}

/// What can't be told from.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("RAVENPOST_OTLP_ENDPOINT: {0}")]
    Exporter(#[from] ExporterBuildError),
    #[error("logging was set up before: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// The process's telemetry. [`Telemetry::flush`] it before the process ends.
#[derive(Debug)]
pub(crate) struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sends what has not been sent yet; waits at most five seconds.
    pub(crate) fn flush(self) {
        if let Some(Err(error)) = self.traces.map(|traces| traces.shutdown_with_timeout(FLUSH)) {
            tracing::warn!(%error, "the last traces were not exported");
        }
    }
}

/// Sets up logging and tracing for the whole process, once, before its runtime starts.
pub(crate) fn boot(name: &'static str, settings: &Settings, output: Output) -> Result<Telemetry, Error> {
    let traces = settings.otlp_endpoint.as_deref();
    let traces = traces.map(|endpoint| tracer_provider(name, endpoint, settings.trace_ratio)).transpose()?;
    // Spans are recorded whatever the level of the log, but only our own: a library's would drown them.
    let exported = traces.as_ref().map(|traces| {
        let ours = Targets::new().with_target("ravenpost", LevelFilter::INFO);
        tracing_opentelemetry::layer().with_tracer(traces.tracer("ravenpost")).with_filter(ours)
    });
    let log = log_layer(name, settings.log_format, output).with_filter(settings.log.to_filter());
    tracing_subscriber::registry().with(exported).with(log).try_init()?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(Telemetry { traces })
}

fn log_layer<S>(name: &'static str, format: LogFormat, output: Output) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let (writer, terminal) = match output {
        Output::Stdout => (BoxMakeWriter::new(std::io::stdout), is_terminal(&std::io::stdout())),
        Output::Stderr => (BoxMakeWriter::new(std::io::stderr), is_terminal(&std::io::stderr())),
    };
    let layer = fmt::layer().with_writer(writer).with_ansi(terminal);
    match format {
        LogFormat::Json => {
            layer.fmt_fields(json::Members).event_format(json::Format { service: name }).boxed()
        }
        LogFormat::Text => layer.boxed(),
    }
}

fn is_terminal(stream: &impl std::io::IsTerminal) -> bool {
    stream.is_terminal()
}

fn tracer_provider(name: &str, endpoint: &str, ratio: f64) -> Result<SdkTracerProvider, ExporterBuildError> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .with_timeout(EXPORT_TIMEOUT)
        .build()?;
    let resource = Resource::builder().with_service_name(format!("ravenpost-{name}")).build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
        .with_resource(resource)
        .build())
}

/// A panic is a record like any other, not text between the lines.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload_as_str().unwrap_or("of unknown type");
    tracing::error!(location, "panic at {location}: {message}");
}
