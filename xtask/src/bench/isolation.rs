//! `cargo xtask bench isolation`: what healthy destinations notice of one that hangs, is slow, fails, or drips while it is
//! flooded.
//!
//! One healthy destination is of the same partition as every bad one, the other is of another. They are measured
//! beside one that is as busy but well, then beside each bad one, then beside all of them, and again in every round, which
//! begins with another of these each time: what comes later may find the stores busy with what came before. Before each
//! of them they are measured alone, since a machine is quicker in one minute than in another: how many times that it is,
//! is of these two runs, and against the one that is well of runs of one round. Each bad one recovers after its run, so that in the end everything has to have arrived there, too.

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use ravenpost_testkit::{
    load::{self, Requests},
    receiver::Answer,
    stack::Stack,
};
use serde_json::{Value, json};

use super::{
    delivery::{
        Common, Manner, WARM_UP, WARM_UP_CONNECTIONS,
        report::{COSTS, Column, Results, column, columns},
        subject::{Hook, Subject, latencies, requests, took},
    },
    ground::{self, Ground},
    ingest::cases::{self, OpenLoop},
    machine,
    measure::{Meter, Run, count},
    rejected::send,
    target::at_most,
};

const ALONE: &str = "alone";
const BESIDE_ALL: &str = "beside all four";
/// By how many cases a round begins later than the one before.
const TURN: usize = 3;
/// Candidates for an endpoint of a given partition: with twelve of them the chance that none fits is one in a million.
const CANDIDATES: usize = 160;
/// How the figures of the healthy ones begin: of the one of the bad ones' partition, and of the other.
const HEALTHY: [&str; 2] = ["same", "other"];
const LATENCIES: [Column; 9] = [
    column("accepted/s", "accepted_per_second", 0),
    column("same partition: p50", "same_p50_ms", 2),
    column("p99 ms", "same_p99_ms", 2),
    column("times alone", "same_times_alone", 2),
    column("another: p50", "other_p50_ms", 2),
    column("p99 ms", "other_p99_ms", 2),
    column("times alone", "other_times_alone", 2),
    column("bad accepted", "bad_accepted", 0),
    column("recovered s", "recovery_seconds", 1),
];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// How long each run sends
    #[arg(long, default_value = "20", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// To the healthy destinations together: requests a second x connections
    #[arg(long, default_value = "100x16", value_parser = cases::open_loop)]
    healthy: OpenLoop,
    /// To the bad one: requests a second x connections
    #[arg(long, default_value = "500x32", value_parser = cases::open_loop)]
    bad: OpenLoop,
    /// Only beside these, and alone
    #[arg(long, value_enum, value_delimiter = ',')]
    beside: Vec<Bad>,
}

/// How a destination is bad; or that it is not, which shows what the mere load costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Bad {
    Well,
    Hangs,
    Slow,
    Fails,
    Drips,
}

impl Bad {
    const ALL: [Self; 5] = [Self::Well, Self::Hangs, Self::Slow, Self::Fails, Self::Drips];

    fn path(self) -> &'static str {
        match self {
            Self::Well => "/well",
            Self::Hangs => "/hangs",
            Self::Slow => "/slow",
            Self::Fails => "/fails",
            Self::Drips => "/drips",
        }
    }

    /// The name of its case.
    fn case(self) -> &'static str {
        match self {
            Self::Well => "beside one that is well",
            Self::Hangs => "beside one that hangs",
            Self::Slow => "beside one at 2 s",
            Self::Fails => "beside one that fails",
            Self::Drips => "beside one that drips",
        }
    }

    fn answer(self) -> Answer {
        match self {
            Self::Well => Answer::ok(),
            Self::Hangs => Answer::hang(),
            Self::Slow => Answer::ok().after(Duration::from_secs(2)),
            Self::Fails => Answer::status(500),
            Self::Drips => Answer::drip(Duration::from_millis(200)),
        }
    }

    /// It is tried again until it has recovered, and not so soon that the flood comes twice.
    fn fields() -> Value {
        json!({ "retry_policy": { "schedule": vec!["30s"; 29], "jitter": 0.5 } })
    }
}

/// What the healthy ones are beside.
struct Case {
    name: &'static str,
    bad: Vec<Bad>,
    requests: Arc<Requests>,
}

/// What is sent where.
struct Traffic {
    healthy: Arc<Requests>,
    paths: [String; 2],
    cases: Vec<Case>,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    ground::interruptible(measure(arguments)).await
}

async fn measure(arguments: &Arguments) -> Result<ExitCode> {
    let common = &arguments.common;
    let mut ground = Ground::start(3).await?;
    let starting = Subject::start(&ground.stack, &common.set, |_, _| None);
    let mut subject = ground.progress.step("ingress and worker", starting).await?;
    let traffic = ground.progress.step("endpoints", traffic(&subject, common.body)).await?;
    subject.without_management();
    let about = format!(
        "One ingress, one worker; {} to two healthy destinations, {} to a bad one, for {} s.",
        arguments.healthy.name(),
        arguments.bad.name(),
        arguments.seconds
    );
    let mut results = Results::new("isolation", machine::describe().await?, about, common);
    let measuring = turns(arguments, &mut subject, &traffic, &mut ground.stack, &mut results);
    ground.progress.step("measuring", measuring).await?;
    judge(&mut results);
    let code = results.finish(&subject, &columns(&[&LATENCIES, &COSTS]))?;
    drop(subject);
    ground.end()?;
    Ok(code)
}

