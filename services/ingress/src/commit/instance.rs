//! This run of ingress among its peers: registered with its lanes, alive by its heartbeat (PROTOCOLS I3, I4).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ravenpost_chassis::{Context, clock, random};
use ravenpost_core::ids::InstanceId;
use ravenpost_store::{Result, System};
use tracing::{info, warn};

use super::cursor::Cursor;

/// How often peers hear of us.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The registered run and its cursor.
pub(super) struct Instance {
    system: System,
    lanes: i32,
    current: Mutex<Arc<Run>>,
}

/// One registration: a new one begins when a peer has adopted the last.
pub(super) struct Run {
    pub(super) id: InstanceId,
    pub(super) cursor: Cursor,
}

impl Instance {
    pub(super) async fn register(system: System, lanes: i32) -> Result<Self> {
        let run = enroll(&system, lanes).await?;
        Ok(Self { system, lanes, current: Mutex::new(run) })
    }

    pub(super) fn run(&self) -> Arc<Run> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins a new run after `adopted` was taken over, unless another lane has done so.
    pub(super) async fn renew(&self, adopted: InstanceId) -> Result<()> {
        if self.run().id != adopted {
            return Ok(());
        }
        warn!(instance_id = %adopted, "this instance was adopted by a peer and goes on under a new id");
        let run = enroll(&self.system, self.lanes).await?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = run;
        Ok(())
    }

    async fn beat(&self) -> Result<()> {
        let run = self.run();
        let alive = self.system.heartbeat(run.id, run.cursor.published_through()).await?;
        if alive { Ok(()) } else { self.renew(run.id).await }
    }

    async fn retire(&self) {
        let run = self.run();
        if !run.cursor.is_published() {
            return;
        }
        if let Err(error) = self.system.retire_instance(run.id).await {
            warn!(error = &error as &dyn std::error::Error, "the instance stays on the books");
        }
    }
}

async fn enroll(system: &System, lanes: i32) -> Result<Arc<Run>> {
    let id = InstanceId::new(clock::now(), random::bytes());
    system.register_instance(id, lanes).await?;
    info!(instance_id = %id, "instance registered");
    Ok(Arc::new(Run { id, cursor: Cursor::default() }))
}

/// Beats until the process stops, then retires the instance once the lanes have ended.
pub(super) fn keep_alive(ctx: &Context, instance: Arc<Instance>) {
    let stopping = ctx.stopping.clone();
    ctx.spawn("heartbeat", async move {
        while stopping.run_until_cancelled(tokio::time::sleep(HEARTBEAT)).await.is_some() {
            if let Err(error) = instance.beat().await {
                warn!(error = &error as &dyn std::error::Error, "the heartbeat fails");
            }
        }
        // Lanes hold the instance while they work: alone again, everything is answered.
        while Arc::strong_count(&instance) > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        instance.retire().await;
        Ok(())
    });
}
