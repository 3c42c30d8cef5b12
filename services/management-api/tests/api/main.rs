//! The API on real stores, as its callers see it: status and body for good and for bad input on every route.
#![expect(clippy::unwrap_used, reason = "a test that can't go on fails there")]
#![expect(clippy::needless_pass_by_value, reason = "bodies are written where they are sent")]

mod alerts;
mod analytics;
mod api_keys;
mod attacks;
mod audit_log;
mod auth;
mod awkward;
mod conventions;
mod destinations;
mod document;
mod endpoints;
mod events;
mod idempotency;
mod invitations;
mod isolation;
mod leftovers;
mod limits;
mod live;
mod logins;
mod members;
mod organizations;
mod patches;
mod process;
mod rejected_requests;
mod replay;
mod replays;
mod retention;
mod revocation;
mod scheduled;
mod secrets;
mod sending;
mod support;
mod unavailable;
