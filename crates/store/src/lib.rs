//! What is durable: Postgres ([`Store`]) and the payload store ([`Payloads`]). All SQL of the system is here.
//!
//! There are two doors to Postgres. [`Store::tenant`] opens one organization and can see nothing else, by the query
//! and by row-level security. [`Store::system`] is for the hot paths of ingress, worker and notifier.
//! This crate never knows Kafka or HTTP.

pub mod migrations;
pub mod payloads;
pub mod settings;
pub mod system;
pub mod tenant;

mod alert_rule;
mod audit;
mod cancel;
mod connect;
mod decode;
mod error;
mod lease;
mod new_event;
mod replay;
mod sealing;

pub use connect::{ConnectError, MAX_SKEW_SECONDS, RECORDERS, Store};
pub use decode::Damaged;
pub use error::Error;
pub use payloads::Payloads;
pub use settings::{DeduplicationSettings, MasterKeySettings, Settings};
pub use system::System;
pub use tenant::Tenant;

/// What every operation answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;
