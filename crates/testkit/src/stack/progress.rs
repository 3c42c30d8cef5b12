//! Telling a person what is being done, how far it is and how long it took.

#![expect(
    clippy::print_stderr,
    reason = "this is what a person at the terminal reads while the stack starts"
)]

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::time::Instant;

/// A step that takes longer than this says that it is still at work.
const STILL_AT_WORK: Duration = Duration::from_secs(10);

/// A counted list of steps, printed to standard error as they end. Clones count together.
#[derive(Clone, Debug)]
pub struct Progress {
    printed: bool,
    done: Arc<AtomicUsize>,
    total: Arc<AtomicUsize>,
}

impl Progress {
    /// For tests: errors alone are told.
    pub fn silent() -> Self {
        Self { printed: false, done: Arc::default(), total: Arc::default() }
    }

    /// For a person; `total` is how many steps are known beforehand. Steps found later add to it.
    pub fn printed(total: usize) -> Self {
        Self { printed: true, done: Arc::default(), total: Arc::new(AtomicUsize::new(total)) }
    }

    /// Adds steps that were not known beforehand, for example a download.
    pub fn add(&self, steps: usize) {
        self.total.fetch_add(steps, Ordering::Relaxed);
    }

    /// Runs one step and tells how long it took.
    pub async fn step<T>(&self, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let started = Instant::now();
        let mut work = std::pin::pin!(work);
        let result = loop {
            tokio::select! {
                result = &mut work => break result,
                () = tokio::time::sleep(STILL_AT_WORK) => self.line(what, "still at work", started),
            }
        };
        if result.is_ok() {
            self.done.fetch_add(1, Ordering::Relaxed);
            self.line(what, "done", started);
        }
        result.with_context(|| what.to_owned())
    }

    fn line(&self, what: &str, state: &str, started: Instant) {
        if self.printed {
            let done = self.done.load(Ordering::Relaxed);
            let total = self.total.load(Ordering::Relaxed).max(done);
            let seconds = started.elapsed().as_secs_f32();
            eprintln!("[{done:>2}/{total}] {what:<44} {state} ({seconds:.1} s)");
        }
    }
}
