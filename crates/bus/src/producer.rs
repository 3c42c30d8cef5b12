//! Producing: idempotent, acknowledged by all replicas, to the partition that the slot names.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use futures::future::try_join_all;
use ravenpost_core::topic;
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use crate::{Error, Message, Settings};

/// How long to ask for metadata.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);

/// How often it is asked whether a topic has more partitions.
const FOLLOW: Duration = Duration::from_secs(10);

/// How often an absent Kafka is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// So many messages handed over together are worth gathering into few requests.
const MANY: usize = 8;

/// How long the client gathers them, in milliseconds.
const GATHERED_FOR: &str = "0.5";

/// A producer. Cheap to clone.
///
/// It has two clients, since how long messages are gathered is a client's setting: what is few goes at once, and many
/// share a request instead of the first one waking the client and the others following by ones and twos.
#[derive(Clone)]
pub struct Producer {
    prompt: FutureProducer,
    gathering: FutureProducer,
    names: HashMap<&'static str, String>,
    partitions: Arc<RwLock<HashMap<&'static str, i32>>>,
}

impl Producer {
    /// Makes a producer whose messages fail when they are not acknowledged within `message_timeout`.
    pub fn new(settings: &Settings, message_timeout: Duration) -> Result<Self, Error> {
        let client = |linger_ms: &str| {
            settings
                .client()
                // A wrong prefix is an error, not a new topic.
                .set("allow.auto.create.topics", "false")
                .set("enable.idempotence", "true")
                .set("acks", "all")
                .set("message.timeout.ms", message_timeout.as_millis().to_string())
                .set("queue.buffering.max.kbytes", "65536")
                .set("queue.buffering.max.messages", "100000")
                .set("message.max.bytes", "2000000")
                .set("compression.type", "zstd")
                // The default level takes twice the time for a few bytes less.
                .set("compression.level", "1")
                .set("linger.ms", linger_ms)
                .create()
                .map_err(Error::Settings)
        };
        let names = topic::ALL.into_iter().map(|topic| (topic, settings.name(topic))).collect();
        let (prompt, gathering) = (client("0")?, client(GATHERED_FOR)?);
        Ok(Self { prompt, gathering, names, partitions: Arc::default() })
    }

    /// Produces all and answers when all are acknowledged. On an error some may have been, too.
    pub async fn produce(&self, messages: Vec<Message>) -> Result<(), Error> {
        let client = if messages.len() < MANY { &self.prompt } else { &self.gathering };
        let mut acknowledgements = Vec::with_capacity(messages.len());
        let mut partitions = None;
        for message in messages {
            let count = match partitions {
                Some((topic, count)) if topic == message.topic => count,
                _ => self.partitions(message.topic).await?,
            };
            partitions = Some((message.topic, count));
            // The client copies what it needs, so that a message is gone once it is handed over.
            let record = FutureRecord::to(&self.names[message.topic])
                .partition(message.slot.partition(count))
                .key(&message.key)
                .payload(message.value.as_ref())
                .headers(message.headers);
            let queued = client.send_result(record).map_err(|(error, _)| Error::Unavailable(error))?;
            acknowledgements.push(async {
                match queued.await {
                    Ok(Ok(delivery)) => confirmed(delivery.offset),
                    Ok(Err((error, _))) => Err(Error::Unavailable(error)),
                    Err(_) => Err(Error::Unavailable(KafkaError::Canceled)),
                }
            });
        }
        try_join_all(acknowledgements).await.map(drop)
    }

    /// Waits for Kafka while it is away, then answers as [`Producer::partitions`].
    pub async fn await_partitions(&self, topic: &'static str) -> Result<i32, Error> {
        loop {
            match self.partitions(topic).await {
                Err(Error::Unavailable(error)) => {
                    tracing::warn!(%error, "waiting for Kafka");
                    tokio::time::sleep(RETRY).await;
                }
                answer => return answer,
            }
        }
    }

