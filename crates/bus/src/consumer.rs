//! Consuming: a group member whose partitions are handed out one by one, each to be owned by one task.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, RwLock, Weak};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rdkafka::consumer::stream_consumer::StreamPartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, StreamConsumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Message as _, Statistics};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::message::{EventMessage, Report, Undecodable, decode_report};
use crate::{Error, Settings};

/// A member that is silent for so long has lost its partitions.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the log's end is asked for.
const WATERMARK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a member that was silent waits before it believes again: a heartbeat and its answer.
const AFTER_SILENCE: Duration = Duration::from_secs(4);
/// How long a partition's queue is trusted to wake its owner.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How often statistics (lag, and when Kafka was last heard) are taken.
const STATISTICS_INTERVAL_MS: &str = "1000";

/// What happens to a member of the group.
pub enum Change {
    /// It owns this partition now.
    Assigned(Partition),
    /// It has to give this partition up. What is still in the air may finish; its decisions won't count once somebody
    /// else has it.
    Revoked(i32, Handover),
}

/// Partitions that are to be given up together. The group gives them to others as soon as the last clone is dropped, and
/// until then this member keeps them, and may store what it has finished of them.
#[derive(Clone)]
pub struct Handover {
    // Held, not read.
    _release: Arc<Release>,
}

/// Lets go of partitions when it is dropped.
struct Release {
    consumer: Weak<Inner>,
    partitions: TopicPartitionList,
}

impl Drop for Release {
    fn drop(&mut self) {
        // A consumer that is gone has left the group.
        let Some(consumer) = self.consumer.upgrade() else { return };
        if let Err(error) = consumer.incremental_unassign(&self.partitions) {
            warn!(%error, "partitions can't be given up");
        }
    }
}

type Inner = StreamConsumer<Context>;

/// A member of a consumer group on one topic.
pub struct Consumer {
    inner: Arc<Inner>,
    changes: mpsc::UnboundedReceiver<Change>,
    liveness: Arc<Liveness>,
}

/// When this process last served the group, and how far behind its partitions are.
pub struct Liveness {
    started: Instant,
    last_poll_ms: AtomicU64,
    /// When Kafka was heard last; 0 before the first time.
    last_heard_ms: AtomicU64,
    live_from_ms: AtomicU64,
    lag: RwLock<HashMap<i32, i64>>,
}

impl Liveness {
    /// Whether this process may still believe that it owns its partitions: it has polled, and a broker has answered, within
    /// half the session timeout (PROTOCOLS W2). One that was stopped, or cut off, and goes on may not until the group had
    /// time to tell it. To hear the group's coordinator is too much to ask: it answers nobody while it waits for a member
    /// that has died, and all the others keep what they have.
    pub fn is_live(&self) -> bool {
        !self.is_silent() && self.elapsed_ms() >= self.live_from_ms.load(Ordering::Relaxed)
    }

    fn is_silent(&self) -> bool {
        let heard = self.last_heard_ms.load(Ordering::Relaxed);
        let since = |at: u64| self.started.elapsed().saturating_sub(Duration::from_millis(at));
        let polled = since(self.last_poll_ms.load(Ordering::Relaxed));
        // Whoever has never heard it owns nothing.
        polled >= SESSION_TIMEOUT / 2 || (heard > 0 && since(heard) >= SESSION_TIMEOUT / 2)
    }

    fn polled(&self) {
        self.break_silence(&self.last_poll_ms, self.elapsed_ms());
    }

    /// Kafka has answered so long ago.
    fn heard(&self, ago: Duration) {
        let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        let at = self.elapsed_ms().saturating_sub(ago).max(self.last_heard_ms.load(Ordering::Relaxed));
        self.break_silence(&self.last_heard_ms, at);
    }

    fn break_silence(&self, what: &AtomicU64, at: u64) {
        let was_silent = self.is_silent();
        what.store(at, Ordering::Relaxed);
        if was_silent && !self.is_silent() {
            let patience = u64::try_from(AFTER_SILENCE.as_millis()).unwrap_or(u64::MAX);
            self.live_from_ms.store(self.elapsed_ms().saturating_add(patience), Ordering::Relaxed);
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Messages that each owned partition is behind, as of the last statistics.
    pub fn lag(&self) -> Vec<(i32, i64)> {
        let lag = self.lag.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        lag.iter().map(|(partition, lag)| (*partition, *lag)).collect()
    }
}

struct Context {
    topic: String,
    changes: mpsc::UnboundedSender<Change>,
    consumer: OnceLock<Weak<Inner>>,
    liveness: Arc<Liveness>,
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        // None where no connection has brought anything yet: what was heard last counts.
        let idle = statistics.brokers.values().filter_map(|broker| u64::try_from(broker.rxidle).ok());
        if let Some(idle) = idle.min() {
            self.liveness.heard(Duration::from_micros(idle));
        }
        let Some(topic) = statistics.topics.get(&self.topic) else { return };
        let owned = topic
            .partitions
            .values()
            .filter(|partition| partition.partition >= 0 && partition.consumer_lag >= 0);
        let lag = owned.map(|partition| (partition.partition, partition.consumer_lag)).collect();
        *self.liveness.lag.write().unwrap_or_else(std::sync::PoisonError::into_inner) = lag;
    }

    fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
        warn!(%error, reason, "Kafka client reports a problem");
    }
}

