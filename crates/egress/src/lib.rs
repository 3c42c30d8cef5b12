//! The only way out: HTTP to customers' URLs, and never to an address that is not public.
//!
//! ```text
//! Request ──▶ client: URL fit to be sent to? ──▶ resolve: every address vetted ──▶ connect to a vetted one
//!                                                     └─ address (pure)              └──▶ Answer, bounded
//! certificates: what providers have us fetch, from hosts that their rows have pinned, by the same client
//! operator: the other door, for addresses that the operator has configured
//! ```
//!
//! Whatever a customer's URL, its DNS or its server's redirects say, a connection is only ever opened to an address
//! that [`address::verdict`] passed: names resolve through our own resolver, and what it passed is what is connected
//! to, so a second lookup can't give another answer. Redirects are never followed; no proxy is used but
//! the one that the operator has configured, and none of the environment.

pub mod settings;

pub mod address;
pub mod target;

mod client;
mod seen;

mod resolve;

mod connect;
mod proxy;
mod tls;

mod connection;
mod metered;
mod pool;

mod classify;

mod certificates;
mod operator;

pub use certificates::Certificates;
pub use client::{BuildError, Client, Request};
pub use operator::{OperatorClient, OperatorError};
pub use proxy::Proxy;
pub use settings::Settings;
pub use tls::{InvalidTls, TlsProfile, TlsVersion};
