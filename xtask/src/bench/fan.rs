//! `cargo xtask bench fan`: a thousand endpoints of fifty organizations, some of them much busier than others, against one
//! endpoint in the same run, and against one of each partition: that events come by all partitions has a price of its
//! own, which a dozen endpoints pay, too.

use std::{collections::BTreeMap, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Result;
use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use ravenpost_testkit::{load::Requests, stack::Stack};
use serde_json::json;

use super::{
    delivery::{
        Common, Manner, WARM_UP, WARM_UP_CONNECTIONS,
        report::{COSTS, RATES, Results, columns},
        subject::{Hook, Subject, requests},
    },
    ground::{self, Ground},
    ingest::cases::{self, OpenLoop},
    machine,
    target::at_most,
};

/// So many requests are prepared; each endpoint has one at least.
const PREPARED: u32 = 8_192;
const ONE: &str = "one endpoint";
const PER_PARTITION: &str = "one of each partition";
/// The order of the requests is the same in every bench.
const SEED: u64 = 1;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// How long each run sends
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How many endpoints
    #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u32).range(2..=4000))]
    endpoints: u32,
    /// Of how many organizations
    #[arg(long, default_value = "50", value_parser = clap::value_parser!(u32).range(1..=200))]
    organizations: u32,
    /// A closed loop of so many connections
    #[arg(long, default_value = "64")]
    connections: usize,
    /// An open loop: requests a second x connections
    #[arg(long, default_value = "400x32", value_parser = cases::open_loop)]
    open: OpenLoop,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    ground::interruptible(measure(arguments)).await
}

async fn measure(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { common, endpoints, organizations, .. } = arguments;
    let mut ground = Ground::start(3).await?;
    let starting = Subject::start(&ground.stack, &common.set, |_, _| None);
    let mut subject = ground.progress.step("ingress and worker", starting).await?;
    let made = hooks(&subject, *endpoints, *organizations);
    let hooks = ground.progress.step(&format!("{endpoints} endpoints"), made).await?;
    subject.without_management();
    let apart: BTreeMap<i32, &Hook> = hooks.iter().map(|hook| (hook.partition(), hook)).collect();
    let traffic = [
        (ONE.to_owned(), requests(std::iter::repeat_n(&hooks[0], 256), common.body)?),
        (PER_PARTITION.to_owned(), requests(apart.values().copied().cycle().take(256), common.body)?),
        (format!("{endpoints} endpoints"), requests(zipf(*endpoints).map(|rank| &hooks[rank]), common.body)?),
    ];
    let about = format!(
        "One ingress, one worker; {endpoints} endpoints of {organizations} organizations, the n-th busiest with 1/n of \
         the busiest one's traffic; each run sends for {} s.",
        arguments.seconds
    );
    let mut results = Results::new("fan", machine::describe().await?, about, common);
    let measuring = turns(arguments, &mut subject, &traffic, &mut ground.stack, &mut results);
    ground.progress.step("measuring", measuring).await?;
    judge(arguments, &traffic, &mut results);
    let code = results.finish(&subject, &columns(&[&RATES, &COSTS]))?;
    drop(subject);
    ground.end()?;
    Ok(code)
}

/// Endpoints, those of each organization spread over all ranks.
async fn hooks(subject: &Subject, endpoints: u32, organizations: u32) -> Result<Vec<Hook>> {
    let mut apis = vec![subject.system.api.clone()];
    for number in 1..organizations {
        let (_, api) = subject.system.another_organization(&format!("Organization {number}")).await?;
        apis.push(api);
    }
    let mut hooks = Vec::new();
    for (number, api) in (0..endpoints).zip(apis.iter().cycle()) {
        hooks.push(subject.hook_of(api, &format!("/fan-{number}"), json!({})).await?);
    }
    Ok(hooks)
}

/// Ranks from 0, each about as often as its share of Zipf's law (exponent 1) says and once at least, in no order.
fn zipf(ranks: u32) -> impl Iterator<Item = usize> {
    let harmonic: f64 = (1..=ranks).map(|rank| 1.0 / f64::from(rank)).sum();
    let often = |rank: u32| f64::from(PREPARED) / (f64::from(rank) * harmonic);
    let mut order = Vec::new();
    for (index, rank) in (1..=ranks).enumerate() {
        order.push(index);
        // What is more than once.
        let more = (2..=PREPARED).take_while(|times| f64::from(*times) <= often(rank)).count();
        order.extend(std::iter::repeat_n(index, more));
    }
    order.shuffle(&mut StdRng::seed_from_u64(SEED));
    order.into_iter()
}

fn manners(arguments: &Arguments) -> [(String, Manner); 2] {
    let duration = Duration::from_secs(arguments.seconds);
    [
        (format!("{} connections", arguments.connections), Manner::closed(arguments.connections, duration)),
        (arguments.open.rate(), Manner::open(arguments.open, duration)),
    ]
}

async fn turns(
    arguments: &Arguments,
    subject: &mut Subject,
    traffic: &[(String, Arc<Requests>); 3],
    stack: &mut Stack,
    results: &mut Results,
) -> Result<()> {
    let runs = arguments.common.runs;
    // All of them: what is read once for each endpoint is no cost of an event.
    subject.warm_up(subject.load(&traffic[2].1, Manner::closed(WARM_UP_CONNECTIONS, WARM_UP))).await?;
    for round in 1..=runs {
        for (load, manner) in manners(arguments) {
            for (endpoints, requests) in traffic {
                arguments.common.pause().await?;
                let run = subject.measured(stack, subject.load(requests, manner)).await?;
                let name = format!("{load}, {endpoints}");
                eprintln!("  {round}/{runs} {name:<40} {}", run.brief());
                results.add(&name, run);
            }
        }
    }
    Ok(())
}

fn judge(arguments: &Arguments, traffic: &[(String, Arc<Requests>); 3], results: &mut Results) {
    let [(one, _), (apart, _), (many, _)] = traffic;
    for (load, _) in manners(arguments) {
        let many = format!("{load}, {many}");
        for few in [one, apart] {
            let name = format!("{load}, {few}");
            for (what, figure) in
                [("CPU per event", "cpu_ms_per_event.sum"), ("received p99", "received_p99_ms")]
            {
                let ratio = results.ratio(&many, &name, figure);
                results.want(ratio.map(|found| at_most(format!("{load}: {what} against {few}"), 1.2, found)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_twice_as_busy_as_the_second_and_none_is_left_out() {
        let order: Vec<usize> = zipf(1_000).collect();
        let often = |rank| order.iter().filter(|found| **found == rank).count();
        assert!((0..1_000).all(|rank| often(rank) > 0));
        assert!((often(0) / 2).abs_diff(often(1)) <= 1, "{} and {}", often(0), often(1));
        assert!((7_500..9_500).contains(&order.len()), "{}", order.len());
        assert_eq!(order, zipf(1_000).collect::<Vec<_>>());
    }
}