impl ConsumerContext for Context {
    /// Other than by default, partitions are not given up at once: see [`Handover`]. The client waits for that, and goes on
    /// telling the group that it lives.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let done = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                // Split before messages are fetched, so that none arrives on the common queue.
                self.assigned(partitions);
                consumer.incremental_assign(partitions)
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                // Others have what was taken from a silent member. A consumer that is being dropped gives up at once, too.
                let keeper =
                    self.consumer.get().filter(|it| it.strong_count() > 0 && !consumer.assignment_lost());
                self.revoked(partitions, keeper.cloned().unwrap_or_default());
                if keeper.is_some() { Ok(()) } else { consumer.incremental_unassign(partitions) }
            }
            other => {
                warn!(error = %RDKafkaErrorCode::from(other), "rebalance failed");
                consumer.incremental_unassign(partitions)
            }
        };
        if let Err(error) = done {
            warn!(%error, "a rebalance can't be followed");
        }
    }
}

impl Context {
    fn assigned(&self, partitions: &TopicPartitionList) {
        let Some(consumer) = self.consumer.get().and_then(Weak::upgrade) else { return };
        for element in partitions.elements() {
            let id = element.partition();
            let Some(queue) = consumer.split_partition_queue(&self.topic, id) else {
                warn!(partition = id, "the queue of a partition could not be split");
                continue;
            };
            info!(topic = self.topic, partition = id, "partition assigned");
            let partition =
                Partition { id, queue, consumer: Arc::clone(&consumer), topic: self.topic.clone() };
            // The receiver is gone only while the process ends.
            let _ = self.changes.send(Change::Assigned(partition));
        }
    }

    fn revoked(&self, partitions: &TopicPartitionList, consumer: Weak<Inner>) {
        let release = Arc::new(Release { consumer, partitions: partitions.clone() });
        for element in partitions.elements() {
            info!(topic = self.topic, partition = element.partition(), "partition revoked");
            let handover = Handover { _release: Arc::clone(&release) };
            let _ = self.changes.send(Change::Revoked(element.partition(), handover));
        }
    }
}

impl Consumer {
    /// Joins `group` on `topic` (both get the prefix).
    pub fn join(settings: &Settings, group: &str, topic: &str) -> Result<Self, Error> {
        let liveness = Arc::new(Liveness {
            started: Instant::now(),
            last_poll_ms: AtomicU64::new(0),
            last_heard_ms: AtomicU64::new(0),
            live_from_ms: AtomicU64::new(0),
            lag: RwLock::default(),
        });
        let (sender, changes) = mpsc::unbounded_channel();
        let topic = settings.name(topic);
        let context = Context {
            topic: topic.clone(),
            changes: sender,
            consumer: OnceLock::new(),
            liveness: Arc::clone(&liveness),
        };
        let inner: Inner = settings
            .client()
            .set("group.id", settings.name(group))
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", SESSION_TIMEOUT.as_millis().to_string())
            .set("heartbeat.interval.ms", "2000")
            // A new group starts with the oldest message: what is already known is looked up and not sent again.
            .set("auto.offset.reset", "earliest")
            // Offsets are stored by hand when what they stand for is recorded, and committed in the background.
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "500")
            .set("enable.auto.offset.store", "false")
            .set("fetch.wait.max.ms", "50")
            .set("fetch.error.backoff.ms", "100")
            .set("queued.max.messages.kbytes", "8192")
            // With a full queue the client asks for no more for so long: by default a second, in which a backlog stands still.
            .set("fetch.queue.backoff.ms", "10")
            .set("queued.min.messages", "2000")
            .set("statistics.interval.ms", STATISTICS_INTERVAL_MS)
            .create_with_context(context)
            .map_err(Error::Settings)?;
        let inner = Arc::new(inner);
        // Set before subscribing, so that no rebalance can find it empty.
        let _ = inner.context().consumer.set(Arc::downgrade(&inner));
        inner.subscribe(&[&topic]).map_err(Error::Unavailable)?;
        Ok(Self { inner, changes, liveness })
    }

    /// See [`Liveness`].
    pub fn liveness(&self) -> Arc<Liveness> {
        Arc::clone(&self.liveness)
    }

    /// The next change. Must be waited for all the time: it is what keeps this process a member.
    pub async fn next_change(&mut self) -> Change {
        const HEARTBEAT: Duration = Duration::from_millis(500);
        loop {
            tokio::select! {
                change = self.changes.recv() => {
                    if let Some(change) = change {
                        return change;
                    }
                }
                // Serves rebalances; messages come on the partitions' own queues.
                polled = tokio::time::timeout(HEARTBEAT, self.inner.recv()) => match polled {
                    Ok(Ok(message)) => {
                        warn!(partition = message.partition(), "a message came outside its partition's queue");
                    }
                    Ok(Err(error)) => {
                        warn!(%error, "Kafka can't be consumed from");
                        tokio::time::sleep(HEARTBEAT).await;
                    }
                    Err(_) => self.liveness.polled(),
                },
            }
        }
    }
}

