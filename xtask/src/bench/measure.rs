//! What one run cost: latency as the load saw it, processor time and memory as the kernel counts them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use ravenpost_testkit::{
    load::Outcome,
    stack::{Stack, usage},
    system::System,
};
use serde::Serialize;

/// Figures by name, in the order in which they are told.
pub(crate) type Figures = BTreeMap<String, f64>;

pub(crate) const GENERATOR: &str = "generator";
/// Our own processes.
const OURS: [&str; 2] = ["ingress", "worker"];
pub(crate) const STAGES: [&str; 3] = ["payload", "rows", "publish"];

const MEBIBYTE: f64 = 1_048_576.0;

/// One run of a case.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) figures: Figures,
    /// Answers by status.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// Requests without an answer, and those of an open loop that were never sent.
    pub(crate) broken: u64,
    pub(crate) unsent: u64,
}

impl Run {
    pub(crate) fn brief(&self) -> String {
        let figure = |name: &str| self.figures.get(name).copied().unwrap_or(f64::NAN);
        let refused = self.refused().map(|refused| format!("  but: {refused}")).unwrap_or_default();
        format!(
            "{:>8.0}/s  p50 {:.2} ms  p99 {:.2} ms  others took {:.2} cores{refused}",
            figure("accepted_per_second"),
            figure("ack_p50_ms"),
            figure("ack_p99_ms"),
            self.others_cores(),
        )
    }

    /// How many cores others took meanwhile, on average; what a hypervisor took counts too.
    pub(crate) fn others_cores(&self) -> f64 {
        self.figures.get("others_cores").copied().unwrap_or(f64::NAN)
    }

