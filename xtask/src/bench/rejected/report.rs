//! The table, what the flood changed, and the same as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Arguments, Measured, Traffic};
use crate::bench::{machine::Machine, measure::median};

const STORES: [&str; 3] = ["postgres", "kafka", "seaweedfs"];
const REFUSED: u16 = 401;
/// Told to a part of a flood that is more than fits.
const NO_ROOM: u16 = 503;

/// Everything that was found out.
#[derive(Serialize)]
pub(super) struct Results {
    machine: Machine,
    seconds: u64,
    good: String,
    flood: String,
    body_bytes: usize,
    /// Transactions that ended in Postgres in as long as a run takes, while nothing was sent.
    pub(super) idle_transactions: i64,
    runs: BTreeMap<Traffic, Vec<Measured>>,
}

impl Measured {
    fn figure(&self, name: &str) -> f64 {
        self.run.figures.get(name).copied().unwrap_or(f64::NAN)
    }

    /// Processor time in seconds. Where nothing is acknowledged it counts as that of one event.
    fn cpu(&self, process: &str) -> f64 {
        self.figure(&format!("cpu_ms_per_event.{process}")) * count(self.acknowledged).max(1.0) / 1_000.0
    }

    fn stores_cpu(&self) -> f64 {
        STORES.iter().map(|store| self.cpu(store)).sum()
    }

    fn refused(&self) -> u64 {
        self.flood.get(&REFUSED).copied().unwrap_or(0)
    }
}

fn count(number: impl TryInto<u32>) -> f64 {
    number.try_into().map_or(f64::INFINITY, f64::from)
}

impl Results {
    pub(super) fn new(arguments: &Arguments, machine: Machine) -> Self {
        Self {
            machine,
            seconds: arguments.seconds,
            good: arguments.good.name(),
            flood: arguments.flood.name(),
            body_bytes: arguments.body,
            idle_transactions: 0,
            runs: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, traffic: Traffic, measured: Measured) {
        self.runs.entry(traffic).or_default().push(measured);
    }

    fn of(&self, traffic: Traffic) -> &[Measured] {
        self.runs.get(&traffic).map_or(&[], Vec::as_slice)
    }

    /// Whether nothing of it was accepted.
    pub(super) fn flood_was_refused(&self) -> bool {
        let mut statuses = self.runs.values().flatten().flat_map(|measured| measured.flood.keys());
        statuses.all(|status| [REFUSED, NO_ROOM].contains(status))
    }

    pub(super) fn print(&self) {
        println!("\n{}", self.machine.line());
        println!(
            "One ingress, two endpoints; stores and load on this machine. Bodies of {} B. {} runs of {} s each in turns; medians.",
            self.body_bytes,
            self.of(Traffic::Good).len(),
            self.seconds
        );
        println!("A good producer sends {}; the flood is {}.", self.good, self.flood);
        self.print_table();
        self.print_changes();
    }

    fn print_table(&self) {
        print_head();
        for traffic in Traffic::ALL {
            print_line(traffic, self.of(traffic));
        }
        for traffic in [Traffic::Good, Traffic::GoodBesideFlood] {
            for (number, measured) in self.of(traffic).iter().enumerate() {
                if let Some(refused) = measured.run.refused() {
                    println!("{}, run {}, of the good one: {refused}", traffic.name(), number + 1);
                }
            }
        }
    }

    fn print_changes(&self) {
        // Of each pair of neighbouring runs, then the median: both had the same neighbours on the machine.
        let ratio = |name: &str| {
            let pairs = self.of(Traffic::Good).iter().zip(self.of(Traffic::GoodBesideFlood));
            median(pairs.map(|(alone, beside)| beside.figure(name) / alone.figure(name)).collect())
        };
        println!(
            "\nBeside the flood the good one's ack takes {:.2} times as long at p50, {:.2} at p99.",
            ratio("ack_p50_ms"),
            ratio("ack_p99_ms")
        );
        let all = || self.runs.values().flatten();
        let refused: u64 = all().map(Measured::refused).sum();
        let answered: u64 = all().flat_map(|measured| measured.flood.values()).sum();
        let unanswered: u64 = all().map(|measured| measured.flood_unanswered).sum();
        let others = answered - refused;
        println!("Of the flood {refused} were answered 401, {others} otherwise, {unanswered} not at all.");
        let flood = self.of(Traffic::Flood);
        let of = |figure: &dyn Fn(&Measured) -> f64| median(flood.iter().map(figure).collect());
        let caused = |run: &Measured| count(run.transactions) - count(self.idle_transactions);
        println!(
            "Alone it takes {:.4} ms of ingress's processor time for each request, and causes {:.1} transactions a second \
             ({:.4} for each request) beside those of an idle ingress.",
            of(&|run| run.cpu("ingress") * 1_000.0 / count(run.refused())),
            of(&|run| caused(run) / run.figure("elapsed_seconds")),
            of(&|run| caused(run) / count(run.refused())),
        );
    }
}

fn print_head() {
    println!(
        "\n{:<18} {:>10} {:>8} {:>8} {:>9} {:>8} {:>8} {:>10} {:>13} {:>9} {:>7}",
        "", "", "ack ms", "", "", "cores", "", "", "Postgres", "ingress", "others"
    );
    println!(
        "{:<18} {:>10} {:>8} {:>8} {:>9} {:>8} {:>8} {:>10} {:>13} {:>9} {:>7}",
        "",
        "accepted/s",
        "p50",
        "p99",
        "p99.9",
        "ingress",
        "stores",
        "generator",
        "transactions",
        "peak MiB",
        "cores"
    );
}

fn print_line(traffic: Traffic, runs: &[Measured]) {
    let name = traffic.name();
    let of = |figure: &dyn Fn(&Measured) -> f64| median(runs.iter().map(figure).collect());
    let cores = |process: &str| of(&|run| run.cpu(process) / run.figure("elapsed_seconds"));
    println!(
        "{name:<18} {:>10.1} {:>8.2} {:>8.2} {:>9.2} {:>8.3} {:>8.3} {:>10.3} {:>13.0} {:>9.0} {:>7.2}",
        of(&|run| run.figure("accepted_per_second")),
        of(&|run| run.figure("ack_p50_ms")),
        of(&|run| run.figure("ack_p99_ms")),
        of(&|run| run.figure("ack_p999_ms")),
        cores("ingress"),
        of(&|run| run.stores_cpu() / run.figure("elapsed_seconds")),
        cores("generator"),
        of(&|run| count(run.transactions)),
        of(&|run| run.figure("ingress_peak_mib")),
        of(&|run| run.run.others_cores()),
    );
}
