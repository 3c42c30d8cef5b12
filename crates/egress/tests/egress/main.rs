//! The client against real servers of every manner, good and bad.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

mod hostile;
mod hostile_http2;
mod names;
mod phases;
mod proxy;
mod requests;
mod reuse;
mod secure_proxy;
mod tls;
