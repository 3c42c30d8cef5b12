//! What is remembered of keys and memberships, and how long: until it changes, as the database tells, and only as long as
//! it can be heard. What is revoked is so everywhere within a second.
//!
//! The connection that listens is asked several times a second whether it lives. While it does, what is remembered is
//! believed for [`FRESH`]; from half a second after the last answer, only for [`UNHEARD`].

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use ravenpost_store::system::AccessChange;
use tokio_util::sync::CancellationToken;

use super::Auth;

/// How long anything is believed while changes are heard of: the slow poll behind them.
const FRESH: Duration = Duration::from_secs(15);
/// How long, while they are not. With [`HEARD`] it makes up the second.
const UNHEARD: Duration = Duration::from_millis(400);
/// How long the last sign of life counts.
const HEARD: Duration = Duration::from_millis(500);
/// How soon after a failure to listen again.
const RESPITE: Duration = Duration::from_millis(200);
/// How many are remembered of each kind; guesses push others out, and can't fill the memory.
const MOST: u64 = 10_000;

/// What has been heard.
#[derive(Default)]
pub(super) struct News {
    /// Rises with every change.
    changes: AtomicU64,
    /// Rises with every change that may concern anything.
    upheavals: AtomicU64,
    /// The last sign of life.
    heard: Mutex<Option<Instant>>,
}

impl News {
    fn hears(&self, now: Instant) -> bool {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.is_some_and(|heard| now.saturating_duration_since(heard) < HEARD)
    }

    fn hear(&self, at: Option<Instant>) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    fn upheaval(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.upheavals.fetch_add(1, Ordering::SeqCst);
    }
}

/// Values that are read from the database and remembered until they change.
pub(super) struct Remembered<K, V> {
    news: Arc<News>,
    entries: Cache<K, Entry<V>>,
}

#[derive(Clone)]
struct Entry<V> {
    value: V,
    /// Before it was read.
    at: Instant,
    upheavals: u64,
}

impl<K, V> Remembered<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new(news: Arc<News>) -> Self {
        Self { news, entries: Cache::builder().max_capacity(MOST).time_to_live(FRESH).build() }
    }

    /// What is remembered under the key, or what `read` gives.
    pub(super) async fn get<E>(&self, key: &K, read: impl Future<Output = Result<V, E>>) -> Result<V, E> {
        let now = Instant::now();
        if let Some(entry) = self.entries.get(key).filter(|entry| self.is_fresh(entry, now)) {
            return Ok(entry.value);
        }
        self.renew(key, read).await
    }

    /// What `read` gives, whatever is remembered.
    pub(super) async fn renew<E>(&self, key: &K, read: impl Future<Output = Result<V, E>>) -> Result<V, E> {
        let at = Instant::now();
        let upheavals = self.news.upheavals.load(Ordering::SeqCst);
        let changes = self.news.changes.load(Ordering::SeqCst);
        let value = read.await?;
        self.entries.insert(key.clone(), Entry { value: value.clone(), at, upheavals });
        // What changed while it was read may have been this, before or after it was read.
        if self.news.changes.load(Ordering::SeqCst) != changes {
            self.entries.invalidate(key);
        }
        Ok(value)
    }

    /// It may have changed.
    pub(super) fn forget(&self, key: &K) {
        self.news.changes.fetch_add(1, Ordering::SeqCst);
        self.entries.invalidate(key);
    }

    fn is_fresh(&self, entry: &Entry<V>, now: Instant) -> bool {
        let believed = if self.news.hears(now) { FRESH } else { UNHEARD };
        entry.upheavals == self.news.upheavals.load(Ordering::SeqCst)
            && now.saturating_duration_since(entry.at) < believed
    }
}

/// Listens for changes until the process stops.
pub(super) async fn follow(auth: Auth, stopping: CancellationToken) -> anyhow::Result<()> {
    let mut changes = auth.store.system().access_changes();
    while let Some(next) = stopping.run_until_cancelled(changes.next()).await {
        match next {
            Ok(change) => {
                forget(&auth, change);
                auth.news.hear(Some(Instant::now()));
            }
            Err(error) => {
                auth.news.hear(None);
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "changes of access are not heard of"
                );
                let _ = stopping.run_until_cancelled(tokio::time::sleep(RESPITE)).await;
            }
        }
    }
    Ok(())
}

fn forget(auth: &Auth, change: AccessChange) {
    match change {
        AccessChange::ApiKey(prefix) => auth.keys.forget(&prefix),
        AccessChange::User(user) => auth.people.forget(user),
        AccessChange::Everything => auth.news.upheaval(),
        AccessChange::Nothing => {}
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    async fn read(remembered: &Remembered<u8, u32>, value: u32) -> u32 {
        remembered.get(&1, async { Ok::<_, Infallible>(value) }).await.unwrap()
    }

    #[tokio::test]
    async fn what_is_remembered_is_believed_until_it_changes() {
        let news = Arc::new(News::default());
        let remembered = Remembered::new(Arc::clone(&news));
        news.hear(Some(Instant::now() + Duration::from_secs(60)));
        assert_eq!(read(&remembered, 1).await, 1);
        assert_eq!(read(&remembered, 2).await, 1);
        remembered.forget(&1);
        assert_eq!(read(&remembered, 3).await, 3);
        news.upheaval();
        assert_eq!(read(&remembered, 4).await, 4);
    }

    #[tokio::test]
    async fn what_changes_while_it_is_read_is_not_remembered() {
        let news = Arc::new(News::default());
        let remembered = Remembered::new(Arc::clone(&news));
        news.hear(Some(Instant::now() + Duration::from_secs(60)));
        let reading = async {
            remembered.forget(&1);
            Ok::<_, Infallible>(1)
        };
        assert_eq!(remembered.get(&1, reading).await.unwrap(), 1);
        assert_eq!(read(&remembered, 2).await, 2);
    }

    #[test]
    fn unheard_it_is_believed_for_less_than_the_rest_of_a_second() {
        let news = Arc::new(News::default());
        let remembered = Remembered::<u8, u32>::new(Arc::clone(&news));
        let at = Instant::now();
        let entry = Entry { value: 1, at, upheavals: 0 };
        let fresh = |after: u64| remembered.is_fresh(&entry, at + Duration::from_millis(after));
        assert!(fresh(399) && !fresh(400));
        news.hear(Some(at));
        assert!(fresh(499) && !fresh(500), "the last sign of life is too old");
        news.hear(Some(at + Duration::from_secs(14)));
        assert!(fresh(14_400) && !fresh(15_000));
        assert!(HEARD + UNHEARD < Duration::from_secs(1));
    }
}
