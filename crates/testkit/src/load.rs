//! A producer of load: signed webhooks over HTTP/1.1 with keep-alive, by closed or open loop. It shares the machine
//! with what it measures, so it is cheap: requests are prepared and signed beforehand, one thread sends them all.
//!
//! - closed loop: every connection sends its next request when the last one is answered; finds out how much goes
//! - open loop: requests have their times, kept by a clock that knows nothing of answers. Latency counts from the time
//!   at which a request was due, so that a stall shows in all requests that it held up, and not only in the one that
//!   was in the air (the "coordinated omission" of closed loops).

mod connection;
mod pace;
mod requests;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use tokio::{runtime, task::JoinSet};
use uuid::Uuid;

pub use requests::Requests;

use connection::{Answer, Connection};
use pace::Turns;

/// Latencies are told apart up to a minute, in microseconds, with three digits.
const LONGEST_MICROS: u64 = 60_000_000;
const DIGITS: u8 = 3;
/// A request that isn't answered by then is given up, its connection too.
const ANSWER_BOUND: Duration = Duration::from_secs(30);

/// What to send, to whom, and how fast.
#[derive(Clone, Debug)]
pub struct Load {
    pub address: SocketAddr,
    pub requests: Arc<Requests>,
    pub connections: usize,
    pub pace: Pace,
    pub duration: Duration,
}

/// When the next request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// When the connection is free.
    Closed,
    /// The same, until so many were sent, however long it takes.
    Count(u64),
    /// So many a second over all connections, whatever the answers do.
    Open { per_second: u32 },
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The ids of the events that were acknowledged with `202`.
    pub acknowledged: Vec<Uuid>,
    /// Since when the latency of each of them counts, in the same order.
    pub since: Vec<Instant>,
    /// Their latencies in microseconds: from sending (closed) or from the time they were due (open) to the last byte
    /// of the answer.
    pub latency: Histogram<u64>,
    /// Answers by status, `202` too.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests whose connection broke, or that were not answered within 30 s.
    pub broken: u64,
    /// Requests of an open loop that were due but never sent, since no connection was free in time.
    pub unsent: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
}

impl Outcome {
    fn new() -> Result<Self> {
        Ok(Self {
            acknowledged: Vec::new(),
            since: Vec::new(),
            latency: Histogram::new_with_bounds(1, LONGEST_MICROS, DIGITS)?,
            statuses: BTreeMap::new(),
            broken: 0,
            unsent: 0,
            elapsed: Duration::ZERO,
        })
    }

    /// Acknowledged events a second.
    pub fn per_second(&self) -> f64 {
        let events = u32::try_from(self.acknowledged.len()).unwrap_or(u32::MAX);
        f64::from(events) / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// The latency that this share (0 to 1) of the acknowledged requests stayed within.
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_quantile(share))
    }

    fn record(&mut self, since: Instant, answer: Answer) {
        *self.statuses.entry(answer.status).or_default() += 1;
        if let Some(id) = answer.event_id {
            let micros = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.latency.saturating_record(micros.max(1));
            self.acknowledged.push(id);
            self.since.push(since);
        }
    }
}

/// Sends it all from one thread of its own and tells what came of it.
pub async fn run(load: Load) -> Result<Outcome> {
    let sending = tokio::task::spawn_blocking(move || {
        runtime::Builder::new_current_thread().enable_all().build()?.block_on(send(load))
    });
    sending.await.context("the sending thread panicked")?
}

async fn send(load: Load) -> Result<Outcome> {
    let mut connections = Vec::with_capacity(load.connections);
    for _ in 0..load.connections {
        connections.push(Connection::open(load.address).await?);
    }
    let outcome = Arc::new(Mutex::new(Outcome::new()?));
    let started = Instant::now();
    let turns = Turns::start(load.pace, started, load.duration);
    let mut tasks = JoinSet::new();
    for connection in connections {
        let requests = Arc::clone(&load.requests);
        tasks.spawn(serve(connection, requests, turns.clone(), Arc::clone(&outcome)));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a connection's task panicked")??;
    }
    let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner).clone();
    outcome.elapsed = started.elapsed();
    outcome.unsent = turns.unsent();
    Ok(outcome)
}

/// One connection: a request when it is its turn, then the answer.
async fn serve(
    mut connection: Connection,
    requests: Arc<Requests>,
    turns: Turns,
    outcome: Arc<Mutex<Outcome>>,
) -> Result<()> {
    let mut request = Vec::new();
    while let Some(since) = turns.next().await {
        requests.write(&mut request);
        let exchange = tokio::time::timeout(ANSWER_BOUND, connection.exchange(&request)).await;
        let answer = exchange.map_err(anyhow::Error::from).flatten();
        let reusable = answer.as_ref().is_ok_and(|answer| answer.keeps_alive);
        {
            let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                Ok(answer) => outcome.record(since, answer),
                Err(_broken) => outcome.broken += 1,
            }
        }
        if !reusable {
            connection = connection.again().await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
