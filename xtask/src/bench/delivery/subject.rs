//! A running ingress and worker, endpoints, and the receiver that everything is delivered to.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use ravenpost_core::ids::{EndpointId, Slot};
use ravenpost_testkit::{
    api::Api,
    kafka,
    load::{self, Load, Outcome, Requests},
    receiver::{Answer, Receiver},
    stack::Stack,
    stored,
    system::{Service, System},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Manner,
    arrivals::{Arrival, Arrivals},
};
use crate::bench::{
    ingest::cases::Environment,
    measure::{Figures, Meter, Run, count, millis, quantile},
};

/// How often it is looked whether everything has arrived, and whether it is recorded.
const LOOK: Duration = Duration::from_millis(50);
const LOOK_RECORDED: Duration = Duration::from_millis(250);
/// When nothing has changed for so long, nothing will. What was in the air when it broke off comes again after two minutes.
const STANDS: Duration = Duration::from_secs(180);

/// An endpoint, as its producer and its destination know it.
#[derive(Clone, Debug)]
pub(crate) struct Hook {
    pub(crate) id: Uuid,
    pub(crate) url: String,
    pub(crate) secret: String,
    /// Its path at the receiver.
    pub(crate) path: String,
}

impl Hook {
    /// Of which partition its events are.
    pub(crate) fn partition(&self) -> i32 {
        Slot::of(EndpointId(self.id)).partition(kafka::PARTITIONS)
    }
}

/// How an arriving request is answered: by its event and how often that has arrived; 200 or the path's script if not at
/// all.
pub(crate) type Decide = fn(Uuid, u32) -> Option<Answer>;

pub(crate) struct Subject {
    pub(crate) system: System,
    pub(crate) receiver: Receiver,
    pub(crate) arrivals: Arc<Arrivals>,
    /// Acknowledged events that never came.
    pub(crate) missing: Vec<Uuid>,
    /// Events that were acknowledged in runs that were measured.
    pub(crate) acknowledged: usize,
    /// Requests beyond the first of their event.
    pub(crate) repeated: u64,
}

impl Subject {
    pub(crate) async fn start(stack: &Stack, set: &Environment, decide: Decide) -> Result<Self> {
        let mut builder = System::builder().stores(stack.addresses()).replicas(Service::Notifier, 0);
        for (name, value) in set {
            builder = builder.setting(name, value);
        }
        let system = builder.start().await?;
        let arrivals = Arc::new(Arrivals::default());
        let observed = Arc::clone(&arrivals);
        let receiver = Receiver::start_forgetful(move |received| {
            observed.observe(received).and_then(|(id, times)| decide(id, times))
        })
        .await?;
        Ok(Self { system, receiver, arrivals, missing: Vec::new(), acknowledged: 0, repeated: 0 })
    }

    /// An endpoint of the first organization that delivers to a path of the receiver.
    pub(crate) async fn hook(&self, path: &str, fields: Value) -> Result<Hook> {
        self.hook_of(&self.system.api, path, fields).await
    }

    /// The same of any organization.
    pub(crate) async fn hook_of(&self, api: &Api, path: &str, fields: Value) -> Result<Hook> {
        let mut body = json!({
            "name": path,
            "target_url": self.receiver.url(path),
            "verification": { "type": "provider", "provider": "github" },
        });
        for (name, value) in fields.as_object().context("fields")? {
            body[name] = value.clone();
        }
        let created = api.post("/api/v1/endpoints", &body).await?;
        let text = |field: &str| {
            created[field].as_str().map(str::to_owned).with_context(|| format!("an endpoint without {field}"))
        };
        let (id, path) = (text("id")?.parse()?, path.to_owned());
        Ok(Hook { id, url: text("hook_url")?, secret: text("secret")?, path })
    }

    /// Ends the management API: it has done its part, and what it costs is not delivery's.
    pub(crate) fn without_management(&mut self) {
        self.system.management.clear();
    }

    pub(crate) fn load(&self, requests: &Arc<Requests>, manner: Manner) -> Load {
        let Manner { connections, pace, duration } = manner;
        let address = SocketAddr::from(([127, 0, 0, 1], self.system.ingress[0].port()));
        Load { address, requests: Arc::clone(requests), connections, pace, duration }
    }

