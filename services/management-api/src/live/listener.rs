//! One listener: what it hears, in its order, and what it has missed.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use ravenpost_chassis::clock;
use ravenpost_store::tenant::WATCHED;
use ravenpost_store::{Result, Tenant};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Leaves;
use super::item::{Item, LiveFilter, Place};
use super::source::{OVERLAP, read};

/// What a listener is told next.
#[derive(Debug, Clone)]
pub enum Told {
    /// This has happened.
    Happened(Arc<Item>),
    /// It may have missed something that can't be told any more.
    Lagged,
    /// That was all: the process stops.
    Over,
}

/// Somebody who listens; whoever drops it has gone.
pub struct Listener {
    tenant: Tenant,
    filter: LiveFilter,
    receiver: broadcast::Receiver<Arc<Item>>,
    stopping: CancellationToken,
    /// Read from the database, to be told before anything else.
    waiting: VecDeque<Told>,
    /// What was read there may come by the source as well.
    read: HashSet<Uuid>,
    /// Up to where it has heard everything.
    reached: DateTime<Utc>,
    /// It was too slow: the database is asked before anything else.
    behind: bool,
    _leaves: Leaves,
}

impl Listener {
    pub(super) fn new(
        tenant: Tenant,
        filter: LiveFilter,
        receiver: broadcast::Receiver<Arc<Item>>,
        stopping: CancellationToken,
        leaves: Leaves,
    ) -> Self {
        Self {
            tenant,
            filter,
            receiver,
            stopping,
            waiting: VecDeque::new(),
            read: HashSet::new(),
            reached: clock::now(),
            behind: false,
            _leaves: leaves,
        }
    }

    /// Begins some seconds before a place where it had got to, since ids commit out of order: what it has heard already
    /// it hears again under the same id.
    pub async fn resume(&mut self, place: Place) -> Result<()> {
        let now = clock::now();
        let watched_since = self.tenant.watch(now).await?;
        let from = place.moment - OVERLAP;
        if from < watched_since.max(now - WATCHED) {
            self.waiting.push_back(Told::Lagged);
        }
        self.catch_up(from.max(now - WATCHED)).await
    }

    /// What comes next; waits for it. May be dropped while it waits, and nothing is missed.
    pub async fn next(&mut self) -> Result<Told> {
        loop {
            if self.behind {
                self.catch_up(self.reached - OVERLAP).await?;
                self.behind = false;
            }
            if let Some(told) = self.waiting.pop_front() {
                return Ok(told);
            }
            let received = tokio::select! {
                biased;
                () = self.stopping.cancelled() => return Ok(Told::Over),
                received = self.receiver.recv() => received,
            };
            match received {
                Ok(item) => {
                    if let Some(told) = self.hear(item) {
                        return Ok(told);
                    }
                }
                Err(RecvError::Lagged(_)) => {
                    self.behind = true;
                    return Ok(Told::Lagged);
                }
                Err(RecvError::Closed) => return Ok(Told::Over),
            }
        }
    }

    fn hear(&mut self, item: Arc<Item>) -> Option<Told> {
        let Some(place) = item.place() else { return Some(Told::Lagged) };
        self.reached = self.reached.max(place.moment);
        (!self.read.contains(&place.id) && self.filter.wants(&item)).then_some(Told::Happened(item))
    }

    async fn catch_up(&mut self, from: DateTime<Utc>) -> Result<()> {
        let (items, full) = read(&self.tenant, from).await?;
        if (full.events || full.attempts) && !matches!(self.waiting.back(), Some(Told::Lagged)) {
            self.waiting.push_back(Told::Lagged);
        }
        let mut read = HashSet::new();
        for item in items {
            let Some(place) = item.place() else { continue };
            read.insert(place.id);
            self.reached = self.reached.max(place.moment);
            if self.filter.wants(&item) {
                self.waiting.push_back(Told::Happened(Arc::new(item)));
            }
        }
        self.read = read;
        Ok(())
    }
}
