//! Reads the outcomes of attempts, each partition in its order, and keeps how destinations fare.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use ravenpost_bus::message::{Report, Undecodable};
use ravenpost_bus::{Change, Consumer, Error, Partition};
use ravenpost_chassis::{Context, clock, random};
use ravenpost_core::ids::AlertId;
use ravenpost_store::System;
use ravenpost_store::system::{Health, Observation};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::metrics::NotifierMetrics;

/// Reports that are observed in one transaction.
const BATCH: usize = 256;
/// How long to wait before a store is asked again.
const AGAIN: Duration = Duration::from_millis(500);

/// A message and where it stood.
type Taken = (i64, Result<Report, Undecodable>);

struct Observer {
    system: System,
    threshold: i32,
    metrics: NotifierMetrics,
}

/// Observes until the process stops.
pub async fn run(
    ctx: Context,
    mut consumer: Consumer,
    system: System,
    threshold: i32,
    metrics: NotifierMetrics,
) -> anyhow::Result<()> {
    let observer = Arc::new(Observer { system, threshold, metrics });
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
        while let Err(cause) = self.forget_beyond(&partition).await {
            warn!(error = %format!("{cause:#}"), "a partition can't be observed yet");
            tokio::time::sleep(AGAIN).await;
        }
        loop {
            let batch = match next_batch(&partition).await {
                Ok(batch) => batch,
                Err(cause) => {
                    warn!(error = &cause as &dyn std::error::Error, "a partition can't be read");
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            };
            let last = batch.last().map(|(offset, _)| *offset);
            self.observe(partition.id, batch).await;
            if let Some(Err(cause)) = last.map(|offset| partition.store_offset(offset)) {
                // Revoked meanwhile: what was observed is not observed again, wherever the next one starts.
                warn!(error = &cause as &dyn std::error::Error, "an offset can't be stored");
            }
        }
    }

    /// A topic that was made anew starts at offset 0 again: what was seen of the old one must not hide it.
    async fn forget_beyond(&self, partition: &Partition) -> anyhow::Result<()> {
        let end = partition.log_end().await?;
        Ok(self.system.forget_observed_beyond(partition.id, end).await?)
    }

    async fn observe(&self, partition: i32, batch: Vec<Taken>) {
        let observations: Vec<Observation> =
            batch.into_iter().filter_map(|taken| self.observation(partition, taken)).collect();
        self.metrics.observed.inc_by(u64::try_from(observations.len()).unwrap_or(u64::MAX));
        loop {
            match self.system.observe(&observations, self.threshold).await {
                Ok(healths) => return self.tell(&observations, &healths),
                Err(cause) => {
                    error!(error = &cause as &dyn std::error::Error, "outcomes can't be observed yet");
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn observation(&self, partition: i32, (offset, report): Taken) -> Option<Observation> {
        let report = match report {
            Ok(Report::Attempt(report)) => report,
            // Its attempts tell how it fares; nobody is told of the rest yet.
            Ok(Report::Destination(_)) => return None,
            Err(cause) => {
                error!(
                    partition,
                    offset,
                    error = &cause as &dyn std::error::Error,
                    "a message is no report and is skipped"
                );
                self.metrics.undecodable.inc();
                return None;
            }
        };
        Some(Observation {
            organization_id: report.organization_id,
            endpoint_id: report.endpoint_id,
            destination_id: report.key.destination_id,
            success: report.outcome.is_success(),
            error: report.error_message,
            partition,
            offset,
            alert_id: AlertId::new(clock::now(), random::bytes()),
        })
    }

    fn tell(&self, observations: &[Observation], healths: &[Health]) {
        for (observation, health) in observations.iter().zip(healths) {
            let destination_id = observation.destination_id;
            if health.opened {
                self.metrics.alerts.with_label_values(&["opened"]).inc();
                info!(%destination_id, failures = health.failures_in_a_row, "an alert opens: a destination keeps failing");
            }
            if health.resolved {
                self.metrics.alerts.with_label_values(&["resolved"]).inc();
                info!(%destination_id, "an alert is resolved: the destination accepts again");
            }
        }
    }
}

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
