//! Reads the outcomes of attempts, each partition in its order, and keeps how destinations fare.
//!
//! Whoever gets a partition reads the longest window again: what was decided by it before is known from Postgres, by the
//! offset up to which each destination was observed, so that nothing is forgotten and nothing is decided twice.

pub mod ward;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures::FutureExt;
use ravenpost_bus::consumer::Liveness;
use ravenpost_bus::message::{Report, Undecodable};
use ravenpost_bus::{Change, Consumer, Error, Partition};
use ravenpost_chassis::{Context, clock};
use ravenpost_core::ids::OrganizationId;
use ravenpost_store::System;
use ravenpost_store::system::Turn;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::metrics::NotifierMetrics;
use crate::rules::{OfOrganization, Rules};
use ward::Ward;

/// Reports that are observed in one transaction.
const BATCH: usize = 512;
/// How long to wait before a store is asked again.
const AGAIN: Duration = Duration::from_millis(500);
/// How often is judged what time alone changes.
const TICK: Duration = Duration::from_secs(15);

/// A message and where it stood.
type Taken = (i64, Result<Report, Undecodable>);

struct Observer {
    system: System,
    rules: Arc<Rules>,
    metrics: NotifierMetrics,
    liveness: Arc<Liveness>,
}

/// A partition while it is owned.
struct Post {
    partition: Partition,
    ward: Ward,
    /// Messages before this offset were handled by somebody before.
    resume: i64,
    /// All of those were read again, as far as they still exist.
    caught_up: bool,
}

/// Observes until the process stops.
pub async fn run(
    ctx: Context,
    mut consumer: Consumer,
    system: System,
    rules: Arc<Rules>,
    metrics: NotifierMetrics,
) -> anyhow::Result<()> {
    let observer = Arc::new(Observer { system, rules, metrics, liveness: consumer.liveness() });
    let observers = TaskTracker::new();
    let mut stops: HashMap<i32, CancellationToken> = HashMap::new();
    while let Some(change) = ctx.stopping.run_until_cancelled(consumer.next_change()).await {
        match change {
            Change::Assigned(partition) => {
                let stop = ctx.stopping.child_token();
                stops.insert(partition.id, stop.clone());
                let observer = Arc::clone(&observer);
                observers
                    .spawn(stop.run_until_cancelled_owned(async move { observer.watch(partition).await }));
            }
            Change::Revoked(partition, _) => {
                if let Some(stop) = stops.remove(&partition) {
                    stop.cancel();
                }
            }
        }
    }
    observers.close();
    observers.wait().await;
    Ok(())
}

impl Observer {
    async fn watch(&self, partition: Partition) {
        let (ward, resume) = loop {
            match self.begin(&partition).await {
                Ok(begun) => break begun,
                Err(cause) => warn!(error = %format!("{cause:#}"), "a partition can't be observed yet"),
            }
            tokio::time::sleep(AGAIN).await;
        };
        let mut post = Post { partition, ward, resume, caught_up: false };
        let mut next_tick = Instant::now() + TICK;
        let mut heard = false;
        loop {
            match tokio::time::timeout_at(next_tick, next_batch(&post.partition)).await {
                Ok(Ok(batch)) => {
                    heard = true;
                    self.take(&mut post, batch).await;
                }
                Ok(Err(cause)) => {
                    warn!(error = &cause as &dyn std::error::Error, "a partition can't be read");
                    tokio::time::sleep(AGAIN).await;
                }
                Err(_) => {}
            }
            // Asked after each batch: messages that never cease must not keep time from being looked at.
            if Instant::now() >= next_tick {
                // What was to be read again may be gone from Kafka.
                post.caught_up |= !std::mem::take(&mut heard);
                if post.caught_up && self.liveness.is_live() {
                    self.tick(&mut post).await;
                }
                next_tick = Instant::now() + TICK;
            }
        }
    }

    /// What is known of the partition's destinations, and where those before have stopped.
    async fn begin(&self, partition: &Partition) -> anyhow::Result<(Ward, i64)> {
        // A topic that was made anew starts at offset 0 again: what was seen of the old one must not hide it.
        let end = partition.log_end().await?;
        self.system.forget_observed_beyond(partition.id, end).await?;
        let window = self.rules.longest_window().await? + Duration::from_mins(1);
        let since = clock::now() - TimeDelta::from_std(window)?;
        let again = partition.go_back_to(since).await?;
        let open = self.system.open_alerts(partition.id).await?;
        let ward = Ward::new(partition.id, self.system.observed(partition.id).await?, open);
        let read_again = again.as_ref().map_or(0, |again| again.end - again.start);
        info!(partition = partition.id, read_again, destinations = ward.destinations(), "partition observed");
        Ok((ward, again.map_or(0, |again| again.end)))
    }

