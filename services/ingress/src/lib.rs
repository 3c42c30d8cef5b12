//! Ingress: from a producer's POST to an event that survives any crash, and its `202`.
//!
//! ```text
//! POST /h/{token} ──▶ resolve ──▶ admit ──▶ verify ──▶ commit ──▶ 202
//!                     endpoint    body    │  signature │ │ queue of the committer
//!                     by token    bounded └▶ handshake ◀┘▼
//!                                              lanes: batch ──▶ S3 ──▶ Postgres ──▶ Kafka
//!                                                       └── cursor: what is published ──▶ heartbeat
//! ```

pub mod settings;

pub mod receive;

pub mod resolve;

pub mod admit;
pub mod peer;

pub mod certificates;
pub mod handshake;
pub mod verify;

pub mod commit;

pub mod metrics;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ravenpost_bus::Producer;
use ravenpost_chassis::{Context, clock, http};
use ravenpost_store::{Payloads, Store};

use crate::certificates::Certificates;
use crate::commit::Committer;
use crate::metrics::IngressMetrics;
use crate::receive::Ingress;
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
    let producer = Producer::new(&settings.bus, settings.kafka_timeout)?;
    probe_stores(&ctx, &store, &payloads, &producer);
    metrics::watch(&ctx, &metrics, &store, &producer);

    tokio::select! {
        schema = store.await_schema() => schema?,
        () = ctx.stopping.cancelled() => return Ok(()),
    }
    let watched = producer.clone();
    ctx.fail_when("kafka producer", async move { watched.until_fatal().await });
    let committer =
        Committer::start(&settings.commit, &ctx, store.system(), payloads, producer, metrics.clone())
            .await
            .context("the committer can't start")?;
    let ingress = Ingress {
        endpoints: Endpoints::new(store.system()),
        hook_base_url: settings.hook_base_url.as_str().trim_end_matches('/').to_owned(),
        trusted_proxies: settings.trusted_proxies,
        certificates: Certificates::new(ravenpost_egress::Client::new(&settings.egress)?),
        system: store.system(),
        budget: admit::Budget::new(settings.memory_budget),
        max_body_bytes: settings.max_body_bytes,
        body_timeout: settings.body_timeout,
        committer,
        metrics,
    };
    let listener = http::bind("RAVENPOST_LISTEN_ADDR", settings.listen_addr).await?;
    http::serve(listener, receive::router(Arc::new(ingress)), http::Limits::default(), &ctx).await
}

/// Ingress is ready when it can keep its promise: all three stores are there.
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
