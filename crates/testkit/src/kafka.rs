//! Looking at Kafka from outside: topics made, messages read, for tests and the local stack.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, bail};
use rand::{RngExt as _, distr::Alphanumeric};
use ravenpost_core::topic;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::{BorrowedMessage, Headers as _},
    producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer},
    types::RDKafkaErrorCode,
};

use crate::wait;

/// Partitions of each of our topics on the local stack: more than the replicas anybody starts on one machine.
pub const PARTITIONS: i32 = 12;
const ASKING_BOUND: Duration = Duration::from_secs(10);

/// A message as any Kafka consumer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    /// In the order of the message.
    pub headers: Vec<(String, Vec<u8>)>,
    pub value: Vec<u8>,
}

impl Message {
    /// The first header of that name, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(candidate, _)| candidate == name)?;
        std::str::from_utf8(value).ok()
    }
}

fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        // Tests cut and restart brokers: a client that waits ten seconds before it tries again would be the slow part.
        .set("reconnect.backoff.max.ms", "250");
    config
}

/// Asks the broker for its metadata, which it gives when it serves.
pub async fn ping(brokers: &str) -> Result<()> {
    tokio::net::TcpStream::connect(brokers).await?;
    let config = config(brokers);
    tokio::task::spawn_blocking(move || {
        let client: BaseConsumer = config.create()?;
        let metadata = client.fetch_metadata(None, Duration::from_secs(5))?;
        anyhow::ensure!(!metadata.brokers().is_empty(), "no broker is registered yet");
        Ok(())
    })
    .await?
}

/// Makes our topics, each name after `prefix`; those that exist stay as they are.
pub async fn create_topics(brokers: &str, prefix: &str) -> Result<()> {
    let names = [topic::INGEST, topic::DELIVERIES, topic::DLQ].map(|name| format!("{prefix}{name}"));
    let admin: AdminClient<DefaultClientContext> = config(brokers).create()?;
    let topics: Vec<NewTopic<'_>> =
        names.iter().map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1))).collect();
    let options = AdminOptions::new().operation_timeout(Some(ASKING_BOUND));
    for result in admin.create_topics(&topics, &options).await? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => bail!("creating the topic {name}: {code}"),
        }
    }
    wait::until_true("the new topics to have leaders", 3 * ASKING_BOUND, || {
        let (config, names) = (config(brokers), names.clone());
        async move { tokio::task::spawn_blocking(move || have_leaders(&config, &names)).await? }
    })
    .await
}

/// Gives a topic, by its full name, so many partitions.
pub async fn add_partitions(brokers: &str, topic: &str, count: usize) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = config(brokers).create()?;
    let more = [NewPartitions::new(topic, count)];
    let options = AdminOptions::new().operation_timeout(Some(ASKING_BOUND));
    for result in admin.create_partitions(&more, &options).await? {
        result.map_err(|(name, code)| anyhow::anyhow!("adding partitions to {name}: {code}"))?;
    }
    let names = [topic.to_owned()];
    wait::until_true("the new partitions to have leaders", 3 * ASKING_BOUND, || {
        let (config, names) = (config(brokers), names.clone());
        async move { tokio::task::spawn_blocking(move || have_leaders(&config, &names)).await? }
    })
    .await
}

fn have_leaders(config: &ClientConfig, names: &[String]) -> Result<bool> {
    let client: BaseConsumer = config.create()?;
    let metadata = client.fetch_metadata(None, ASKING_BOUND)?;
    let led: BTreeSet<&str> = metadata
        .topics()
        .iter()
        .filter(|topic| topic.partitions().iter().all(|partition| partition.leader() >= 0))
        .map(rdkafka::metadata::MetadataTopic::name)
        .collect();
    Ok(names.iter().all(|name| led.contains(name.as_str())))
}

/// Writes to topics from outside, as one of our services would.
pub struct Writer {
    producer: ThreadedProducer<DefaultProducerContext>,
    topic: String,
}

impl Writer {
    /// To `topic`, which is the full name, prefix included.
    pub fn new(brokers: &str, topic: &str) -> Result<Self> {
        let mut config = config(brokers);
        config.set("linger.ms", "5").set("acks", "all");
        Ok(Self { producer: config.create()?, topic: topic.to_owned() })
    }

    /// Hands a message over; it is written soon. An error when too many wait.
    pub fn write(&self, key: &str, value: &[u8]) -> Result<()> {
        let record = BaseRecord::to(&self.topic).key(key).payload(value);
        self.producer.send(record).map_err(|(error, _)| error).context("Kafka takes no message")
    }

    /// Waits until everything is written.
    pub fn flush(&self) -> Result<()> {
        Ok(self.producer.flush(ASKING_BOUND)?)
    }
}

