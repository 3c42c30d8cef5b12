//! Recording: what the owners of partitions have gathered goes to Kafka and then to Postgres, that of several partitions
//! together (PROTOCOLS W9).
//!
//! A statement costs about the same however little it records, so each waits a moment for company. Nothing is waited for
//! by a receiver then: its answer is there.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ravenpost_bus::{Message, Producer};
use ravenpost_chassis::Context;
use ravenpost_core::delivery::DeliveryReport;
use ravenpost_store::system::{Attempt, OfPartition, Record};
use ravenpost_store::{Error, System};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{error, warn};

use crate::metrics::WorkerMetrics;

/// Statements at once: while one is under way the next one gathers.
const LANES: usize = ravenpost_store::RECORDERS as usize;
/// How long one waits for company.
const LINGER: Duration = Duration::from_millis(25);
/// With so many things to record it does not wait any longer.
const ENOUGH: usize = 200;
/// How long to wait before a store is asked again.
const AGAIN: Duration = Duration::from_millis(500);

/// What an owner has to record and to tell.
pub struct Recording {
    /// Which partition.
    pub partition: i32,
    /// The epoch under which its owner has it.
    pub epoch: i64,
    /// For Postgres.
    pub record: Record,
    /// Of that, what concerned events that are kept no longer.
    pub gone: Record,
    /// For Kafka, before: events given up, and what happened to destinations.
    pub messages: Vec<Message>,
    /// Hears of it when it is recorded.
    pub recorded: oneshot::Sender<Recorded>,
}

/// A record that was made.
pub struct Recorded {
    /// What was recorded.
    pub record: Record,
    /// `false`: the partition belongs to somebody else now.
    pub current: bool,
}

/// Where owners leave what they have to record. Cheap to clone.
#[derive(Clone)]
pub struct Recorder(mpsc::UnboundedSender<Recording>);

/// What the lanes share.
struct Lanes {
    inbox: Mutex<Inbox>,
    system: System,
    producer: Producer,
    metrics: WorkerMetrics,
}

struct Inbox {
    waiting: mpsc::UnboundedReceiver<Recording>,
    /// Taken out, and left for the next batch.
    kept: Option<Recording>,
}

impl Recorder {
    /// Starts the lanes; they end when nobody can leave anything any more.
    pub fn start(ctx: &Context, system: System, producer: Producer, metrics: WorkerMetrics) -> Self {
        let (sender, waiting) = mpsc::unbounded_channel();
        let inbox = Mutex::new(Inbox { waiting, kept: None });
        let lanes = Arc::new(Lanes { inbox, system, producer, metrics });
        for _ in 0..LANES {
            let lanes = Arc::clone(&lanes);
            ctx.spawn("recorder", async move {
                loop {
                    let Some(batch) = lanes.inbox.lock().await.next_batch().await else { return Ok(()) };
                    lanes.tell(&batch).await;
                    Arc::clone(&lanes).write(batch).await;
                }
            });
        }
        Self(sender)
    }

    /// Leaves something to be recorded. An owner leaves the next only when it has heard of the last one.
    pub fn leave(&self, recording: Recording) {
        // The lanes outlive whoever can leave anything.
        drop(self.0.send(recording));
    }
}

impl Inbox {
    /// What is recorded next, at most one record of each partition: one of a partition that was lost and taken again may
    /// name the same attempts. `None` when nobody is left.
    async fn next_batch(&mut self) -> Option<Vec<Recording>> {
        let first = match self.kept.take() {
            Some(kept) => kept,
            None => self.waiting.recv().await?,
        };
        let patience = Instant::now() + LINGER;
        let mut partitions = HashSet::from([first.partition]);
        let mut things = first.record.len();
        let mut batch = vec![first];
        while things < ENOUGH
            && let Ok(Some(next)) = timeout_at(patience, self.waiting.recv()).await
        {
            if !partitions.insert(next.partition) {
                self.kept = Some(next);
                break;
            }
            things += next.record.len();
            batch.push(next);
        }
        Some(batch)
    }
}

