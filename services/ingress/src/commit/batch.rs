//! One batch through the three stores, always in this order: payload, rows, messages, answers (PROTOCOLS I1).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use ravenpost_core::event::PayloadLocation;
use ravenpost_core::ids::EventId;
use ravenpost_store::system::{Accepted, Deduplication, NewEvent, Winner};
use ravenpost_store::{Error, Payloads, System};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio_util::sync::DropGuard;
use tracing::error;

use super::duplicates::{self, Met};
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
    /// How long a producer's retry is recognised.
    pub(super) window: Duration,
    /// Tells, when the last lane ends, that nothing is committed any more.
    pub(super) _over: DropGuard,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
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
        let Met { batch, repeats } = duplicates::meet(batch);
        let run = self.instance.run();
        let ids = run.cursor.cut(batch.len());
        let Some(first) = ids.first().copied() else { return };
        match self.write(&run, lane, &ids, &batch).await {
            Ok(rows) => self.answer(&ids, batch, repeats, &rows).await,
            Err(failure) => {
                self.fail(&run, lane, first, &failure, batch.len()).await;
                for pending in batch.into_iter().chain(repeats.into_iter().map(|(_, repeat)| repeat)) {
                    pending.answer(Err(NotCommitted::Unavailable));
                }
            }
        }
    }

    /// Answers everybody of a batch: first those whose events are committed, then those who repeat an event that was
    /// committed before, since that has to be read.
    async fn answer(
        &self,
        ids: &[EventId],
        batch: Vec<Pending>,
        repeats: Vec<(usize, Pending)>,
        rows: &[Row],
    ) {
        let mut waiting = Vec::new();
        for (place, repeat) in repeats {
            match rows[place] {
                Row::Committed => {
                    let body_sha256 = Sha256::digest(&batch[place].body).into();
                    let told = duplicates::answer(&repeat, Winner { event_id: ids[place], body_sha256 });
                    self.metrics.duplicates.inc();
                    repeat.answer(told);
                }
                Row::Repeats => waiting.push(repeat),
                // Its own fate is open: it is tried when it comes again.
                Row::Refused => repeat.answer(Err(NotCommitted::Unavailable)),
            }
        }
        for ((pending, id), row) in batch.into_iter().zip(ids).zip(rows) {
            match row {
                Row::Committed => pending.answer(Ok(*id)),
                Row::Refused => pending.answer(Err(NotCommitted::Refused)),
                Row::Repeats => waiting.push(pending),
            }
        }
        if !waiting.is_empty() {
            self.answer_repeats(waiting).await;
        }
    }

    /// Answers those who repeat events that were committed before. Where there is none, it was never committed, and a
    /// producer that is told 503 tries again.
    async fn answer_repeats(&self, repeats: Vec<Pending>) {
        self.metrics.duplicates.inc_by(u64::try_from(repeats.len()).unwrap_or(0));
        let key = |repeat: &Pending| Some((repeat.endpoint.id, repeat.deduplication?.hash));
        let keys: Vec<_> = repeats.iter().filter_map(key).collect();
        let winners = self.system.winners(&keys).await.unwrap_or_else(|cause| {
            error!(error = &cause as &dyn std::error::Error, "the events that requests repeat can't be read");
            HashMap::new()
        });
        for repeat in repeats {
            let winner = key(&repeat).and_then(|key| winners.get(&key)).copied();
            let told =
                winner.map_or(Err(NotCommitted::Unavailable), |winner| duplicates::answer(&repeat, winner));
            repeat.answer(told);
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
        let events = self.events(ids, batch, locations);
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

    fn events(&self, ids: &[EventId], batch: &[Pending], locations: Vec<PayloadLocation>) -> Vec<NewEvent> {
        let rows = ids.iter().zip(batch).zip(locations);
        rows.map(|((id, pending), payload)| NewEvent {
            id: *id,
            organization_id: pending.endpoint.organization_id,
            endpoint_id: pending.endpoint.id,
            slot: pending.endpoint.slot,
            received_at: pending.received_at,
            payload,
            body_sha256: Sha256::digest(&pending.body).into(),
            headers: pending.headers.clone(),
            event_type: pending.event_type.clone(),
            content_type: pending.content_type.clone(),
            traceparent: Some(pending.traceparent.to_string()),
            deduplication: pending
                .deduplication
                .map(|key| Deduplication { key: key.hash, expires_at: pending.received_at + self.window }),
        })
        .collect()
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

fn location(key: &str, offset: usize, length: usize) -> PayloadLocation {
    let number = |value| i64::try_from(value).unwrap_or(i64::MAX);
    PayloadLocation { s3_key: key.to_owned(), s3_offset: number(offset), s3_length: number(length) }
}
