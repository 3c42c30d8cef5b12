//! Log records as flat JSON: `time`, `level`, `service`, `target` and `message`, then the fields of the spans from the
//! outermost in, then the record's own; a later field of the same name wins.

use std::error::Error;
use std::fmt::{self, Debug, Display, Write};

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

/// A span's fields as members of a JSON object, each with a comma behind it. They are written as they come, and one that
/// is recorded later is appended: each request has a span, and hardly any is logged from.
pub(super) struct Members;

impl<'writer> FormatFields<'writer> for Members {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut members = MemberWriter { writer, result: Ok(()) };
        fields.record(&mut members);
        members.result
    }
}

struct MemberWriter<'writer> {
    writer: Writer<'writer>,
    result: fmt::Result,
}

impl MemberWriter<'_> {
    /// Names of fields are identifiers, with dots.
    fn plain(&mut self, field: &Field, value: impl Display) {
        let written = write!(self.writer, "\"{}\":{value},", field.name());
        self.result = self.result.and(written);
    }

    fn text(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let mut write = || {
            write!(self.writer, "\"{}\":\"", field.name())?;
            Escaped(&mut self.writer).write_fmt(value)?;
            self.writer.write_str("\",")
        };
        self.result = self.result.and(write());
    }
}

impl Visit for MemberWriter<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field, format_args!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.text(field, format_args!("{}", with_causes(value)));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.plain(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }
}

/// Text on its way into a JSON string.
struct Escaped<'to, 'writer>(&'to mut Writer<'writer>);

impl Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| c == '"' || c == '\\' || c < ' ') {
            let (before, from) = rest.split_at(at);
            let special = from.as_bytes()[0];
            self.0.write_str(before)?;
            write!(self.0, "\\u{special:04x}")?;
            rest = &from[1..];
        }
        self.0.write_str(rest)
    }
}

/// An error with all its causes: the outermost alone rarely says what to do.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text.push_str(": ");
        text.push_str(&deeper.to_string());
        cause = deeper.source();
    }
    text
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

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.set(field.name(), with_causes(value));
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
    fn whatever_is_in_a_spans_fields_it_stays_one_flat_line() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .fmt_fields(Members)
            .event_format(Format { service: "ingress" });
        let hostile = "a\"b\\c\nd\u{0}e\u{1f980}\u{2028}";
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let (share, none, count) = (0.5, f64::NAN, -1);
            let _span =
                tracing::info_span!("receive", hostile, debug = ?hostile, share, none, count, fine = true)
                    .entered();
            tracing::info!("accepted");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1);
        let record: Map<String, Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(record["hostile"], hostile);
        assert_eq!(record["debug"], format!("{hostile:?}"));
        assert_eq!((&record["share"], &record["none"]), (&Value::from(0.5), &Value::Null));
        assert_eq!((&record["count"], &record["fine"]), (&Value::from(-1), &Value::from(true)));
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