    /// Sends, waits until everything has arrived and is recorded, and tells what it cost.
    pub(crate) async fn measured(&mut self, stack: &mut Stack, load: Load) -> Result<Run> {
        let meter = Meter::start(&mut self.system, stack).await?;
        let outcome = load::run(load).await?;
        self.until_arrived(&outcome.acknowledged).await;
        self.until_recorded(&outcome.acknowledged).await?;
        let mut run = meter.stop(&mut self.system, &outcome).await?;
        run.figures.extend(self.arrived(&outcome));
        self.close_run();
        Ok(run)
    }

    /// Sends, and waits until everything has arrived; nothing of it counts but that.
    pub(crate) async fn warm_up(&mut self, load: Load) -> Result<()> {
        let outcome = load::run(load).await?;
        self.until_arrived(&outcome.acknowledged).await;
        self.until_recorded(&outcome.acknowledged).await?;
        self.close_run();
        Ok(())
    }

    /// Waits until all of these have arrived; when nothing new has come for long, the others are missing.
    pub(crate) async fn until_arrived(&mut self, acknowledged: &[Uuid]) {
        self.acknowledged += acknowledged.len();
        let (mut arrived, mut since) = (0, Instant::now());
        loop {
            let now = self.arrivals.count();
            if now > arrived {
                (arrived, since) = (now, Instant::now());
            }
            // To look for each costs something: not before so many have come.
            let stands = since.elapsed() > STANDS;
            if stands || arrived >= acknowledged.len() {
                let missing = self.arrivals.missing(acknowledged);
                if missing.is_empty() || stands {
                    return self.missing.extend(missing);
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until all that was accepted since the first of these is recorded as delivered.
    pub(crate) async fn until_recorded(&self, acknowledged: &[Uuid]) -> Result<()> {
        let Some(first) = acknowledged.iter().min() else { return Ok(()) };
        let (mut least, mut since) = (i64::MAX, Instant::now());
        loop {
            let left = stored::undelivered(&self.system, *first).await?;
            if left == 0 {
                return Ok(());
            }
            if left < least {
                (least, since) = (left, Instant::now());
            }
            anyhow::ensure!(since.elapsed() < STANDS, "{left} events do not become SUCCESS");
            tokio::time::sleep(LOOK_RECORDED).await;
        }
    }

    /// Forgets a run's arrivals; repeated ones are counted.
    pub(crate) fn close_run(&mut self) {
        self.repeated += self.arrivals.repeated();
        self.arrivals.forget();
    }

    /// How fast everything arrived, and each event after it was sent (or due).
    fn arrived(&self, outcome: &Outcome) -> Figures {
        let first = |id: &Uuid| self.arrivals.of(*id).map(|arrival| arrival.first);
        let (started, last) =
            (outcome.since.iter().min(), outcome.acknowledged.iter().filter_map(first).max());
        let lasted = started.zip(last).map(|(started, last)| last - *started).unwrap_or_default();
        let seconds = lasted.as_secs_f64().max(f64::MIN_POSITIVE);
        let mut figures = latencies("received", &took(outcome, |id| self.arrivals.of(id)));
        figures.insert("received_per_second".to_owned(), count(outcome.acknowledged.len()) / seconds);
        figures
    }
}

/// From sending (or being due) to arriving, in sorted milliseconds, of those events that `find` finds.
pub(crate) fn took(outcome: &Outcome, find: impl Fn(Uuid) -> Option<Arrival>) -> Vec<f64> {
    let sent = outcome.acknowledged.iter().zip(&outcome.since);
    let took = sent.filter_map(|(id, since)| Some(find(*id)?.first.saturating_duration_since(*since)));
    let mut took: Vec<f64> = took.map(millis).collect();
    took.sort_by(f64::total_cmp);
    took
}

/// The figures of sorted milliseconds.
pub(crate) fn latencies(name: &str, sorted: &[f64]) -> Figures {
    let figures = [("p50", 500), ("p99", 990), ("max", 1_000)];
    figures
        .into_iter()
        .map(|(suffix, thousandths)| (format!("{name}_{suffix}_ms"), quantile(sorted, thousandths)))
        .collect()
}

/// Requests to one endpoint, or to many in this order.
pub(crate) fn requests<'hook>(
    hooks: impl IntoIterator<Item = &'hook Hook>,
    body_bytes: usize,
) -> Result<Arc<Requests>> {
    let hooks = hooks.into_iter().map(|hook| (hook.url.as_str(), hook.secret.as_str()));
    Requests::github_to(hooks, body_bytes).map(Arc::new)
}
