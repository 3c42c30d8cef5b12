//! From committed rows to messages, and how long a producer waits for Kafka (PROTOCOLS I6).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ravenpost_bus::message::{EventMessage, INLINE_LIMIT};
use ravenpost_bus::{Error, Message, Producer};
use ravenpost_core::ids::EventId;
use ravenpost_store::system::NewEvent;
use tracing::warn;

use super::cursor::Way;
use super::instance::Run;

/// Publishes batches as soon as they are committed.
pub(super) struct Publisher {
    pub(super) producer: Producer,
    /// How long Kafka's acknowledgement is waited for before the committed row is promise enough.
    pub(super) wait: Duration,
}

impl Publisher {
    /// Publishes a committed batch, or leaves it to the relay; either way its producers can be answered.
    pub(super) async fn publish(
        &self,
        run: &Arc<Run>,
        first: EventId,
        messages: impl FnOnce() -> Vec<Message>,
    ) {
        match run.cursor.committed(first) {
            Way::Direct => {}
            Way::Relayed => return,
            Way::Soon => {
                if tokio::time::timeout(self.wait, run.cursor.until_clear(first)).await.is_err() {
                    return run.cursor.leave_to_relay(first);
                }
            }
        }
        let (producer, messages) = (self.producer.clone(), messages());
        let mut acknowledged = Box::pin(async move { producer.produce(messages).await });
        if let Ok(done) = tokio::time::timeout(self.wait, &mut acknowledged).await {
            return conclude(run, first, done);
        }
        run.cursor.overdue(first);
        let run = Arc::clone(run);
        tokio::spawn(async move { conclude(&run, first, acknowledged.await) });
    }
}

fn conclude(run: &Run, first: EventId, done: Result<(), Error>) {
    let Err(error) = done else { return run.cursor.finish(first) };
    let error = &error as &dyn std::error::Error;
    warn!(instance_id = %run.id, first_event_id = %first, error, "a batch is not in Kafka yet and is relayed");
    run.cursor.leave_to_relay(first);
}

/// The message of an event that has just been committed.
pub(super) fn message(row: &NewEvent, body: &Bytes) -> EventMessage {
    EventMessage {
        id: row.id,
        organization_id: row.organization_id,
        endpoint_id: row.endpoint_id,
        event_type: row.event_type.clone(),
        received_at: row.received_at,
        content_type: row.content_type.clone(),
        traceparent: row.traceparent.clone(),
        payload: row.payload.clone(),
        body_sha256: Some(row.body_sha256),
        body: (body.len() <= INLINE_LIMIT).then(|| body.clone()),
        headers: row.headers.clone(),
        relayed: false,
    }
}

/// The message of an event that may have been published before. Without its body it is fetched from the payload store.
pub(super) fn relayed(row: &NewEvent, body: Option<Bytes>) -> EventMessage {
    EventMessage { body, relayed: true, ..message(row, &Bytes::new()) }
}