/// A partition owned by this process, until it is revoked.
pub struct Partition {
    /// Its number.
    pub id: i32,
    topic: String,
    queue: StreamPartitionQueue<Context>,
    consumer: Arc<Inner>,
}

impl Partition {
    /// The end of the log at this moment: messages before it may have been handled before.
    pub async fn log_end(&self) -> Result<i64, Error> {
        let (consumer, topic, id) = (Arc::clone(&self.consumer), self.topic.clone(), self.id);
        let asked =
            tokio::task::spawn_blocking(move || consumer.fetch_watermarks(&topic, id, WATERMARK_TIMEOUT));
        let canceled = |_| Error::Unavailable(rdkafka::error::KafkaError::Canceled);
        asked.await.map_err(canceled)?.map(|(_, end)| end).map_err(Error::Unavailable)
    }

    /// The next message of `webhooks.ingest`, and where it stood. Safe to drop while it waits.
    pub async fn recv_event(&self) -> Result<(i64, Result<EventMessage, Undecodable>), Error> {
        let message = self.recv().await?;
        Ok((message.offset(), EventMessage::decode(&message)))
    }

    /// The next message of `webhooks.deliveries`, and where it stood. Safe to drop while it waits.
    pub async fn recv_report(&self) -> Result<(i64, Result<Report, Undecodable>), Error> {
        let message = self.recv().await?;
        Ok((message.offset(), decode_report(&message)))
    }

    async fn recv(&self) -> Result<BorrowedMessage<'_>, Error> {
        loop {
            // A former owner of the same partition in this process takes the queue's wake-up with it when it ends, so
            // the queue is looked at without one, too.
            if let Ok(message) = tokio::time::timeout(LOOK_AGAIN, self.queue.recv()).await {
                return message.map_err(Error::Unavailable);
            }
        }
    }

    /// Goes back: the next message is the one at `offset`.
    pub async fn rewind(&self, offset: i64) -> Result<(), Error> {
        let (consumer, topic, id) = (Arc::clone(&self.consumer), self.topic.clone(), self.id);
        let seek = move || consumer.seek(&topic, id, rdkafka::Offset::Offset(offset), WATERMARK_TIMEOUT);
        let canceled = |_| Error::Unavailable(rdkafka::error::KafkaError::Canceled);
        tokio::task::spawn_blocking(seek).await.map_err(canceled)?.map_err(Error::Unavailable)
    }

    /// Goes back to the first message that was written at `moment` or later, or to where the group goes on, whichever is
    /// first. Answers which messages the group has had before and gets again; `None` when it goes on from the oldest one.
    pub async fn go_back_to(&self, moment: DateTime<Utc>) -> Result<Option<Range<i64>>, Error> {
        let (consumer, topic, id) = (Arc::clone(&self.consumer), self.topic.clone(), self.id);
        let look_up = move || first_since(&consumer, &topic, id, moment);
        let canceled = |_| Error::Unavailable(rdkafka::error::KafkaError::Canceled);
        let found =
            tokio::task::spawn_blocking(look_up).await.map_err(canceled)?.map_err(Error::Unavailable)?;
        if let Some(again) = &found {
            self.rewind(again.start).await?;
        }
        Ok(found)
    }

    /// Everything up to and including `offset` is recorded and need not come again.
    pub fn store_offset(&self, offset: i64) -> Result<(), Error> {
        self.consumer.store_offset(&self.topic, self.id, offset).map_err(Error::Unavailable)
    }
}

/// The messages from `moment` to where the group goes on; `None` when it has not begun.
fn first_since(
    consumer: &Inner,
    topic: &str,
    id: i32,
    moment: DateTime<Utc>,
) -> Result<Option<Range<i64>>, rdkafka::error::KafkaError> {
    let asked = |offset| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, id, offset).map(|()| list)
    };
    let offset_in = |list: &TopicPartitionList| {
        list.find_partition(topic, id).and_then(|found| match found.offset() {
            rdkafka::Offset::Offset(offset) => Some(offset),
            _ => None,
        })
    };
    let committed = consumer.committed_offsets(asked(rdkafka::Offset::Invalid)?, WATERMARK_TIMEOUT)?;
    let Some(committed) = offset_in(&committed) else { return Ok(None) };
    // The client takes times where it takes offsets (`offsets_for_times`).
    let times = asked(rdkafka::Offset::Offset(moment.timestamp_millis()))?;
    let since = consumer.offsets_for_times(times, WATERMARK_TIMEOUT)?;
    let start = offset_in(&since).map_or(committed, |since| since.min(committed));
    Ok(Some(start..committed))
}
