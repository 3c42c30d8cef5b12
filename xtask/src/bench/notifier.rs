//! `cargo xtask bench notifier`: one notifier watches many destinations at a steady rate of outcomes.
//!
//! Time passes faster in the outcomes than on the wall, so that every window has filled and begun to forget before memory is
//! looked at: what it takes in the second half of the run is what it takes for ever.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use ravenpost_core::topic;
use ravenpost_testkit::{
    kafka::{self, Writer},
    stack::usage,
    system::{Service, System},
    wait,
};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::{
    ground::{self, Ground},
    machine::{self, Machine},
    target::{self, Target},
};

/// Outcomes are written in bursts this far apart.
const BURST: Duration = Duration::from_millis(20);
/// How much of the hour that windows reach back passes, with some to spare.
const SIMULATED: Duration = Duration::from_mins(150);
/// How long the notifier has for what was written last.
const CATCH_UP: Duration = Duration::from_secs(60);
const MEBIBYTE: f64 = 1_048_576.0;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many destinations, each of an endpoint of its own
    #[arg(long, default_value_t = 10_000)]
    destinations: u32,
    /// Outcomes a second
    #[arg(long, default_value_t = 2_000)]
    rate: u32,
    /// For how many seconds
    #[arg(long, default_value_t = 90)]
    seconds: u32,
}

#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    destinations: u32,
    written: u64,
    targets: Vec<Target>,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    ground::interruptible(measure(arguments)).await
}

async fn measure(arguments: &Arguments) -> Result<ExitCode> {
    let ground = Ground::start(2).await?;
    let mut builder = System::builder().stores(ground.stack.addresses());
    for service in [Service::Ingress, Service::DeliveryWorker, Service::ManagementApi] {
        builder = builder.replicas(service, 0);
    }
    let mut system = ground.progress.step("notifier", builder.start()).await?;
    let watched = ground.progress.step("outcomes", watch(&mut system, arguments)).await?;
    drop(system);
    ground.end()?;
    let results = Results { machine: machine::describe().await?, ..watched };
    println!(
        "\n{}\n{} outcomes of {} destinations",
        results.machine.line(),
        results.written,
        results.destinations
    );
    target::print(&results.targets);
    ground::write("notifier", &results)?;
    Ok(ExitCode::SUCCESS)
}

async fn watch(system: &mut System, arguments: &Arguments) -> Result<Results> {
    let writer = Writer::new(&system.stores.kafka_brokers, &system.topic(topic::DELIVERIES))?;
    let pid = system.notifiers[0].daemon().pid();
    let mut outcomes = Outcomes::new(arguments)?;
    let (started, before) = (Instant::now(), usage::cpu(pid));
    outcomes.write(&writer, 0.5).await?;
    let half = usage::memory(pid)?.now;
    outcomes.write(&writer, 1.0).await?;
    writer.flush()?;
    let full = usage::memory(pid)?;
    let (group, topic) = (system.topic("ravenpost.notifier"), system.topic(topic::DELIVERIES));
    let brokers = system.stores.kafka_brokers.clone();
    let behind = kafka::lag(&brokers, &group, &topic).await?;
    wait::until_true("the notifier to have read everything", CATCH_UP, || async {
        Ok(kafka::lag(&brokers, &group, &topic).await? == 0)
    })
    .await?;
    let cores = usage::cpu(pid).saturating_sub(before).as_secs_f64() / started.elapsed().as_secs_f64();
    let seconds_behind = f64::from(u32::try_from(behind)?) / f64::from(arguments.rate);
    let targets = vec![
        target::at_most("cores of the notifier", 1.0, cores),
        target::at_most("seconds behind at the end", 2.0, seconds_behind),
        target::at_most("resident memory at its peak, MiB", 150.0, mebibytes(full.peak)),
        target::at_most(
            "growth of memory in the second half, MiB",
            8.0,
            mebibytes(full.now) - mebibytes(half),
        ),
    ];
    let destinations = arguments.destinations;
    Ok(Results { machine: machine::describe().await?, destinations, written: outcomes.written, targets })
}

fn mebibytes(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes / 1_024).unwrap_or(u32::MAX)) * 1_024.0 / MEBIBYTE
}

/// What destinations answer: one in fifty fails, and one in a thousand destinations always does.
struct Outcomes {
    started: Instant,
    length: Duration,
    rate: f64,
    organization: Uuid,
    ids: Vec<(Uuid, Uuid)>,
    written: u64,
    first_at: u64,
}

impl Outcomes {
    fn new(arguments: &Arguments) -> Result<Self> {
        let ids = (0..arguments.destinations).map(|_| (random(), random())).collect();
        // Into the future: what lies behind is forgotten by the clock on the wall.
        let first_at = ravenpost_testkit::clock::now();
        Ok(Self {
            started: Instant::now(),
            length: Duration::from_secs(arguments.seconds.into()),
            rate: arguments.rate.into(),
            organization: random(),
            ids,
            written: 0,
            first_at: u64::try_from(first_at.as_millis())?,
        })
    }

    /// Writes on until so much of the whole has passed.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "far below 2^52")]
    async fn write(&mut self, writer: &Writer, part: f64) -> Result<()> {
        while self.started.elapsed() < self.length.mul_f64(part) {
            let due = (self.started.elapsed().as_secs_f64() * self.rate) as u64;
            while self.written < due {
                self.write_one(writer)?;
            }
            tokio::time::sleep(BURST).await;
        }
        Ok(())
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "two hours in milliseconds")]
    fn write_one(&mut self, writer: &Writer) -> Result<()> {
        let number = usize::try_from(self.written)? % self.ids.len();
        let (endpoint, destination) = self.ids[number];
        let failed = number.is_multiple_of(1_000) || self.written % 50 == 7;
        let passed = self.started.elapsed().div_duration_f64(self.length).min(1.0);
        let at = self.first_at + (SIMULATED.as_secs_f64() * 1_000.0 * passed) as u64;
        let at = chrono_text(at)?;
        let report = json!({
            "id": random(),
            "organization_id": self.organization,
            "endpoint_id": endpoint,
            "event_id": random(),
            "destination_id": destination,
            "run": 0,
            "attempt_number": 1,
            "outcome": if failed { "server_error" } else { "success" },
            "response_code": if failed { 500 } else { 200 },
            "error_message": failed.then_some("the destination answered 500"),
            "next_retry_at": null,
            "dead": false,
            "attempted_at": at,
            "duration_ms": self.written % 300,
        });
        writer.write(&endpoint.to_string(), report.to_string().as_bytes())?;
        self.written += 1;
        Ok(())
    }
}

fn random() -> Uuid {
    Uuid::from_bytes(rand::random())
}

fn chrono_text(milliseconds: u64) -> Result<String> {
    let time = chrono::DateTime::from_timestamp_millis(i64::try_from(milliseconds)?).context("a time")?;
    Ok(time.to_rfc3339())
}