    /// How many partitions a topic has, as of the last [`Producer::check`]; asked for the first time here.
    pub async fn partitions(&self, topic: &'static str) -> Result<i32, Error> {
        let known =
            self.partitions.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(topic).copied();
        if let Some(count) = known {
            return Ok(count);
        }
        self.ask_partitions(topic).await
    }

    /// Of both clients: each refuses partitions that it has not heard of itself.
    async fn ask_partitions(&self, topic: &'static str) -> Result<i32, Error> {
        let (clients, name) = ([self.prompt.clone(), self.gathering.clone()], self.names[topic].clone());
        let asked = tokio::task::spawn_blocking(move || {
            let mut fewest = usize::MAX;
            for client in clients {
                let metadata = client.client().fetch_metadata(Some(&name), METADATA_TIMEOUT)?;
                let count = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
                fewest = fewest.min(count);
            }
            Ok(fewest)
        });
        let count =
            asked.await.map_err(|_| Error::Unavailable(KafkaError::Canceled))?.map_err(Error::Unavailable)?;
        match i32::try_from(count) {
            Ok(count) if count > 0 => {
                let mut all = self.partitions.write().unwrap_or_else(std::sync::PoisonError::into_inner);
                let known = all.entry(topic).or_insert(count);
                // A broker that has not heard of it yet tells the former number; a topic never has fewer than it had.
                *known = count.max(*known);
                Ok(*known)
            }
            _ => Err(Error::NoTopic(self.names[topic].clone())),
        }
    }

    /// Keeps up with how many partitions a topic has, for whoever does not [`Producer::check`].
    pub async fn follow_partitions(&self, topic: &'static str) {
        loop {
            tokio::time::sleep(FOLLOW).await;
            // An absent Kafka has as many as before.
            let _ = self.ask_partitions(topic).await;
        }
    }

    /// Ends when a topic that had so many partitions has another number of them: slots belong to others then.
    pub async fn until_partitions_change(&self, topic: &'static str, before: i32) -> Error {
        loop {
            if let Ok(now) = self.partitions(topic).await
                && now != before
            {
                return Error::Partitions { topic: self.names[topic].clone(), before, now };
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Ends when the producer has failed for good (an idempotent producer does when its sequence is broken): the
    /// process has to, too.
    pub async fn until_fatal(&self) -> Error {
        loop {
            if let Err(error) = self.check_alive() {
                return error;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn check_alive(&self) -> Result<(), Error> {
        let fatal = [&self.prompt, &self.gathering].into_iter().find_map(|it| it.client().fatal_error());
        fatal.map_or(Ok(()), |(_, reason)| Err(Error::Fatal(reason)))
    }

    /// Answers when Kafka does and our topics are there. From then on their partitions are as they are now.
    pub async fn check(&self) -> Result<(), Error> {
        self.check_alive()?;
        for topic in topic::ALL {
            self.ask_partitions(topic).await?;
        }
        Ok(())
    }

    /// Messages queued or in flight.
    pub fn queued(&self) -> i32 {
        self.prompt.in_flight_count() + self.gathering.in_flight_count()
    }
}

/// A message whose place Kafka has told is there. librdkafka also takes one for acknowledged that it had to send again when
/// a later one of the partition was acknowledged, or when Kafka calls it a duplicate: Kafka would have refused the later
/// one, had the first one not been written. But a partition that doesn't know the producer yet takes any sequence number
/// first. So while a partition changes its leader or is made, the first message of a producer could be lost, and a success
/// without a place is none.
fn confirmed(offset: i64) -> Result<(), Error> {
    if offset >= 0 { Ok(()) } else { Err(Error::Unconfirmed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_tells_where_the_message_is() {
        assert!(confirmed(0).is_ok());
        // RD_KAFKA_OFFSET_INVALID, and what a broker answers with an error.
        for nowhere in [-1_001, -1] {
            assert!(matches!(confirmed(nowhere), Err(Error::Unconfirmed)));
        }
    }
}
