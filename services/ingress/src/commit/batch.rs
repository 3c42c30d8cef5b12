//! One batch through the three stores, always in this order: payload, rows, messages, answers (PROTOCOLS I1).

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use ravenpost_bus::Producer;
use ravenpost_bus::message::{EventMessage, INLINE_LIMIT};
use ravenpost_core::event::PayloadLocation;
use ravenpost_core::ids::EventId;
use ravenpost_store::system::{Accepted, NewEvent};
use ravenpost_store::{Payloads, System};
use sha2::{Digest, Sha256};
use tracing::error;

use super::instance::{Instance, Run};
use super::{NotCommitted, Pending};
use crate::metrics::IngressMetrics;

/// Writes batches.
pub(super) struct Writer {
    pub(super) system: System,
    pub(super) payloads: Payloads,
    pub(super) producer: Producer,
    pub(super) instance: Arc<Instance>,
    pub(super) metrics: IngressMetrics,
}

/// At which stage a batch failed.
enum Failure {
    /// Nothing of it is in Postgres.
    Payload(ravenpost_store::Error),
    /// It may be in Postgres: a lost connection does not say.
    Rows(ravenpost_store::Error),
    /// The instance was adopted; nothing of it is in Postgres.
    Adopted,
    /// It is in Postgres; some of it may be in Kafka.
    Publish(ravenpost_bus::Error),
}

impl Writer {
    /// Commits a batch through a lane and answers everybody in it.
    pub(super) async fn commit(&self, lane: i32, batch: Vec<Pending>) {
        self.metrics.queue_events.sub(i64::try_from(batch.len()).unwrap_or(i64::MAX));
        self.metrics.batch_events.observe(f64::from(u32::try_from(batch.len()).unwrap_or(u32::MAX)));
        let run = self.instance.run();
        let ids = run.cursor.cut(batch.len());
        let Some(first) = ids.first().copied() else { return };
        let committed = self.write(&run, lane, &ids, &batch).await;
        match &committed {
            Ok(()) | Err(Failure::Payload(_) | Failure::Adopted) => run.cursor.finish(first),
            Err(Failure::Rows(_) | Failure::Publish(_)) => run.cursor.leave_unpublished(first),
        }
        if let Err(failure) = &committed {
            self.report(&run, failure, &ids);
        }
        if matches!(committed, Err(Failure::Adopted))
            && let Err(cause) = self.instance.renew(run.id).await
        {
            error!(error = &cause as &dyn std::error::Error, "a new instance can't be registered");
        }
        for (pending, id) in batch.into_iter().zip(ids) {
            // A producer that has gone does not hear of it; the event is accepted all the same.
            let _ = pending.answer.send(if committed.is_ok() { Ok(id) } else { Err(NotCommitted) });
        }
    }

    async fn write(&self, run: &Run, lane: i32, ids: &[EventId], batch: &[Pending]) -> Result<(), Failure> {
        let locations =
            self.timed("payload", self.store_payloads(ids, batch)).await.map_err(Failure::Payload)?;
        let rows = rows(ids, batch, &locations);
        let accepted = self.timed("rows", self.system.accept(run.id, lane, &rows)).await;
        if accepted.map_err(Failure::Rows)? == Accepted::Adopted {
            return Err(Failure::Adopted);
        }
        let messages: Vec<_> =
            rows.iter().zip(batch).map(|(row, pending)| message(row, &pending.body).encode()).collect();
        self.timed("publish", self.producer.produce(&messages)).await.map_err(Failure::Publish)
    }

    async fn store_payloads(
        &self,
        ids: &[EventId],
        batch: &[Pending],
    ) -> ravenpost_store::Result<Vec<PayloadLocation>> {
        if let ([id], [pending]) = (ids, batch) {
            let key = PayloadLocation::object_key(*id);
            self.payloads.put(&key, pending.body.clone()).await?;
            return Ok(vec![location(&key, 0, pending.body.len())]);
        }
        let key = PayloadLocation::segment_key(ids[0]);
        let mut segment = BytesMut::with_capacity(batch.iter().map(|pending| pending.body.len()).sum());
        let mut locations = Vec::with_capacity(batch.len());
        for pending in batch {
            locations.push(location(&key, segment.len(), pending.body.len()));
            segment.extend_from_slice(&pending.body);
        }
        self.payloads.put(&key, segment.freeze()).await?;
        Ok(locations)
    }

    async fn timed<T>(&self, stage: &str, work: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let done = work.await;
        self.metrics.commit_seconds.with_label_values(&[stage]).observe(started.elapsed().as_secs_f64());
        done
    }

    fn report(&self, run: &Run, failure: &Failure, ids: &[EventId]) {
        let (stage, cause): (_, Option<&dyn std::error::Error>) = match failure {
            Failure::Payload(cause) => ("payload", Some(cause)),
            Failure::Rows(cause) => ("rows", Some(cause)),
            Failure::Adopted => ("adopted", None),
            Failure::Publish(cause) => ("publish", Some(cause)),
        };
        self.metrics.commit_failures.with_label_values(&[stage]).inc();
        error!(
            stage,
            instance_id = %run.id,
            first_event_id = ids.first().map(tracing::field::display),
            events = ids.len(),
            error = cause,
            "a batch could not be committed; its producers are told 503"
        );
    }
}

fn location(key: &str, offset: usize, length: usize) -> PayloadLocation {
    let number = |value| i64::try_from(value).unwrap_or(i64::MAX);
    PayloadLocation { s3_key: key.to_owned(), s3_offset: number(offset), s3_length: number(length) }
}

fn rows(ids: &[EventId], batch: &[Pending], locations: &[PayloadLocation]) -> Vec<NewEvent> {
    let rows = ids.iter().zip(batch).zip(locations);
    rows.map(|((id, pending), payload)| NewEvent {
        id: *id,
        organization_id: pending.endpoint.organization_id,
        endpoint_id: pending.endpoint.id,
        slot: pending.endpoint.slot,
        received_at: pending.received_at,
        payload: payload.clone(),
        body_sha256: Sha256::digest(&pending.body).into(),
        headers: pending.headers.clone(),
        event_type: pending.event_type.clone(),
        content_type: pending.content_type.clone(),
        traceparent: Some(pending.traceparent.to_string()),
    })
    .collect()
}

fn message(row: &NewEvent, body: &Bytes) -> EventMessage {
    EventMessage {
        id: row.id,
        organization_id: row.organization_id,
        endpoint_id: row.endpoint_id,
        event_type: row.event_type.clone(),
        received_at: row.received_at,
        content_type: row.content_type.clone(),
        traceparent: row.traceparent.clone(),
        payload: row.payload.clone(),
        body: (body.len() <= INLINE_LIMIT).then(|| body.clone()),
        headers: row.headers.clone(),
    }
}
