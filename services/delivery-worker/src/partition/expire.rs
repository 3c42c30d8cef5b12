//! What has waited for longer than its event is kept is given up without having been sent (PROTOCOLS D2).
//!
//! A page of it is read like what is due, one at a time, and the next one only when most of the last one is recorded: it
//! is told of before, so that it must not pile up.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use ravenpost_store::system::{Due, Expiring, Place};
use tracing::warn;

use super::due::job;
use super::owner::Owner;
use super::{Pair, Report};
use crate::send;

/// How often it is looked.
const EVERY: TimeDelta = TimeDelta::seconds(10);
/// How soon again while there is more.
const MORE: TimeDelta = TimeDelta::milliseconds(100);
/// Rows of a page, those of other partitions included.
const PAGE: i64 = 200;
/// With so many attempts unrecorded nothing is given up.
const BUSY: usize = 100;

/// How far it was looked.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    next_at: DateTime<Utc>,
    after: Option<Place>,
    /// An answer is awaited.
    asking: bool,
    /// What has ended since it was asked: what is read of it may be older than its end.
    ended: HashSet<Pair>,
}

impl Expiry {
    /// A delivery is over.
    pub(super) fn end(&mut self, pair: Pair) {
        if self.asking {
            self.ended.insert(pair);
        }
    }
}

impl Owner {
    /// Asks what is to be given up, unless an answer is still awaited.
    pub(super) fn poll_expiring(&mut self, now: DateTime<Utc>) {
        let is_busy = self.unrecorded() >= BUSY || !self.shared.liveness.is_live();
        if self.expiry.asking || now < self.expiry.next_at || is_busy || self.is_stopped() {
            return;
        }
        self.expiry.asking = true;
        let (system, reports) = (self.shared.system.clone(), self.reports.clone());
        let (after, partitions, mine) = (self.expiry.after, self.shared.partitions, [self.partition]);
        tokio::spawn(async move {
            let expiring = system.expiring(after, PAGE, partitions, &mine).await;
            let told = |error: &ravenpost_store::Error| {
                warn!(error = error as &dyn std::error::Error, "it can't be asked what has expired");
            };
            let _ = reports.send(Report::Expiring(expiring.inspect_err(told).ok()));
        });
    }

    /// A page was read.
    pub(super) fn take_expiring(&mut self, page: Option<Expiring>, now: DateTime<Utc>) {
        self.expiry.asking = false;
        let ended = std::mem::take(&mut self.expiry.ended);
        let page = page.unwrap_or_default();
        self.expiry.after = page.after;
        self.expiry.next_at = now + if page.after.is_some() { MORE } else { EVERY };
        if self.is_stopped() || !self.shared.liveness.is_live() {
            return;
        }
        for row in page.rows {
            if !ended.contains(&(row.event_id, row.destination_id)) {
                self.expire(row, now);
            }
        }
    }

    /// Gives up a row of the schedule, whatever it waits for. What is under way just now is left to its end; if that is
    /// another wait, it is found once more.
    fn expire(&mut self, row: Due, now: DateTime<Utc>) {
        let pair = (row.event_id, row.destination_id);
        if self.deliveries.contains_key(&pair) {
            return;
        }
        let version = row.version;
        let job = job(row);
        let (attempt, letter) = send::expired(&job, now);
        self.add(pair, job, None, version, None);
        self.record.attempts.push(attempt);
        self.messages.push(letter);
        self.shared.metrics.expired();
    }
}
