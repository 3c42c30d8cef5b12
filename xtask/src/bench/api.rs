//! `cargo xtask bench api`: how long mixed reads of the management API take beside ingest.
//!
//! Reads have their times (an open loop), kept by a clock that knows nothing of answers: a latency counts from the time at
//! which its read was due. The events that are read were accepted and delivered by the real services before.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use ravenpost_testkit::{
    api::Api,
    load::{self, Load, Outcome, Pace, Requests},
    receiver::Receiver,
    system::System,
    wait,
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{task::JoinSet, time};

use super::{
    ground::{self, Ground},
    ingest::cases,
};

/// What 99 of 100 reads may take.
const TARGET: Duration = Duration::from_millis(50);
const BODY: usize = 1_024;
const CONNECTIONS: usize = 64;
/// So long it takes until there are events to read.
const FIRST: Duration = Duration::from_secs(5);
/// So long Kafka's compiler takes until it is done with the ways of single messages, on a machine that it shares.
const WARM_UP: u64 = 20;
/// Longer than a backlog of the first events takes.
const BOUND: Duration = Duration::from_mins(5);

#[derive(Clone, clap::Args)]
pub(crate) struct Arguments {
    /// How long it lasts
    #[arg(long, default_value = "30", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Reads a second
    #[arg(long, default_value = "500", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    reads: u32,
    /// Events a second that are accepted and delivered meanwhile
    #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    events: u32,
    /// Variables of the services' environment, such as their settings
    #[arg(long, value_name = "NAME=VALUE;…", value_parser = cases::environment, default_value = "")]
    set: cases::Environment,
}

