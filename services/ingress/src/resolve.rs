//! From the token in the URL to the endpoint.
//!
//! What was read is remembered until it changes: the store says so ([`follow`]), and as long as it can be heard. While
//! Postgres is away, what is remembered is used on, for a while. Tokens that nobody has cost a bounded number of
//! look-ups, however many are tried.

mod known;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::future::Cache;
use ravenpost_chassis::Context;
use ravenpost_chassis::problem::{Kind, Problem};
use ravenpost_store::System;
use ravenpost_store::system::{Change, Changes, Endpoint};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::metrics::IngressMetrics;
use known::{Known, Seen};

/// How long an endpoint is believed to be as it was read while changes are heard of: the slow poll behind them.
const FRESH: Duration = Duration::from_secs(15);
/// How long, while they are not.
const FRESH_UNHEARD: Duration = Duration::from_secs(1);
/// How long an endpoint that can't be read again is believed to be as it was.
const STALE: Duration = Duration::from_secs(300);
/// How long a request waits for an endpoint to be read again before it takes what is remembered.
const PATIENCE: Duration = Duration::from_secs(1);
/// After a look-up that failed, what is remembered is taken without another one for so long.
const RESPITE: Duration = Duration::from_secs(1);
/// Endpoints remembered at once, and for how long without a request.
const REMEMBERED: u64 = 100_000;
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3_600);
/// Unknown tokens remembered at once.
const UNKNOWN_REMEMBERED: u64 = 50_000;
/// Tokens that are looked up at once without being known, and endpoints that are read again at once: together below the
/// connections of the pool, so that neither guessing nor an upheaval keeps those waiting who commit.
const LOOKUPS: usize = 3;
/// How long a request waits for its turn to be looked up.
const LOOKUP_WAIT: Duration = Duration::from_secs(1);
/// No token of ours is longer.
const MAX_TOKEN: usize = 64;
/// When to come back while Postgres is away.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Endpoints by token.
pub struct Endpoints {
    system: System,
    metrics: IngressMetrics,
    known: Cache<String, Arc<Known>>,
    unknown: Cache<String, ()>,
    lookups: Semaphore,
    readings: Semaphore,
    news: News,
}

/// How much has been heard of.
#[derive(Default)]
struct News {
    /// Rises with every change.
    changes: AtomicU64,
    /// Rises with every change that may concern any endpoint.
    upheavals: AtomicU64,
    /// Whether changes are heard of.
    heard: AtomicBool,
}

impl Endpoints {
    /// Reads through to the store.
    pub fn new(system: System, metrics: IngressMetrics) -> Self {
        Self {
            system,
            metrics,
            known: Cache::builder().max_capacity(REMEMBERED).time_to_idle(FORGOTTEN_AFTER).build(),
            unknown: Cache::builder().max_capacity(UNKNOWN_REMEMBERED).time_to_live(FRESH).build(),
            lookups: Semaphore::new(LOOKUPS),
            readings: Semaphore::new(LOOKUPS),
            news: News::default(),
        }
    }

    /// The endpoint of a token; a problem when there is none, or none any more.
    pub async fn resolve(&self, token: &str) -> Result<Arc<Endpoint>, Problem> {
        let endpoint = match self.known.get(token).await {
            Some(known) => self.recall(token, &known).await?,
            // Rare, and large: it would be copied with each request.
            None => Box::pin(self.meet(token)).await?,
        };
        if endpoint.deleted {
            return Err(Problem::new(Kind::Gone, "this endpoint was deleted; stop sending to it"));
        }
        Ok(endpoint)
    }

    /// A token that is known: what is remembered of it, read again if that is not fresh.
    async fn recall(&self, token: &str, known: &Known) -> Result<Arc<Endpoint>, Problem> {
        if let Some(endpoint) = known.fresh(Instant::now(), self.fresh_for(), self.upheavals()) {
            return Ok(endpoint);
        }
        if let Some(endpoint) = known.respite(Instant::now(), RESPITE, STALE) {
            return Ok(endpoint);
        }
        Box::pin(self.renew(token, known)).await
    }

    /// Reads a known token again, unless somebody else has just done so.
    async fn renew(&self, token: &str, known: &Known) -> Result<Arc<Endpoint>, Problem> {
        let _turn = known.reading.lock().await;
        // Somebody may have read it meanwhile, or tried to.
        let now = Instant::now();
        let meanwhile = known.fresh(now, self.fresh_for(), self.upheavals());
        if let Some(endpoint) = meanwhile.or_else(|| known.respite(now, RESPITE, STALE)) {
            return Ok(endpoint);
        }
        let reading = async {
            let _turn = self.readings.acquire().await;
            self.look_up(token).await
        };
        let problem = match timeout(PATIENCE, reading).await {
            Ok(Ok(Some((endpoint, seen)))) => return Ok(known.store(endpoint, seen)),
            Ok(Ok(None)) => {
                self.known.invalidate(token).await;
                return Err(nobody());
            }
            // Damaged rows are no reason to go on with what they were before.
            Ok(Err(error)) if !error.is_transient() => return Err(unreadable(&error)),
            Ok(Err(error)) => unreadable(&error),
            Err(_) => away(),
        };
        self.metrics.looked_up("failed");
        known.failed(Instant::now());
        known.respite(Instant::now(), RESPITE, STALE).ok_or(problem)
    }

