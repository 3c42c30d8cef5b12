//! Looks what is new of one organization, as long as somebody listens.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_chassis::clock;
use ravenpost_core::ids::EventId;
use ravenpost_store::{Result, Tenant};
use tokio::sync::broadcast;
use tracing::warn;
use uuid::Uuid;

use super::item::Item;

/// How far each look goes back behind the one before: longer than an id takes from being drawn to being committed, and
/// than clocks differ, but for accidents.
pub(super) const OVERLAP: TimeDelta = TimeDelta::seconds(5);
/// Most events, and most attempts, of one look.
pub(super) const MOST: i64 = 2_000;
/// How often it is said again that somebody listens.
const WATCH_EVERY: Duration = Duration::from_mins(1);

pub(super) struct Source {
    tenant: Tenant,
    sender: broadcast::Sender<Arc<Item>>,
    every: Duration,
    seen: HashSet<Uuid>,
    looked_at: DateTime<Utc>,
    watched_at: Option<Instant>,
}

impl Source {
    pub(super) fn new(tenant: Tenant, sender: broadcast::Sender<Arc<Item>>, every: Duration) -> Self {
        Self { tenant, sender, every, seen: HashSet::new(), looked_at: clock::now(), watched_at: None }
    }

    pub(super) async fn run(mut self) -> Infallible {
        let mut failing = false;
        loop {
            match self.look().await {
                Ok(()) => failing = false,
                Err(error) if failing => drop(error),
                Err(error) => {
                    failing = true;
                    let organization_id = self.tenant.organization_id();
                    warn!(error = &error as &dyn std::error::Error, %organization_id, "listeners hear nothing for now");
                }
            }
            tokio::time::sleep(self.every).await;
        }
    }

    /// What is new goes to whoever listens.
    async fn look(&mut self) -> Result<()> {
        let now = clock::now();
        if self.watched_at.is_none_or(|at| at.elapsed() >= WATCH_EVERY) {
            self.tenant.watch(now).await?;
            self.watched_at = Some(Instant::now());
        }
        let (items, full) = read(&self.tenant, self.looked_at - OVERLAP).await?;
        // Of what is full nobody knows what came before it, unless some of its kind is known.
        let known = |kind: fn(&Item) -> bool| {
            let mut places = items.iter().filter(|item| kind(item)).filter_map(Item::place);
            places.any(|place| self.seen.contains(&place.id))
        };
        let skipped = full.events && !known(|item| matches!(item, Item::Accepted(_)));
        if skipped || full.attempts && !known(|item| matches!(item, Item::Attempt(_))) {
            self.tell(Item::Skipped);
        }
        let before = std::mem::take(&mut self.seen);
        for item in items {
            let Some(place) = item.place() else { continue };
            self.seen.insert(place.id);
            if !before.contains(&place.id) {
                self.tell(item);
            }
        }
        self.looked_at = now;
        Ok(())
    }

    fn tell(&self, item: Item) {
        // Nobody listens just now: then the source is about to end.
        drop(self.sender.send(Arc::new(item)));
    }
}

/// Of what there was as much as one look tells, and perhaps more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full {
    pub(super) events: bool,
    pub(super) attempts: bool,
}

/// What has happened since a moment, in its order.
pub(super) async fn read(tenant: &Tenant, since: DateTime<Utc>) -> Result<(Vec<Item>, Full)> {
    let events = tenant.live_events(EventId::floor(since), MOST).await?;
    let attempts = tenant.live_attempts(since, MOST).await?;
    let is_full = |count: usize| i64::try_from(count).is_ok_and(|count| count >= MOST);
    let full = Full { events: is_full(events.len()), attempts: is_full(attempts.len()) };
    let mut items: Vec<Item> = events.into_iter().map(Item::Accepted).collect();
    items.extend(attempts.into_iter().map(Item::Attempt));
    items.sort_by_key(Item::place);
    Ok((items, full))
}
