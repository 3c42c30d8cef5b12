use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use super::{Context, Outcome, Supervisor};
use crate::metrics::Metrics;

const GRACE: Duration = Duration::from_millis(500);

struct Process {
    ctx: Context,
    signals: mpsc::Sender<&'static str>,
    outcome: tokio::task::JoinHandle<Outcome>,
}

fn start<F>(delay: Duration, run: impl FnOnce(Context) -> F) -> Process
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let supervisor = Supervisor::new(Metrics::default(), delay, GRACE);
    let (signals, receiver) = mpsc::channel(2);
    let ctx = supervisor.context();
    let run = run(ctx.clone());
    Process { ctx, signals, outcome: tokio::spawn(supervisor.supervise(run, receiver)) }
}

async fn until(condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waited).await.expect("the condition comes true");
}

async fn until_stopping(ctx: Context) -> anyhow::Result<()> {
    ctx.stopping.cancelled().await;
    Ok(())
}

#[tokio::test]
async fn a_signal_ends_it_cleanly_and_work_in_flight_is_finished() {
    let finished = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&finished);
    let process = start(Duration::ZERO, |ctx| async move {
        ctx.stopping.cancelled().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        flag.store(true, Ordering::SeqCst);
        Ok(())
    });
    process.signals.send("SIGTERM").await.unwrap();
    assert_eq!(process.outcome.await.unwrap(), Outcome::Clean);
    assert!(finished.load(Ordering::SeqCst));
}

#[tokio::test]
async fn readiness_ends_before_work_does() {
    let process = start(Duration::from_millis(200), until_stopping);
    process.signals.send("SIGTERM").await.unwrap();
    until(|| !process.ctx.health.is_ready()).await;
    assert!(!process.ctx.stopping.is_cancelled());
    assert_eq!(process.outcome.await.unwrap(), Outcome::Clean);
}

#[tokio::test]
async fn run_may_leave_the_work_to_its_tasks() {
    let begun = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&begun);
    let process = start(Duration::ZERO, |ctx| async move {
        let task = ctx.clone();
        ctx.spawn("consumer", async move {
            flag.store(true, Ordering::SeqCst);
            until_stopping(task).await
        });
        Ok(())
    });
    until(|| begun.load(Ordering::SeqCst)).await;
    assert!(!process.outcome.is_finished());
    process.signals.send("SIGINT").await.unwrap();
    assert_eq!(process.outcome.await.unwrap(), Outcome::Clean);
}

#[tokio::test]
async fn what_fails_for_good_takes_the_process_down_but_not_a_stop() {
    let process = start(Duration::ZERO, |ctx| async move {
        ctx.fail_when("producer", async { anyhow::anyhow!("fenced") });
        until_stopping(ctx).await
    });
    assert_eq!(process.outcome.await.unwrap(), Outcome::Failed);
    let process = start(Duration::ZERO, |ctx| async move {
        ctx.fail_when("producer", std::future::pending::<anyhow::Error>());
        until_stopping(ctx).await
    });
    process.signals.send("SIGTERM").await.unwrap();
    assert_eq!(process.outcome.await.unwrap(), Outcome::Clean);
}

#[tokio::test]
async fn a_task_that_ends_takes_the_process_down() {
    let nothing_left = start(Duration::ZERO, |_| async { Ok(()) });
    assert_eq!(nothing_left.outcome.await.unwrap(), Outcome::Failed);

    let failed = start(Duration::ZERO, |_| async { anyhow::bail!("the schema is too old") });
    assert_eq!(failed.outcome.await.unwrap(), Outcome::Failed);

    let ended = start(Duration::ZERO, |ctx| {
        ctx.spawn("committer", async { Ok(()) });
        until_stopping(ctx)
    });
    assert_eq!(ended.outcome.await.unwrap(), Outcome::Failed);

    let panicked = start(Duration::ZERO, |ctx| {
        ctx.spawn("committer", async { panic!("a bug") });
        until_stopping(ctx)
    });
    assert_eq!(panicked.outcome.await.unwrap(), Outcome::Failed);
}

#[tokio::test]
async fn an_error_while_stopping_is_a_failure() {
    let process = start(Duration::ZERO, |ctx| async move {
        ctx.stopping.cancelled().await;
        anyhow::bail!("the last batch is lost")
    });
    process.signals.send("SIGTERM").await.unwrap();
    assert_eq!(process.outcome.await.unwrap(), Outcome::Failed);
}

#[tokio::test]
async fn the_deadline_cuts_what_does_not_finish() {
    let process = start(Duration::ZERO, |_| std::future::pending());
    process.signals.send("SIGTERM").await.unwrap();
    let started = std::time::Instant::now();
    assert_eq!(process.outcome.await.unwrap(), Outcome::Failed);
    assert!(started.elapsed() >= GRACE);
    assert!(process.ctx.cut.is_cancelled());
}

#[tokio::test]
async fn a_second_signal_aborts_at_once() {
    let process = start(Duration::ZERO, |_| std::future::pending());
    let started = std::time::Instant::now();
    process.signals.send("SIGTERM").await.unwrap();
    process.signals.send("SIGINT").await.unwrap();
    assert_eq!(process.outcome.await.unwrap(), Outcome::Aborted);
    assert!(started.elapsed() < GRACE);
}

#[tokio::test]
async fn a_probe_keeps_its_check() {
    let ctx = Context::detached();
    let up = Arc::new(AtomicBool::new(false));
    let probed = Arc::clone(&up);
    let every = Duration::from_millis(10);
    let check = ctx.probe("postgres", every, Duration::from_secs(1), move || {
        let up = Arc::clone(&probed);
        async move { if up.load(Ordering::SeqCst) { Ok(()) } else { Err("connection refused") } }
    });
    until(|| ctx.health.report().checks["postgres"].error.as_deref() == Some("connection refused")).await;
    up.store(true, Ordering::SeqCst);
    until(|| check.is_ok()).await;

    ctx.probe("s3", every, Duration::from_millis(30), std::future::pending::<Result<(), String>>);
    until(|| ctx.health.report().checks["s3"].error.as_deref() == Some("no answer within 30ms")).await;
}
