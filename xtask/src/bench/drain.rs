//! `cargo xtask bench drain`: how soon a worker that comes back has delivered what was accepted while there was none.

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use ravenpost_testkit::{
    load::{self, Pace, Requests},
    stack::Stack,
};
use serde_json::json;

use super::{
    delivery::{
        Common, Manner, WARM_UP, WARM_UP_CONNECTIONS,
        report::{COSTS, Column, Results, column, columns},
        subject::{Subject, requests},
    },
    ground::{self, Ground},
    machine,
    measure::{Meter, Run, count},
    target::at_most,
};

/// How long a worker may take to finish.
const TERMINATED: Duration = Duration::from_secs(40);
/// At once, while the backlog is made.
const CONNECTIONS: usize = 256;
const FIGURES: [Column; 4] = [
    column("first arrival s", "first_seconds", 2),
    column("all received s", "drain_seconds", 2),
    column("all recorded s", "recorded_seconds", 2),
    column("received/s from the first", "received_per_second", 0),
];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// How many events wait
    #[arg(long, default_value = "100000", value_parser = clap::value_parser!(u64).range(1..=900_000))]
    events: u64,
    /// How many endpoints they are of
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u16).range(1..=256))]
    endpoints: u16,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    ground::interruptible(measure(arguments)).await
}

async fn measure(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { common, events, endpoints } = arguments;
    let mut ground = Ground::start(2).await?;
    let starting = Subject::start(&ground.stack, &common.set, |_, _| None);
    let mut subject = ground.progress.step("ingress and worker", starting).await?;
    let mut hooks = Vec::new();
    for number in 0..*endpoints {
        hooks.push(subject.hook(&format!("/drain-{number}"), json!({})).await?);
    }
    subject.without_management();
    let requests = requests(hooks.iter().cycle().take(256), common.body)?;
    let about = format!("{events} events of {endpoints} endpoint(s) wait when a worker starts.");
    let mut results = Results::new("drain", machine::describe().await?, about, common);
    let measuring = turns(arguments, &mut subject, &requests, &mut ground.stack, &mut results);
    ground.progress.step("measuring", measuring).await?;
    let seconds = results.figure(&name(arguments), "drain_seconds");
    results.want(
        seconds.map(|found| at_most("from the start of the worker until all are received, s", 15.0, found)),
    );
    let code = results.finish(&subject, &columns(&[&FIGURES, &COSTS]))?;
    drop(subject);
    ground.end()?;
    Ok(code)
}

fn name(arguments: &Arguments) -> String {
    format!("{} waiting", arguments.events)
}

async fn turns(
    arguments: &Arguments,
    subject: &mut Subject,
    requests: &Arc<Requests>,
    stack: &mut Stack,
    results: &mut Results,
) -> Result<()> {
    let runs = arguments.common.runs;
    subject.warm_up(subject.load(requests, Manner::closed(WARM_UP_CONNECTIONS, WARM_UP))).await?;
    for round in 1..=runs {
        subject.system.workers[0].terminate(TERMINATED)?;
        let pace = Pace::Count(arguments.events);
        let manner = Manner { connections: CONNECTIONS, pace, duration: Duration::ZERO };
        let backlog = load::run(subject.load(requests, manner)).await?;
        arguments.common.pause().await?;
        let run = drain(subject, stack, &backlog).await?;
        let figure = |name: &str| run.figures.get(name).copied().unwrap_or(f64::NAN);
        eprintln!(
            "  {round}/{runs} {} accepted; the first arrived after {:.2} s, the last after {:.2} s; others took {:.2} cores",
            backlog.acknowledged.len(),
            figure("first_seconds"),
            figure("drain_seconds"),
            run.others_cores()
        );
        results.add(&name(arguments), run);
    }
    Ok(())
}

/// Starts the worker and waits until it has delivered everything.
async fn drain(subject: &mut Subject, stack: &mut Stack, backlog: &load::Outcome) -> Result<Run> {
    // The process is gone: it counts from when it starts again.
    let meter = Meter::start(&mut subject.system, stack).await?;
    let started = Instant::now();
    subject.system.workers[0].start_again()?;
    subject.until_arrived(&backlog.acknowledged).await;
    subject.until_recorded(&backlog.acknowledged).await?;
    let recorded = started.elapsed();
    let mut figures = meter.costs(&mut subject.system, backlog.acknowledged.len()).await?;
    let arrived = backlog.acknowledged.iter().filter_map(|id| subject.arrivals.of(*id));
    let (mut first, mut last) = (recorded, Duration::ZERO);
    for arrival in arrived {
        let after = arrival.first.saturating_duration_since(started);
        (first, last) = (first.min(after), last.max(after));
    }
    let rate = count(backlog.acknowledged.len()) / (last.saturating_sub(first)).as_secs_f64();
    for (name, value) in [
        ("first_seconds", first.as_secs_f64()),
        ("drain_seconds", last.as_secs_f64()),
        ("recorded_seconds", recorded.as_secs_f64()),
        ("received_per_second", rate),
    ] {
        figures.insert(name.to_owned(), value);
    }
    subject.close_run();
    let (statuses, broken, unsent) = (backlog.statuses.clone(), backlog.broken, backlog.unsent);
    Ok(Run { figures, statuses, broken, unsent })
}
