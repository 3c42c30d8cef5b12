//! Asks a destination's filter whether it wants an event, in time and without holding anybody else up.
//!
//! What is light is asked on the spot. The rest (loops, regular expressions, large bodies) has threads of its own, at
//! most half as many as the machine has cores, and each destination at most one of them: an expression that is slow
//! makes its own destination slow, and takes its turn with those of others. An event whose turn does not come is delivered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use moka::sync::Cache;
use nix::time::{ClockId, clock_gettime};
use ravenpost_bus::message::EventMessage;
use ravenpost_core::filter::{Compiled, Facts, Failed, Filter, STACK};
use ravenpost_core::headers;
use ravenpost_core::ids::DestinationId;
use ravenpost_store::System;
use ravenpost_store::system::FilterError;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Mutex as Turn, Semaphore};
use tracing::{error, warn};

use crate::metrics::WorkerMetrics;

/// The time that an evaluation has, of its thread's own: waiting for a busy machine does not count.
const BUDGET: Duration = Duration::from_millis(100);
/// How long an evaluation waits for a thread at most.
const PATIENCE: Duration = Duration::from_secs(10);
/// Filters remembered at once.
const REMEMBERED: u64 = 20_000;
/// How often a destination's owner is told of failures at most; between them they are only counted.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// What a filter says of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opinion {
    /// It is wanted. Or perhaps not: the reason why the filter could not decide.
    Wanted(Option<String>),
    /// It is not.
    Unwanted,
}

/// All filters. Each is compiled once, and again when it is changed.
pub struct Filters {
    system: System,
    metrics: WorkerMetrics,
    known: Cache<DestinationId, Arc<Known>>,
    threads: Threads,
    turns: Arc<Semaphore>,
}

/// A destination's filter.
pub struct Known {
    filter: Filter,
    /// A filter that was accepted and can't be read any more, wants everything.
    compiled: Result<Compiled, String>,
    /// Held while it is asked what is not light.
    turn: Turn<()>,
    told_at: Mutex<Option<Instant>>,
}

impl Known {
    fn new(filter: &Filter) -> Self {
        let compiled = Compiled::new(filter).map_err(|invalid| invalid.to_string());
        Self { filter: filter.clone(), compiled, turn: Turn::new(()), told_at: Mutex::new(None) }
    }

    /// Whether it can't be asked without the body.
    pub fn reads_body(&self) -> bool {
        self.compiled.as_ref().is_ok_and(Compiled::reads_body)
    }

    /// Whether its owner is to be told of a failure now.
    fn is_time_to_tell(&self) -> bool {
        let mut told_at = self.told_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = told_at.is_none_or(|at| at.elapsed() >= TELL_EVERY);
        if is_time {
            *told_at = Some(Instant::now());
        }
        is_time
    }
}

/// What is asked.
#[derive(Clone)]
pub struct Question {
    /// The event.
    pub event: Arc<EventMessage>,
    /// What its endpoint is called.
    pub endpoint_name: String,
    /// Its body; empty for a filter that does not read it.
    pub body: Bytes,
}

