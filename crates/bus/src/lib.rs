//! What flows: Kafka. Messages are CloudEvents (Kafka protocol binding 1.0, binary mode), so that any consumer reads
//! them without our code.
//!
//! ```text
//! Producer ──▶ topic ──▶ Consumer ──▶ Partition (one task owns one) ──▶ offsets, stored only when recorded
//! ```
//!
//! This crate never knows Postgres, S3 or what a message leads to.

pub mod settings;

pub mod message;
pub mod producer;

pub mod consumer;
mod lately;
pub mod offsets;
pub mod progress;

pub use consumer::{Change, Consumer, Handover, Partition};
pub use lately::Lately;
pub use message::Message;
pub use offsets::Offsets;
pub use producer::Producer;
pub use progress::Progress;
pub use settings::Settings;

/// What can go wrong with Kafka.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A client could not be made of the settings.
    #[error("the Kafka settings are refused")]
    Settings(#[source] rdkafka::error::KafkaError),
    /// Kafka is away, or did not acknowledge in time.
    #[error("Kafka is unavailable")]
    Unavailable(#[source] rdkafka::error::KafkaError),
    /// The client takes the message for acknowledged, by what became of later ones; Kafka itself has not said where it is.
    #[error("Kafka has not acknowledged the message itself")]
    Unconfirmed,
    /// The producer can't go on, whatever Kafka does; only a new process can.
    #[error("the Kafka producer has failed for good: {0}")]
    Fatal(String),
    /// A topic does not exist.
    #[error("topic `{0}` does not exist; create it before the service starts")]
    NoTopic(String),
    /// Somebody has added partitions to a topic.
    #[error(
        "topic `{topic}` has {now} partitions where it had {before}: they are shared anew by whoever starts again"
    )]
    Partitions {
        /// Its full name.
        topic: String,
        /// How many it had.
        before: i32,
        /// How many it has.
        now: i32,
    },
}