    async fn take(&self, post: &mut Post, batch: Vec<Taken>) {
        let Some(last) = batch.last().map(|(offset, _)| *offset) else { return };
        let reports = self.reports(post, batch);
        let organizations = reports.iter().map(|(_, report)| organization(report)).collect();
        let rules = self.rules_of(&organizations).await;
        let step = post.ward.take(&reports, &rules);
        if !step.observed.is_empty() {
            let came = loop {
                match self.system.observe(&step.observed, &step.turns).await {
                    Ok(came) => break came,
                    Err(cause) => {
                        error!(error = &cause as &dyn std::error::Error, "outcomes can't be observed yet");
                    }
                }
                tokio::time::sleep(AGAIN).await;
            };
            self.settle(post, &step.turns, &came);
        }
        post.caught_up |= last + 1 >= post.resume;
        if last >= post.resume
            && let Err(cause) = post.partition.store_offset(last)
        {
            // Revoked meanwhile: what was observed is not observed again, wherever the next one starts.
            warn!(error = &cause as &dyn std::error::Error, "an offset can't be stored");
        }
    }

    async fn tick(&self, post: &mut Post) {
        let organizations = post.ward.organizations().collect();
        let rules = self.rules_of(&organizations).await;
        let turns = post.ward.tick(&rules, clock::now());
        if turns.is_empty() {
            return;
        }
        match self.system.turn(&turns).await {
            Ok(came) => self.settle(post, &turns, &came),
            Err(cause) => {
                error!(error = &cause as &dyn std::error::Error, "alerts can't be written yet");
                post.ward.unsay(&turns);
            }
        }
    }

    fn settle(&self, post: &mut Post, turns: &[Turn], came: &[bool]) {
        post.ward.settle(turns, came, clock::now());
        count(&self.metrics, turns, came);
    }

    async fn rules_of(
        &self,
        organizations: &HashSet<OrganizationId>,
    ) -> HashMap<OrganizationId, OfOrganization> {
        loop {
            match self.rules.of(organizations).await {
                Ok(rules) => return rules,
                Err(cause) => {
                    error!(error = &cause as &dyn std::error::Error, "rules of alerts can't be read yet");
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn reports(&self, post: &Post, batch: Vec<Taken>) -> Vec<(i64, Report)> {
        let mut reports = Vec::with_capacity(batch.len());
        let (mut skipped, mut first) = (0_u64, None);
        for (offset, read) in batch {
            let new = offset >= post.resume;
            match read {
                Ok(report) => reports.push((offset, report)),
                Err(cause) if new => {
                    skipped += 1;
                    first.get_or_insert((offset, cause));
                }
                Err(_) => {}
            }
            self.metrics.observed.inc_by(u64::from(new));
        }
        if let Some((offset, cause)) = first {
            // One line, however many they are.
            let (partition, error) = (post.partition.id, &cause as &dyn std::error::Error);
            error!(partition, offset, skipped, error, "messages are no reports and are skipped");
            self.metrics.undecodable.inc_by(skipped);
        }
        reports
    }
}

/// Counts and logs what has come about.
pub fn count(metrics: &NotifierMetrics, turns: &[Turn], came: &[bool]) {
    for (turn, _) in turns.iter().zip(came).filter(|(_, came)| **came) {
        let change = if turn.fires.is_some() { "opened" } else { "resolved" };
        metrics.alerts.with_label_values(&[change]).inc();
        let (rule, subject) = (turn.rule, turn.subject);
        let endpoint_id = subject.endpoint_id.map(|id| id.to_string());
        let destination_id = subject.destination_id.map(|id| id.to_string());
        info!(%rule, endpoint_id, destination_id, change, "an alert is {change}");
    }
}

fn organization(report: &Report) -> OrganizationId {
    match report {
        Report::Attempt(report) => report.organization_id,
        Report::Destination(report) => report.organization_id,
    }
}

/// What is there, at least one message. Safe to drop while it waits.
async fn next_batch(partition: &Partition) -> Result<Vec<Taken>, Error> {
    let mut batch = vec![partition.recv_report().await?];
    while batch.len() < BATCH {
        match partition.recv_report().now_or_never() {
            Some(Ok(taken)) => batch.push(taken),
            Some(Err(_)) | None => break,
        }
    }
    Ok(batch)
}