async fn traffic(subject: &Subject, body_bytes: usize) -> Result<Traffic> {
    let same = subject.hook("/same", json!({})).await?;
    let home = same.partition();
    let other = placed(subject, "/other", json!({}), |partition| partition != home).await?;
    let (mut cases, mut hooks) = (Vec::new(), Vec::new());
    for bad in Bad::ALL {
        let hook = placed(subject, bad.path(), Bad::fields(), |partition| partition == home).await?;
        let requests = requests(std::iter::repeat_n(&hook, 256), body_bytes)?;
        cases.push(Case { name: bad.case(), bad: vec![bad], requests });
        hooks.push(hook);
    }
    let all = requests(hooks[1..].iter().cycle().take(256), body_bytes)?;
    cases.push(Case { name: BESIDE_ALL, bad: Bad::ALL[1..].to_vec(), requests: all });
    let both = [&same, &other].into_iter().cycle().take(256);
    let (healthy, paths) = (requests(both, body_bytes)?, [same.path.clone(), other.path.clone()]);
    Ok(Traffic { healthy, paths, cases })
}

/// An endpoint whose partition is as wanted. Ids are not chosen, so it is tried until one fits.
async fn placed(subject: &Subject, path: &str, fields: Value, fits: impl Fn(i32) -> bool) -> Result<Hook> {
    for _ in 0..CANDIDATES {
        let hook = subject.hook(path, fields.clone()).await?;
        if fits(hook.partition()) {
            return Ok(hook);
        }
    }
    anyhow::bail!("none of {CANDIDATES} endpoints is of the partition that was wanted")
}

async fn turns(
    arguments: &Arguments,
    subject: &mut Subject,
    traffic: &Traffic,
    stack: &mut Stack,
    results: &mut Results,
) -> Result<()> {
    let runs = arguments.common.runs;
    subject.warm_up(subject.load(&traffic.healthy, Manner::closed(WARM_UP_CONNECTIONS, WARM_UP))).await?;
    // And with all that comes at once: whoever is measured first would pay for what becomes quick by use.
    measure_one(arguments, subject, traffic, traffic.cases.first(), stack).await?;
    let is_wanted = |case: &&Case| arguments.beside.is_empty() || is_one_of(&case.bad, &arguments.beside);
    let mut order: Vec<&Case> = traffic.cases.iter().filter(is_wanted).collect();
    for round in 1..=runs {
        for case in order.iter().copied() {
            arguments.common.pause().await?;
            let alone = measure_one(arguments, subject, traffic, None, stack).await?;
            arguments.common.pause().await?;
            let mut run = measure_one(arguments, subject, traffic, Some(case), stack).await?;
            for name in HEALTHY {
                let [own, beside] = [&alone, &run].map(|run| run.figures[&p99(name)]);
                run.figures.insert(times_alone(name), beside / own);
            }
            for (name, run) in [(ALONE, alone), (case.name, run)] {
                eprintln!("  {round}/{runs} {name:<24} {}", run.brief());
                results.add(name, run);
            }
        }
        let turn = TURN % order.len();
        order.rotate_left(turn);
    }
    Ok(())
}

fn p99(healthy: &str) -> String {
    format!("{healthy}_p99_ms")
}

/// The figure that tells how many times its own p99, alone, one of the healthy ones had.
fn times_alone(healthy: &str) -> String {
    format!("{healthy}_times_alone")
}

fn is_one_of(bad: &[Bad], some: &[Bad]) -> bool {
    matches!(bad, [one] if some.contains(one))
}

/// Sends to the healthy ones, and to bad ones at the same time, which recover when that is over.
async fn measure_one(
    arguments: &Arguments,
    subject: &mut Subject,
    traffic: &Traffic,
    case: Option<&Case>,
    stack: &mut Stack,
) -> Result<Run> {
    let duration = Duration::from_secs(arguments.seconds);
    let healthy = subject.load(&traffic.healthy, Manner::open(arguments.healthy, duration));
    let flood = case.map(|case| subject.load(&case.requests, Manner::open(arguments.bad, duration)));
    let bad = case.map(|case| case.bad.as_slice()).unwrap_or_default();
    for bad in bad {
        subject.receiver.script(bad.path(), [bad.answer()]);
    }
    let meter = Meter::start(&mut subject.system, stack).await?;
    let (healthy, flood) = tokio::try_join!(load::run(healthy), send(flood))?;
    let flood = flood.map(|flood| flood.acknowledged).unwrap_or_default();
    let mut run = meter.stop_beside(&mut subject.system, &healthy, flood.len()).await?;
    run.figures.insert("bad_accepted".to_owned(), count(flood.len()));
    for bad in bad {
        subject.receiver.script(bad.path(), [Answer::ok()]);
    }
    let acknowledged = [healthy.acknowledged.as_slice(), &flood].concat();
    let recovering = Instant::now();
    subject.until_arrived(&acknowledged).await;
    subject.until_recorded(&acknowledged).await?;
    run.figures.insert("recovery_seconds".to_owned(), recovering.elapsed().as_secs_f64());
    for (name, path) in HEALTHY.into_iter().zip(&traffic.paths) {
        let took = took(&healthy, |id| subject.arrivals.at(path, id));
        run.figures.extend(latencies(name, &took));
    }
    subject.close_run();
    Ok(run)
}

fn judge(results: &mut Results) {
    for (name, which) in HEALTHY.into_iter().zip(["of the same partition", "of another"]) {
        for beside in Bad::ALL[1..].iter().map(|bad| bad.case()).chain([BESIDE_ALL]) {
            let alone = results.figure(beside, &times_alone(name));
            let well = results.ratio(beside, Bad::Well.case(), &p99(name));
            for (ratio, what) in [(alone, "alone"), (well, "beside one that is well")] {
                let what = format!("p99 of the one {which} {beside}, times {what}");
                results.want(ratio.map(|found| at_most(what, 1.2, found)));
            }
        }
    }
}
