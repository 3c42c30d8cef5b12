//! "Publish everything after the cursor", from Postgres: this run's own backlog when Kafka was away, and what peers that
//! have died left behind (PROTOCOLS I3, I5, I6). What it publishes is marked, since it may have been published before.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use futures::future::join_all;
use ravenpost_bus::Producer;
use ravenpost_bus::message::INLINE_LIMIT;
use ravenpost_chassis::{Context, clock};
use ravenpost_core::event::{self, PayloadLocation};
use ravenpost_core::ids::{EventId, InstanceId};
use ravenpost_store::system::{NewEvent, Peer};
use ravenpost_store::{Payloads, System};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Stores;
use super::cursor::{Next, Outbox};
use super::instance::{Instance, Run};
use super::publish::relayed;
use crate::limit::Replicas;
use crate::metrics::IngressMetrics;
use crate::settings::OutboxSettings;

/// How often the backlog is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long to wait after a store has failed. Peers hear of an adopted run meanwhile.
const AGAIN: Duration = Duration::from_secs(1);
/// Most events that are read and published together.
const PAGE: i64 = 500;
/// Most objects that are read at once.
const READS: usize = 8;
/// Most runs that are taken over at once: their reading and publishing comes beside what is accepted.
const TAKEN_OVER_AT_ONCE: usize = 2;
/// How far the clock of a run that has died may have been ahead of ours: twice what makes a service unready (PROTOCOLS
/// D1).
const AHEAD: TimeDelta = TimeDelta::seconds(10);

/// Publishes late what is committed.
pub(super) struct Relay {
    pub(super) system: System,
    pub(super) payloads: Payloads,
    pub(super) producer: Producer,
    pub(super) instance: Arc<Instance>,
    pub(super) metrics: IngressMetrics,
    /// Hears how many runs of ingress live.
    pub(super) replicas: Replicas,
    pub(super) settings: OutboxSettings,
    /// More waits for Kafka than may.
    pub(super) full: Arc<AtomicBool>,
    pub(super) adopting: Mutex<HashSet<InstanceId>>,
    pub(super) slots: Semaphore,
    /// From then on nobody is adopted any more.
    pub(super) stopping: CancellationToken,
}

/// Some events were published.
struct Page {
    /// Up to this id all are.
    through: EventId,
    events: usize,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Store(#[from] ravenpost_store::Error),
    #[error(transparent)]
    Bus(#[from] ravenpost_bus::Error),
}

impl Failure {
    fn warn(&self, instance: InstanceId, what: &str) {
        warn!(instance_id = %instance, error = self as &dyn std::error::Error, "{what}");
    }
}

/// Relays until the lanes are `over`. The check `outbox` fails while more waits for Kafka than may.
pub(super) fn start(ctx: &Context, relay: Arc<Relay>, over: CancellationToken) {
    let check = ctx.health.register("outbox");
    ctx.spawn("relay", async move {
        let mut pause = LOOK;
        while over.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            pause = over.run_until_cancelled(relay.step()).await.unwrap_or(LOOK);
            let outbox = relay.instance.run().cursor.outbox();
            relay.metrics.outbox(outbox.events, outbox.age);
            match relay.refuses(outbox) {
                Some(reason) => check.fail(reason),
                None => check.ok(),
            }
        }
        Ok(())
    });
}

impl Relay {
    /// `full` tells while more waits for Kafka than may; `replicas` hears how many runs of ingress live.
    pub(super) fn new(
        ctx: &Context,
        settings: &OutboxSettings,
        stores: &Stores,
        instance: Arc<Instance>,
        metrics: IngressMetrics,
        replicas: Replicas,
        full: Arc<AtomicBool>,
    ) -> Self {
        Self {
            system: stores.system.clone(),
            payloads: stores.payloads.clone(),
            producer: stores.producer.clone(),
            instance,
            metrics,
            replicas,
            settings: settings.clone(),
            full,
            adopting: Mutex::default(),
            slots: Semaphore::new(TAKEN_OVER_AT_ONCE),
            stopping: ctx.stopping.clone(),
        }
    }

    /// Does what is next; answers when to look again.
    async fn step(&self) -> Duration {
        let run = self.instance.run();
        let done = match run.cursor.next() {
            Next::Nothing | Next::Wait => return LOOK,
            Next::Settle { first, last, lane } => self.settle(&run, lane, first, last).await,
            Next::Publish { first, last } => {
                let published = self.publish(run.id, first.predecessor(), last).await;
                published.map(|page| run.cursor.relayed(page.through, page.events))
            }
        };
        match done {
            Ok(()) => Duration::ZERO,
            Err(failure) => {
                run.cursor.stuck();
                failure.warn(run.id, "the backlog waits");
                AGAIN
            }
        }
    }

    async fn settle(&self, run: &Run, lane: usize, first: EventId, last: EventId) -> Result<(), Failure> {
        match run.settle(lane, first, last).await? {
            Some(true) => run.cursor.leave_to_relay(first),
            Some(false) => run.cursor.finish(first),
            None => self.instance.renew(run.id).await?,
        }
        Ok(())
    }

    /// Whether producers are to be refused, and why (PROTOCOLS I6).
    fn refuses(&self, outbox: Outbox) -> Option<String> {
        let full = outbox.events >= usize::try_from(self.settings.outbox_events).unwrap_or(usize::MAX);
        let old = outbox.age >= self.settings.outbox_age;
        self.full.store(full || old, Ordering::Relaxed);
        (full || old).then(|| {
            let age = outbox.age.as_secs();
            format!("{} events wait for Kafka, the oldest for {age} s", outbox.events)
        })
    }

