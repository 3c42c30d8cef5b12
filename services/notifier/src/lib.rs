//! The notifier: from the outcomes of attempts to somebody who knows that something is wrong.
//!
//! ```text
//! webhooks.deliveries ──▶ observe: failures in a row (Postgres) ──▶ alert opens or resolves
//!                                                                        │
//!                                  notify ◀── alerts nobody was told of ─┘
//!                                     └──▶ channels: e-mail (SMTP)
//! invitations: those that nobody was mailed of yet ──▶ e-mail
//! ```

pub mod settings;

pub mod observe;

pub mod notify;

pub mod invitations;

pub mod channels;

pub mod metrics;

use std::time::Duration;

use ravenpost_bus::Consumer;
use ravenpost_chassis::{Context, clock};
use ravenpost_core::topic;
use ravenpost_store::Store;

use crate::channels::Email;
use crate::metrics::NotifierMetrics;
pub use crate::settings::Settings;

/// The consumer group of all notifiers.
const GROUP: &str = "ravenpost.notifier";
/// How often Postgres is asked whether it is there, and how long it may take.
const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Runs the service until it is told to stop.
pub async fn run(settings: Settings, ctx: Context) -> anyhow::Result<()> {
    let metrics = NotifierMetrics::new(&ctx.metrics);
    let store = Store::new(&settings.store, Some(settings.master_key.master_key))?;
    let email = Email::new(&settings.smtp)?;
    let probed = store.clone();
    ctx.probe("postgres", PROBE_EVERY, PROBE_TIMEOUT, move || {
        let store = probed.clone();
        async move { store.check(clock::now).await }
    });
    tokio::select! {
        schema = store.await_schema() => schema?,
        () = ctx.stopping.cancelled() => return Ok(()),
    }
    let consumer = Consumer::join(&settings.bus, GROUP, topic::DELIVERIES)?;
    ctx.started();
    metrics::watch(&ctx, &metrics, &store, consumer.liveness());
    invitations::start(&ctx, store.system(), email.clone(), settings.console_url, metrics.clone());
    notify::start(&ctx, store.system(), email, metrics.clone());
    observe::run(ctx, consumer, store.system(), settings.alert_consecutive_failures, metrics).await
}
