//! What a service gets from its process.

use std::any::Any;
use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::health::{Check, Health};
use crate::metrics::Metrics;

/// What a service gets from its process. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Context {
    /// Cancelled at stage one: take nothing new, finish what was taken.
    pub stopping: CancellationToken,
    /// Cancelled at the deadline: what is not finished is dropped.
    pub cut: CancellationToken,
    /// Whether the process may be given work.
    pub health: Health,
    /// What the process counts.
    pub metrics: Metrics,
    pub(super) tasks: TaskTracker,
    pub(super) running: Running,
    pub(super) ended: mpsc::UnboundedSender<Ended>,
}

/// How a task ended.
#[derive(Debug)]
pub(super) enum End {
    Done,
    Failed(anyhow::Error),
    Panicked(String),
    Cut,
}

/// Which task ended, and how.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) name: &'static str,
    pub(super) end: End,
}

/// The names of the tasks that have not ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Running(Arc<Mutex<Vec<&'static str>>>);

/// The check that says whether the service has started.
pub(crate) const STARTED: &str = "started";

impl Context {
    pub(super) fn new(metrics: Metrics) -> (Self, mpsc::UnboundedReceiver<Ended>) {
        let (ended, reports) = mpsc::unbounded_channel();
        let context = Self {
            stopping: CancellationToken::new(),
            cut: CancellationToken::new(),
            health: Health::default(),
            metrics,
            tasks: TaskTracker::new(),
            running: Running::default(),
            ended,
        };
        (context, reports)
    }

    /// A context that no process stands behind, for tests: tasks run, and nobody minds when they end.
    pub fn detached() -> Self {
        Self::new(Metrics::default()).0
    }

    /// Starts a task that the process can't do without.
    ///
    /// When it ends or panics before stage one, the process goes down as a failure that names it. From stage one on it
    /// is waited for; an error is then still a failure. At the cut it is dropped wherever it stands.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.running.add(name);
        let (cut, running, ended) = (self.cut.clone(), self.running.clone(), self.ended.clone());
        self.tasks.spawn(async move {
            let end = tokio::select! {
                end = outcome(task) => end,
                () = cut.cancelled() => End::Cut,
            };
            running.remove(name);
            // Without a supervisor there is nobody to tell.
            let _ = ended.send(Ended { name, end });
        });
    }

    /// Takes the process down as a failure when `end` comes before stage one: something has failed for good, and only a
    /// new process can do better.
    pub fn fail_when<F, E>(&self, name: &'static str, end: F)
    where
        F: Future<Output = E> + Send + 'static,
        E: Into<anyhow::Error>,
    {
        let stopping = self.stopping.clone();
        self.spawn(name, async move {
            match stopping.run_until_cancelled_owned(end).await {
                Some(failure) => Err(failure.into()),
                None => Ok(()),
            }
        });
    }

    /// The service does what it is for: it listens, or has joined its group. Until then the process is not ready.
    /// [`crate::http::serve`] says it for a service that listens.
    pub fn started(&self) {
        self.health.register(STARTED).ok();
    }

    /// Checks something every so often in the background and keeps the check of that name, so that `/readyz` never
    /// waits. The first probe starts at once; one that takes longer than `timeout` fails.
    pub fn probe<P, F, E>(&self, name: &'static str, every: Duration, timeout: Duration, probe: P) -> Check
    where
        P: Fn() -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send,
        E: Display + Send,
    {
        let check = self.health.register(name);
        let (kept, cut) = (check.clone(), self.cut.clone());
        // Not a critical task: it has no work to finish, and readiness no longer matters once the process stops.
        tokio::spawn(cut.run_until_cancelled_owned(async move {
            loop {
                match tokio::time::timeout(timeout, probe()).await {
                    Ok(Ok(())) => kept.ok(),
                    Ok(Err(error)) => kept.fail(error.to_string()),
                    Err(_) => {
                        kept.fail(format!("no answer within {}", ravenpost_core::duration::format(timeout)));
                    }
                }
                tokio::time::sleep(every).await;
            }
        }));
        check
    }
}

async fn outcome<F: Future<Output = anyhow::Result<()>>>(task: F) -> End {
    match AssertUnwindSafe(task).catch_unwind().await {
        Ok(Ok(())) => End::Done,
        Ok(Err(error)) => End::Failed(error),
        Err(panic) => End::Panicked(panic_message(&*panic)),
    }
}

pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "of unknown type".to_owned())
}

impl Running {
    fn add(&self, name: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(name);
    }

    fn remove(&self, name: &'static str) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(position) = names.iter().position(|running| *running == name) {
            names.swap_remove(position);
        }
    }

    pub(super) fn names(&self) -> Vec<&'static str> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
