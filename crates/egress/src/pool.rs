//! Connections that wait for their next request: bounded in number, idle time and age.
//!
//! A connection is not used for longer than a minute, so that a destination whose name leads elsewhere now is found there
//! soon, and no vetted address is held on to.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;
use url::Host;

use crate::connection::{Connection, Http2};
use crate::target::Target;
use crate::tls::{Fingerprint, TlsProfile};

/// How long a connection waits for its next request: little enough that many servers don't close it first.
const IDLE_FOR: Duration = Duration::from_secs(30);
/// How old a connection gets.
const LIFETIME: Duration = Duration::from_secs(60);
/// Connections to one destination that wait.
const IDLE_PER_TARGET: usize = 64;
/// How often those are closed that nobody asked for again.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// What makes two requests able to share a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    https: bool,
    host: Host,
    port: u16,
    profile: Option<Fingerprint>,
}

impl Key {
    pub(crate) fn new(target: &Target, profile: Option<&TlsProfile>) -> Self {
        let profile = profile.filter(|_| target.https).map(|profile| profile.fingerprint);
        Self { https: target.https, host: target.host.clone(), port: target.port, profile }
    }
}

/// The connections that wait. Clones are the same pool.
#[derive(Clone)]
pub(crate) struct Pool {
    waiting: Arc<Mutex<Waiting>>,
    limit: usize,
}

#[derive(Default)]
struct Waiting {
    /// By the order in which they came.
    connections: BTreeMap<u64, Idle>,
    /// Which of them lead where, oldest first.
    by_key: HashMap<Arc<Key>, VecDeque<u64>>,
    next: u64,
    swept: bool,
}

struct Idle {
    key: Arc<Key>,
    connection: Connection,
    since: Instant,
}

impl Pool {
    pub(crate) fn new(limit: usize) -> Self {
        Self { waiting: Arc::default(), limit }
    }

    /// A connection that was used last, if one is there and still open. One of HTTP/2 stays here for others.
    pub(crate) fn take(&self, key: &Key) -> Option<Connection> {
        locked(&self.waiting).take(key, Instant::now())
    }

    /// Keeps a connection for the next request. The one that has waited longest makes room.
    pub(crate) fn put(&self, key: Key, connection: Connection) {
        if self.limit == 0 {
            return;
        }
        let mut waiting = locked(&self.waiting);
        waiting.put(key, connection, self.limit, Instant::now());
        if !std::mem::replace(&mut waiting.swept, true) {
            tokio::spawn(sweep(Arc::downgrade(&self.waiting)));
        }
    }
}

fn locked(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sweeps as long as anything waits and the pool is there.
async fn sweep(pool: Weak<Mutex<Waiting>>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let Some(waiting) = pool.upgrade() else { return };
        let mut waiting = locked(&waiting);
        waiting.sweep(Instant::now());
        if waiting.connections.is_empty() {
            waiting.swept = false;
            return;
        }
    }
}

impl Waiting {
    fn take(&mut self, key: &Key, now: Instant) -> Option<Connection> {
        let mut shared = Vec::new();
        let found = loop {
            let Some(idle) = self.pop(key) else { break None };
            if idle.is_over_age(now) {
                continue;
            }
            match idle.connection {
                Connection::Http1(mut connection) => {
                    if connection.is_usable() {
                        break Some(Connection::Http1(connection));
                    }
                }
                Connection::Http2(connection) => {
                    if !connection.is_over() {
                        shared.push(connection.clone());
                    }
                    // Otherwise it has as many requests as the destination takes at once.
                    if connection.is_usable() {
                        break Some(Connection::Http2(connection));
                    }
                }
            }
        };
        for connection in shared {
            self.push(Arc::new(key.clone()), Connection::Http2(connection), now);
        }
        found
    }

    fn put(&mut self, key: Key, connection: Connection, limit: usize, now: Instant) {
        if let Connection::Http2(connection) = &connection
            && self.makes_needless(&key, connection, now)
        {
            return;
        }
        if let Some(ids) = self.by_key.get(&key)
            && ids.len() >= IDLE_PER_TARGET
            && let Some(oldest) = ids.front().copied()
        {
            self.remove(oldest);
        }
        self.push(Arc::new(key), connection, now);
        while self.connections.len() > limit
            && let Some(oldest) = self.connections.keys().next().copied()
        {
            self.remove(oldest);
        }
    }

    fn push(&mut self, key: Arc<Key>, connection: Connection, now: Instant) {
        let id = self.next;
        self.next += 1;
        self.by_key.entry(Arc::clone(&key)).or_default().push_back(id);
        self.connections.insert(id, Idle { key, connection, since: now });
    }

    /// The one that came last: the others may go idle.
    fn pop(&mut self, key: &Key) -> Option<Idle> {
        let ids = self.by_key.get_mut(key)?;
        let id = ids.pop_back();
        if ids.is_empty() {
            self.by_key.remove(key);
        }
        self.connections.remove(&id?)
    }

    fn remove(&mut self, id: u64) {
        let Some(idle) = self.connections.remove(&id) else { return };
        if let Some(ids) = self.by_key.get_mut(&idle.key) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_key.remove(&idle.key);
            }
        }
    }

    /// Whether a connection of HTTP/2 is here already (it is back from an exchange, and never left), or another that
    /// serves as well (many were opened at once).
    fn makes_needless(&self, key: &Key, connection: &Http2, now: Instant) -> bool {
        let ids = self.by_key.get(key).into_iter().flatten();
        ids.filter_map(|id| self.connections.get(id)).any(|idle| match &idle.connection {
            Connection::Http2(other) => {
                other.is_same(connection) || (other.is_usable() && !idle.is_over_age(now))
            }
            Connection::Http1(_) => false,
        })
    }

    /// Closes what has waited too long, is too old, or was closed by the other side.
    fn sweep(&mut self, now: Instant) {
        let is_over = |idle: &mut Idle| {
            let closed = match &mut idle.connection {
                Connection::Http1(connection) => !connection.is_usable(),
                Connection::Http2(connection) => connection.is_over(),
            };
            closed || idle.is_over_age(now) || now.duration_since(idle.since) >= IDLE_FOR
        };
        let over = self.connections.iter_mut().filter_map(|(id, idle)| is_over(idle).then_some(*id));
        for id in over.collect::<Vec<_>>() {
            self.remove(id);
        }
    }
}

impl Idle {
    fn is_over_age(&self, now: Instant) -> bool {
        now.duration_since(self.connection.origin().opened) >= LIFETIME
    }
}

#[cfg(test)]
mod tests;
