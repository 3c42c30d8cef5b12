//! The table, the comparison with what was wanted (DESIGN section 9), and the same as JSON.

use std::collections::BTreeMap;

use ravenpost_testkit::stored::{self, Missing};
use serde::Serialize;

use super::{
    Arguments,
    cases::{self, Case, Traffic, Variant},
};
use crate::bench::{
    machine::Machine,
    measure::{Figures, Run, median, medians},
    target::{self, Target, at_least, at_most},
};

/// How many missing ids are named.
const NAMED: usize = 5;

/// Everything that was found out.
#[derive(Serialize)]
pub(crate) struct Results {
    machine: Machine,
    seconds: u64,
    runs: u32,
    variants: Vec<Variant>,
    cases: Vec<Entry>,
    stored: BTreeMap<String, Stored>,
}

#[derive(Serialize)]
struct Entry {
    #[serde(skip)]
    case: Case,
    body_bytes: usize,
    load: String,
    commit: String,
    medians: Figures,
    runs: Vec<Run>,
}

/// What [`stored::check`] found.
#[derive(Serialize)]
struct Stored {
    acknowledged: usize,
    rows: usize,
    objects: usize,
    payloads_read: usize,
    messages: u64,
    missing: Vec<String>,
}

impl Results {
    pub(crate) fn new(arguments: &Arguments, machine: Machine, variants: &[Variant]) -> Self {
        Self {
            machine,
            seconds: arguments.seconds,
            runs: arguments.runs,
            variants: variants.to_vec(),
            cases: Vec::new(),
            stored: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, case: &Case, run: Run) {
        let Some(entry) = self.cases.iter_mut().find(|entry| entry.case == *case) else {
            let commit = self.variants[case.variant].name.clone();
            let (body_bytes, load, medians) = (case.body_bytes, case.load_name(), run.figures.clone());
            self.cases.push(Entry { case: *case, body_bytes, load, commit, medians, runs: vec![run] });
            return;
        };
        entry.runs.push(run);
        entry.medians = medians(&entry.runs);
    }

    pub(crate) fn stored(&mut self, variant: &Variant, report: &stored::Report) {
        let stored = Stored {
            acknowledged: report.acknowledged,
            rows: report.rows,
            objects: report.objects,
            payloads_read: report.payloads_read,
            messages: report.messages,
            missing: in_words(&report.missing),
        };
        self.stored.insert(variant.name.clone(), stored);
    }

    pub(crate) fn print(&self) {
        println!("\n{}", self.machine.line());
        println!(
            "One ingress, HMAC verified; stores and load on this machine. {} runs of {} s of each case in turns; medians.",
            self.runs, self.seconds
        );
        for variant in &self.variants {
            println!("  {:<11} {}", variant.name, described(variant));
        }
        self.print_table();
        self.print_ratios();
        self.print_targets();
        self.print_stored();
    }

    fn print_table(&self) {
        println!(
            "\n{:>6} {:<16} {:<11} {:>10} {:>7} {:>7} {:>7} {:>6} {:>8} {:>8} {:>8} {:>9} {:>7} {:>9} {:>5} {:>5} {:>6}",
            "",
            "",
            "",
            "",
            "ack ms",
            "",
            "",
            "mean",
            "CPU ms per event",
            "",
            "",
            "",
            "",
            "",
            "ingress MiB",
            "",
            "others"
        );
        println!(
            "{:>6} {:<16} {:<11} {:>10} {:>7} {:>7} {:>7} {:>6} {:>8} {:>8} {:>8} {:>9} {:>7} {:>9} {:>5} {:>5} {:>6}",
            "body",
            "load",
            "commit",
            "accepted/s",
            "p50",
            "p99",
            "p99.9",
            "batch",
            "ingress",
            "postgres",
            "kafka",
            "seaweedfs",
            "sum",
            "generator",
            "now",
            "peak",
            "cores"
        );
        for entry in &self.cases {
            println!("{}", entry.line());
        }
        for entry in &self.cases {
            for (number, run) in entry.runs.iter().enumerate() {
                if let Some(refused) = run.refused() {
                    println!("{}, {}, run {}: {refused}", entry.load, entry.commit, number + 1);
                }
            }
        }
    }

    /// Of each pair of neighbouring runs, then the median: both had the same neighbours on the machine.
    fn ratio(&self, of: &str, to: &str, body_bytes: usize, traffic: Traffic) -> Option<f64> {
        let runs = |commit: &str| {
            let find = |entry: &&Entry| {
                entry.commit == commit && entry.body_bytes == body_bytes && entry.case.traffic == traffic
            };
            self.cases.iter().find(find).map(|entry| &entry.runs)
        };
        let rate = |run: &Run| run.figures.get("accepted_per_second").copied().unwrap_or(f64::NAN);
        let pairs = runs(of)?.iter().zip(runs(to)?);
        Some(median(pairs.map(|(of, to)| rate(of) / rate(to)).collect()))
    }

    fn print_ratios(&self) {
        println!();
        for entry in self.cases.iter().filter(|entry| entry.commit == cases::GROUPED) {
            let (body_bytes, traffic) = (entry.body_bytes, entry.case.traffic);
            if let Some(ratio) = self.ratio(cases::GROUPED, cases::ALONE, body_bytes, traffic) {
                println!(
                    "{body_bytes} B, {}: grouped takes {ratio:.1} times what each alone does",
                    entry.load
                );
            }
            for Variant { name, .. } in self.variants.iter().filter(|variant| variant.is_compared()) {
                if let Some(ratio) = self.ratio(name, cases::GROUPED, body_bytes, traffic) {
                    println!(
                        "{body_bytes} B, {}: {name} takes {ratio:.3} times what grouped does",
                        entry.load
                    );
                }
            }
        }
    }

    fn targets(&self) -> Vec<Target> {
        let grouped = |wanted: &dyn Fn(Case) -> bool| {
            let find = |entry: &&Entry| {
                entry.commit == cases::GROUPED && entry.body_bytes == 1_024 && wanted(entry.case)
            };
            self.cases.iter().find(find)
        };
        let full = Traffic::Closed { connections: 256 };
        let mut targets = Vec::new();
        if let Some(entry) = grouped(&|case| case.traffic == full) {
            let (rate, peak) = (entry.figure("accepted_per_second"), entry.figure("ingress_peak_mib"));
            targets.push(at_least("accepted/s at 256 connections", 12_000.0, rate));
            if let Some(ratio) = self.ratio(cases::GROUPED, cases::ALONE, 1_024, full) {
                targets.push(at_least("against committing each event alone, times", 8.0, ratio));
            }
            targets.push(at_most("resident memory of ingress, peak, MiB", 150.0, peak));
        }
        if let Some(entry) = grouped(&Case::is_lone) {
            targets.push(at_most("a lone request: ack p50, ms", 3.0, entry.figure("ack_p50_ms")));
            targets.push(at_most("a lone request: ack p99, ms", 8.0, entry.figure("ack_p99_ms")));
        }
        targets
    }

    fn print_targets(&self) {
        println!("\nWanted of 1 KiB bodies:");
        target::print(&self.targets());
    }

    fn print_stored(&self) {
        println!();
        for (commit, stored) in &self.stored {
            println!(
                "{commit}: {} events acknowledged; {} rows, {} objects ({} payloads read back), {} messages",
                stored.acknowledged, stored.rows, stored.objects, stored.payloads_read, stored.messages
            );
            for line in &stored.missing {
                println!("  MISSING: {line}");
            }
            if stored.missing.is_empty() {
                println!("  nothing is missing");
            }
        }
    }
}

impl Entry {
    fn figure(&self, name: &str) -> f64 {
        self.medians.get(name).copied().unwrap_or(f64::NAN)
    }

