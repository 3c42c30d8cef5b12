//! `cargo xtask bench rejected`: what a flood of requests that fail verification costs the producer next to it.
//!
//! One producer sends to its endpoint at a fixed rate, alone and beside a flood at another endpoint of the same ingress,
//! and the flood comes alone, in turns. Nothing is judged but that the flood is refused and that what the good one was
//! acknowledged is stored; the figures are for people to read.

mod report;

use std::{collections::BTreeMap, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use ravenpost_testkit::{
    load::{self, Load, Outcome, Requests},
    stack::Stack,
    stored,
    system::{Service, System},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    ground::{self, Ground},
    ingest::cases::{self, OpenLoop},
    machine,
    measure::{Meter, Run},
};
use report::Results;

/// By then every idle session of Postgres has told how many transactions it has ended (`PGSTAT_IDLE_INTERVAL`, 10 s).
const COUNTED: Duration = Duration::from_secs(11);
const WARM_UP: Duration = Duration::from_secs(3);
/// How long a run may wait for a quiet machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How long each run lasts
    #[arg(long, default_value = "10", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How often it is run alone, and beside the flood
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// The good producer: requests a second x connections
    #[arg(long, default_value = "100x16", value_parser = cases::open_loop)]
    good: OpenLoop,
    /// The flood: requests a second x connections
    #[arg(long, default_value = "2000x64", value_parser = cases::open_loop)]
    flood: OpenLoop,
    /// The size of all bodies in bytes
    #[arg(long, default_value = "1024")]
    body: usize,
    /// A run waits, for a minute at most, until everything on the machine takes no more than so many cores
    #[arg(long, value_name = "CORES")]
    quiet: Option<f64>,
}

/// What is sent in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Traffic {
    Good,
    GoodBesideFlood,
    Flood,
}

impl Traffic {
    const ALL: [Self; 3] = [Self::Good, Self::GoodBesideFlood, Self::Flood];

    fn name(self) -> &'static str {
        match self {
            Self::Good => "the good one alone",
            Self::GoodBesideFlood => "beside the flood",
            Self::Flood => "the flood alone",
        }
    }
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    #[serde(flatten)]
    run: Run,
    acknowledged: usize,
    /// Transactions that ended in Postgres meanwhile, those of an idle ingress during the pause after it included.
    transactions: i64,
    /// How the flood was answered, by status, and how many of its requests were not.
    flood: BTreeMap<u16, u64>,
    flood_unanswered: u64,
}

/// A running ingress with two endpoints, and what is sent to them.
struct Subject {
    system: System,
    good: Arc<Requests>,
    flood: Arc<Requests>,
    acknowledged: Vec<uuid::Uuid>,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    ground::interruptible(measure(arguments)).await
}

async fn measure(arguments: &Arguments) -> Result<ExitCode> {
    let mut ground = Ground::start(3).await?;
    let (stack, progress) = (&mut ground.stack, &ground.progress);
    let mut subject = progress.step("ingress", Subject::start(stack, arguments.body)).await?;
    let mut results = Results::new(arguments, machine::describe().await?);
    progress.step("measuring", turns(arguments, &mut subject, stack, &mut results)).await?;
    let check = stored::check(&subject.system, &subject.acknowledged, subject.good.hashes());
    let stored = progress.step("looking for what was acknowledged", check).await?;
    drop(subject);
    ground.end()?;
    results.print();
    ground::write("rejected", &results)?;
    ensure!(stored.is_complete(), "events that were acknowledged are not stored: {:?}", stored.missing);
    ensure!(results.flood_was_refused(), "the flood was answered with something else than 401 or 503");
    Ok(ExitCode::SUCCESS)
}

