//! One batch through the three stores, always in this order: payload, rows, messages, answers (PROTOCOLS I1).

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use ravenpost_core::deduplication::{Met, meet};
use ravenpost_core::event::PayloadLocation;
use ravenpost_core::ids::EventId;
use ravenpost_store::system::{Accepted, NewEvent};
use ravenpost_store::{Error, Payloads, System};
use tokio::sync::Semaphore;
use tokio_util::sync::DropGuard;
use tracing::{error, warn};

use super::instance::{Instance, Run};
use super::publish::{Publisher, message};
use super::{NotCommitted, Pending};
use crate::metrics::IngressMetrics;

/// Writes batches.
pub(super) struct Writer {
    pub(super) system: System,
    pub(super) payloads: Payloads,
    pub(super) publisher: Publisher,
    pub(super) instance: Arc<Instance>,
    pub(super) metrics: IngressMetrics,
    /// The lanes from this one on are for large bodies.
    pub(super) large_from: usize,
    /// Their statements at once: they upload side by side, and leave connections to Postgres to the others.
    pub(super) large_statements: Semaphore,
    /// Tells, when the last lane ends, that nothing is committed any more.
    pub(super) _over: DropGuard,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Row {
    /// It is committed.
    Committed,
    /// It repeats an event that was committed before.
    Repeats,
    /// Postgres refuses it for what is in it.
    Refused,
}

/// Why none of a batch is accepted.
enum Failure {
    /// Nothing of it is in Postgres.
    Payload(Error),
    /// Nothing of it is in Postgres.
    Rows(Error),
    /// Some of it may be in Postgres: a lost connection does not say.
    Lost(Error),
    /// The instance was adopted; what is in Postgres of it belongs to the peer who did so.
    Adopted,
}

impl Writer {
    /// Commits a batch through a lane and answers everybody in it.
    pub(super) async fn commit(&self, lane: usize, batch: Vec<Pending>) {
        self.metrics.queue_events.sub(i64::try_from(batch.len()).unwrap_or(i64::MAX));
        self.metrics.batch_events.observe(f64::from(u32::try_from(batch.len()).unwrap_or(u32::MAX)));
        let Met { firsts: batch, repeats } = meet(batch, Pending::key);
        let run = self.instance.run();
        let ids = run.cursor.cut(batch.len());
        let Some(first) = ids.first().copied() else { return };
        match self.write(&run, lane, &ids, &batch).await {
            Ok(rows) => {
                self.answer(&ids, batch, repeats, &rows).await;
                self.clear(&ids, &rows).await;
            }
            Err(failure) => {
                self.fail(&run, lane, first, &failure, batch.len()).await;
                for pending in batch.into_iter().chain(repeats.into_iter().map(|(_, repeat)| repeat)) {
                    pending.answer(Err(NotCommitted::Unavailable));
                }
            }
        }
    }

    async fn write(
        &self,
        run: &Arc<Run>,
        lane: usize,
        ids: &[EventId],
        batch: &[Pending],
    ) -> Result<Vec<Row>, Failure> {
        let locations =
            self.timed("payload", self.store_payloads(ids, batch)).await.map_err(Failure::Payload)?;
        let stored = ids.iter().zip(batch).zip(locations);
        let events: Vec<_> =
            stored.map(|((id, pending), payload)| pending.draft.clone().stored(*id, payload)).collect();
        let turn = if lane >= self.large_from { self.large_statements.acquire().await.ok() } else { None };
        let rows = self.timed("rows", self.accept(run, lane, &events)).await?;
        drop(turn);
        let committed =
            || rows.iter().zip(events.iter().zip(batch)).filter(|(row, _)| **row == Row::Committed);
        if committed().next().is_none() {
            run.cursor.finish(ids[0]);
            return Ok(rows);
        }
        let messages =
            || committed().map(|(_, (event, pending))| message(event, &pending.body).encode()).collect();
        self.timed("publish", self.publisher.publish(run, ids[0], messages)).await;
        Ok(rows)
    }