    fn line(&self) -> String {
        let figure = |name: &str| self.figure(name);
        let cpu = |name: &str| self.figure(&format!("cpu_ms_per_event.{name}"));
        format!(
            "{:>6} {:<16} {:<11} {:>10.0} {:>7.2} {:>7.2} {:>7.2} {:>6.1} {:>8.4} {:>8.4} {:>8.4} {:>9.4} {:>7.4} {:>9.4} {:>5.0} {:>5.0} {:>6.2}",
            self.body_bytes,
            self.load,
            self.commit,
            figure("accepted_per_second"),
            figure("ack_p50_ms"),
            figure("ack_p99_ms"),
            figure("ack_p999_ms"),
            figure("mean_batch"),
            cpu("ingress"),
            cpu("postgres"),
            cpu("kafka"),
            cpu("seaweedfs"),
            cpu("sum"),
            cpu("generator"),
            figure("ingress_mib"),
            figure("ingress_peak_mib"),
            figure("others_cores"),
        )
    }
}

fn described(variant: &Variant) -> String {
    let settings = variant.environment.iter().map(|(name, value)| format!("{name}={value}"));
    let binaries = variant.binaries.iter().map(|folder| format!("binaries of {}", folder.display()));
    let parts: Vec<String> = settings.chain(binaries).collect();
    if parts.is_empty() { "settings as they are by default".to_owned() } else { parts.join(" ") }
}

fn in_words(missing: &Missing) -> Vec<String> {
    let ids =
        |ids: &[uuid::Uuid]| ids.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut lines = Vec::new();
    for (what, found) in [
        ("acknowledged more than once", &missing.repeated),
        ("without a row", &missing.rows),
        ("with another payload than was sent", &missing.payloads),
        ("without a message", &missing.messages),
    ] {
        if !found.is_empty() {
            lines.push(format!("{} events {what}, such as {}", found.len(), ids(found)));
        }
    }
    if !missing.objects.is_empty() {
        let some: Vec<_> = missing.objects.iter().take(NAMED).map(String::as_str).collect();
        lines.push(format!(
            "{} objects absent or too short, such as {}",
            missing.objects.len(),
            some.join(", ")
        ));
    }
    lines
}
