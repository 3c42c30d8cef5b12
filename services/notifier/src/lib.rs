//! The notifier: from the outcomes of attempts to somebody who knows that something is wrong.
//!
//! ```text
//! webhooks.deliveries ──▶ observe: a ward for each partition ──▶ judge by rules ─┐
//! Postgres ──▶ absence: what has no outcome (waits, silence, refusals) ──────────┤
//!                                                                                ▼
//!                               alerts and notifications, in one transaction (Postgres)
//!                                                                                │
//! channels: e-mail, Slack, Teams, PagerDuty, Opsgenie, webhook ◀── notify ◀──────┘
//!
//! Postgres ──▶ invitations: those that nobody was mailed of yet ──▶ e-mail
//! ```

pub mod settings;

pub mod observe;

pub mod absence;

pub mod rules;

pub mod notify;

pub mod message;

pub mod invitations;

pub mod channels;

pub mod metrics;

use std::sync::Arc;
use std::time::Duration;

use ravenpost_bus::Consumer;
use ravenpost_chassis::{Context, clock};
use ravenpost_core::topic;
use ravenpost_egress::Client;
use ravenpost_store::Store;

use crate::channels::{Channels, Email};
use crate::metrics::NotifierMetrics;
use crate::notify::Teller;
use crate::rules::Rules;
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
    let channels = Channels::new(email.clone(), Client::new(&settings.egress)?, settings.providers);
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
    let system = store.system();
    let (console, gather) = (settings.console_url, settings.notification_gather);
    invitations::start(&ctx, system.clone(), email, console.clone(), metrics.clone());
    notify::start(&ctx, Teller::new(system.clone(), channels, console, gather, metrics.clone()));
    let rules = Arc::new(Rules::new(system.clone(), settings.alert_consecutive_failures));
    absence::start(&ctx, system.clone(), Arc::clone(&rules), metrics.clone());
    observe::run(ctx, consumer, system, rules, metrics).await
}
