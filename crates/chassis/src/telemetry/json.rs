//! Log records as flat JSON: `time`, `level`, `service`, `target` and `message`, then the fields of the spans from the
//! outermost in, then the record's own; a later field of the same name wins.

use std::error::Error;
use std::fmt::{self, Debug};

use serde::{Serialize, Serializer};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::clock;

pub(super) struct Format {
    pub(super) service: &'static str,
}

/// A span's fields as members of a JSON object, each with a comma behind it: a field that is recorded later is appended,
/// since most spans are never logged from.
pub(super) struct Members;

impl<'writer> FormatFields<'writer> for Members {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut record = Record::default();
        fields.record(&mut record);
        record.0.into_iter().try_for_each(|(name, value)| write!(writer, "{}:{value},", Value::String(name)))
    }
}

impl<S> FormatEvent<S, Members> for Format
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, Members>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // Records of the `log` crate carry their real target in fields.
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        let mut record = Record::default();
        record.set("time", clock::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true));
        record.set("level", metadata.level().as_str().to_ascii_lowercase());
        record.set("service", self.service);
        record.set("target", metadata.target());
        record.set("message", "");
        for span in context.event_scope().into_iter().flat_map(tracing_subscriber::registry::Scope::from_root)
        {
            if let Some(fields) = span.extensions().get::<FormattedFields<Members>>() {
                record.merge(&fields.fields);
            }
        }
        event.record(&mut record);
        writeln!(writer, "{}", serde_json::to_string(&record).map_err(|_| fmt::Error)?)
    }
}

/// Fields in the order in which they came, so that a person finds time and message at the same place in every line.
#[derive(Default)]
struct Record(Vec<(String, Value)>);

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl Record {
    fn set(&mut self, name: &str, value: impl Into<Value>) {
        // Added by the bridge from the `log` crate; the metadata say it already.
        if name.starts_with("log.") {
            return;
        }
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value.into(),
            None => self.0.push((name.to_owned(), value.into())),
        }
    }

    /// Adds the fields of a span, which were formatted when they were recorded.
    fn merge(&mut self, members: &str) {
        let object = format!("{{{}}}", members.trim_end_matches(','));
        if let Ok(Value::Object(fields)) = serde_json::from_str(&object) {
            for (name, value) in fields {
                self.set(&name, value);
            }
        }
    }
}

impl Visit for Record {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.set(field.name(), format!("{value:?}"));
    }

    /// An error with all its causes: the outermost alone rarely says what to do.
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(deeper) = cause {
            text.push_str(": ");
            text.push_str(&deeper.to_string());
            cause = deeper.source();
        }
        self.set(field.name(), text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), value);
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::Map;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_record_is_one_flat_line() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .fmt_fields(Members)
            .event_format(Format { service: "ingress" });
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let span = tracing::info_span!("receive", event_id = "0198", attempt = tracing::field::Empty);
            span.record("attempt", 2);
            let _span = span.entered();
            let away = anyhow::anyhow!("connection refused").context("Kafka is unavailable");
            let error: &(dyn Error + 'static) = away.as_ref();
            tracing::info!(bytes = 12, fast = true, error, "accepted\n\"quoted\"");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert!(text.starts_with("{\"time\":\""), "{text}");
        let mut record: Map<String, Value> = serde_json::from_str(&text).unwrap();
        let time = record.remove("time").unwrap();
        assert!(chrono::DateTime::parse_from_rfc3339(time.as_str().unwrap()).is_ok() && text.contains("Z\""));
        insta::assert_snapshot!(Value::Object(record), @r#"{"attempt":2,"bytes":12,"error":"Kafka is unavailable: connection refused","event_id":"0198","fast":true,"level":"info","message":"accepted\n\"quoted\"","service":"ingress","target":"ravenpost_chassis::telemetry::json::tests"}"#);
    }
}
