//! The group member: hands each partition that it is given to an owner of its own, and tells the owner when it is
//! taken away.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use ravenpost_bus::{Change, Consumer, Handover};
use ravenpost_chassis::Context;
use ravenpost_store::System;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::WorkerMetrics;
use crate::partition::{self, Shared};
use crate::record::Recorder;
use crate::route::Routes;
use crate::schedule::{self, Owned};
use crate::send::Sender;
use crate::settings::PacingSettings;

/// How long a partition that is asked for is kept until what is in the air is recorded, so that its next owner finds it
/// and does not send it again. What takes longer has a row in the schedule by then.
const HANDOVER: Duration = Duration::from_secs(1);

/// The owners of partitions, each with how it is stopped.
#[derive(Default)]
struct Owners {
    tasks: TaskTracker,
    by_partition: HashMap<i32, (CancellationToken, JoinHandle<()>)>,
    /// One has panicked.
    failed: CancellationToken,
}

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
        let mut owners = Owners::default();
        schedule::sweep(&self.ctx, self.system.clone(), self.partitions, owned.clone(), self.metrics.clone());
        let shared = Arc::new(Shared {
            system: self.system,
            recorder: self.recorder,
            routes: self.routes,
            sender: self.sender,
            metrics: self.metrics,
            pacing: self.pacing,
            liveness: consumer.liveness(),
            partitions: self.partitions,
        });
        loop {
            let change = tokio::select! {
                change = consumer.next_change() => change,
                () = self.ctx.stopping.cancelled() => break,
                () = owners.failed.cancelled() => anyhow::bail!("the owner of a partition panicked"),
            };
            match change {
                Change::Assigned(partition) => {
                    let stop = self.ctx.stopping.child_token();
                    let (hints, hinted) = mpsc::unbounded_channel();
                    let id = partition.id;
                    owned.insert(id, hints);
                    let ownership = partition::run(Arc::clone(&shared), partition, stop.clone(), hinted);
                    owners.begin(id, stop, ownership);
                }
                Change::Revoked(partition, handover) => {
                    owned.remove(partition);
                    owners.end(partition, handover);
                }
            }
        }
        owners.tasks.close();
        let ended = owners.tasks.clone();
        // Goes on polling, so that the group keeps its member until the last attempt is recorded.
        tokio::select! {
            () = ended.wait() => {}
            () = async {
                loop {
                    if let Change::Revoked(partition, handover) = consumer.next_change().await {
                        owners.end(partition, handover);
                    }
                }
            } => {}
        }
        Ok(())
    }
}

impl Owners {
    fn begin(
        &mut self,
        partition: i32,
        stop: CancellationToken,
        ownership: impl Future<Output = ()> + Send + 'static,
    ) {
        let failed = self.failed.clone();
        let task = self.tasks.spawn(async move {
            if AssertUnwindSafe(ownership).catch_unwind().await.is_err() {
                failed.cancel();
            }
        });
        self.by_partition.insert(partition, (stop, task));
    }

    /// Stops the owner of a partition, and lets the group have the partition when that has ended.
    fn end(&mut self, partition: i32, handover: Handover) {
        let Some((stop, task)) = self.by_partition.remove(&partition) else { return };
        stop.cancel();
        tokio::spawn(async move {
            // A panic has been heard of already.
            let _ = tokio::time::timeout(HANDOVER, task).await;
            drop(handover);
        });
    }
}
