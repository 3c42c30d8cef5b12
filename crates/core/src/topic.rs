//! Names of the Kafka topics. Every message is keyed by the endpoint's id and is a CloudEvent in binary mode.

/// Every accepted event.
pub const INGEST: &str = "webhooks.ingest";
/// The outcome of every attempt.
pub const DELIVERIES: &str = "webhooks.deliveries";
/// Events given up for a destination.
pub const DLQ: &str = "webhooks.dlq";
/// All topics, for whoever creates or checks them.
pub const ALL: [&str; 3] = [INGEST, DELIVERIES, DLQ];
