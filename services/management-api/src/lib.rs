//! What customers run their webhooks with.
//!
//! ```text
//! request ──▶ conventions ──▶ auth (API key or access token → Caller, who holds one organization) ──▶ api: handler ──▶ Postgres, payloads
//!                 │
//!                 └── openapi: the document, made of the handlers themselves
//!
//! replays: bulk replays, a page in each transaction, by whichever replica locks it; those that a recovery asks for
//! live: what has just happened, one source for each organization that somebody listens to
//! maintenance: the schema's version at start, partitions every hour, events that were kept for long enough, rejected requests beyond their caps,
//!              deduplication keys that have expired, and whatever else nobody needs any more; statistics; payloads that
//!              are still to be overwritten
//! commands: migrate, bootstrap, invite-owner, reconcile, audit, openapi
//! ```
//!
//! A handler never holds more of the database than its caller's organization. There is no Kafka here: a replay is a row
//! in the schedule.

pub mod settings;

pub mod auth;

mod conventions;

pub mod api;
pub mod openapi;

pub mod replays;

pub mod live;

pub mod maintenance;
pub mod metrics;

pub mod commands;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use ravenpost_chassis::{Context, clock, http, once, serve_with};
use ravenpost_egress::{Certificates, Client, OperatorClient};
use ravenpost_store::{Payloads, Store};

use api::{Api, Beside};
use auth::Auth;
use live::{Live, LiveLimits};
use maintenance::leftovers::Remover;
use maintenance::rejected::Sweeper;
use maintenance::retention::Dropper;
use maintenance::statistics::Kept;
use metrics::Metrics;
pub use settings::{Command, Settings};

/// How often, and how long at most, readiness asks the stores.
const PROBE_EVERY: Duration = Duration::from_secs(2);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs what the settings ask for: the service, or a command.
pub fn start(settings: Settings) -> ExitCode {
    match settings.command.clone() {
        None => serve_with(settings, run),
        Some(Command::Migrate) => once(settings, commands::migrate::run),
        Some(Command::Bootstrap(arguments)) => {
            once(settings, |settings| commands::bootstrap::run(settings, arguments))
        }
        Some(Command::InviteOwner(arguments)) => {
            once(settings, |settings| commands::invite_owner::run(settings, arguments))
        }
        Some(Command::Reconcile(arguments)) => {
            once(settings, |settings| commands::reconcile::run(settings, arguments))
        }
        Some(Command::Audit(arguments)) => {
            once(settings, |settings| commands::audit::run(settings, arguments))
        }
        Some(Command::Openapi) => openapi::print(),
    }
}

/// The service.
pub async fn run(settings: Settings, ctx: Context) -> anyhow::Result<()> {
    let keys = settings.master_key.context("RAVENPOST_MASTER_KEY is not set")?;
    let store = Store::new(&settings.store, Some(keys.master_key))?;
    let payloads = Payloads::new(&settings.payloads).await?;
    let metrics = Metrics::declare(&ctx.metrics, store.clone());
    let listener = http::bind("RAVENPOST_LISTEN_ADDR", settings.listen_addr)?;

    probe(&ctx, &store, &payloads);
    ctx.spawn("maintenance", maintenance::keep(store.clone(), ctx.clone()));
    let sweeper = Sweeper::new(store.system(), payloads.clone(), &settings.rejected, metrics.clone());
    ctx.spawn("removal of rejected requests", sweeper.run(ctx.clone()));

    ctx.spawn("bulk replays", replays::work(store.system(), metrics.clone(), ctx.clone()));
    ctx.spawn("replays on recovery", replays::recover(store.system(), metrics.clone(), ctx.clone()));
    let forgetting = maintenance::deduplication::keep(store.system(), ctx.clone());
    ctx.spawn("removal of deduplication keys", forgetting);

    let remover = Remover::new(store.system(), &settings.leftovers, metrics.clone());
    ctx.spawn("removal of leftovers", remover.run(ctx.clone()));

    let dropper = Dropper::new(store.clone(), payloads.clone(), &settings.retention, metrics.clone());
    ctx.spawn("retention of events", dropper.clone().keep_events(ctx.clone()));
    ctx.spawn("retention of payloads", dropper.keep_payloads(ctx.clone()));

    let window = settings.deduplication.deduplication_window;
    let certificates = Certificates::new(Client::new(&settings.egress)?);
    let auth = Auth::new(store.clone(), &settings.oidc, metrics.clone())?;
    auth.start(&ctx);
    let statistics = Kept(settings.statistics.kept());
    ctx.spawn("statistics", maintenance::statistics::keep(store.system(), statistics, ctx.clone()));
    ctx.spawn(
        "expunged payloads",
        maintenance::expunged::keep(store.system(), payloads.clone(), ctx.clone()),
    );
    let beside = Beside {
        auth,
        operator: OperatorClient::new()?,
        live: Live::new(LiveLimits::default(), ctx.stopping.clone()),
        statistics,
    };
    let api = Api::new(store, payloads, &settings.hook_base_url, window, certificates, beside)
        .with(&settings.conventions);
    http::serve(listener, api::router(api, metrics), http::Limits::default(), &ctx).await
}

fn probe(ctx: &Context, store: &Store, payloads: &Payloads) {
    let (store, payloads) = (store.clone(), payloads.clone());
    ctx.probe("postgres", PROBE_EVERY, PROBE_TIMEOUT, move || {
        let store = store.clone();
        async move { store.check(clock::now).await }
    });
    ctx.probe("s3", PROBE_EVERY, PROBE_TIMEOUT, move || {
        let payloads = payloads.clone();
        async move { payloads.check().await }
    });
}
