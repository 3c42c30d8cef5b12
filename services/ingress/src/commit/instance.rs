//! This run of ingress among its peers: registered with its lanes, alive by its heartbeat (PROTOCOLS I3, I4).

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ravenpost_chassis::{Context, clock, random};
use ravenpost_core::ids::{EventId, InstanceId};
use ravenpost_store::system::{Accepted, NewEvent};
use ravenpost_store::{Result, System};
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::cursor::Cursor;
use super::peers::Peers;
use super::relay::Relay;

/// How often peers hear of us.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The registered run and its cursor.
pub(super) struct Instance {
    system: System,
    lanes: u16,
    current: RwLock<Arc<Run>>,
}

/// One registration: a new one begins when a peer has adopted the last.
pub(super) struct Run {
    pub(super) id: InstanceId,
    pub(super) cursor: Cursor,
    system: System,
    /// The number of each lane in Postgres. Held while a statement goes through it.
    lanes: Vec<Mutex<i32>>,
    next_number: AtomicI32,
}

impl Instance {
    pub(super) async fn register(system: System, lanes: u16) -> Result<Self> {
        let run = enroll(&system, lanes).await?;
        Ok(Self { system, lanes, current: RwLock::new(run) })
    }

    pub(super) fn run(&self) -> Arc<Run> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins a new run after `adopted` was taken over, unless another lane has done so. What the old one has committed
    /// and not published is published by whoever took it.
    pub(super) async fn renew(&self, adopted: InstanceId) -> Result<()> {
        if self.run().id != adopted {
            return Ok(());
        }
        warn!(instance_id = %adopted, "this instance was adopted by a peer and goes on under a new id");
        let run = enroll(&self.system, self.lanes).await?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = run;
        Ok(())
    }

    async fn beat(&self) -> Result<()> {
        let run = self.run();
        let alive = self.system.heartbeat(run.id, run.cursor.published_through()).await?;
        if alive { Ok(()) } else { self.renew(run.id).await }
    }

    async fn retire(&self) {
        let run = self.run();
        let retired = if run.cursor.is_published() {
            self.system.retire_instance(run.id).await
        } else {
            info!(instance_id = %run.id, "what is not published yet is left to a peer");
            self.system.abandon_instance(run.id).await
        };
        if let Err(error) = retired {
            warn!(error = &error as &dyn std::error::Error, "the instance stays on the books");
        }
    }
}

impl Run {
    /// Writes rows through a lane.
    pub(super) async fn accept(&self, lane: usize, rows: &[NewEvent]) -> Result<Accepted> {
        let number = self.lanes[lane].lock().await;
        self.system.accept(self.id, *number, rows).await
    }

    /// Makes sure that the last statement through a lane is over, wherever it is, and tells what it has committed of
    /// these ids: everything between them that is ours. `None`: this run was adopted.
    pub(super) async fn settle(&self, lane: usize, first: EventId, last: EventId) -> Result<Option<bool>> {
        let mut number = self.lanes[lane].lock().await;
        let by = self.next_number.fetch_add(1, Ordering::Relaxed);
        if !self.system.replace_lane(self.id, *number, by).await? {
            return Ok(None);
        }
        *number = by;
        drop(number);
        let committed = self.system.unpublished(self.id, first.predecessor(), last, 1).await?;
        Ok(Some(!committed.is_empty()))
    }
}

async fn enroll(system: &System, lanes: u16) -> Result<Arc<Run>> {
    let id = InstanceId::new(clock::now(), random::bytes());
    system.register_instance(id, i32::from(lanes)).await?;
    info!(instance_id = %id, "instance registered");
    Ok(Arc::new(Run {
        id,
        cursor: Cursor::default(),
        system: system.clone(),
        lanes: (0..i32::from(lanes)).map(Mutex::new).collect(),
        next_number: AtomicI32::new(i32::from(lanes)),
    }))
}

/// Beats and looks after peers until the process stops; then retires the instance once the lanes have ended.
pub(super) fn keep_alive(
    ctx: &Context,
    instance: Arc<Instance>,
    relay: Arc<Relay>,
    adopt_after: Duration,
    replicas: impl Fn(usize) + Send + 'static,
) {
    let stopping = ctx.stopping.clone();
    ctx.spawn("heartbeat", async move {
        let mut peers = Peers::new(adopt_after);
        while stopping.run_until_cancelled(tokio::time::sleep(HEARTBEAT)).await.is_some() {
            match beat(&instance, &relay, &mut peers).await {
                Ok(alive) => replicas(alive + 1),
                Err(error) => warn!(error = &error as &dyn std::error::Error, "the heartbeat fails"),
            }
        }
        drop(relay);
        // Lanes hold the instance while they work: alone again, everything is answered.
        while Arc::strong_count(&instance) > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        instance.retire().await;
        Ok(())
    });
}

/// One heartbeat, and a look at the others; answers how many of them live.
async fn beat(instance: &Instance, relay: &Arc<Relay>, peers: &mut Peers) -> Result<usize> {
    instance.beat().await?;
    let others = instance.system.peers(instance.run().id).await?;
    let look = peers.look(&others, Instant::now());
    for left in look.left {
        relay.adopt(left);
    }
    Ok(look.alive)
}