async fn turns(
    arguments: &Arguments,
    subject: &mut Subject,
    stack: &mut Stack,
    results: &mut Results,
) -> Result<()> {
    let warm_up = subject.load(&subject.good, arguments.good, WARM_UP);
    subject.acknowledged.extend(load::run(warm_up).await?.acknowledged);
    tokio::time::sleep(COUNTED).await;
    let before = subject.system.database.transactions().await?;
    tokio::time::sleep(Duration::from_secs(arguments.seconds) + COUNTED).await;
    results.idle_transactions = subject.system.database.transactions().await? - before;
    for round in 1..=arguments.runs {
        for traffic in Traffic::ALL {
            if let Some(most) = arguments.quiet {
                machine::wait_for_quiet(most, std::time::Instant::now() + PATIENCE).await?;
            }
            let measured = measure_one(arguments, subject, stack, traffic).await?;
            eprintln!("  {round}/{} {:<18} {}", arguments.runs, traffic.name(), measured.run.brief());
            results.add(traffic, measured);
        }
    }
    Ok(())
}

async fn measure_one(
    arguments: &Arguments,
    subject: &mut Subject,
    stack: &mut Stack,
    traffic: Traffic,
) -> Result<Measured> {
    let duration = Duration::from_secs(arguments.seconds);
    let good = subject.load(&subject.good, arguments.good, duration);
    let flood = subject.load(&subject.flood, arguments.flood, duration);
    let before = subject.system.database.transactions().await?;
    let meter = Meter::start(&mut subject.system, stack).await?;
    let (good, flood): (Option<Outcome>, Option<Outcome>) = tokio::try_join!(
        send((traffic != Traffic::Flood).then_some(good)),
        send((traffic != Traffic::Good).then_some(flood)),
    )?;
    let outcome = good.as_ref().or(flood.as_ref()).context("something was sent")?;
    let run = meter.stop(&mut subject.system, outcome).await?;
    tokio::time::sleep(COUNTED).await;
    let transactions = subject.system.database.transactions().await? - before;
    let acknowledged = good.map(|good| good.acknowledged).unwrap_or_default();
    subject.acknowledged.extend(&acknowledged);
    let flood_unanswered = flood.as_ref().map_or(0, |flood| flood.broken + flood.unsent);
    let flood = flood.map(|flood| flood.statuses).unwrap_or_default();
    Ok(Measured { run, acknowledged: acknowledged.len(), transactions, flood, flood_unanswered })
}

/// Sends a load, if there is one.
pub(super) async fn send(load: Option<Load>) -> Result<Option<Outcome>> {
    match load {
        Some(load) => load::run(load).await.map(Some),
        None => Ok(None),
    }
}

impl Subject {
    async fn start(stack: &Stack, body_bytes: usize) -> Result<Self> {
        let builder = System::builder().stores(stack.addresses());
        let builder = builder.replicas(Service::DeliveryWorker, 0).replicas(Service::Notifier, 0);
        let mut system = builder.start().await?;
        let (good, flooded) = (endpoint(&system, "Good").await?, endpoint(&system, "Flooded").await?);
        // It has done its part; what it costs is not ingress's.
        system.management.clear();
        let requests = |endpoint: &Value, secret: &str| {
            let hook_url = endpoint["hook_url"].as_str().context("an endpoint without hook_url")?;
            Requests::github(hook_url, secret, body_bytes).map(Arc::new)
        };
        let secret = good["secret"].as_str().context("an endpoint without secret")?;
        let (good, flood) = (requests(&good, secret)?, requests(&flooded, "a secret that nobody has")?);
        Ok(Self { system, good, flood, acknowledged: Vec::new() })
    }

    fn load(&self, requests: &Arc<Requests>, open: OpenLoop, duration: Duration) -> Load {
        let address = ([127, 0, 0, 1], self.system.ingress[0].port()).into();
        let requests = Arc::clone(requests);
        Load { address, requests, connections: open.connections, pace: open.pace(), duration }
    }
}

async fn endpoint(system: &System, name: &str) -> Result<Value> {
    let verification = json!({ "type": "provider", "provider": "github" });
    system.create_endpoint(name, "http://127.0.0.1:9/", verification).await
}
