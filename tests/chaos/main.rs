//! Proof by fault: producers post without pause while processes and stores are killed, paused and cut off; when all is
//! whole again, what the producers were told is held against what is there.
//!
//! ```text
//! schedule (from a seed) ──▶ world: kills, pauses, disturbs ┐
//! load: producers ──▶ ingress ×2 ──▶ stores ──▶ worker ──▶ receiver
//!    └─ what they heard ──▶ verdict ◀── places: what is in Postgres, S3, Kafka and at the receiver, and the ledger
//!                               └──▶ report, when a promise is broken
//! ```
//!
//! Two subjects: ingress (what is acknowledged survives) and delivery (what is accepted arrives; workers and
//! destinations suffer, too). `cargo xtask chaos ingress|delivery` runs the long form with a random schedule;
//! `cargo xtask test` the short one.

mod schedule;

mod producer;

mod load;
mod world;

mod places;
mod verdict;

mod report;

use std::{
    fs,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use ravenpost_testkit::{
    fragile::Fragile,
    kafka,
    stack::{self, Options, WhenDropped},
    wait,
};
use tokio::sync::watch;

use crate::{
    load::Load,
    schedule::{Step, Subject, WORKERS},
    verdict::Violation,
    world::World,
};

/// Longer than any start or calm takes on a loaded machine.
const BOUND: Duration = Duration::from_secs(60);
/// How long events may be on their way after the last fault: what was in the air when its partition was taken comes due
/// ten seconds after its destination's time to answer.
const SETTLED: Duration = Duration::from_secs(150);
/// So many events are sent between two steps.
const CALM: usize = 60;
/// One subject at a time: two would starve each other.
static ALONE: Mutex<()> = Mutex::new(());

/// How long and how often: from `RAVENPOST_CHAOS_SECONDS`, `…_SEED` and `…_ROUNDS`, which `cargo xtask chaos` sets.
struct Form {
    subject: Subject,
    seed: u64,
    rounds: u64,
    /// The long form; the short one has a schedule of its own.
    seconds: Option<u64>,
}

impl Form {
    fn of_environment(subject: Subject) -> Result<Self> {
        Ok(Self {
            subject,
            seed: number("RAVENPOST_CHAOS_SEED")?.unwrap_or(1),
            rounds: number("RAVENPOST_CHAOS_ROUNDS")?.unwrap_or(1),
            seconds: number("RAVENPOST_CHAOS_SECONDS")?,
        })
    }

    fn steps(&self, seed: u64) -> Vec<Step> {
        match self.seconds {
            Some(seconds) => schedule::random(self.subject, seed, Duration::from_secs(seconds), self.lease()),
            None => schedule::short(self.subject, seed, self.lease()),
        }
    }

    /// After how long a peer adopts an ingress that is silent: the default, or the least in the short form.
    fn lease(&self) -> Duration {
        Duration::from_secs(if self.seconds.is_some() { 10 } else { 6 })
    }

    /// The long form of ingress also knows two workers, by turns.
    fn workers(&self, seed: u64) -> usize {
        if self.subject == Subject::Delivery {
            return WORKERS;
        }
        if self.seconds.is_some() && seed.is_multiple_of(2) { 2 } else { 1 }
    }
}

fn number(variable: &str) -> Result<Option<u64>> {
    let Ok(text) = std::env::var(variable) else { return Ok(None) };
    Ok(Some(text.parse().with_context(|| format!("{variable}={text} is not a number"))?))
}

#[expect(clippy::print_stdout, reason = "a person waits for it; libtest shows it with a failed test")]
fn tell(text: &str) {
    println!("{text}");
}

#[test]
fn what_ingress_acknowledges_survives() {
    run(Subject::Ingress);
}

#[test]
fn what_is_accepted_is_delivered() {
    run(Subject::Delivery);
}

fn run(subject: Subject) {
    // A failed subject is told by its own test.
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime starts");
    runtime.block_on(async {
        if let Err(error) = all_rounds(subject).await {
            panic!("{error:?}");
        }
    });
}

async fn all_rounds(subject: Subject) -> Result<()> {
    let form = Form::of_environment(subject)?;
    let folder = stack::shared_folder().join(format!("chaos-{subject:?}-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    // Killed in the end: nobody reads their data again.
    let options = Options { when_dropped: WhenDropped::Kill, ..Options::for_tests() };
    let stores = Fragile::start(&folder, &options).await.context("the stores don't start")?;
    let mut broken = Vec::new();
    for seed in form.seed..form.seed + form.rounds {
        let violations = Box::pin(round(&stores, seed, &form)).await;
        let violations = violations.with_context(|| format!("seed {seed}"))?;
        if !violations.is_empty() {
            broken.push(seed);
        }
    }
    ensure!(broken.is_empty(), "promises were broken with the seeds {broken:?}; each is told above");
    drop(stores);
    fs::remove_dir_all(&folder)?;
    Ok(())
}

async fn round(stores: &Fragile, seed: u64, form: &Form) -> Result<Vec<Violation>> {
    let (steps, workers) = (form.steps(seed), form.workers(seed));
    tell(&format!("\nseed {seed}: {} steps, {workers} worker(s)", steps.len()));
    let mut world = World::start(stores, form.subject, workers, form.lease()).await?;
    let outcome = Box::pin(steps_and_verdict(&world, form, &steps)).await;
    if !outcome.as_ref().is_ok_and(Vec::is_empty) {
        tell(&format!("The logs of the seed {seed} are in {}", world.system.logs().display()));
        world.system.keep_logs();
    }
    outcome
}

async fn steps_and_verdict(world: &World<'_>, form: &Form, steps: &[Step]) -> Result<Vec<Violation>> {
    let load = Load::new(world.endpoints.clone(), world.ingress_urls().await)?;
    let mut violations = under_load(world, &load, steps).await?;
    let sent = load.sent();
    let settled = settle(world).await;
    let places = places::read(&world.system).await?;
    violations.extend(verdict::judge(form.subject, &world.endpoints, &sent, &places));
    tell(&format!("  {}", report::summary(&sent, &places)));
    if violations.is_empty() {
        settled?;
    } else {
        let (system, journal) = (&world.system, &world.journal());
        let (sent, places, violations) = (&sent, &places, &violations);
        tell(&report::Case { system, sent, places, journal, violations }.tell());
    }
    Ok(violations)
}

/// Lets all steps happen while producers post.
async fn under_load(
    world: &World<'_>,
    load: &std::sync::Arc<Load>,
    steps: &[Step],
) -> Result<Vec<Violation>> {
    let (over, told) = watch::channel(false);
    let mut producers = load.start(&told);
    let mut violations = Vec::new();
    for step in steps {
        let before = load.count();
        wait::until_true("some calm", BOUND, || async { Ok(load.count() >= before + CALM) }).await?;
        tell(&format!("  {step}"));
        violations.extend(world.suffer(step, load).await?);
    }
    over.send_replace(true);
    while let Some(ended) = producers.join_next().await {
        ended??;
    }
    Ok(violations)
}

/// Waits until nothing is on its way any more.
async fn settle(world: &World<'_>) -> Result<()> {
    let pool = world.system.database.pool().await?;
    let under_way = "select (select count(*) from events where status = 'PENDING')
        + (select count(*) from scheduled_deliveries)";
    let settled = wait::until_true("all events to have arrived", SETTLED, || async {
        Ok(sqlx::query_scalar::<_, i64>(under_way).fetch_one(&pool).await? == 0)
    })
    .await;
    pool.close().await;
    settled?;
    let (brokers, topic) =
        (&world.system.stores.kafka_brokers, world.system.topic(ravenpost_core::topic::INGEST));
    let group = world.system.topic("ravenpost.delivery-worker");
    wait::until_true("all messages to be consumed", SETTLED, || async {
        Ok(kafka::lag(brokers, &group, &topic).await? == 0)
    })
    .await
}
