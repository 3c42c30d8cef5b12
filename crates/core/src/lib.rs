//! What a webhook *is*: words, rules and codecs of the whole system, in the order in which an event meets them.
//!
//! Nothing here does I/O, reads a clock, draws randomness or knows SQL, Kafka or HTTP clients: time and random
//! bytes are arguments. That is why these rules can be tested exhaustively in milliseconds.

pub mod ids;

pub mod endpoint;
pub mod limit;
pub mod rejected;
pub mod signature;

pub mod handshake;
pub mod provider;

pub mod deduplication;
pub mod event;
pub mod headers;
pub mod topic;

pub mod destination;
pub mod filter;
pub mod retry;

pub mod delivery;
pub mod ledger;
pub mod pacing;
pub mod replay;
pub mod statistics;

pub mod alert;

pub mod access;
pub mod audit;
pub mod duration;
pub mod secret;
pub mod trace;
