//! `cargo xtask bench notifier`: one notifier watches many destinations at a steady rate of outcomes.
//!
//! Before anything is measured every destination gets an outcome of each minute of more than an hour, as fast as they are read:
//! windows are as full as they can be, and memory must not grow any more.

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
/// Minutes that are filled before: more than windows reach back.
const FILLED: u32 = 65;
const MINUTE_MS: u64 = 60_000;
/// How long the notifier has for what was written.
const CATCH_UP: Duration = Duration::from_mins(10);
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
    outcomes.fill(&writer)?;
    until_read(system).await?;
    system.notifiers[0].daemon().forget_peak()?;
    let full = usage::memory(pid)?.now;
    let (started, before, filled) = (Instant::now(), usage::cpu(pid), outcomes.written);
    outcomes.write(&writer, Duration::from_secs(arguments.seconds.into()), arguments.rate).await?;
    writer.flush()?;
    let behind = lag(system).await?;
    until_read(system).await?;
    let cores = usage::cpu(pid).saturating_sub(before).as_secs_f64() / started.elapsed().as_secs_f64();
    let peak = usage::memory(pid)?.peak;
    let seconds_behind = f64::from(u32::try_from(behind)?) / f64::from(arguments.rate);
    let targets = vec![
        target::at_most("cores of the notifier", 1.0, cores),
        target::at_most("seconds behind at the end", 2.0, seconds_behind),
        target::at_most("resident memory at its peak, MiB", 150.0, mebibytes(peak)),
        target::at_most(
            "growth of memory once windows are full, MiB",
            8.0,
            mebibytes(peak) - mebibytes(full),
        ),
    ];
    let destinations = arguments.destinations;
    let written = outcomes.written - filled;
    Ok(Results { machine: machine::describe().await?, destinations, written, targets })
}

async fn lag(system: &System) -> Result<i64> {
    let (group, topic) = (system.topic("ravenpost.notifier"), system.topic(topic::DELIVERIES));
    kafka::lag(&system.stores.kafka_brokers, &group, &topic).await
}

async fn until_read(system: &System) -> Result<()> {
    wait::until_true("the notifier to have read everything", CATCH_UP, || async {
        Ok(lag(system).await? == 0)
    })
    .await
}

fn mebibytes(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes / 1_024).unwrap_or(u32::MAX)) * 1_024.0 / MEBIBYTE
}

/// What destinations answer: one in fifty fails, and one in a thousand destinations always does.
struct Outcomes {
    organization: Uuid,
    ids: Vec<(Uuid, Uuid)>,
    written: u64,
    /// When the next one is said to have happened, in milliseconds since 1970.
    at: u64,
}

impl Outcomes {
    fn new(arguments: &Arguments) -> Result<Self> {
        let ids = (0..arguments.destinations).map(|_| (random(), random())).collect();
        // Into the future: what lies behind is forgotten by the clock on the wall.
        let at = u64::try_from(ravenpost_testkit::clock::now().as_millis())?;
        Ok(Self { organization: random(), ids, written: 0, at })
    }

    /// One outcome of each destination in each minute.
    fn fill(&mut self, writer: &Writer) -> Result<()> {
        for _ in 0..FILLED {
            for _ in 0..self.ids.len() {
                self.write_one(writer)?;
            }
            writer.flush()?;
            self.at += MINUTE_MS;
        }
        Ok(())
    }

    /// So many a second, for so long; time passes as on the wall.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "far below 2^52")]
    async fn write(&mut self, writer: &Writer, length: Duration, rate: u32) -> Result<()> {
        let (started, first, first_at) = (Instant::now(), self.written, self.at);
        while started.elapsed() < length {
            let due = first + (started.elapsed().as_secs_f64() * f64::from(rate)) as u64;
            self.at = first_at + u64::try_from(started.elapsed().as_millis())?;
            while self.written < due {
                self.write_one(writer)?;
            }
            tokio::time::sleep(BURST).await;
        }
        Ok(())
    }

    fn write_one(&mut self, writer: &Writer) -> Result<()> {
        let number = usize::try_from(self.written)? % self.ids.len();
        let (endpoint, destination) = self.ids[number];
        let failed = number.is_multiple_of(1_000) || self.written % 50 == 7;
        let at = time(self.at)?;
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

fn time(milliseconds: u64) -> Result<String> {
    let time = chrono::DateTime::from_timestamp_millis(i64::try_from(milliseconds)?).context("a time")?;
    Ok(time.to_rfc3339())
}
