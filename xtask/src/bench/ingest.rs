//! `cargo xtask bench ingest`: one ingress, no workers, all stores and the load on this machine.
//!
//! Each case (body, load, way of committing) runs several times, in turns with the others, so that a noisy moment of
//! the machine meets all of them; figures are medians. Afterwards every acknowledged event has to be in all three stores.

pub(super) mod cases;
mod report;
mod subject;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use ravenpost_testkit::{
    load::{self, Load, Pace},
    stack::{Progress, Stack},
    stored,
};

use super::{
    ground::{self, Ground},
    machine,
    measure::{self, Meter},
};
use cases::{Case, Variant};
use report::Results;
use subject::Subject;

/// Between two runs: what the last one left to the stores is written meanwhile.
const PAUSE: Duration = Duration::from_millis(500);
/// Before anything is measured: connections, and for how long. Kafka's machine code for a produce request is as good as
/// it gets only after some ten thousand of them, and requests of one message and of many take different ways.
const WARM_UP: [(usize, Duration); 2] = [(64, Duration::from_secs(10)), (1, Duration::from_secs(30))];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How long each run lasts
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,
    /// How often each case is run
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) runs: u32,
    /// Closed loops: connections that each send when they are answered
    #[arg(long, value_delimiter = ',', default_value = "1,8,64,256")]
    pub(crate) connections: Vec<usize>,
    /// Open loops: requests a second x connections
    #[arg(long, value_delimiter = ',', default_value = "50x1", value_parser = cases::open_loop)]
    pub(crate) open: Vec<cases::OpenLoop>,
    /// Sizes of bodies in bytes
    #[arg(long, value_delimiter = ',', default_value = "1024,16384")]
    pub(crate) bodies: Vec<usize>,
    /// Leave out the baseline that commits every event alone
    #[arg(long)]
    pub(crate) without_baseline: bool,
    /// Variables of ingress's environment, such as its settings
    #[arg(long, value_name = "NAME=VALUE;…", value_parser = cases::environment, default_value = "")]
    pub(crate) set: cases::Environment,
    /// Runs every case with these variables besides, too, to compare; may be repeated, for several in turns
    #[arg(long, value_name = "NAME=VALUE;…", value_parser = cases::environment)]
    pub(crate) compare: Vec<cases::Environment>,
    /// Runs every case with the binaries of this folder, too, to compare builds; may be repeated
    #[arg(long, value_name = "FOLDER")]
    pub(crate) compare_binaries: Vec<PathBuf>,
    /// A run counts only when others took no more processor time than so many cores; before it such a moment is
    /// waited for
    #[arg(long, value_name = "CORES")]
    pub(crate) quiet: Option<f64>,
    /// How many seconds a run may wait for such a moment; then it counts as it is
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    pub(crate) patience: u64,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    ground::interruptible(measure(arguments)).await
}

async fn measure(arguments: &Arguments) -> Result<ExitCode> {
    let variants = cases::variants(arguments);
    let cases = cases::all(arguments);
    let mut ground = Ground::start(2 * variants.len() + 1).await?;
    let (stack, progress) = (&mut ground.stack, &ground.progress);
    let mut results = Results::new(arguments, machine::describe().await?, &variants);
    let mut subjects = start(&variants, arguments, stack, progress).await?;
    progress.step("measuring", turns(arguments, &cases, &mut subjects, stack, &mut results)).await?;
    let mut complete = true;
    for subject in &subjects {
        let what = format!("looking for what was acknowledged, {}", subject.variant.name);
        let stored =
            progress.step(&what, stored::check(&subject.system, &subject.acknowledged, &subject.sent));
        let stored = stored.await?;
        complete &= stored.is_complete();
        results.stored(&subject.variant, &stored);
    }
    drop(subjects);
    ground.end()?;
    results.print();
    ground::write("ingest", &results)?;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn start(
    variants: &[Variant],
    arguments: &Arguments,
    stack: &Stack,
    progress: &Progress,
) -> Result<Vec<Subject>> {
    let mut subjects = Vec::with_capacity(variants.len());
    for variant in variants {
        let subject = Subject::start(variant, stack.addresses(), &arguments.bodies);
        subjects.push(progress.step(&format!("ingress, {}", variant.name), subject).await?);
    }
    Ok(subjects)
}

/// All cases in turns, as often as asked for.
async fn turns(
    arguments: &Arguments,
    cases: &[Case],
    subjects: &mut [Subject],
    stack: &mut Stack,
    results: &mut Results,
) -> Result<()> {
    let duration = Duration::from_secs(arguments.seconds);
    for subject in &mut *subjects {
        for (connections, duration) in WARM_UP {
            let warm_up = subject.load(arguments.bodies[0], connections, Pace::Closed, duration)?;
            subject.keep(&load::run(warm_up).await?.acknowledged);
        }
    }
    for round in 1..=arguments.runs {
        for case in cases {
            let subject = &mut subjects[case.variant];
            let load = subject.load(case.body_bytes, case.connections(), case.pace(), duration)?;
            let figures = in_quiet(arguments, subject, stack, &load).await?;
            eprintln!("  {round}/{} {:<48} {}", arguments.runs, case.name(&subject.variant), figures.brief());
            results.add(case, figures);
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// Measures until a run had the machine to itself, or patience is over.
async fn in_quiet(
    arguments: &Arguments,
    subject: &mut Subject,
    stack: &mut Stack,
    load: &Load,
) -> Result<measure::Run> {
    let Some(most) = arguments.quiet else { return measured(subject, stack, load.clone()).await };
    let deadline = Instant::now() + Duration::from_secs(arguments.patience);
    loop {
        machine::wait_for_quiet(most, deadline).await?;
        let run = measured(subject, stack, load.clone()).await?;
        if run.others_cores() <= most || Instant::now() >= deadline {
            return Ok(run);
        }
    }
}

async fn measured(subject: &mut Subject, stack: &mut Stack, load: Load) -> Result<measure::Run> {
    let meter = Meter::start(&mut subject.system, stack).await?;
    let outcome = load::run(load).await?;
    subject.keep(&outcome.acknowledged);
    meter.stop(&mut subject.system, &outcome).await
}

/// SHA-256 of bodies.
type Hashes = BTreeSet<[u8; 32]>;
