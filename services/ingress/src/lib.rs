//! Ingress: from a producer's POST to an event that survives any crash, and its `202`.
//!
//! ```text
//! POST /h/{token} ──▶ resolve ──▶ limit ──▶ admit ──▶ verify ──▶ commit ──▶ answer
//!                     endpoint    rate      body    │  signature │  │ queue of the committer
//!                     by token              bounded └▶ handshake ◀┘ ▼
//!                                              lanes: batch ──▶ S3 ──▶ Postgres ──▶ Kafka
//!                                                       └── cursor: what is published ──▶ heartbeat, relay
//!
//! verify ──▶ 401, and a copy to rejected: allowance ──▶ a bounded memory ──▶ Postgres and S3, apart from events
//! ```

pub mod settings;

pub mod receive;

pub mod resolve;

pub mod limit;

pub mod admit;

pub mod handshake;
pub mod verify;

pub mod rejected;

pub mod commit;

pub mod answer;

pub mod metrics;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ravenpost_bus::Producer;
use ravenpost_chassis::{Context, clock, http};
use ravenpost_core::topic;
use ravenpost_egress::{Certificates, Client};
use ravenpost_store::{Payloads, Store};

use crate::commit::{Committer, Stores};
use crate::limit::{Limits, Replicas};
use crate::metrics::IngressMetrics;
use crate::receive::Ingress;
use crate::rejected::RejectedRequests;
use crate::resolve::Endpoints;
pub use crate::settings::Settings;

/// How often stores are asked whether they are there, and how long they may take.
const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Runs the service until it is told to stop.
pub async fn run(settings: Settings, ctx: Context) -> anyhow::Result<()> {
    let metrics = IngressMetrics::new(&ctx.metrics);
    let store = Store::new(&settings.store, Some(settings.master_key.master_key.clone()))?;
    let payloads = Payloads::new(&settings.payloads).await?;
    settings.outbox.check()?;
    let producer = Producer::new(&settings.bus, settings.outbox.kafka_timeout)?;
    probe_stores(&ctx, &store, &payloads);
    metrics::watch(&ctx, &metrics, &store, &producer);

    tokio::select! {
        schema = store.await_schema() => schema?,
        () = ctx.stopping.cancelled() => return Ok(()),
    }
    let watched = producer.clone();
    ctx.fail_when("kafka producer", async move { watched.until_fatal().await });
    let (followed, stopping) = (producer.clone(), ctx.stopping.clone());
    ctx.spawn("partitions", async move {
        stopping.run_until_cancelled(followed.follow_partitions(topic::INGEST)).await;
        Ok(())
    });
    let rejected = RejectedRequests::start(&ctx, store.system(), payloads.clone(), metrics.clone());
    let endpoints = Arc::new(Endpoints::new(store.system(), metrics.clone()));
    resolve::follow(&ctx, Arc::clone(&endpoints), store.system().configuration_changes());
    let replicas = Replicas::default();
    let stores = Stores { system: store.system(), payloads, producer };
    let committer =
        Committer::start(&settings.commit, &settings.outbox, &ctx, stores, metrics.clone(), replicas.clone())
            .await
            .context("the committer can't start")?;
    let ingress = Ingress {
        endpoints,
        limits: Limits::new(settings.limits, replicas),
        hook_base_url: settings.hook_base_url.as_str().trim_end_matches('/').to_owned(),
        trusted_proxies: settings.trusted_proxies,
        certificates: Certificates::new(Client::new(&settings.egress)?),
        aside: verify::Aside::default(),
        system: store.system(),
        budget: admit::Budget::new(settings.memory_budget),
        max_body_bytes: settings.max_body_bytes,
        body_timeout: settings.body_timeout,
        rejected,
        committer,
        metrics,
    };
    let listener = http::bind("RAVENPOST_LISTEN_ADDR", settings.listen_addr)?;
    let limits = http::Limits { connections: settings.max_connections, ..http::Limits::default() };
    http::serve(listener, receive::router(Arc::new(ingress)), limits, &ctx).await
}

/// Ingress is ready when it can keep its promise: Postgres and S3 are there. Kafka may be away for as long as the outbox
/// has room (PROTOCOLS I6).
fn probe_stores(ctx: &Context, store: &Store, payloads: &Payloads) {
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