impl Lanes {
    /// Tells Kafka, and does not go on before Kafka has it: a retry has no offset that would bring it back, so that
    /// whoever listens would never hear of it.
    async fn tell(&self, batch: &[Recording]) {
        let attempts = batch.iter().flat_map(|recording| &recording.record.attempts);
        let reports = attempts.filter_map(|attempt| encoded(Message::report(&report(attempt))));
        let others = batch.iter().flat_map(|recording| recording.messages.iter().cloned());
        let messages: Vec<Message> = reports.chain(others).collect();
        if messages.is_empty() {
            return;
        }
        while let Err(error) = self.producer.produce(messages.clone()).await {
            warn!(error = &error as &dyn std::error::Error, "outcomes can't be reported yet");
            sleep(AGAIN).await;
        }
    }

    /// Writes until Postgres has it. What Postgres refuses for what is in it goes on by itself, and stops no other.
    async fn write(self: Arc<Self>, mut batch: Vec<Recording>) {
        let things = batch.iter().map(|recording| recording.record.len()).sum::<usize>();
        self.metrics.record_batch.observe(f64::from(u32::try_from(things).unwrap_or(u32::MAX)));
        loop {
            match self.write_once(&batch).await {
                Ok(current) => return answer(batch, &current),
                Err(cause) if cause.is_about_data() => break,
                Err(cause) => self.recover(&mut batch, &cause).await,
            }
        }
        for recording in batch {
            let lanes = Arc::clone(&self);
            tokio::spawn(async move { lanes.write_alone(recording).await });
        }
    }

    async fn write_alone(&self, recording: Recording) {
        let mut alone = [recording];
        loop {
            match self.write_once(&alone).await {
                Ok(current) => return answer(alone, &current),
                Err(cause) => {
                    if cause.is_about_data() {
                        // Nothing else of it is what somebody else has written.
                        alone[0].record.forget_texts();
                    }
                    self.recover(&mut alone, &cause).await;
                }
            }
        }
    }

    /// Waits before it is tried again, without what can't be recorded any more: a worker that was stopped for long may
    /// come back with what it knows of events that were dropped meanwhile (PROTOCOLS D2).
    async fn recover(&self, batch: &mut [Recording], cause: &Error) {
        if !cause.is_transient()
            && let Ok(kept_from) = self.system.kept_from().await
        {
            for recording in batch {
                let gone = recording.record.split_off_below(kept_from);
                if !gone.is_empty() {
                    let (partition, things) = (recording.partition, gone.len());
                    warn!(
                        partition,
                        things, "what is to be recorded of events that are kept no longer is left out"
                    );
                    recording.gone.append(gone);
                }
            }
        }
        sleep(AGAIN).await;
    }

    async fn write_once(&self, batch: &[Recording]) -> Result<Vec<i32>, Error> {
        let of = |recording: &Recording| (recording.partition, recording.epoch);
        let records: Vec<_> = batch
            .iter()
            .map(|recording| OfPartition {
                partition: recording.partition,
                epoch: recording.epoch,
                record: &recording.record,
            })
            .collect();
        let recorded = self.system.record_all(&records).await;
        recorded.inspect_err(|cause| {
            let partitions: Vec<_> = batch.iter().map(of).collect();
            let first = batch.iter().find_map(|recording| recording.record.attempts.first());
            error!(
                ?partitions,
                first_event_id = first.map(|attempt| tracing::field::display(attempt.key.event_id)),
                error = cause as &dyn std::error::Error,
                "outcomes can't be recorded yet"
            );
        })
    }
}

fn answer(batch: impl IntoIterator<Item = Recording>, current: &[i32]) {
    for Recording { partition, mut record, gone, recorded, .. } in batch {
        record.append(gone);
        // Nobody listens when the owner is gone.
        drop(recorded.send(Recorded { record, current: current.contains(&partition) }));
    }
}

/// A message; one that can't be encoded is a fault of ours and stops nothing.
pub fn encoded<E: std::fmt::Display>(message: Result<Message, E>) -> Option<Message> {
    message.inspect_err(|error| error!(%error, "a report can't be encoded")).ok()
}

fn report(attempt: &Attempt) -> DeliveryReport {
    DeliveryReport {
        id: attempt.id,
        organization_id: attempt.organization_id,
        endpoint_id: attempt.endpoint_id,
        key: attempt.key,
        outcome: attempt.outcome,
        response_code: attempt.response_code,
        error_message: attempt.error_message.clone(),
        next_retry_at: attempt.next_retry_at,
        dead: attempt.is_dead(),
        attempted_at: attempt.attempted_at,
        duration_ms: attempt.duration_ms.into(),
        phases: attempt.phases,
        connected_address: attempt.connected_address.clone(),
    }
}
