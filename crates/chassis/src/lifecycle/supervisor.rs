//! Watches the tasks of a process and takes it down in two stages.

use std::time::Duration;

use tokio::sync::mpsc;

use super::Context;
use super::context::{End, Ended};
use crate::metrics::Metrics;

/// The name of the task that is the service's `run`.
const RUN: &str = "run";
/// How long tasks have to be dropped after the cut.
const AFTER_CUT: Duration = Duration::from_secs(1);

/// How the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As asked, with everything finished.
    Clean,
    /// A task failed, ended too early, or had to be cut off.
    Failed,
    /// A second signal ended it at once.
    Aborted,
}

/// Watches the tasks of one process.
pub(crate) struct Supervisor {
    ctx: Context,
    ended: mpsc::UnboundedReceiver<Ended>,
    delay: Duration,
    grace: Duration,
}

/// Why the process stops.
enum Cause {
    Asked,
    Failure,
}

impl Supervisor {
    pub(crate) fn new(metrics: Metrics, delay: Duration, grace: Duration) -> Self {
        let (ctx, ended) = Context::new(metrics);
        Self { ctx, ended, delay, grace }
    }

    pub(crate) fn context(&self) -> Context {
        self.ctx.clone()
    }

    /// Runs the service until it has ended. Each signal arrives through `signals`.
    pub(crate) async fn supervise<F>(mut self, run: F, mut signals: mpsc::Receiver<&'static str>) -> Outcome
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.ctx.spawn(RUN, run);
        let cause = self.until_stop(&mut signals).await;
        self.ctx.health.stop();
        if matches!(cause, Cause::Asked) && !self.delay.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(self.delay) => {}
                Some(signal) = signals.recv() => return aborted(signal),
            }
        }
        self.ctx.stopping.cancel();
        self.ctx.tasks.close();
        let drained = tokio::select! {
            clean = drain(&self.ctx, &mut self.ended) => Some(clean),
            () = tokio::time::sleep(self.grace) => None,
            Some(signal) = signals.recv() => return aborted(signal),
        };
        match (drained, cause) {
            (Some(true), Cause::Asked) => Outcome::Clean,
            (Some(_), _) => Outcome::Failed,
            (None, _) => self.cut().await,
        }
    }

    async fn until_stop(&mut self, signals: &mut mpsc::Receiver<&'static str>) -> Cause {
        loop {
            tokio::select! {
                Some(signal) = signals.recv() => {
                    tracing::info!(signal, "asked to stop");
                    return Cause::Asked;
                }
                Some(Ended { name, end }) = self.ended.recv() => match end {
                    // `run` may have set everything up and left the rest to its tasks.
                    End::Done if name == RUN && !self.ctx.running.names().is_empty() => {}
                    End::Done => {
                        tracing::error!(task = name, "task {name} ended by itself: going down");
                        return Cause::Failure;
                    }
                    end => {
                        tell(name, &end);
                        return Cause::Failure;
                    }
                },
            }
        }
    }

    async fn cut(mut self) -> Outcome {
        let unfinished = self.ctx.running.names().join(", ");
        tracing::error!(tasks = unfinished, "grace is over: cutting off {unfinished}");
        self.ctx.cut.cancel();
        // Only code that never yields outlasts this; the runtime's end takes it down.
        let _ = tokio::time::timeout(AFTER_CUT, drain(&self.ctx, &mut self.ended)).await;
        Outcome::Failed
    }
}

/// Waits for all tasks; whether all of them ended well.
async fn drain(ctx: &Context, ended: &mut mpsc::UnboundedReceiver<Ended>) -> bool {
    let mut clean = true;
    ctx.tasks.wait().await;
    while let Ok(Ended { name, end }) = ended.try_recv() {
        clean &= matches!(end, End::Done);
        tell(name, &end);
    }
    clean
}

fn tell(name: &'static str, end: &End) {
    match end {
        End::Done | End::Cut => {}
        End::Failed(error) => {
            tracing::error!(task = name, error = %format!("{error:#}"), "task {name} failed");
        }
        End::Panicked(message) => tracing::error!(task = name, error = message, "task {name} panicked"),
    }
}

fn aborted(signal: &'static str) -> Outcome {
    tracing::error!(signal, "asked to stop a second time: aborting");
    Outcome::Aborted
}
