//! The group member: hands each partition that it is given to an owner of its own, and tells the owner when it is
//! taken away.

use std::collections::HashMap;
use std::sync::Arc;

use ravenpost_bus::{Change, Consumer, Partition};
use ravenpost_chassis::Context;
use ravenpost_store::System;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::WorkerMetrics;
use crate::partition::{self, Hint, Shared};
use crate::route::Routes;
use crate::schedule::{self, Owned};
use crate::send::Sender;
use crate::settings::LaneSettings;

/// What owners of partitions share.
pub struct Group {
    /// The process.
    pub ctx: Context,
    /// Where to record.
    pub system: System,
    /// Where events go.
    pub routes: Routes,
    /// Sends.
    pub sender: Arc<Sender>,
    /// What is counted.
    pub metrics: WorkerMetrics,
    /// The bounds of lanes.
    pub lanes: LaneSettings,
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
            routes: self.routes,
            sender: self.sender,
            metrics: self.metrics,
            lanes: self.lanes,
            liveness: consumer.liveness(),
        });
        while let Some(change) = self.ctx.stopping.run_until_cancelled(consumer.next_change()).await {
            match change {
                Change::Assigned(partition) => {
                    let stop = self.ctx.stopping.child_token();
                    stops.insert(partition.id, stop.clone());
                    owners.spawn(own(Arc::clone(&shared), partition, stop, owned.clone()));
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

async fn own(shared: Arc<Shared>, partition: Partition, stop: CancellationToken, owned: Owned) {
    let id = partition.id;
    let (hints, hinted) = mpsc::unbounded_channel::<Hint>();
    owned.insert(id, hints);
    partition::run(shared, partition, stop, hinted).await;
}
