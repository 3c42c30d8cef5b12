//! The group member: hands each partition that it is given to an owner of its own, and tells the owner when it is
//! taken away.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use ravenpost_bus::{Change, Consumer};
use ravenpost_chassis::Context;
use ravenpost_store::System;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::WorkerMetrics;
use crate::partition::{self, Shared};
use crate::record::Recorder;
use crate::route::Routes;
use crate::schedule::{self, Owned};
use crate::send::Sender;
use crate::settings::PacingSettings;

/// What owners of partitions share.
pub struct Group {
    /// The process.
    pub ctx: Context,
    /// Where what is due and what is known is read.
    pub system: System,
    /// Where to record.
    pub recorder: Recorder,
    /// Where events go.
    pub routes: Routes,
    /// Sends.
    pub sender: Arc<Sender>,
    /// What is counted.
    pub metrics: WorkerMetrics,
    /// How fast destinations are sent to.
    pub pacing: PacingSettings,
    /// How many partitions the ingest topic has.
    pub partitions: i32,
}

impl Group {
    /// Serves the group until the process stops, then waits for what is in the air.
    pub async fn run(self, mut consumer: Consumer) -> anyhow::Result<()> {
        let owned = Owned::default();
        let owners = TaskTracker::new();
        let mut stops: HashMap<i32, CancellationToken> = HashMap::new();
        schedule::sweep(&self.ctx, self.system.clone(), self.partitions, owned.clone(), self.metrics.clone());
        let shared = Arc::new(Shared {
            system: self.system,
            recorder: self.recorder,
            routes: self.routes,
            sender: self.sender,
            metrics: self.metrics,
            pacing: self.pacing,
            liveness: consumer.liveness(),
        });
        let failed = CancellationToken::new();
        loop {
            let change = tokio::select! {
                change = consumer.next_change() => change,
                () = self.ctx.stopping.cancelled() => break,
                () = failed.cancelled() => anyhow::bail!("the owner of a partition panicked"),
            };
            match change {
                Change::Assigned(partition) => {
                    let stop = self.ctx.stopping.child_token();
                    stops.insert(partition.id, stop.clone());
                    let (hints, hinted) = mpsc::unbounded_channel();
                    owned.insert(partition.id, hints);
                    let ownership = partition::run(Arc::clone(&shared), partition, stop, hinted);
                    let failed = failed.clone();
                    owners.spawn(async move {
                        if AssertUnwindSafe(ownership).catch_unwind().await.is_err() {
                            failed.cancel();
                        }
                    });
                }
                Change::Revoked(partition) => {
                    owned.remove(partition);
                    if let Some(stop) = stops.remove(&partition) {
                        stop.cancel();
                    }
                }
            }
        }
        owners.close();
        // Goes on polling, so that the group keeps its member until the last attempt is recorded.
        tokio::select! {
            () = owners.wait() => {}
            () = async { loop { consumer.next_change().await; } } => {}
        }
        Ok(())
    }
}
