//! The delivery worker: from an accepted event to every destination's answer, recorded.
//!
//! ```text
//! Kafka ──▶ consume ──▶ partition: its owner decides for all of its endpoints
//!                         │ route: which destinations?        ┌─────────── schedule: what is due again
//!                         ▼                                   ▼
//!                       lane (one a destination, bounded, ─▶ send: fetch ▸ filter ▸ sign ▸ POST
//!                         │     behind the destination's gate)   │
//!                         │ full, shut or paused                 │ answer
//!                         ▼                                     ▼
//!                       record: report (Kafka), then attempts, retries, parked pairs (Postgres) ──▶ offset
//! ```
//!
//! Beside it `sweep` looks for what Kafka has lost, and `expunged` knows what must not be sent any more.
//!
//! Nothing in a partition waits for a neighbour: what can't be finished within a second is parked in the schedule.

pub mod settings;

pub mod consume;

pub mod partition;

pub mod route;

pub mod budget;
pub mod gate;
pub mod lane;

pub mod expunged;
pub mod filter;

pub mod send;

pub mod plans;
pub mod record;

pub mod schedule;

pub mod sweep;

pub mod metrics;

use std::sync::Arc;
use std::time::Duration;

use ravenpost_bus::{Consumer, Producer, Progress};
use ravenpost_chassis::{Context, clock};
use ravenpost_core::topic;
use ravenpost_egress::Client;
use ravenpost_store::{Payloads, Store};

use crate::budget::Budget;
use crate::consume::Group;
use crate::expunged::Expunged;
use crate::filter::Filters;
use crate::metrics::WorkerMetrics;
use crate::record::Recorder;
use crate::route::Routes;
use crate::send::{Profiles, Sender, Tokens};
use crate::settings::BudgetSettings;
pub use crate::settings::Settings;
use crate::sweep::Sweeper;

/// The consumer group of all workers.
const GROUP: &str = "ravenpost.delivery-worker";
/// How often stores are asked whether they are there, and how long they may take.
const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Runs the service until it is told to stop.
pub async fn run(settings: Settings, ctx: Context) -> anyhow::Result<()> {
    let metrics = WorkerMetrics::new(&ctx.metrics);
    let store = Store::new(&settings.store, Some(settings.master_key.master_key.clone()))?;
    let payloads = Payloads::new(&settings.payloads).await?;
    let producer = Producer::new(&settings.bus, settings.kafka_timeout)?;
    let client = Client::new(&settings.egress)?;
    probe_stores(&ctx, &store, &payloads, &producer);

    tokio::select! {
        schema = store.await_schema() => schema?,
        () = ctx.stopping.cancelled() => return Ok(()),
    }
    let routes = Routes::new(store.system());
    let partitions = tokio::select! {
        partitions = producer.await_partitions(topic::INGEST) => partitions?,
        () = ctx.stopping.cancelled() => return Ok(()),
    };
    let watched = producer.clone();
    ctx.fail_when("kafka producer", async move { watched.until_fatal().await });
    let watched = producer.clone();
    // Whoever starts anew shares them anew: what a destination's owner knows is of the slots as they were.
    ctx.fail_when(
        "partitions",
        async move { watched.until_partitions_change(topic::INGEST, partitions).await },
    );
    let consumer = Consumer::join(&settings.bus, GROUP, topic::INGEST)?;
    ctx.started();
    let BudgetSettings { delivery_memory, delivery_requests } = settings.budget;
    let memory = usize::try_from(delivery_memory)?;
    let budget = Arc::new(Budget::new(memory, delivery_requests.into()));
    let filters = Filters::new(store.system(), metrics.clone())?;
    let expunged = Expunged::default();
    ctx.spawn("expunged payloads", expunged.clone().keep(store.system(), ctx.clone()));
    let sender = Arc::new(Sender {
        system: store.system(),
        expunged,
        routes: routes.clone(),
        filters,
        payloads,
        tokens: Tokens::new(client.clone(), metrics.clone()),
        profiles: Profiles::default(),
        client,
        metrics: metrics.clone(),
        budget,
        liveness: consumer.liveness(),
    });
    metrics::watch(&ctx, &metrics, &store, consumer.liveness());
    let progress = Progress::new(&settings.bus, GROUP, topic::INGEST)?;
    ctx.spawn("sweeper", Sweeper::new(store.system(), progress, metrics.clone()).run(ctx.clone()));
    ctx.spawn("plans", plans::keep(store.system(), ctx.clone()));
    let recorder = Recorder::start(&ctx, store.system(), producer, metrics.clone());
    Group {
        ctx,
        system: store.system(),
        recorder,
        routes,
        sender,
        metrics,
        pacing: settings.pacing,
        partitions,
    }
    .run(consumer)
    .await
}

fn probe_stores(ctx: &Context, store: &Store, payloads: &Payloads, producer: &Producer) {
    let (store, payloads, producer) = (store.clone(), payloads.clone(), producer.clone());
    ctx.probe("postgres", PROBE_EVERY, PROBE_TIMEOUT, move || {
        let store = store.clone();
        async move { store.check(clock::now).await }
    });
    ctx.probe("s3", PROBE_EVERY, PROBE_TIMEOUT, move || {
        let payloads = payloads.clone();
        async move { payloads.check().await }
    });
    ctx.probe("kafka", PROBE_EVERY, PROBE_TIMEOUT, move || {
        let producer = producer.clone();
        async move { producer.check().await }
    });
}
