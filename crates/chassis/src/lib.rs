//! What every process is mounted on: one boot, one way to be observed, one way to stop.
//!
//! ```text
//! arguments, environment, files ──▶ settings ──▶ telemetry ──▶ lifecycle ──▶ the service's `run`
//!                                                                 │    ├─ http   (its traffic, drained)
//!                                             admin: /livez /readyz /metrics  └─ problem (its errors)
//! ```
//!
//! A service is its settings and one callback that gets a ready [`Context`]; its `main` is
//! `ravenpost_chassis::serve(ravenpost_ingress::run)`. Nothing here knows what a webhook is, nor SQL, Kafka or S3.

pub mod run;
pub mod settings;

pub mod telemetry;
pub mod trace;

pub mod admin;
pub mod health;
pub mod lifecycle;
pub mod metrics;
mod procfs;

pub mod http;
pub mod peer;
pub mod problem;

pub mod clock;
pub mod random;

pub use lifecycle::Context;
pub use run::{once, parse, serve, serve_with};
pub use settings::{Service, Settings};
