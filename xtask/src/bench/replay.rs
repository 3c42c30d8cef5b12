//! `cargo xtask bench replay`: one of each service replays many dead letters to one destination.
//!
//! Every event has to be received once and be `SUCCESS`, and the memory of the management API and the worker must not
//! grow with their number.

use std::{
    collections::HashSet,
    fs,
    process::ExitCode,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use ravenpost_testkit::{
    process::Process,
    receiver::Receiver,
    stack::{self, Options, Progress, Stack},
    system::System,
    wait, workspace,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::target::{self, Target, at_most};
use crate::{folder, signals::Signals};

/// Longer than any number of events takes.
const BOUND: Duration = Duration::from_mins(30);
const SUCCESSES: &str = "select count(*) from events where status = 'SUCCESS'";
const MEBIBYTE: f64 = 1_048_576.0;
const MOST_GROWTH: f64 = 32.0;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many dead letters are replayed
    #[arg(long, default_value = "100000", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    events: u32,
}

/// What it took.
#[derive(Debug, Serialize)]
struct Figures {
    events: u32,
    /// Until all stood in the schedule or were sent.
    scheduled_seconds: f64,
    /// Until all were received.
    received_seconds: f64,
    /// The most of the job's deliveries that stood in the schedule.
    most_waiting: i64,
    management_api_mib_before: f64,
    management_api_mib_peak: f64,
    worker_mib_before: f64,
    worker_mib_peak: f64,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    tokio::select! {
        code = measure(arguments) => code,
        () = signals.next() => anyhow::bail!("interrupted"),
    }
}

async fn measure(arguments: &Arguments) -> Result<ExitCode> {
    let place = folder::bench();
    stack::stop_all(&place)?;
    let _ = fs::remove_dir_all(&place);
    let progress = Progress::printed(Stack::STEPS + 3);
    let options = Options { usual_ports: false, ..Options::for_people() };
    let stack = Stack::start(&place, &options, &progress).await?;
    let starting = System::builder().stores(stack.addresses()).start();
    let mut system = progress.step("services", starting).await?;
    let seen = Seen::default();
    let receiver = seen.receiver().await?;
    progress.step("dead letters", seed(&system, &receiver, arguments.events)).await?;
    let figures = progress.step("replaying", replay(&mut system, &seen, arguments.events)).await?;
    drop(system);
    stack.stop()?;
    let _ = fs::remove_dir_all(&place);
    print(&figures);
    write(&figures)?;
    let is_met = wanted(&figures).iter().all(Target::is_met);
    Ok(if is_met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the destination has received: ids alone, so that the bench itself does not grow.
#[derive(Clone, Default)]
struct Seen(Arc<SeenInner>);

#[derive(Default)]
struct SeenInner {
    ids: Mutex<HashSet<String>>,
    twice: AtomicU64,
}

impl Seen {
    async fn receiver(&self) -> Result<Receiver> {
        let inner = Arc::clone(&self.0);
        Receiver::start_observed(0, move |request| {
            let id = request.header("webhook-id").unwrap_or_default().to_owned();
            if !inner.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(id) {
                inner.twice.fetch_add(1, Ordering::Relaxed);
            }
        })
        .await
    }

    fn count(&self) -> usize {
        self.0.ids.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// One event is accepted and delivered as ever; the others are copies of it that were given up.
async fn seed(system: &System, receiver: &Receiver, events: u32) -> Result<()> {
    let verification = json!({ "type": "none" });
    let endpoint = system.create_endpoint("Bench", &receiver.url("/bench"), verification).await?;
    let hook = endpoint["hook_url"].as_str().context("an endpoint without hook_url")?;
    let client = ravenpost_testkit::http_client()?;
    client.post(hook).body("x".repeat(256)).send().await?.error_for_status()?;
    let database = &system.database;
    wait::until_true("the first event to be delivered", Duration::from_secs(60), || async {
        Ok(database.number(SUCCESSES).await? == 1)
    })
    .await?;
    let copies = format!(
        "with model as (select * from events limit 1),
         event as (
             insert into events (id, organization_id, endpoint_id, instance_id, received_at, updated_at, s3_offset,
                 s3_length, slot, status, s3_key, body_sha256, event_type, content_type, pending, delivered, dead)
             select uuidv7(), organization_id, endpoint_id, instance_id, now(), now(), s3_offset, s3_length, slot, 'FAILED',
                 s3_key, body_sha256, event_type, content_type, '{{}}', '{{}}', delivered
             from model, generate_series(1, {events}) returning id, organization_id, endpoint_id, dead),
         header as (
             insert into event_headers (event_id, organization_id, headers)
             select event.id, event.organization_id, h.headers from event, event_headers h)
         insert into dead_letters (event_id, destination_id, organization_id, endpoint_id, run, reason)
         select id, dead[1], organization_id, endpoint_id, 0, 'timeout' from event"
    );
    database.execute(&copies).await?;
    database.execute("analyze").await
}

async fn replay(system: &mut System, seen: &Seen, events: u32) -> Result<Figures> {
    let before = (resident(&mut system.management[0])?.0, resident(&mut system.workers[0])?.0);
    system.management[0].daemon().forget_peak()?;
    system.workers[0].daemon().forget_peak()?;
    let started = Instant::now();
    let made = system.api.post("/api/v1/replays", &json!({})).await?;
    let path = format!("/api/v1/replays/{}", made["id"].as_str().context("a replay without an id")?);
    let (most_waiting, scheduled) = (AtomicI64::new(0), OnceLock::new());
    let done = wait::until("all to be replayed", BOUND, || async {
        let replay = system.api.get(&path).await?;
        most_waiting.fetch_max(replay["waiting"].as_i64().unwrap_or(0), Ordering::Relaxed);
        if replay["scheduled"] == events {
            scheduled.get_or_init(|| started.elapsed());
        }
        Ok(Some(replay).filter(|replay| replay["state"] == "done"))
    })
    .await?;
    let received_seconds = started.elapsed().as_secs_f64();
    complete(system, seen, &done, events).await?;
    let (management, worker) = (resident(&mut system.management[0])?, resident(&mut system.workers[0])?);
    Ok(Figures {
        events,
        scheduled_seconds: scheduled.get().context("the job says what it has scheduled")?.as_secs_f64(),
        received_seconds,
        most_waiting: most_waiting.into_inner(),
        management_api_mib_before: before.0,
        management_api_mib_peak: management.1,
        worker_mib_before: before.1,
        worker_mib_peak: worker.1,
    })
}

/// Resident memory in MiB: now, and at its peak.
fn resident(process: &mut Process) -> Result<(f64, f64)> {
    let memory = process.daemon().memory()?;
    let mebibytes =
        |bytes: u64| f64::from(u32::try_from(bytes / 1_024).unwrap_or(u32::MAX)) * 1_024.0 / MEBIBYTE;
    Ok((mebibytes(memory.now), mebibytes(memory.peak)))
}

async fn complete(system: &System, seen: &Seen, done: &Value, events: u32) -> Result<()> {
    // The first one was not replayed.
    let all = usize::try_from(events)? + 1;
    ensure!(done["scheduled"] == events && done["skipped"] == 0, "not each once: {done}");
    ensure!(seen.count() == all, "{} of {all} events were received", seen.count());
    let twice = seen.0.twice.load(Ordering::Relaxed);
    ensure!(twice == 0, "{twice} requests were more than the first of their event");
    wait::until_true("all to be SUCCESS", Duration::from_secs(60), || async {
        Ok(usize::try_from(system.database.number(SUCCESSES).await?)? == all)
    })
    .await
}

fn print(figures: &Figures) {
    let per_second = f64::from(figures.events) / figures.received_seconds;
    println!(
        "\n{} dead letters: scheduled after {:.1} s, received after {:.1} s ({per_second:.0}/s), none twice",
        figures.events, figures.scheduled_seconds, figures.received_seconds
    );
    println!("most in the schedule: {}", figures.most_waiting);
    println!(
        "resident memory, before and at its peak: management API {:.0} and {:.0} MiB, worker {:.0} and {:.0} MiB",
        figures.management_api_mib_before,
        figures.management_api_mib_peak,
        figures.worker_mib_before,
        figures.worker_mib_peak
    );
    println!("\nWanted:");
    target::print(&wanted(figures));
}

/// Memory does not grow with what is replayed: warm caches and pages that the allocator keeps are a few MiB.
fn wanted(figures: &Figures) -> [Target; 4] {
    let most = |what: &str, found| at_most(format!("resident memory of the {what}, peak, MiB"), 150.0, found);
    let grows = |what: &str, found| at_most(format!("growth of the {what}, MiB"), MOST_GROWTH, found);
    let Figures {
        management_api_mib_before,
        management_api_mib_peak,
        worker_mib_before,
        worker_mib_peak,
        ..
    } = *figures;
    [
        most("management API", management_api_mib_peak),
        grows("management API", management_api_mib_peak - management_api_mib_before),
        most("worker", worker_mib_peak),
        grows("worker", worker_mib_peak - worker_mib_before),
    ]
}

fn write(figures: &Figures) -> Result<()> {
    let file = workspace::root().join("target/bench/replay.json");
    fs::create_dir_all(file.parent().context("the file has a folder")?)?;
    fs::write(&file, serde_json::to_vec_pretty(figures)?).with_context(|| file.display().to_string())?;
    println!("\nWritten to {}.", file.display());
    Ok(())
}