    /// What was not accepted, in words.
    pub(crate) fn refused(&self) -> Option<String> {
        let others = self.statuses.iter().filter(|(status, _)| **status != 202);
        let mut parts: Vec<String> =
            others.map(|(status, count)| format!("{count} times {status}")).collect();
        for (count, what) in [(self.broken, "broken"), (self.unsent, "unsent")] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// The counters as they stood when a run began.
pub(crate) struct Meter {
    stores: Vec<Counted>,
    started: Instant,
    /// By process; what starts later begins at nothing.
    cpu: BTreeMap<i32, Duration>,
    machine: Duration,
    metrics: String,
}

/// A process, and under which name it counts.
type Counted = (&'static str, i32);

impl Meter {
    pub(crate) async fn start(system: &mut System, stack: &mut Stack) -> Result<Self> {
        let metrics = system.ingress[0].metrics().await?;
        for process in system.ingress.iter_mut().chain(&mut system.workers) {
            if process.daemon().is_running() {
                process.daemon().forget_peak()?;
            }
        }
        let mut stores = Vec::new();
        for daemon in stack.daemons().into_iter().filter(|daemon| daemon.name() != "smtp") {
            let names = ["postgres", "seaweedfs", "kafka"];
            let name =
                names.into_iter().find(|name| *name == daemon.name()).context("a store without a name")?;
            stores.push((name, daemon.pid()));
        }
        let counted = counted(system, &stores);
        let cpu = counted.into_iter().map(|(name, pid)| (pid, cpu(name, pid))).collect();
        Ok(Self { stores, started: Instant::now(), cpu, machine: usage::machine_cpu()?, metrics })
    }

    /// What a run of a load cost, and how it was answered.
    pub(crate) async fn stop(self, system: &mut System, outcome: &Outcome) -> Result<Run> {
        self.stop_beside(system, outcome, 0).await
    }

    /// The same when so many other events were accepted meanwhile: the costs are spread over all.
    pub(crate) async fn stop_beside(
        self,
        system: &mut System,
        outcome: &Outcome,
        others: usize,
    ) -> Result<Run> {
        let mut figures = self.costs(system, outcome.acknowledged.len() + others).await?;
        figures.extend(latencies(outcome));
        let Outcome { statuses, broken, unsent, .. } = outcome.clone();
        Ok(Run { figures, statuses, broken, unsent })
    }

    /// What so many events cost.
    pub(crate) async fn costs(self, system: &mut System, events: usize) -> Result<Figures> {
        let elapsed = self.started.elapsed();
        let machine = usage::machine_cpu()?.saturating_sub(self.machine);
        let mut used: BTreeMap<&str, Duration> = BTreeMap::new();
        for (name, pid) in counted(system, &self.stores) {
            let before = self.cpu.get(&pid).copied().unwrap_or_default();
            *used.entry(name).or_default() += cpu(name, pid).saturating_sub(before);
        }
        let sum = |names: &[&str]| names.iter().filter_map(|name| used.get(name)).sum::<Duration>();
        let all: Duration = used.values().sum();
        let events = count(events).max(1.0);
        let mut figures = Figures::new();
        let mut per_event = |name: &str, used: Duration| {
            figures.insert(format!("cpu_ms_per_event.{name}"), millis(used) / events);
        };
        per_event("sum", all.saturating_sub(sum(&[GENERATOR])));
        per_event("ours", sum(&OURS));
        for (name, used) in &used {
            per_event(name, *used);
        }
        let others = machine.saturating_sub(all).as_secs_f64() / elapsed.as_secs_f64();
        figures.insert("others_cores".to_owned(), others);
        memory(system, &mut figures)?;
        commits(&self.metrics, &system.ingress[0].metrics().await?, &mut figures);
        Ok(figures)
    }
}

/// The processes whose time counts.
fn counted(system: &mut System, stores: &[Counted]) -> Vec<Counted> {
    let [ingress, worker] = OURS;
    let ingress: Vec<Counted> =
        system.ingress.iter_mut().map(|process| (ingress, process.daemon().pid())).collect();
    let workers = system.workers.iter_mut().map(|process| (worker, process.daemon().pid()));
    let generator = (GENERATOR, std::process::id().cast_signed());
    ingress.into_iter().chain(workers).chain(stores.iter().copied()).chain([generator]).collect()
}

/// Of a process with its children; of the generator, which is their parent, alone.
fn cpu(name: &str, pid: i32) -> Duration {
    if name == GENERATOR { usage::cpu_alone(pid) } else { usage::cpu(pid) }
}

fn latencies(outcome: &Outcome) -> Figures {
    let quantile = |share| millis(outcome.quantile(share));
    let figures = [
        ("accepted_per_second", outcome.per_second()),
        ("ack_p50_ms", quantile(0.5)),
        ("ack_p99_ms", quantile(0.99)),
        ("ack_p999_ms", quantile(0.999)),
        ("ack_max_ms", quantile(1.0)),
        ("elapsed_seconds", outcome.elapsed.as_secs_f64()),
    ];
    figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Of the largest replica of each service.
fn memory(system: &mut System, figures: &mut Figures) -> Result<()> {
    let [ingress, worker] = OURS;
    for (name, replicas) in [(ingress, &mut system.ingress), (worker, &mut system.workers)] {
        for process in replicas {
            let memory = process.daemon().memory()?;
            for (figure, bytes) in [("mib", memory.now), ("peak_mib", memory.peak)] {
                let most = figures.entry(format!("{name}_{figure}")).or_default();
                *most = most.max(mebibytes(bytes));
            }
        }
    }
    Ok(())
}

fn mebibytes(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes / 1_024).unwrap_or(u32::MAX)) * 1_024.0 / MEBIBYTE
}

/// What ingress itself counted meanwhile: batches and the time of their stages.
fn commits(before: &str, after: &str, figures: &mut Figures) {
    let grown = |name: &str| value(after, name) - value(before, name);
    let batches = grown("ravenpost_ingress_batch_events_count").max(1.0);
    figures.insert("mean_batch".to_owned(), grown("ravenpost_ingress_batch_events_sum") / batches);
    for stage in STAGES {
        let seconds = grown(&format!("ravenpost_ingress_commit_seconds_sum{{stage=\"{stage}\"}}"));
        let count = grown(&format!("ravenpost_ingress_commit_seconds_count{{stage=\"{stage}\"}}")).max(1.0);
        figures.insert(format!("stage_ms.{stage}"), seconds * 1_000.0 / count);
    }
}

/// A sample in Prometheus' text format; one that isn't there yet is 0.
fn value(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// The median of each figure.
pub(crate) fn medians(runs: &[Run]) -> Figures {
    let names = runs.first().map(|run| run.figures.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let values = |name: &str| runs.iter().filter_map(|run| run.figures.get(name).copied()).collect();
    names.into_iter().map(|name| (name.clone(), median(values(&name)))).collect()
}

/// The value that so many thousandths of sorted values stay within; not a number when there is none.
pub(crate) fn quantile(sorted: &[f64], thousandths: usize) -> f64 {
    let within = (sorted.len() * thousandths).div_ceil(1_000).max(1);
    sorted.get(within - 1).copied().unwrap_or(f64::NAN)
}

/// A number of things, as a figure.
pub(crate) fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

/// The middle one, or the mean of the two in the middle; not a number when there is none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(vec![]).is_nan());
    }

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        for (thousandths, value) in [(0, 1.0), (500, 100.0), (990, 198.0), (1_000, 200.0)] {
            assert!((quantile(&values, thousandths) - value).abs() < f64::EPSILON, "{thousandths}");
        }
        assert!(quantile(&[], 500).is_nan());
    }

    #[test]
    fn what_ingress_counts_is_read() {
        let text = "# HELP a_count b\na_count 7\na_counted 9\nb_sum{stage=\"rows\"} 0.25\n";
        assert!((value(text, "a_count") - 7.0).abs() < f64::EPSILON);
        assert!((value(text, "b_sum{stage=\"rows\"}") - 0.25).abs() < f64::EPSILON);
        assert!(value(text, "c").abs() < f64::EPSILON);
    }
}
