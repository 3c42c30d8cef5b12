//! `cargo xtask bench deliver`: accepting and delivering at the same time, by closed and open loops.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Result;
use ravenpost_testkit::load::Requests;
use serde_json::json;

use super::{
    delivery::{
        Common, Manner, WARM_UP,
        report::{COSTS, RATES, Results, columns},
        subject::{Subject, requests},
    },
    ground::{self, Ground},
    ingest::cases::{self, OpenLoop},
    machine,
    target::{at_least, at_most},
};

/// The cases of which something is wanted.
const FULL: &str = "256 connections";
/// Connections of the warm-up, after which one follows alone.
const MANY: usize = 256;
const STEADY: &str = "100/s";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// How long each run sends
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Closed loops: connections that each send when they are answered
    #[arg(long, value_delimiter = ',', default_value = "8,64,256")]
    connections: Vec<usize>,
    /// Open loops: requests a second x connections
    #[arg(long, value_delimiter = ',', default_value = "100x16,400x32,1000x64", value_parser = cases::open_loop)]
    open: Vec<OpenLoop>,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    ground::interruptible(measure(arguments)).await
}

async fn measure(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { common, seconds, .. } = arguments;
    let mut ground = Ground::start(2).await?;
    let starting = Subject::start(&ground.stack, &common.set, |_, _| None);
    let mut subject = ground.progress.step("ingress and worker", starting).await?;
    let hook = subject.hook("/deliver", json!({})).await?;
    subject.without_management();
    let requests = requests(std::iter::repeat_n(&hook, 256), common.body)?;
    let about = format!("One ingress, one worker, one destination; each run sends for {seconds} s.");
    let mut results = Results::new("deliver", machine::describe().await?, about, common);
    let measuring = turns(arguments, &mut subject, &requests, &mut ground.stack, &mut results);
    ground.progress.step("measuring", measuring).await?;
    judge(&mut results);
    let code = results.finish(&subject, &columns(&[&RATES, &COSTS]))?;
    drop(subject);
    ground.end()?;
    Ok(code)
}

/// All cases in turns, as often as asked for.
async fn turns(
    arguments: &Arguments,
    subject: &mut Subject,
    requests: &Arc<Requests>,
    stack: &mut ravenpost_testkit::stack::Stack,
    results: &mut Results,
) -> Result<()> {
    let duration = Duration::from_secs(arguments.seconds);
    // What is rare and what is much take different ways.
    for connections in [MANY, 1] {
        subject.warm_up(subject.load(requests, Manner::closed(connections, WARM_UP))).await?;
    }
    for round in 1..=arguments.common.runs {
        for (name, manner) in manners(arguments, duration) {
            arguments.common.pause().await?;
            let run = subject.measured(stack, subject.load(requests, manner)).await?;
            eprintln!("  {round}/{} {name:<24} {}", arguments.common.runs, run.brief());
            results.add(&name, run);
        }
    }
    Ok(())
}

fn manners(arguments: &Arguments, duration: Duration) -> Vec<(String, Manner)> {
    let closed = arguments
        .connections
        .iter()
        .map(|connections| (format!("{connections} connections"), Manner::closed(*connections, duration)));
    let open = arguments.open.iter().map(|open| (open.rate(), Manner::open(*open, duration)));
    closed.chain(open).collect()
}

fn judge(results: &mut Results) {
    let full = |figure: &str| results.figure(FULL, figure);
    let steady = |figure: &str| results.figure(STEADY, figure);
    let memory = |name: &str| full(&format!("{name}_peak_mib"));
    let targets = [
        full("received_per_second")
            .map(|found| at_least("accepted and delivered/s at 256 connections", 6_000.0, found)),
        full("cpu_ms_per_event.ours")
            .map(|found| at_most("CPU ms per event there, our processes", 0.12, found)),
        full("cpu_ms_per_event.sum")
            .map(|found| at_most("CPU ms per event there, all processes", 0.3, found)),
        memory("ingress").map(|found| at_most("resident memory of ingress, peak, MiB", 150.0, found)),
        memory("worker").map(|found| at_most("resident memory of the worker, peak, MiB", 150.0, found)),
        steady("received_p50_ms").map(|found| at_most("ingest -> received at 100/s: p50, ms", 6.0, found)),
        steady("received_p99_ms").map(|found| at_most("ingest -> received at 100/s: p99, ms", 15.0, found)),
    ];
    for target in targets {
        results.want(target);
    }
}
