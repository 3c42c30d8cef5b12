//! What tests and the tool box stand on; never part of a product. Of ours it knows `ravenpost-core` alone, so that
//! it looks at the system from outside, as a customer or an operator does.
//!
//! - [`stack`]: real Postgres, S3, Kafka and a mail sink, started from ordinary packages
//! - [`database`], [`kafka`], [`s3`], [`mail`]: looking into them
//! - [`keycloak`]: a real identity provider with our realm, for those who need one
//! - [`process`]: our binaries as processes, to be killed and paused
//! - [`receiver`], [`authority`], [`fault`], [`sign`], [`api`]: the world around: destination, its certificates, network,
//!   producer, customer
//! - [`fragile`]: stores behind networks that fail
//! - [`system`]: all of it together, fresh for one test
//! - [`load`], [`stored`]: many webhooks at once, and whether each of them is where it was promised to be
//! - [`ledger`]: whether its ledger balances
//! - [`held`]: very many rows that wait for one destination

pub mod stack;

pub mod database;
pub mod kafka;
pub mod keycloak;
pub mod mail;
pub mod s3;

pub mod process;

pub mod api;
pub mod authority;
pub mod fault;
pub mod receiver;
pub mod sign;

pub mod fragile;
pub mod system;

pub mod held;
pub mod ledger;
pub mod load;
pub mod stored;

pub mod clock;
pub mod wait;
pub mod workspace;

pub use stack::shared;

/// An HTTP client for this machine. The workspace's reqwest brings no TLS implementation of its own choice, so one
/// is set even though only plain HTTP is spoken here.
pub fn http_client() -> reqwest::Result<reqwest::Client> {
    // An error means that one is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(std::time::Duration::from_secs(30)).build()
}
