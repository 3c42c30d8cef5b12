//! This run of ingress among its peers: registered with its lanes, alive by its heartbeat (PROTOCOLS I3, I4).

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ravenpost_chassis::{Context, clock, random};
use ravenpost_core::ids::{EventId, InstanceId};
use ravenpost_store::system::{Accepted, NewEvent};
use ravenpost_store::{Result, System};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
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
    /// Held while a new run is registered.
    renewing: Mutex<()>,
}

/// One registration: a new one begins when a peer has adopted the last.
pub(super) struct Run {
    pub(super) id: InstanceId,
    pub(super) cursor: Cursor,
    system: System,
    /// Each held while a statement goes through it.
    lanes: Vec<Mutex<Lane>>,
    next_number: AtomicI32,
}

/// A lane as Postgres knows it.
struct Lane {
    number: i32,
    /// The number that it is getting, if whether it has it was not heard.
    replacement: Option<i32>,
}

impl Instance {
    pub(super) async fn register(system: System, lanes: u16) -> Result<Self> {
        let run = enroll(&system, lanes).await?;
        Ok(Self { system, lanes, current: RwLock::new(run), renewing: Mutex::default() })
    }

    pub(super) fn run(&self) -> Arc<Run> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins a new run after `adopted` was taken over, unless another lane has done so. What the old one has committed
    /// and not published is published by whoever took it.
    pub(super) async fn renew(&self, adopted: InstanceId) -> Result<()> {
        let _alone = self.renewing.lock().await;
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
        let alive = self.system.heartbeat(run.id, Some(run.cursor.published_through())).await?;
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
        let lane = self.lanes[lane].lock().await;
        self.system.accept(self.id, lane.number, rows).await
    }

    /// Makes sure that the last statement through a lane is over, wherever it is, and tells whether it has committed
    /// something of these ids, between which all are ours. `None`: this run was adopted.
    pub(super) async fn settle(&self, lane: usize, first: EventId, last: EventId) -> Result<Option<bool>> {
        let mut lane = self.lanes[lane].lock().await;
        let by = *lane.replacement.get_or_insert_with(|| self.next_number.fetch_add(1, Ordering::Relaxed));
        if !self.system.replace_lane(self.id, lane.number, by).await? {
            return Ok(None);
        }
        *lane = Lane { number: by, replacement: None };
        drop(lane);
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
        cursor: Cursor::of(id),
        system: system.clone(),
        lanes: (0..i32::from(lanes)).map(|number| Mutex::new(Lane { number, replacement: None })).collect(),
        next_number: AtomicI32::new(i32::from(lanes)),
    }))
}

/// Beats and looks after peers until the lanes are `over`, since until then events are committed; then retires the
/// instance.
pub(super) fn keep_alive(
    ctx: &Context,
    instance: Arc<Instance>,
    relay: Arc<Relay>,
    adopt_after: Duration,
    over: CancellationToken,
) {
    ctx.spawn("heartbeat", async move {
        let mut peers = Peers::new(adopt_after);
        while over.run_until_cancelled(tokio::time::sleep(HEARTBEAT)).await.is_some() {
            if let Err(error) = beat(&instance, &relay, &mut peers).await {
                warn!(error = &error as &dyn std::error::Error, "the heartbeat fails");
            }
        }
        instance.retire().await;
        Ok(())
    });
}

/// One heartbeat, and a look at the others.
async fn beat(instance: &Instance, relay: &Arc<Relay>, peers: &mut Peers) -> Result<()> {
    instance.beat().await?;
    let asked = Instant::now();
    let others = instance.system.peers(instance.run().id).await?;
    let look = peers.look(&others, asked, Instant::now());
    relay.replicas.set(look.alive.saturating_add(1));
    for left in look.left {
        relay.adopt(left);
    }
    Ok(())
}
