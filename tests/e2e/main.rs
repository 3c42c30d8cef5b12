//! The system from outside: real processes on real stores, a file per promise. A producer posts, a customer asks the
//! API, a destination answers or doesn't, and processes and stores die in between.

mod support;

mod github;
mod producers;
mod rejected;
mod verification;

mod alerts;
mod certificates;
mod delivery;
mod disabling;
mod fidelity;
mod filter;
mod given_up;
mod hanging;
mod held;
mod ledger;
mod pacing;
mod pause;
mod replay;
mod replays;
mod retention;
mod sending;
mod tls;
mod tokens;

mod crash;
mod deduplication;
mod handover;
mod outage;
mod partitions;
mod recording;
mod relay;
mod replicas;
mod stored;
mod takeover;

mod connections;
mod full;
mod limits;
mod shares;

mod api;
mod boot;
mod logins;
mod observability;
mod realm;
mod resources;
mod schemathesis;
