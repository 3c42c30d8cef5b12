//! The store on a real Postgres: what its two doors promise, and what the tenant door refuses.
#![expect(clippy::unwrap_used, reason = "a test that can't go on fails there")]

mod absence;
mod accept;
mod alerts;
mod audit;
mod bounds;
mod configuration;
mod held;
mod idempotency;
mod isolation;
mod ledger;
mod leftovers;
mod pacing;
mod people;
mod record;
mod recovery;
mod rejected;
mod replay;
mod replay_jobs;
mod retention;

mod route_changes;
mod scheduled;
mod schema;

mod secrets;
mod sending;
mod statistics;
mod support;