    /// Commits rows; those that Postgres refuses for what is in them are found by halves, so that they fail no
    /// neighbours (PROTOCOLS I9).
    async fn accept(&self, run: &Run, lane: usize, events: &[NewEvent]) -> Result<Vec<Row>, Failure> {
        match run.accept(lane, events).await {
            Ok(Accepted::Adopted) => Err(Failure::Adopted),
            Ok(Accepted::Committed(ids)) => {
                let row =
                    |event: &NewEvent| if ids.contains(&event.id) { Row::Committed } else { Row::Repeats };
                Ok(events.iter().map(row).collect())
            }
            Err(cause) if !cause.did_nothing() => Err(Failure::Lost(cause)),
            Err(cause) if !cause.is_about_data() => Err(Failure::Rows(cause)),
            Err(cause) if events.len() == 1 => {
                let error = &cause as &dyn std::error::Error;
                error!(endpoint_id = %events[0].endpoint_id, error, "an event is refused by Postgres");
                Ok(vec![Row::Refused])
            }
            Err(_) => self.accept_halves(run, lane, events).await,
        }
    }

    async fn accept_halves(&self, run: &Run, lane: usize, events: &[NewEvent]) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::with_capacity(events.len());
        for half in events.chunks(events.len().div_ceil(2)) {
            match Box::pin(self.accept(run, lane, half)).await {
                Ok(accepted) => rows.extend(accepted),
                // The other half may be committed: as good as lost.
                Err(Failure::Rows(cause)) if !rows.is_empty() => return Err(Failure::Lost(cause)),
                Err(failure) => return Err(failure),
            }
        }
        Ok(rows)
    }

    async fn store_payloads(
        &self,
        ids: &[EventId],
        batch: &[Pending],
    ) -> ravenpost_store::Result<Vec<PayloadLocation>> {
        if let ([id], [pending]) = (ids, batch) {
            let location = PayloadLocation::of_event(*id, pending.body.len());
            self.payloads.put(&location.s3_key, pending.body.clone()).await?;
            return Ok(vec![location]);
        }
        let key = PayloadLocation::segment_key(ids[0]);
        let mut segment = BytesMut::with_capacity(batch.iter().map(|pending| pending.body.len()).sum());
        let mut locations = Vec::with_capacity(batch.len());
        for pending in batch {
            locations.push(PayloadLocation::within(key.clone(), segment.len(), pending.body.len()));
            segment.extend_from_slice(&pending.body);
        }
        self.payloads.put(&key, segment.freeze()).await?;
        Ok(locations)
    }

    /// A payload with an object of its own whose event is certainly not committed belongs to nothing. What belongs to
    /// nothing in a segment stays with its neighbours.
    async fn clear(&self, ids: &[EventId], rows: &[Row]) {
        let ([id], [Row::Repeats | Row::Refused]) = (ids, rows) else { return };
        let s3_key = PayloadLocation::object_key(*id);
        if let Err(error) = self.payloads.delete(&s3_key).await {
            warn!(
                error = &error as &dyn std::error::Error,
                s3_key, "a payload that belongs to nothing stays"
            );
        }
    }

    async fn timed<T>(&self, stage: &str, work: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let done = work.await;
        self.metrics.commit_seconds.with_label_values(&[stage]).observe(started.elapsed().as_secs_f64());
        done
    }

    /// A batch that failed: what may be committed is left to the relay, which finds out.
    async fn fail(&self, run: &Run, lane: usize, first: EventId, failure: &Failure, events: usize) {
        match failure {
            Failure::Lost(_) => run.cursor.doubt(first, lane),
            Failure::Payload(_) | Failure::Rows(_) | Failure::Adopted => run.cursor.finish(first),
        }
        self.report(run, first, failure, events);
        if matches!(failure, Failure::Adopted)
            && let Err(cause) = self.instance.renew(run.id).await
        {
            error!(error = &cause as &dyn std::error::Error, "a new instance can't be registered");
        }
    }

    fn report(&self, run: &Run, first: EventId, failure: &Failure, events: usize) {
        let (stage, cause): (_, Option<&dyn std::error::Error>) = match failure {
            Failure::Payload(cause) => ("payload", Some(cause)),
            Failure::Rows(cause) | Failure::Lost(cause) => ("rows", Some(cause)),
            Failure::Adopted => ("adopted", None),
        };
        self.metrics.commit_failures.with_label_values(&[stage]).inc();
        error!(
            stage,
            instance_id = %run.id,
            first_event_id = %first,
            events,
            error = cause,
            "a batch could not be committed; its producers are told 503"
        );
    }
}
