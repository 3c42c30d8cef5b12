//! How far a consumer group has come on a topic, seen from outside the group.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaErrorCode;

use crate::{Error, Settings};

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The logs of a topic and what a group has committed of them. It is no member of the group.
pub struct Progress {
    consumer: Arc<BaseConsumer>,
    topic: String,
}

/// Where each log of a topic ended at some moment, by partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ends(Vec<(i32, i64)>);

/// Whether a group has come to where logs ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Everything before is committed, or is no longer in the log.
    Passed,
    /// Not yet.
    Behind,
    /// The topic is another than it was: the ends say nothing any more.
    Anew,
}

impl Progress {
    /// Looks at `group` on `topic` (both get the prefix). Nothing is asked yet.
    pub fn new(settings: &Settings, group: &str, topic: &str) -> Result<Self, Error> {
        let consumer = settings
            .client()
            .set("group.id", settings.name(group))
            .set("enable.auto.commit", "false")
            .create()
            .map_err(Error::Settings)?;
        Ok(Self { consumer: Arc::new(consumer), topic: settings.name(topic) })
    }

    /// Where the logs end now.
    pub async fn ends(&self) -> Result<Ends, Error> {
        self.ask(|consumer, topic| {
            let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT)?;
            let partitions = metadata.topics().first().map_or(&[][..], |found| found.partitions());
            if partitions.is_empty() {
                // To have passed nothing says nothing.
                return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition));
            }
            let end = |id| consumer.fetch_watermarks(topic, id, TIMEOUT).map(|(_, end)| (id, end));
            partitions.iter().map(|partition| end(partition.id())).collect::<Result<_, _>>().map(Ends)
        })
        .await
    }

    /// Whether the group has come to `ends`.
    pub async fn reach(&self, ends: &Ends) -> Result<Reach, Error> {
        let ends = ends.clone();
        self.ask(move |consumer, topic| {
            let mut partitions = TopicPartitionList::new();
            for (id, _) in &ends.0 {
                partitions.add_partition(topic, *id);
            }
            let committed = consumer.committed_offsets(partitions, TIMEOUT)?;
            for (id, end) in ends.0 {
                let offset = committed.find_partition(topic, id).map(|found| found.offset());
                if matches!(offset, Some(Offset::Offset(offset)) if offset >= end) {
                    continue;
                }
                let (low, high) = consumer.fetch_watermarks(topic, id, TIMEOUT)?;
                match (low, high) {
                    (_, high) if high < end => return Ok(Reach::Anew),
                    (low, _) if low >= end => {}
                    _ => return Ok(Reach::Behind),
                }
            }
            Ok(Reach::Passed)
        })
        .await
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&BaseConsumer, &str) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, Error> {
        let (consumer, topic) = (Arc::clone(&self.consumer), self.topic.clone());
        let asked = tokio::task::spawn_blocking(move || question(&consumer, &topic));
        asked.await.map_err(|_| Error::Unavailable(KafkaError::Canceled))?.map_err(Error::Unavailable)
    }
}
