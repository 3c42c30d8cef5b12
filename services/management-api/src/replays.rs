//! Works on bulk replays, and makes those that a recovery asks for. Every replica does: whoever locks a destination of a
//! job does its next step, and a process that dies leaves it to the others.

use std::convert::Infallible;
use std::time::Duration;

use ravenpost_chassis::{Context, clock, random};
use ravenpost_core::ids::ReplayJobId;
use ravenpost_store::{Result, System};
use tracing::{info, warn};

use crate::metrics::Metrics;

/// How soon to look again when nothing was to be done.
const IDLE: Duration = Duration::from_millis(250);
/// How soon after a store failed.
const AWAY: Duration = Duration::from_secs(1);
/// Longer than any step takes; a Postgres that has vanished never answers.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);
/// How often recoveries are looked for.
const RECOVERIES: Duration = Duration::from_secs(2);

/// Does steps until the process stops. One that is cut off is rolled back.
pub async fn work(system: System, metrics: Metrics, ctx: Context) -> anyhow::Result<()> {
    let stopping = ctx.stopping.clone();
    match stopping.run_until_cancelled(steps(&system, &metrics)).await {
        Some(never) => match never {},
        None => Ok(()),
    }
}

async fn steps(system: &System, metrics: &Metrics) -> Infallible {
    loop {
        match tokio::time::timeout(STEP_TIMEOUT, step(system, metrics)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => tokio::time::sleep(IDLE).await,
            Ok(Err(error)) => {
                metrics.replay_failures.inc();
                warn!(error = &error as &dyn std::error::Error, "a replay can't go on now");
                tokio::time::sleep(AWAY).await;
            }
            Err(_) => warn!("a step of a replay had no answer from Postgres and is made again"),
        }
    }
}

/// `false`: nothing is to be done now.
async fn step(system: &System, metrics: &Metrics) -> Result<bool> {
    let Some(step) = system.replay_step(clock::now()).await? else {
        // Also what a process that died after its last step has left.
        system.finish_replay_jobs(clock::now()).await?;
        return Ok(false);
    };
    metrics.replayed.with_label_values(&["scheduled"]).inc_by(step.scheduled);
    metrics.replayed.with_label_values(&["skipped"]).inc_by(step.skipped);
    metrics.replayed.with_label_values(&["withdrawn"]).inc_by(step.withdrawn);
    if step.ended {
        let (replay_id, destination_id) = (step.job_id, step.destination_id);
        info!(%replay_id, %destination_id, "a replay is through with a destination");
    }
    Ok(true)
}

/// Looks for destinations that have recovered, until the process stops.
pub async fn recover(system: System, metrics: Metrics, ctx: Context) -> anyhow::Result<()> {
    let stopping = ctx.stopping.clone();
    match stopping.run_until_cancelled(recoveries(&system, &metrics)).await {
        Some(never) => match never {},
        None => Ok(()),
    }
}

async fn recoveries(system: &System, metrics: &Metrics) -> Infallible {
    loop {
        match tokio::time::timeout(STEP_TIMEOUT, recovery(system, metrics)).await {
            Ok(Ok(true)) => continue,
            Ok(Ok(false)) => {}
            Ok(Err(error)) => {
                warn!(error = &error as &dyn std::error::Error, "recoveries can't be looked for now");
            }
            Err(_) => warn!("the look for recoveries had no answer from Postgres"),
        }
        tokio::time::sleep(RECOVERIES).await;
    }
}

/// `false`: none is left.
async fn recovery(system: &System, metrics: &Metrics) -> Result<bool> {
    let now = clock::now();
    let Some(recovered) = system.replay_recovered(ReplayJobId::new(now, random::bytes()), now).await? else {
        return Ok(false);
    };
    if let Some(replay_id) = recovered.job_id {
        metrics.automatic_replays.inc();
        let destination_id = recovered.destination_id;
        info!(%destination_id, %replay_id, "a destination has recovered: its dead letters are replayed");
    }
    Ok(true)
}
