//! Many producers at once: a steady, bounded load over all replicas of ingress, for as long as the faults last.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};

use crate::producer::{self, Attempt, Endpoint, Heard, Original, Repeats, Sent};

/// Requests at the same time.
const CONNECTIONS: usize = 24;
/// What they offer together, in events a second, while nothing is slow.
const RATE: u32 = 250;
/// A producer comes again after this.
const PAUSE: Duration = Duration::from_millis(400);
/// A replica that did not answer is not asked for so long, if another is there.
const AVOIDED: Duration = Duration::from_secs(1);
/// Once all is whole again, everybody has to be heard within this.
const DESPAIR: Duration = Duration::from_secs(30);

/// The producers and what they know.
pub(crate) struct Load {
    endpoints: Vec<Endpoint>,
    replicas: Vec<Replica>,
    client: reqwest::Client,
    next: AtomicU64,
    turn: AtomicUsize,
    sent: Mutex<Vec<Sent>>,
}

/// One ingress, as a load balancer sees it.
struct Replica {
    base_url: String,
    avoided_until: Mutex<Instant>,
}

/// A poisoned lock is a failed task's, which is told when it is joined.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    pub(crate) fn new(endpoints: Vec<Endpoint>, base_urls: Vec<String>) -> Result<Arc<Self>> {
        let avoided_until = Instant::now();
        let replica = |base_url| Replica { base_url, avoided_until: Mutex::new(avoided_until) };
        Ok(Arc::new(Self {
            endpoints,
            replicas: base_urls.into_iter().map(replica).collect(),
            client: ravenpost_testkit::http_client()?,
            next: AtomicU64::new(0),
            turn: AtomicUsize::new(0),
            sent: Mutex::default(),
        }))
    }

    /// Starts the producers. They finish what they have begun when `over` is told.
    pub(crate) fn start(self: &Arc<Self>, over: &watch::Receiver<bool>) -> JoinSet<Result<()>> {
        let mut producers = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let (load, over) = (Arc::clone(self), over.clone());
            producers.spawn(async move { load.produce(over).await });
        }
        producers
    }

    /// How many were sent so far.
    pub(crate) fn count(&self) -> usize {
        lock(&self.sent).len()
    }

    /// What was sent, and heard.
    pub(crate) fn sent(&self) -> Vec<Sent> {
        lock(&self.sent).clone()
    }

    async fn produce(&self, mut over: watch::Receiver<bool>) -> Result<()> {
        let every = Duration::from_secs(1) * u32::try_from(CONNECTIONS)? / RATE;
        let mut pace = tokio::time::interval(every);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*over.borrow() {
            pace.tick().await;
            let original = Original(self.next.fetch_add(1, Ordering::Relaxed));
            let sent = self.send(original, &mut over).await?;
            lock(&self.sent).push(sent);
        }
        Ok(())
    }

    /// Sends one event as its plan says.
    async fn send(&self, original: Original, over: &mut watch::Receiver<bool>) -> Result<Sent> {
        let endpoint = usize::try_from(original.0)? % self.endpoints.len();
        let mut sent = Sent { original, endpoint, attempts: Vec::new(), despaired: false };
        let outlived = async {
            // An error means that everything is over, too.
            let _ = over.wait_for(|over| *over).await;
            tokio::time::sleep(DESPAIR).await;
        };
        sent.despaired = tokio::select! {
            insisted = self.insist(&mut sent) => insisted.map(|()| false)?,
            () = outlived => true,
        };
        Ok(sent)
    }

    async fn insist(&self, sent: &mut Sent) -> Result<()> {
        let plan = sent.original.plan();
        if plan.repeats == Repeats::AtOnce {
            let (one, other) = tokio::try_join!(self.attempt(sent), self.attempt(sent))?;
            sent.attempts.extend([one, other]);
            if !sent.accepted().is_empty() {
                return Ok(());
            }
        }
        loop {
            let attempt = self.attempt(sent).await?;
            let (is_accepted, insists) = match &attempt.heard {
                Heard::Accepted(_) => (true, false),
                Heard::Refused(_) => (false, plan.insists_when_refused),
                Heard::Nothing(_) => (false, plan.insists_when_unanswered),
                Heard::Nonsense(_) => (false, false),
            };
            sent.attempts.push(attempt);
            if is_accepted && plan.repeats == Repeats::Afterwards {
                let attempt = self.attempt(sent).await?;
                sent.attempts.push(attempt);
            }
            if !insists {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Sends one more event to one replica, again and again, until that one accepts it; tells how long that took, or
    /// nothing when it took longer than the bound.
    pub(crate) async fn until_accepted_by(
        &self,
        replica: usize,
        bound: Duration,
    ) -> Result<Option<Duration>> {
        let original = Original(self.next.fetch_add(1, Ordering::Relaxed));
        let endpoint = usize::try_from(original.0)? % self.endpoints.len();
        let mut sent = Sent { original, endpoint, attempts: Vec::new(), despaired: false };
        let started = Instant::now();
        let took = loop {
            let attempt = self.attempt_at(replica, &sent).await?;
            let is_accepted = matches!(attempt.heard, Heard::Accepted(_));
            sent.attempts.push(attempt);
            let took = started.elapsed();
            if is_accepted || took > bound {
                break Some(took).filter(|took| *took <= bound);
            }
            tokio::time::sleep(PAUSE).await;
        };
        lock(&self.sent).push(sent);
        Ok(took)
    }

    async fn attempt(&self, sent: &Sent) -> Result<Attempt> {
        self.attempt_at(self.choose(), sent).await
    }

    async fn attempt_at(&self, replica: usize, sent: &Sent) -> Result<Attempt> {
        let Replica { base_url, avoided_until } = &self.replicas[replica];
        let (at, started) = (producer::now(), Instant::now());
        let endpoint = &self.endpoints[sent.endpoint];
        let heard = producer::post(&self.client, base_url, endpoint, sent.original).await?;
        if matches!(heard, Heard::Nothing(_)) {
            *lock(avoided_until) = Instant::now() + AVOIDED;
        }
        Ok(Attempt { at, took: started.elapsed(), replica, heard })
    }

    /// The next one in turn that is not avoided; when all are, the next one in turn.
    fn choose(&self) -> usize {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let order = (0..self.replicas.len()).map(|step| (turn + step) % self.replicas.len());
        let now = Instant::now();
        let mut welcome = order.filter(|replica| *lock(&self.replicas[*replica].avoided_until) <= now);
        welcome.next().unwrap_or(turn % self.replicas.len())
    }
}