    /// Takes over a run that nobody looks after, unless that is being done.
    pub(super) fn adopt(self: &Arc<Self>, left: Peer) {
        let is_new = self.adopting.lock().unwrap_or_else(PoisonError::into_inner).insert(left.id);
        if !is_new {
            return;
        }
        let relay = Arc::clone(self);
        tokio::spawn(async move {
            let adopted = relay.stopping.run_until_cancelled(relay.take_over(left)).await;
            if let Some(Err(failure)) = adopted {
                failure.warn(left.id, "an instance that was left can't be adopted yet");
            }
            relay.adopting.lock().unwrap_or_else(PoisonError::into_inner).remove(&left.id);
        });
    }

    async fn take_over(&self, left: Peer) -> Result<(), Failure> {
        // Never closed.
        let Ok(_slot) = self.slots.acquire().await else { return Ok(()) };
        let Some(published) = self.system.adopt_instance(left).await? else { return Ok(()) };
        info!(instance_id = %left.id, published_through = %published, "an instance that was left is adopted");
        self.metrics.adopted.inc();
        let (progress, seen) = watch::channel(published);
        // It has no lanes any more, so that nothing comes after now.
        let end = EventId::new(clock::now() + AHEAD, [u8::MAX; 10]).max(published);
        tokio::select! {
            () = self.publish_rest(left.id, &progress, end) => {}
            () = self.look_after(left.id, &seen) => {}
        }
        self.system.retire_instance(left.id).await?;
        info!(instance_id = %left.id, "an adopted instance is published");
        Ok(())
    }

    /// Publishes all that an adopted run has left.
    async fn publish_rest(&self, left: InstanceId, progress: &watch::Sender<EventId>, end: EventId) {
        while *progress.borrow() < end {
            let published = *progress.borrow();
            match self.publish(left, published, end).await {
                Ok(page) => drop(progress.send_replace(page.through)),
                Err(failure) => {
                    failure.warn(left, "the backlog of an adopted instance waits");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Tells peers for ever that somebody looks after an adopted run, and how far that is.
    async fn look_after(&self, left: InstanceId, progress: &watch::Receiver<EventId>) {
        loop {
            tokio::time::sleep(AGAIN).await;
            let published = *progress.borrow();
            if let Err(error) = self.system.heartbeat_for(left, published).await {
                Failure::from(error).warn(left, "an adopted instance can't be looked after");
            }
        }
    }

    /// Publishes the next events of a run with ids above `after` and up to `through`.
    async fn publish(&self, run: InstanceId, after: EventId, through: EventId) -> Result<Page, Failure> {
        let rows = self.system.unpublished(run, after, through, PAGE).await?;
        let Some(last) = rows.last().map(|row| row.id) else { return Ok(Page { through, events: 0 }) };
        let bodies = self.bodies(run, &rows).await;
        let messages = rows.iter().zip(bodies).map(|(row, body)| relayed(row, body).encode()).collect();
        self.producer.produce(messages).await?;
        self.metrics.relayed.inc_by(u64::try_from(rows.len()).unwrap_or(0));
        let is_last_page = i64::try_from(rows.len()).is_ok_and(|read| read < PAGE);
        Ok(Page { through: if is_last_page { through } else { last }, events: rows.len() })
    }

    /// The bodies that travel inline, `None` for the others. Neighbours in a segment are read together. What can't be
    /// read, or is not what was received, travels as a claim check: the worker looks for it again, and nothing waits for
    /// one object here.
    async fn bodies(&self, run: InstanceId, rows: &[NewEvent]) -> Vec<Option<Bytes>> {
        let groups: Vec<_> = rows.chunk_by(|one, other| one.payload.s3_key == other.payload.s3_key).collect();
        let mut bodies = Vec::with_capacity(rows.len());
        for some in groups.chunks(READS) {
            let read = join_all(some.iter().map(|group| self.read_together(group))).await;
            for (group, read) in some.iter().zip(read) {
                bodies.extend(read.unwrap_or_else(|failure| {
                    failure.warn(run, "bodies can't be read and are not sent along");
                    vec![None; group.len()]
                }));
            }
        }
        bodies
    }

    async fn read_together(&self, group: &[NewEvent]) -> Result<Vec<Option<Bytes>>, Failure> {
        let inline = |row: &&NewEvent| is_inline(&row.payload);
        let begin = group.iter().filter(inline).map(|row| row.payload.s3_offset).min();
        let end = group.iter().filter(inline).map(|row| row.payload.s3_offset + row.payload.s3_length).max();
        let (Some(begin), Some(end)) = (begin, end) else { return Ok(vec![None; group.len()]) };
        let s3_key = group[0].payload.s3_key.clone();
        let range = PayloadLocation { s3_key, s3_offset: begin, s3_length: end - begin };
        let bytes = self.payloads.get(&range).await?;
        let body = |row: &NewEvent| {
            let bytes = bytes.as_ref().filter(|_| is_inline(&row.payload))?;
            let from = usize::try_from(row.payload.s3_offset - begin).ok()?;
            let to = from + usize::try_from(row.payload.s3_length).ok()?;
            let body = (to <= bytes.len()).then(|| bytes.slice(from..to))?;
            (event::digest(&body) == row.body_sha256).then_some(body)
        };
        Ok(group.iter().map(body).collect())
    }
}

fn is_inline(payload: &PayloadLocation) -> bool {
    usize::try_from(payload.s3_length).is_ok_and(|length| length <= INLINE_LIMIT)
}
