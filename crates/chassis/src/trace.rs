//! Carries a trace from one process to the next, with or without a collector.
//!
//! Spans are `tracing`'s. With an OTLP exporter each has an OpenTelemetry context and that is what travels. Without
//! one there is no OpenTelemetry layer at all, and the incoming trace is passed on as a child (W3C Trace Context), so
//! that customers' traces never break at us.

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use ravenpost_core::trace::Traceparent;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::random;

/// Makes `span` a child of the incoming trace. Call it before the span is entered and before [`current`].
///
/// Does nothing when traces are not exported or the span is filtered out.
pub fn follow(span: &Span, incoming: Option<&Traceparent>) {
    let Some(incoming) = incoming else { return };
    let remote = SpanContext::new(
        TraceId::from_bytes(incoming.trace_id),
        SpanId::from_bytes(incoming.parent_id),
        TraceFlags::new(incoming.flags),
        true,
        TraceState::NONE,
    );
    // Refused only when there is nobody to export to, which is no error here.
    let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(remote));
}

/// What to send on as `traceparent`: the span's own context when traces are exported, otherwise a child of
/// `incoming`, otherwise the start of a new trace.
pub fn current(span: &Span, incoming: Option<&Traceparent>) -> Traceparent {
    exported(span).unwrap_or_else(|| match incoming {
        Some(incoming) => incoming.child(random::bytes()),
        None => Traceparent::new(random::bytes()),
    })
}

fn exported(span: &Span) -> Option<Traceparent> {
    let context = span.context();
    let own = context.span().span_context().clone();
    own.is_valid().then(|| Traceparent {
        trace_id: own.trace_id().to_bytes(),
        parent_id: own.span_id().to_bytes(),
        flags: own.trace_flags().to_u8(),
    })
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    const INCOMING: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn without_an_exporter_the_trace_goes_on() {
        let incoming = Traceparent::parse(INCOMING).unwrap();
        let span = tracing::info_span!("receive");
        follow(&span, Some(&incoming));
        let sent = current(&span, Some(&incoming));
        assert_eq!(sent.trace_id, incoming.trace_id);
        assert_ne!(sent.parent_id, incoming.parent_id);
        assert_ne!(current(&span, None).trace_id, current(&span, None).trace_id);
    }

    #[test]
    fn with_an_exporter_the_span_itself_travels() {
        let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let incoming = Traceparent::parse(INCOMING).unwrap();
            let span = tracing::info_span!("receive");
            follow(&span, Some(&incoming));
            let sent = current(&span, Some(&incoming));
            assert_eq!(sent.trace_id, incoming.trace_id);
            assert_ne!(sent.parent_id, incoming.parent_id);
            assert_eq!(current(&span, Some(&incoming)), sent, "the span has one identity");
        });
    }
}
