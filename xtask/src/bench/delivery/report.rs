//! The table of a bench, what was wanted beside what was found, and the same as JSON.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::{Common, subject::Subject};
use crate::bench::{
    ground,
    machine::Machine,
    measure::{Figures, Run, median, medians},
    target::{self, Target},
};

/// How many missing ids are named.
const NAMED: usize = 5;

/// A column of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) figure: &'static str,
    pub(crate) decimals: usize,
}

pub(crate) const fn column(title: &'static str, figure: &'static str, decimals: usize) -> Column {
    Column { title, figure, decimals }
}

pub(crate) const RATES: [Column; 6] = [
    column("accepted/s", "accepted_per_second", 0),
    column("received/s", "received_per_second", 0),
    column("ack p50", "ack_p50_ms", 2),
    column("p99 ms", "ack_p99_ms", 2),
    column("received p50", "received_p50_ms", 2),
    column("p99 ms", "received_p99_ms", 2),
];

pub(crate) const COSTS: [Column; 11] = [
    column("CPU ms/event: ingress", "cpu_ms_per_event.ingress", 4),
    column("worker", "cpu_ms_per_event.worker", 4),
    column("postgres", "cpu_ms_per_event.postgres", 4),
    column("kafka", "cpu_ms_per_event.kafka", 4),
    column("seaweedfs", "cpu_ms_per_event.seaweedfs", 4),
    column("sum", "cpu_ms_per_event.sum", 4),
    column("load, receiver", "cpu_ms_per_event.generator", 4),
    column("MiB: ingress", "ingress_mib", 0),
    column("worker", "worker_mib", 0),
    column("worker peak", "worker_peak_mib", 0),
    column("others cores", "others_cores", 2),
];

/// Everything that was found out.
#[derive(Serialize)]
pub(crate) struct Results {
    #[serde(skip)]
    bench: &'static str,
    machine: Machine,
    about: String,
    runs: u32,
    body_bytes: usize,
    cases: Vec<Entry>,
    targets: Vec<Target>,
    acknowledged: usize,
    repeated: u64,
    /// Requests at the receiver that were no event's, or too many to be remembered.
    lost: u64,
    missing: Vec<String>,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    medians: Figures,
    runs: Vec<Run>,
}

impl Results {
    pub(crate) fn new(bench: &'static str, machine: Machine, about: String, common: &Common) -> Self {
        Self {
            bench,
            machine,
            about,
            runs: common.runs,
            body_bytes: common.body,
            cases: Vec::new(),
            targets: Vec::new(),
            acknowledged: 0,
            repeated: 0,
            lost: 0,
            missing: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, name: &str, run: Run) {
        let Some(entry) = self.cases.iter_mut().find(|entry| entry.name == name) else {
            let (name, medians) = (name.to_owned(), run.figures.clone());
            return self.cases.push(Entry { name, medians, runs: vec![run] });
        };
        entry.runs.push(run);
        entry.medians = medians(&entry.runs);
    }

    /// The median of a case's figure, when the case was run.
    pub(crate) fn figure(&self, case: &str, figure: &str) -> Option<f64> {
        self.cases.iter().find(|entry| entry.name == case)?.medians.get(figure).copied()
    }

    /// Of each pair of neighbouring runs of two cases, then the median: both had the same neighbours on the machine.
    pub(crate) fn ratio(&self, of: &str, to: &str, figure: &str) -> Option<f64> {
        let runs = |case: &str| self.cases.iter().find(|entry| entry.name == case).map(|entry| &entry.runs);
        let value = |run: &Run| run.figures.get(figure).copied().unwrap_or(f64::NAN);
        let pairs = runs(of)?.iter().zip(runs(to)?);
        Some(median(pairs.map(|(of, to)| value(of) / value(to)).collect()))
    }

    pub(crate) fn want(&mut self, target: Option<Target>) {
        self.targets.extend(target);
    }

    /// Prints and writes everything; a failure when an acknowledged event has not arrived.
    pub(crate) fn finish(mut self, subject: &Subject, columns: &[Column]) -> Result<ExitCode> {
        self.acknowledged = subject.acknowledged;
        self.repeated = subject.repeated;
        self.lost = subject.arrivals.lost();
        self.missing = subject.missing.iter().map(ToString::to_string).collect();
        self.print(columns);
        ground::write(self.bench, &self)?;
        let complete = self.missing.is_empty() && self.lost == 0;
        Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn print(&self, columns: &[Column]) {
        println!("\n{}", self.machine.line());
        println!(
            "{} Bodies of {} B, HMAC verified; stores, load and receiver on this machine. {} runs of each case in turns; medians.\n",
            self.about, self.body_bytes, self.runs
        );
        self.print_table(columns);
        for entry in &self.cases {
            for (number, run) in entry.runs.iter().enumerate() {
                if let Some(refused) = run.refused() {
                    println!("{}, run {}: {refused}", entry.name, number + 1);
                }
            }
        }
        println!("\nWanted:");
        target::print(&self.targets);
        println!(
            "\n{} events acknowledged; {} more requests than events at the receiver",
            self.acknowledged, self.repeated
        );
        match self.missing.as_slice() {
            [] => println!("  nothing is missing"),
            missing => {
                let some: Vec<&str> = missing.iter().take(NAMED).map(String::as_str).collect();
                println!("  MISSING: {} events have not arrived, such as {}", missing.len(), some.join(", "));
            }
        }
        if self.lost > 0 {
            println!("  WRONG: {} requests at the receiver were no event's, or too many", self.lost);
        }
    }

    fn print_table(&self, columns: &[Column]) {
        let first = self.cases.iter().map(|entry| entry.name.chars().count()).max().unwrap_or_default();
        let width = |column: &Column| column.title.len().max(8);
        print!("{:<first$}", "");
        for column in columns {
            print!("  {:>width$}", column.title, width = width(column));
        }
        println!();
        for entry in &self.cases {
            print!("{:<first$}", entry.name);
            for column in columns {
                let value = entry.medians.get(column.figure);
                let value = value.map(|value| format!("{value:.decimals$}", decimals = column.decimals));
                print!("  {:>width$}", value.unwrap_or_default(), width = width(column));
            }
            println!();
        }
    }
}

/// Several groups of columns, one after the other.
pub(crate) fn columns(groups: &[&[Column]]) -> Vec<Column> {
    groups.iter().flat_map(|group| group.iter().copied()).collect()
}
