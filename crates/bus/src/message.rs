//! The codec: our facts as CloudEvents attributes in Kafka headers, the raw body as the value.

mod decode;
mod encode;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ravenpost_core::event::PayloadLocation;
use ravenpost_core::ids::{DestinationId, EndpointId, EventId, OrganizationId};

pub use decode::Report;
pub use decode::Undecodable;
pub(crate) use decode::decode_report;
pub use encode::Message;

/// Bodies up to this many bytes travel inline; larger ones are fetched from the payload store (claim check).
pub const INLINE_LIMIT: usize = 16 * 1024;

/// An accepted event on `webhooks.ingest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventMessage {
    /// `ce_id`.
    pub id: EventId,
    /// `organization-id`.
    pub organization_id: OrganizationId,
    /// The key, and the end of `ce_source`.
    pub endpoint_id: EndpointId,
    /// `ce_type`; absent for an event whose producer named none.
    pub event_type: Option<String>,
    /// `ce_time`: when it was received.
    pub received_at: DateTime<Utc>,
    /// `content-type`.
    pub content_type: Option<String>,
    /// `traceparent`.
    pub traceparent: Option<String>,
    /// `payload-s3-key`, `payload-s3-offset`, `payload-s3-length`.
    pub payload: PayloadLocation,
    /// `payload-sha256`: what the payload's SHA-256 was when it was received. Told where the body does not travel inline;
    /// releases before did not tell it.
    pub body_sha256: Option<[u8; 32]>,
    /// The value; `None` when it is too large to travel inline.
    pub body: Option<Bytes>,
    /// `producer-headers`: the producer's headers as HTTP/1.1 writes them.
    pub headers: Bytes,
    /// `relayed`: published after the fact, from Postgres; it may have been published before (PROTOCOLS I5).
    pub relayed: bool,
}

/// An event given up, on `webhooks.dlq`.
#[derive(Debug, Clone)]
pub struct DeadLetter<'a> {
    /// The event as it was accepted.
    pub event: &'a EventMessage,
    /// `destination-id`: for whom it was given up.
    pub destination_id: DestinationId,
    /// `dead-letter-reason`: the last outcome.
    pub reason: &'a str,
}

mod header {
    pub(super) const SPEC_VERSION: &str = "ce_specversion";
    pub(super) const ID: &str = "ce_id";
    pub(super) const SOURCE: &str = "ce_source";
    pub(super) const TYPE: &str = "ce_type";
    pub(super) const TIME: &str = "ce_time";
    pub(super) const CONTENT_TYPE: &str = "content-type";
    pub(super) const TRACEPARENT: &str = "traceparent";
    pub(super) const ORGANIZATION: &str = "organization-id";
    pub(super) const PAYLOAD_KEY: &str = "payload-s3-key";
    pub(super) const PAYLOAD_OFFSET: &str = "payload-s3-offset";
    pub(super) const PAYLOAD_LENGTH: &str = "payload-s3-length";
    pub(super) const PAYLOAD_SHA256: &str = "payload-sha256";
    pub(super) const HEADERS: &str = "producer-headers";
    pub(super) const RELAYED: &str = "relayed";
    pub(super) const DESTINATION: &str = "destination-id";
    pub(super) const REASON: &str = "dead-letter-reason";

    /// What `ce_source` begins with; the endpoint's id follows.
    pub(super) const SOURCE_PREFIX: &str = "/endpoints/";
    /// The type of a message on `webhooks.deliveries`.
    pub(super) const ATTEMPTED: &str = "ravenpost.delivery.attempted";
    pub(super) const WARNED: &str = "ravenpost.destination.warned";
    pub(super) const DISABLED: &str = "ravenpost.destination.disabled";
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::message::OwnedMessage;

    fn event(body: Option<&'static [u8]>) -> EventMessage {
        EventMessage {
            id: "0199e5a0-0000-7000-8000-000000000001".parse().unwrap(),
            organization_id: "0199e5a0-0000-7000-8000-000000000002".parse().unwrap(),
            endpoint_id: "0199e5a0-0000-7000-8000-000000000003".parse().unwrap(),
            event_type: Some("push".to_owned()),
            received_at: DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap(),
            content_type: Some("application/json".to_owned()),
            traceparent: None,
            payload: PayloadLocation { s3_key: "payloads/segments/x".to_owned(), s3_offset: 7, s3_length: 3 },
            body_sha256: body.is_none().then_some([0xab; 32]),
            body: body.map(Bytes::from_static),
            headers: Bytes::from_static(b"x-github-event: push\r\n"),
            relayed: false,
        }
    }

    fn through_kafka(message: Message) -> OwnedMessage {
        let timestamp = rdkafka::Timestamp::NotAvailable;
        OwnedMessage::new(
            Some(message.value.to_vec()),
            Some(message.key),
            message.topic.to_owned(),
            timestamp,
            0,
            42,
            Some(message.headers),
        )
    }

    #[test]
    fn an_event_reads_back_with_its_body_or_with_its_claim_check() {
        for (body, relayed) in [(Some(b"abc".as_slice()), true), (None, false)] {
            let event = EventMessage { relayed, ..event(body) };
            assert_eq!(EventMessage::decode(&through_kafka(event.encode())).unwrap(), event);
        }
    }

    #[test]
    fn an_empty_body_travels_inline() {
        let mut event = event(Some(b""));
        event.payload.s3_length = 0;
        assert_eq!(EventMessage::decode(&through_kafka(event.encode())).unwrap().body, Some(Bytes::new()));
    }

    #[test]
    fn what_is_no_event_names_the_header() {
        let mut message = event(None).encode();
        message.headers = rdkafka::message::OwnedHeaders::new();
        let error = EventMessage::decode(&through_kafka(message)).unwrap_err();
        assert_eq!(error.to_string(), "header `ce_id` is missing or malformed");
    }
}