    /// A token that is not known: looked up, unless too many others are.
    async fn meet(&self, token: &str) -> Result<Arc<Endpoint>, Problem> {
        if !is_token(token) || self.unknown.contains_key(token) {
            return Err(nobody());
        }
        let Ok(Ok(_turn)) = timeout(LOOKUP_WAIT, self.lookups.acquire()).await else {
            self.metrics.limited("lookups");
            return Err(away());
        };
        // Another request for it may have been here before.
        if let Some(known) = self.known.get(token).await
            && let Some(endpoint) = known.fresh(Instant::now(), self.fresh_for(), self.upheavals())
        {
            return Ok(endpoint);
        }
        if self.unknown.contains_key(token) {
            return Err(nobody());
        }
        let before = self.news.changes.load(Ordering::SeqCst);
        match self.look_up(token).await {
            Ok(Some((endpoint, seen))) => {
                let (known, endpoint) = Known::new(endpoint, seen);
                self.known.insert(token.to_owned(), Arc::new(known)).await;
                Ok(endpoint)
            }
            Ok(None) => {
                self.metrics.looked_up("unknown");
                self.unknown.insert(token.to_owned(), ()).await;
                // It may have been made while it was looked for.
                if self.news.changes.load(Ordering::SeqCst) != before {
                    self.unknown.invalidate(token).await;
                }
                Err(nobody())
            }
            Err(error) => {
                self.metrics.looked_up("failed");
                Err(unreadable(&error))
            }
        }
    }

    async fn look_up(&self, token: &str) -> ravenpost_store::Result<Option<(Endpoint, Seen)>> {
        let (at, upheavals) = (Instant::now(), self.upheavals());
        let changes = self.news.changes.load(Ordering::SeqCst);
        let Some(endpoint) = self.system.endpoint_by_token(token).await? else { return Ok(None) };
        self.metrics.looked_up("found");
        // What changed while it was read may have been this one, before or after it was read.
        let outdated = self.news.changes.load(Ordering::SeqCst) != changes;
        Ok(Some((endpoint, Seen { at, upheavals, outdated })))
    }

    /// Forgets what may no longer be so.
    pub async fn forget(&self, change: &Change) {
        self.news.changes.fetch_add(1, Ordering::SeqCst);
        match change {
            Change::Endpoint(token) => {
                self.unknown.invalidate(token).await;
                if let Some(known) = self.known.get(token).await {
                    known.outdate();
                }
            }
            Change::Everything => {
                self.news.upheavals.fetch_add(1, Ordering::SeqCst);
                self.unknown.invalidate_all();
            }
        }
    }

    fn upheavals(&self) -> u64 {
        self.news.upheavals.load(Ordering::SeqCst)
    }

    fn fresh_for(&self) -> Duration {
        if self.news.heard.load(Ordering::Relaxed) { FRESH } else { FRESH_UNHEARD }
    }
}

/// Listens for changes until the process stops.
pub fn follow(ctx: &Context, endpoints: Arc<Endpoints>, mut changes: Changes) {
    let stopping = ctx.stopping.clone();
    ctx.spawn("news of the configuration", async move {
        while let Some(next) = stopping.run_until_cancelled(changes.next()).await {
            match next {
                Ok(change) => {
                    endpoints.forget(&change).await;
                    endpoints.news.heard.store(true, Ordering::Relaxed);
                }
                Err(error) => {
                    endpoints.news.heard.store(false, Ordering::Relaxed);
                    tracing::warn!(error = &error as &dyn std::error::Error, "changes are not heard of");
                    let _ = stopping.run_until_cancelled(tokio::time::sleep(RESPITE)).await;
                }
            }
        }
        Ok(())
    });
}

/// Whether it could be one of ours: letters, digits, `-` and `_`.
fn is_token(text: &str) -> bool {
    let ours = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=MAX_TOKEN).contains(&text.len()) && text.bytes().all(ours)
}

fn nobody() -> Problem {
    Problem::new(Kind::UnknownToken, "no endpoint has this token; check the URL")
}

fn away() -> Problem {
    Problem::unavailable("the event can't be stored just now", RETRY_AFTER)
}

fn unreadable(error: &ravenpost_store::Error) -> Problem {
    if error.is_transient() {
        tracing::warn!(error = error as &dyn std::error::Error, "an endpoint can't be read");
        return away();
    }
    Problem::internal(error)
}
