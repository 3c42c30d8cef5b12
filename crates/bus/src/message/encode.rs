//! To Kafka.

use bytes::Bytes;
use ravenpost_core::delivery::DeliveryReport;
use ravenpost_core::event::UNTYPED;
use ravenpost_core::ids::{EndpointId, OrganizationId, Slot};
use ravenpost_core::pacing::{DestinationEvent, DestinationReport};
use ravenpost_core::topic;
use rdkafka::message::{Header, OwnedHeaders};
use serde::Serialize;

use super::{DeadLetter, EventMessage, header};

/// A message ready to be produced.
#[derive(Debug, Clone)]
pub struct Message {
    /// One of [`topic::ALL`].
    pub topic: &'static str,
    /// Decides the partition.
    pub slot: Slot,
    /// The endpoint's id as text.
    pub key: Vec<u8>,
    /// The body.
    pub value: Bytes,
    /// CloudEvents attributes and ours.
    pub headers: OwnedHeaders,
}

struct Headers(OwnedHeaders);

impl Headers {
    fn with(self, key: &str, value: impl AsRef<[u8]>) -> Self {
        Self(self.0.insert(Header { key, value: Some(value.as_ref()) }))
    }

    fn with_some(self, key: &str, value: Option<impl AsRef<[u8]>>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    fn cloud_event(id: &str, endpoint: EndpointId, kind: &str, time: chrono::DateTime<chrono::Utc>) -> Self {
        Self(OwnedHeaders::new_with_capacity(16))
            .with(header::SPEC_VERSION, "1.0")
            .with(header::ID, id)
            .with(header::SOURCE, format!("{}{endpoint}", header::SOURCE_PREFIX))
            .with(header::TYPE, kind)
            .with(header::TIME, time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true))
    }
}

impl EventMessage {
    /// For `webhooks.ingest`.
    pub fn encode(&self) -> Message {
        self.message(topic::INGEST, self.headers())
    }

    fn headers(&self) -> Headers {
        let kind = self.event_type.as_deref().unwrap_or(UNTYPED);
        Headers::cloud_event(&self.id.to_string(), self.endpoint_id, kind, self.received_at)
            .with_some(header::CONTENT_TYPE, self.content_type.as_ref())
            .with_some(header::TRACEPARENT, self.traceparent.as_ref())
            .with(header::ORGANIZATION, self.organization_id.to_string())
            .with(header::PAYLOAD_KEY, &self.payload.s3_key)
            .with(header::PAYLOAD_OFFSET, self.payload.s3_offset.to_string())
            .with(header::PAYLOAD_LENGTH, self.payload.s3_length.to_string())
            .with_some(
                header::PAYLOAD_SHA256,
                self.body_sha256.filter(|_| self.body.is_none()).map(hex::encode),
            )
            .with(header::HEADERS, &self.headers)
            .with_some(header::RELAYED, self.relayed.then_some("true"))
    }

    fn message(&self, topic: &'static str, headers: Headers) -> Message {
        Message {
            topic,
            slot: Slot::of(self.endpoint_id),
            key: self.endpoint_id.to_string().into_bytes(),
            value: self.body.clone().unwrap_or_default(),
            headers: headers.0,
        }
    }
}

impl DeadLetter<'_> {
    /// For `webhooks.dlq`.
    pub fn encode(&self) -> Message {
        let headers = self
            .event
            .headers()
            .with(header::DESTINATION, self.destination_id.to_string())
            .with(header::REASON, self.reason);
        self.event.message(topic::DLQ, headers)
    }
}

impl Message {
    /// A report for `webhooks.deliveries`.
    pub fn report(report: &DeliveryReport) -> Result<Self, serde_json::Error> {
        let id = report.id.to_string();
        let event = Headers::cloud_event(&id, report.endpoint_id, header::ATTEMPTED, report.attempted_at);
        Self::on_deliveries(report.endpoint_id, report.organization_id, event, report)
    }

    /// What happened to a destination, for `webhooks.deliveries`.
    pub fn destination_report(report: &DestinationReport) -> Result<Self, serde_json::Error> {
        let id = report.id.to_string();
        let kind = match report.destination_event {
            DestinationEvent::Warned => header::WARNED,
            DestinationEvent::Disabled => header::DISABLED,
        };
        let event = Headers::cloud_event(&id, report.endpoint_id, kind, report.happened_at)
            .with(header::DESTINATION, report.destination_id.to_string());
        Self::on_deliveries(report.endpoint_id, report.organization_id, event, report)
    }

    fn on_deliveries(
        endpoint: EndpointId,
        organization: OrganizationId,
        event: Headers,
        report: &impl Serialize,
    ) -> Result<Self, serde_json::Error> {
        let headers = event
            .with(header::CONTENT_TYPE, "application/json")
            .with(header::ORGANIZATION, organization.to_string());
        Ok(Self {
            topic: topic::DELIVERIES,
            slot: Slot::of(endpoint),
            key: endpoint.to_string().into_bytes(),
            value: serde_json::to_vec(report)?.into(),
            headers: headers.0,
        })
    }
}