/// What one kind of read took.
#[derive(Debug, Default, Serialize)]
struct Read {
    count: usize,
    failed: usize,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

#[derive(Debug, Serialize)]
struct Results {
    reads_per_second: u32,
    all: Read,
    by_kind: BTreeMap<&'static str, Read>,
    accepted_per_second: f64,
    accepted_p99_ms: f64,
}

/// What is read, and how long each took; `None` for one that failed.
type Times = BTreeMap<&'static str, Vec<Option<Duration>>>;

struct Subject {
    system: System,
    requests: Arc<Requests>,
    endpoint: Value,
    _receiver: Receiver,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    ground::interruptible(measure(arguments)).await
}

async fn measure(arguments: &Arguments) -> Result<ExitCode> {
    let ground = Ground::start(3).await?;
    let progress = &ground.progress;
    let mut builder = System::builder().stores(ground.stack.addresses());
    for (name, value) in &arguments.set {
        builder = builder.setting(name, value.as_str());
    }
    let starting = builder.start();
    let system = progress.step("services", starting).await?;
    let subject = progress.step("events to read", Subject::new(system, arguments)).await?;
    let warm_up = Arguments { seconds: WARM_UP, ..arguments.clone() };
    progress.step("warming up", read_beside(&subject, &warm_up)).await?;
    let results = progress.step("reading", read_beside(&subject, arguments)).await?;
    drop(subject);
    ground.end()?;
    results.print();
    ground::write("api", &results)?;
    ensure!(results.all.failed == 0, "{} reads failed", results.all.failed);
    let fast = results.all.p99_ms <= TARGET.as_secs_f64() * 1_000.0;
    Ok(if fast { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Subject {
    async fn new(system: System, arguments: &Arguments) -> Result<Self> {
        let receiver = Receiver::start_observed(0, |_| {}).await?;
        let verification = json!({ "type": "provider", "provider": "github" });
        let endpoint = system.create_endpoint("Bench", &receiver.url("/bench"), verification).await?;
        let text = |field: &str| endpoint[field].as_str().with_context(|| format!("no {field}"));
        let requests = Arc::new(Requests::github(text("hook_url")?, text("secret")?, BODY)?);
        let subject = Self { system, requests, endpoint, _receiver: receiver };
        let first = load::run(subject.load(arguments.events, FIRST)?).await?;
        let accepted = i64::try_from(first.acknowledged.len())?;
        let database = &subject.system.database;
        wait::until_true("the first events to be delivered", BOUND, || async {
            Ok(database.number("select count(*) from events where status = 'SUCCESS'").await? >= accepted)
        })
        .await?;
        Ok(subject)
    }

    fn load(&self, per_second: u32, duration: Duration) -> Result<Load> {
        let port = self.system.ingress.first().context("no ingress")?.port();
        Ok(Load {
            address: ([127, 0, 0, 1], port).into(),
            requests: Arc::clone(&self.requests),
            connections: CONNECTIONS,
            pace: Pace::Open { per_second },
            duration,
        })
    }

    /// What a console asks, most often what it asks most.
    async fn paths(&self) -> Result<Vec<(&'static str, String)>> {
        let listed = self.system.api.get("/api/v1/events?limit=50").await?;
        let event = listed["data"][0]["id"].as_str().context("no event")?;
        let endpoint = self.endpoint["id"].as_str().context("no id")?;
        let destination = self.endpoint["destinations"][0]["id"].as_str().context("no destination")?;
        let paths = [
            ("events", "events?limit=50".to_owned()),
            ("an event", format!("events/{event}")),
            ("deliveries", format!("events/{event}/deliveries")),
            ("events of an endpoint", format!("events?endpoint_id={endpoint}&status=SUCCESS&limit=50")),
            ("an endpoint", format!("endpoints/{endpoint}")),
            ("a destination", format!("endpoints/{endpoint}/destinations/{destination}")),
            ("an event", format!("events/{event}")),
            ("analytics", "analytics".to_owned()),
            ("endpoints", "endpoints".to_owned()),
            ("health", format!("endpoints/{endpoint}/health")),
            ("scheduled", "scheduled-deliveries".to_owned()),
            ("dead letters", "dead-letters".to_owned()),
        ];
        Ok(paths.map(|(kind, path)| (kind, format!("/api/v1/{path}"))).into())
    }
}

async fn read_beside(subject: &Subject, arguments: &Arguments) -> Result<Results> {
    let duration = Duration::from_secs(arguments.seconds);
    let paths = subject.paths().await?;
    let ingest = load::run(subject.load(arguments.events, duration)?);
    let reads = read(subject.system.api.clone(), paths, arguments.reads, duration);
    let (accepted, times) = tokio::try_join!(ingest, reads)?;
    Ok(Results::of(arguments.reads, &times, &accepted))
}

/// Reads one after another of `paths`, each at its time.
async fn read(
    api: Api,
    paths: Vec<(&'static str, String)>,
    per_second: u32,
    duration: Duration,
) -> Result<Times> {
    let times = Arc::new(Mutex::new(Times::new()));
    let (started, mut tasks) = (Instant::now(), JoinSet::new());
    let mut due = started;
    for (kind, path) in paths.into_iter().cycle() {
        time::sleep_until(due.into()).await;
        let (api, times, since) = (api.clone(), Arc::clone(&times), due);
        tasks.spawn(async move {
            let answer = api.send(http::Method::GET, &path, None).await;
            let took = answer.is_ok_and(|answer| answer.status == 200).then(|| since.elapsed());
            times.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default().push(took);
        });
        while tasks.try_join_next().is_some() {}
        due += Duration::from_secs(1) / per_second;
        if due >= started + duration {
            break;
        }
    }
    tasks.join_all().await;
    Ok(std::mem::take(&mut *times.lock().unwrap_or_else(PoisonError::into_inner)))
}

impl Read {
    fn of<'a>(times: impl Iterator<Item = &'a Option<Duration>>) -> Self {
        let all: Vec<_> = times.collect();
        let mut took: Vec<Duration> = all.iter().copied().flatten().copied().collect();
        took.sort_unstable();
        let at = |hundredths: usize| {
            let index = (took.len() * hundredths / 100).min(took.len().saturating_sub(1));
            took.get(index).map_or(0.0, Duration::as_secs_f64) * 1_000.0
        };
        Self {
            count: all.len(),
            failed: all.len() - took.len(),
            p50_ms: at(50),
            p99_ms: at(99),
            max_ms: at(100),
        }
    }
}

impl Results {
    fn of(reads_per_second: u32, times: &Times, accepted: &Outcome) -> Self {
        Self {
            reads_per_second,
            all: Read::of(times.values().flatten()),
            by_kind: times.iter().map(|(kind, times)| (*kind, Read::of(times.iter()))).collect(),
            accepted_per_second: accepted.per_second(),
            accepted_p99_ms: accepted.quantile(0.99).as_secs_f64() * 1_000.0,
        }
    }

    fn print(&self) {
        println!(
            "\n{} reads a second beside {:.0} events a second",
            self.reads_per_second, self.accepted_per_second
        );
        println!("{:<24} {:>8} {:>8} {:>9} {:>9} {:>9}", "", "reads", "failed", "p50 ms", "p99 ms", "max ms");
        for (kind, read) in self.by_kind.iter().map(|(kind, read)| (*kind, read)).chain([("all", &self.all)])
        {
            let Read { count, failed, p50_ms, p99_ms, max_ms } = read;
            println!("{kind:<24} {count:>8} {failed:>8} {p50_ms:>9.1} {p99_ms:>9.1} {max_ms:>9.1}");
        }
        println!("accepting an event, p99: {:.1} ms", self.accepted_p99_ms);
    }
}
