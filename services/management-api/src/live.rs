//! What has just been accepted and attempted, to whoever listens: one source for each organization that somebody listens to,
//! however many do.
//!
//! ```text
//! Postgres ──every half second──▶ source of an organization ──bounded broadcast──▶ listener ──▶ its filter ──▶ SSE
//!    ▲                                                                                │
//!    └────────────── resumes here: after Last-Event-ID, or when it was too slow ──────┘
//! ```
//!
//! Ids commit out of order, so each look goes some seconds back, and what was seen is not told again.
//! docs/decisions/0035 tells the rest.

mod item;
mod listener;
mod source;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ravenpost_core::ids::OrganizationId;
use ravenpost_store::Tenant;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

pub use item::{Item, LiveFilter, Place};
pub use listener::{Listener, Told};

/// What bounds it.
#[derive(Debug, Clone, Copy)]
pub struct LiveLimits {
    /// Listeners of one organization at once.
    pub of_organization: usize,
    /// All listeners at once.
    pub all: usize,
    /// How often a source looks.
    pub every: Duration,
    /// Items that wait for a listener; one that falls further behind reads on from the database.
    pub buffered: usize,
}

impl Default for LiveLimits {
    fn default() -> Self {
        // As many items as one look may tell fit.
        Self { of_organization: 50, all: 1_000, every: Duration::from_millis(500), buffered: 4_096 }
    }
}

/// There are as many listeners as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// Of the organization.
    #[error("{0} listen already, as many as may of one organization")]
    Organization(usize),
    /// Of this process.
    #[error("{0} listen already, as many as this process serves")]
    Process(usize),
}

/// The sources of this process. Cheap to clone.
#[derive(Clone)]
pub struct Live(Arc<Inner>);

struct Inner {
    limits: LiveLimits,
    /// Whoever listens is told to go when the process stops.
    stopping: CancellationToken,
    sources: Mutex<HashMap<OrganizationId, Running>>,
}

struct Running {
    sender: broadcast::Sender<Arc<Item>>,
    listeners: usize,
    /// Nobody listens any more.
    over: CancellationToken,
}

impl Live {
    /// No source yet; whoever listens ends when the process stops.
    pub fn new(limits: LiveLimits, stopping: CancellationToken) -> Self {
        Self(Arc::new(Inner { limits, stopping, sources: Mutex::default() }))
    }

    /// Listens to an organization. The first one starts its source, the last one to go ends it.
    pub fn listen(&self, tenant: &Tenant, filter: LiveFilter) -> Result<Listener, Full> {
        let (organization, limits) = (tenant.organization_id(), self.0.limits);
        let mut sources = self.sources();
        let all: usize = sources.values().map(|source| source.listeners).sum();
        if all >= limits.all {
            return Err(Full::Process(all));
        }
        let source = sources.entry(organization).or_insert_with(|| self.start(tenant));
        if source.listeners >= limits.of_organization {
            return Err(Full::Organization(source.listeners));
        }
        source.listeners += 1;
        let receiver = source.sender.subscribe();
        drop(sources);
        let leaves = Leaves { live: self.clone(), organization };
        Ok(Listener::new(tenant.clone(), filter, receiver, self.0.stopping.clone(), leaves))
    }

    /// How many listen.
    pub fn listeners(&self) -> usize {
        self.sources().values().map(|source| source.listeners).sum()
    }

    /// How many organizations are looked at.
    pub fn source_count(&self) -> usize {
        self.sources().len()
    }

    fn start(&self, tenant: &Tenant) -> Running {
        let (sender, _) = broadcast::channel(self.0.limits.buffered);
        let over = self.0.stopping.child_token();
        let source = source::Source::new(tenant.clone(), sender.clone(), self.0.limits.every);
        let ends = over.clone();
        tokio::spawn(async move { ends.run_until_cancelled(source.run()).await });
        Running { sender, listeners: 0, over }
    }

    fn leave(&self, organization: OrganizationId) {
        let mut sources = self.sources();
        let Some(source) = sources.get_mut(&organization) else { return };
        source.listeners = source.listeners.saturating_sub(1);
        if source.listeners == 0 {
            source.over.cancel();
            sources.remove(&organization);
        }
    }

    fn sources(&self) -> MutexGuard<'_, HashMap<OrganizationId, Running>> {
        self.0.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says so when a listener is gone.
struct Leaves {
    live: Live,
    organization: OrganizationId,
}

impl Drop for Leaves {
    fn drop(&mut self) {
        self.live.leave(self.organization);
    }
}
