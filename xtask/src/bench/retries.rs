//! `cargo xtask bench retries`: one event of five fails once; how far from its time its retry arrives.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use ravenpost_testkit::{
    load::{self, Requests},
    receiver::Answer,
    stack::Stack,
    stored,
};
use serde_json::json;
use uuid::Uuid;

use super::{
    delivery::{
        Common, Manner, WARM_UP, WARM_UP_CONNECTIONS,
        report::{COSTS, Column, Results, column, columns},
        subject::{Subject, requests},
    },
    ground::{self, Ground},
    ingest::cases::{self, OpenLoop},
    machine,
    measure::{Meter, Run, count, quantile},
    target::{at_least, at_most},
};

/// One of so many events fails, once.
const FAILS: u128 = 5;
const FIGURES: [Column; 6] = [
    column("accepted/s", "accepted_per_second", 0),
    column("retries", "retries", 0),
    column("earliest ms", "retry_error_min_ms", 1),
    column("late: p50", "retry_error_p50_ms", 1),
    column("p99 ms", "retry_error_p99_ms", 1),
    column("max ms", "retry_error_max_ms", 1),
];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// How long each run sends
    #[arg(long, default_value = "10", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Requests a second x connections; may be several
    #[arg(long, value_delimiter = ',', default_value = "100x16,400x32", value_parser = cases::open_loop)]
    open: Vec<OpenLoop>,
    /// When what failed is due again, in seconds
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u32).range(1..=60))]
    after: u32,
}

/// Whether an event is one of those that fail. Ids end with what is random in them.
fn fails(id: Uuid) -> bool {
    id.as_u128().is_multiple_of(FAILS)
}

pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    ground::interruptible(measure(arguments)).await
}

async fn measure(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { common, after, .. } = arguments;
    let mut ground = Ground::start(2).await?;
    let decide = |id: Uuid, times: u32| (fails(id) && times == 1).then(|| Answer::status(500));
    let starting = Subject::start(&ground.stack, &common.set, decide);
    let mut subject = ground.progress.step("ingress and worker", starting).await?;
    let retry_policy = json!({ "schedule": vec![format!("{after}s"); 5], "jitter": 0.0 });
    let hook = subject.hook("/retries", json!({ "retry_policy": retry_policy })).await?;
    subject.without_management();
    let requests = requests(std::iter::repeat_n(&hook, 256), common.body)?;
    let about =
        format!("One ingress, one worker; one event of {FAILS} fails once and is due again after {after} s.");
    let mut results = Results::new("retries", machine::describe().await?, about, common);
    let measuring = turns(arguments, &mut subject, &requests, &mut ground.stack, &mut results);
    ground.progress.step("measuring", measuring).await?;
    for rate in arguments.open.iter().map(|open| open.rate()) {
        let late = results.figure(&rate, "retry_error_p99_ms");
        results.want(
            late.map(|found| at_most(format!("a retry at {rate} is late by, p99, ms"), 1_000.0, found)),
        );
        let early = results.figure(&rate, "retry_error_min_ms");
        results.want(early.map(|found| at_least(format!("the earliest retry at {rate}, ms"), 0.0, found)));
    }
    let code = results.finish(&subject, &columns(&[&FIGURES, &COSTS]))?;
    drop(subject);
    ground.end()?;
    Ok(code)
}

async fn turns(
    arguments: &Arguments,
    subject: &mut Subject,
    requests: &Arc<Requests>,
    stack: &mut Stack,
    results: &mut Results,
) -> Result<()> {
    let (runs, duration) = (arguments.common.runs, Duration::from_secs(arguments.seconds));
    subject.warm_up(subject.load(requests, Manner::closed(WARM_UP_CONNECTIONS, WARM_UP))).await?;
    for round in 1..=runs {
        for open in &arguments.open {
            arguments.common.pause().await?;
            let load = subject.load(requests, Manner::open(*open, duration));
            let run = measure_one(subject, stack, load).await?;
            eprintln!("  {round}/{runs} {:<12} {}", open.rate(), run.brief());
            results.add(&open.rate(), run);
        }
    }
    Ok(())
}

async fn measure_one(subject: &mut Subject, stack: &mut Stack, load: load::Load) -> Result<Run> {
    let meter = Meter::start(&mut subject.system, stack).await?;
    let outcome = load::run(load).await?;
    subject.until_arrived(&outcome.acknowledged).await;
    subject.until_recorded(&outcome.acknowledged).await?;
    let mut run = meter.stop(&mut subject.system, &outcome).await?;
    let Some(first) = outcome.acknowledged.iter().min() else { return Ok(run) };
    let mut errors = Vec::new();
    for (id, due) in stored::second_attempts_due(&subject.system, *first).await? {
        if let Some(arrival) = subject.arrivals.of(id).filter(|arrival| arrival.times > 1) {
            errors.push((arrival.last_at.as_secs_f64() - due.as_secs_f64()) * 1_000.0);
        }
    }
    let failed = outcome.acknowledged.iter().filter(|id| fails(**id)).count();
    ensure!(errors.len() == failed, "{} of {failed} events that failed once were tried again", errors.len());
    errors.sort_by(f64::total_cmp);
    run.figures.insert("retries".to_owned(), count(errors.len()));
    for (name, thousandths) in [("min", 0), ("p50", 500), ("p99", 990), ("max", 1_000)] {
        run.figures.insert(format!("retry_error_{name}_ms"), quantile(&errors, thousandths));
    }
    subject.close_run();
    Ok(run)
}