/// Removes topics, so that a broker shared by hundreds of tests stays small.
pub async fn delete_topics(brokers: &str, prefix: &str) -> Result<()> {
    let names = [topic::INGEST, topic::DELIVERIES, topic::DLQ].map(|name| format!("{prefix}{name}"));
    let admin: AdminClient<DefaultClientContext> = config(brokers).create()?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    admin.delete_topics(&names, &AdminOptions::new().operation_timeout(Some(ASKING_BOUND))).await?;
    Ok(())
}

/// Every message that is in the topic now, by partition and offset. `topic` is the full name, prefix included.
pub async fn messages(brokers: &str, topic: &str) -> Result<Vec<Message>> {
    // A broker that was killed needs some seconds until it leads its partitions again.
    wait::until(&format!("the messages of {topic}"), 3 * ASKING_BOUND, || {
        let (config, topic) = (config(brokers), topic.to_owned());
        async move { tokio::task::spawn_blocking(move || read_to_end(config, &topic)).await?.map(Some) }
    })
    .await
}

/// The messages of the topic as soon as there are `count` of them or more.
pub async fn wait_for(brokers: &str, topic: &str, count: usize, bound: Duration) -> Result<Vec<Message>> {
    wait::until(&format!("{count} messages in {topic}"), bound, || async {
        Ok(Some(messages(brokers, topic).await?).filter(|found| found.len() >= count))
    })
    .await
}

/// How many messages of `topic` the consumer group has not committed. Both names are full, prefix included.
pub async fn lag(brokers: &str, group: &str, topic: &str) -> Result<i64> {
    let (mut config, group, topic) = (config(brokers), group.to_owned(), topic.to_owned());
    config.set("group.id", group).set("enable.auto.commit", "false");
    tokio::task::spawn_blocking(move || uncommitted(&config, &topic)).await?
}

fn uncommitted(config: &ClientConfig, topic: &str) -> Result<i64> {
    let consumer: BaseConsumer = config.create()?;
    let metadata = consumer.fetch_metadata(Some(topic), ASKING_BOUND)?;
    let mut partitions = TopicPartitionList::new();
    for partition in metadata.topics().first().context("no such topic")?.partitions() {
        partitions.add_partition(topic, partition.id());
    }
    let mut lag = 0;
    for committed in consumer.committed_offsets(partitions, ASKING_BOUND)?.elements() {
        let (low, high) = consumer.fetch_watermarks(topic, committed.partition(), ASKING_BOUND)?;
        lag += match committed.offset() {
            Offset::Offset(offset) => high - offset,
            // Nothing is committed yet.
            _ => high - low,
        };
    }
    Ok(lag)
}

/// Lets `visit` see every message that is in the topic now, in no order across partitions, without keeping any: for
/// topics that don't fit into memory. `topic` is the full name, prefix included. What `visit` made of them comes back.
pub async fn visit<T: Send + 'static>(
    brokers: &str,
    topic: &str,
    mut made: T,
    mut visit: impl FnMut(&mut T, &BorrowedMessage<'_>) + Send + 'static,
) -> Result<T> {
    let (config, topic) = (config(brokers), topic.to_owned());
    tokio::task::spawn_blocking(move || {
        each_to_end(config, &topic, |message| visit(&mut made, message))?;
        Ok(made)
    })
    .await?
}

fn read_to_end(config: ClientConfig, topic: &str) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    each_to_end(config, topic, |message| messages.push(detach(message)))?;
    messages.sort_by_key(|message| (message.partition, message.offset));
    Ok(messages)
}

fn each_to_end(
    mut config: ClientConfig,
    topic: &str,
    mut each: impl FnMut(&BorrowedMessage<'_>),
) -> Result<()> {
    let group: String = rand::rng().sample_iter(Alphanumeric).take(12).map(char::from).collect();
    let consumer: BaseConsumer = config
        .set("group.id", format!("testkit-{group}"))
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), ASKING_BOUND)?;
    let partitions = metadata.topics().first().context("no such topic")?.partitions();
    let mut assignment = TopicPartitionList::new();
    let mut unread = BTreeSet::new();
    for partition in partitions {
        let (low, high) = consumer.fetch_watermarks(topic, partition.id(), ASKING_BOUND)?;
        if high > low {
            assignment.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
            unread.insert(partition.id());
        }
    }
    consumer.assign(&assignment)?;
    while !unread.is_empty() {
        match consumer.poll(ASKING_BOUND).context("the topic's end did not come")? {
            Ok(message) => each(&message),
            Err(KafkaError::PartitionEOF(partition)) => {
                unread.remove(&partition);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn detach(message: &BorrowedMessage<'_>) -> Message {
    let headers = message
        .headers()
        .map(|headers| {
            headers
                .iter()
                .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
                .collect()
        })
        .unwrap_or_default();
    Message {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        headers,
        value: message.payload().unwrap_or_default().to_vec(),
    }
}
