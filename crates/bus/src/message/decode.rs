//! From Kafka.

use std::str::FromStr;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ravenpost_core::delivery::DeliveryReport;
use ravenpost_core::event::{PayloadLocation, UNTYPED};
use ravenpost_core::pacing::DestinationReport;
use rdkafka::message::Headers as _;

use super::{EventMessage, header};

/// A message that is none of ours. It is logged with its place and skipped: it will never read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// A header that we need.
    #[error("header `{0}` is missing or malformed")]
    Header(&'static str),
    /// The value.
    #[error("the value does not read: {0}")]
    Value(String),
}

/// The headers of a message by name.
struct Attributes<'a, M: rdkafka::Message>(&'a M);

impl<M: rdkafka::Message> Attributes<'_, M> {
    fn bytes(&self, name: &'static str) -> Option<&[u8]> {
        self.0.headers()?.iter().find(|header| header.key == name)?.value
    }

    fn text(&self, name: &'static str) -> Option<&str> {
        std::str::from_utf8(self.bytes(name)?).ok()
    }

    fn digest(&self, name: &'static str) -> Option<[u8; 32]> {
        let mut digest = [0; 32];
        hex::decode_to_slice(self.bytes(name)?, &mut digest).ok().map(|()| digest)
    }

    fn parsed<T: FromStr>(&self, name: &'static str) -> Result<T, Undecodable> {
        self.text(name).and_then(|text| text.parse().ok()).ok_or(Undecodable::Header(name))
    }
}

impl EventMessage {
    /// Reads a message of `webhooks.ingest` or `webhooks.dlq`.
    pub fn decode<M: rdkafka::Message>(message: &M) -> Result<Self, Undecodable> {
        let attributes = Attributes(message);
        let source =
            attributes.text(header::SOURCE).and_then(|text| text.strip_prefix(header::SOURCE_PREFIX));
        let payload = PayloadLocation {
            s3_key: attributes.parsed(header::PAYLOAD_KEY).or_else(|_| {
                // Tell the first header that is missing: a message without an id is no event at all.
                attributes.parsed::<String>(header::ID).and(Err(Undecodable::Header(header::PAYLOAD_KEY)))
            })?,
            s3_offset: attributes.parsed(header::PAYLOAD_OFFSET)?,
            s3_length: attributes.parsed(header::PAYLOAD_LENGTH)?,
        };
        let value = message.payload().unwrap_or_default();
        let inline = payload.s3_length == i64::try_from(value.len()).unwrap_or(-1);
        Ok(Self {
            id: attributes.parsed(header::ID)?,
            organization_id: attributes.parsed(header::ORGANIZATION)?,
            endpoint_id: source
                .and_then(|text| text.parse().ok())
                .ok_or(Undecodable::Header(header::SOURCE))?,
            event_type: attributes.text(header::TYPE).filter(|kind| *kind != UNTYPED).map(str::to_owned),
            received_at: attributes.parsed::<DateTime<Utc>>(header::TIME)?,
            content_type: attributes.text(header::CONTENT_TYPE).map(str::to_owned),
            traceparent: attributes.text(header::TRACEPARENT).map(str::to_owned),
            body_sha256: attributes.digest(header::PAYLOAD_SHA256),
            body: inline.then(|| Bytes::copy_from_slice(value)),
            headers: Bytes::copy_from_slice(attributes.bytes(header::HEADERS).unwrap_or_default()),
            relayed: attributes.bytes(header::RELAYED).is_some(),
            payload,
        })
    }
}

/// What is told on `webhooks.deliveries`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The outcome of an attempt.
    Attempt(DeliveryReport),
    /// What happened to a destination.
    Destination(DestinationReport),
}

/// Reads a message of `webhooks.deliveries`. What has no type is of a release that told attempts alone.
pub(crate) fn decode_report<M: rdkafka::Message>(message: &M) -> Result<Report, Undecodable> {
    let value = message.payload().unwrap_or_default();
    let read = match Attributes(message).text(header::TYPE) {
        Some(header::WARNED | header::DISABLED) => serde_json::from_slice(value).map(Report::Destination),
        _ => serde_json::from_slice(value).map(Report::Attempt),
    };
    read.map_err(|error| Undecodable::Value(error.to_string()))
}