impl Filters {
    /// Filters, and the threads for them.
    pub fn new(system: System, metrics: WorkerMetrics) -> std::io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let most = (cores / 2).max(1);
        Ok(Self {
            system,
            metrics,
            known: Cache::new(REMEMBERED),
            threads: Threads::new(most)?,
            turns: Arc::new(Semaphore::new(most)),
        })
    }

    /// The filter of a destination, compiled.
    pub fn of(&self, destination: DestinationId, filter: &Filter) -> Arc<Known> {
        if let Some(known) = self.known.get(&destination)
            && known.filter == *filter
        {
            return known;
        }
        let known = Arc::new(Known::new(filter));
        self.known.insert(destination, Arc::clone(&known));
        known
    }

    /// Asks the expression. The type was asked for before.
    pub async fn ask(&self, known: &Arc<Known>, destination: DestinationId, question: Question) -> Opinion {
        let event = Arc::clone(&question.event);
        let (failed, counted) = match self.answer(known, question).await {
            Ok(true) => return Opinion::Wanted(None),
            Ok(false) => {
                self.metrics.filtered("expression");
                return Opinion::Unwanted;
            }
            Err(failed) => (failed.to_string(), failed.as_str()),
        };
        self.metrics.filter_failed(counted);
        if known.is_time_to_tell() {
            self.tell(known, destination, &event, &failed).await;
        }
        Opinion::Wanted(Some(failed))
    }

    /// An event's type does not fit.
    pub fn refused_type(&self) {
        self.metrics.filtered("event_type");
    }

    async fn answer(&self, known: &Arc<Known>, question: Question) -> Result<bool, Failed> {
        let compiled = known.compiled.as_ref().map_err(|invalid| Failed::Expression(invalid.clone()))?;
        if compiled.is_light(question.body.len()) {
            return evaluate(compiled, &question);
        }
        let turns = async {
            let own = known.turn.lock().await;
            Ok::<_, Failed>((own, self.turns.acquire().await.map_err(|_| Failed::Panic)?))
        };
        let _turns = in_time(PATIENCE, turns).await?;
        let known = Arc::clone(known);
        let evaluation = move || match &known.compiled {
            Ok(compiled) => evaluate(compiled, &question),
            Err(invalid) => Err(Failed::Expression(invalid.clone())),
        };
        self.threads.run(evaluation).await
    }

    async fn tell(&self, known: &Known, destination: DestinationId, event: &EventMessage, message: &str) {
        let now: DateTime<Utc> = ravenpost_chassis::clock::now();
        warn!(destination_id = %destination, event_id = %event.id, "a filter has failed; the event is delivered");
        let error = FilterError { message: message.to_owned(), event_id: event.id, failed_at: now };
        if let Err(cause) = self.system.report_filter_error(destination, &known.filter, &error).await {
            warn!(error = &cause as &dyn std::error::Error, "the failure of a filter can't be reported");
        }
    }
}

/// A turn, of a destination and of a thread, if it comes in time.
async fn in_time<T>(patience: Duration, turn: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    tokio::time::timeout(patience, turn).await.map_err(|_| Failed::Busy)?
}

fn evaluate(compiled: &Compiled, question: &Question) -> Result<bool, Failed> {
    let event = &question.event;
    let headers = headers::decode(&event.headers).unwrap_or_else(|damaged| {
        error!(error = &damaged as &dyn std::error::Error, "an event is filtered without its headers");
        http::HeaderMap::new()
    });
    let endpoint_id = event.endpoint_id.to_string();
    let facts = Facts {
        event_type: event.event_type.as_deref().unwrap_or_default(),
        headers: &headers,
        body: &question.body,
        endpoint_id: &endpoint_id,
        endpoint_name: &question.endpoint_name,
    };
    let end = used() + BUDGET;
    compiled.ask(&facts, &|| used() > end)
}

/// What this thread has used of a processor so far.
fn used() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Threads with the stack that deep expressions need.
struct Threads(Option<Runtime>);

impl Threads {
    fn new(most: usize) -> std::io::Result<Self> {
        // Only its pool for blocking work is used, and needs nobody who drives it.
        let mut builder = Builder::new_current_thread();
        builder.thread_name("filter").thread_stack_size(STACK).max_blocking_threads(most);
        builder.build().map(|runtime| Self(Some(runtime)))
    }

    async fn run(
        &self,
        evaluation: impl FnOnce() -> Result<bool, Failed> + Send + 'static,
    ) -> Result<bool, Failed> {
        let Some(runtime) = &self.0 else { return Err(Failed::Panic) };
        runtime.spawn_blocking(evaluation).await.unwrap_or(Err(Failed::Panic))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Evaluations end by themselves; dropping a runtime would wait for them, which an async task must not.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_gets_no_turn_in_time_is_told_so() {
        let never = std::future::pending::<Result<(), Failed>>();
        assert_eq!(in_time(Duration::ZERO, never).await, Err(Failed::Busy));
        assert_eq!(in_time(Duration::ZERO, async { Ok(1) }).await, Ok(1));
    }
}
