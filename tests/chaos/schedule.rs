//! What fails when: drawn from a seed, so that the same seed gives the same schedule.

use std::{fmt, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use ravenpost_testkit::fault::{Mode, Silent};

/// How many replicas of ingress there are to be killed and paused.
pub(crate) const REPLICAS: usize = 2;
/// How many workers there are, where they suffer.
pub(crate) const WORKERS: usize = 2;
/// After so long a silent worker loses its partitions (`SESSION_TIMEOUT` of `crates/bus`).
const SESSION: f64 = 10.0;

/// What has to keep its promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// What ingress acknowledges survives: ingress and the stores suffer.
    Ingress,
    /// What is accepted is delivered: workers, stores and destinations suffer.
    Delivery,
}

/// What suffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    Ingress(usize),
    Worker(usize),
    /// All destinations.
    Receiver,
    Postgres,
    S3,
    Kafka,
    /// The network between one worker and a store that all others reach.
    Way(usize, Store),
}

/// A store that a worker has a way of its own to. Kafka tells everybody the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    Postgres,
    S3,
}

impl fmt::Display for Victim {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ingress(number) => write!(formatter, "ingress-{number}"),
            Self::Worker(number) => write!(formatter, "delivery-worker-{number}"),
            Self::Receiver => formatter.write_str("the receiver"),
            Self::Postgres => formatter.write_str("postgres"),
            Self::S3 => formatter.write_str("s3"),
            Self::Kafka => formatter.write_str("kafka"),
            Self::Way(number, Store::Postgres) => {
                write!(formatter, "delivery-worker-{number}'s way to postgres")
            }
            Self::Way(number, Store::S3) => write!(formatter, "delivery-worker-{number}'s way to s3"),
        }
    }
}

/// What is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    /// SIGKILL; afterwards it is started again on the same data.
    Kill,
    /// SIGSTOP; afterwards SIGCONT.
    Pause,
    /// Its network does this; afterwards everything passes.
    Network(Mode),
    /// It answers `500` to everything; afterwards `200`.
    Fails,
    /// It takes everything and answers nothing; afterwards `200`.
    Hangs,
}

/// One fault, and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) victim: Victim,
    pub(crate) harm: Harm,
    /// From the start of its step.
    pub(crate) after: Duration,
    pub(crate) lasts: Duration,
}

impl Fault {
    fn end(&self) -> Duration {
        self.after + self.lasts
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ", self.victim)?;
        match self.harm {
            Harm::Kill => formatter.write_str("killed")?,
            Harm::Pause => formatter.write_str("paused")?,
            Harm::Network(Mode::Cut) => formatter.write_str("cut off")?,
            Harm::Network(Mode::Refuse) => formatter.write_str("refusing")?,
            Harm::Network(Mode::Reset(lifetime)) => write!(formatter, "reset every {lifetime:?}")?,
            Harm::Network(Mode::Delay(delay)) => write!(formatter, "delayed by {delay:?}")?,
            Harm::Network(Mode::HalfOpen(silent)) => write!(formatter, "half-open, silent {silent:?}")?,
            Harm::Network(Mode::Pass) => formatter.write_str("untouched")?,
            Harm::Fails => formatter.write_str("failing")?,
            Harm::Hangs => formatter.write_str("hanging")?,
        }
        write!(formatter, " for {:?}", self.lasts)
    }
}

/// One fault or two at the same time. When it is over everything is whole, and the next one waits until all have recovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step(pub(crate) Vec<Fault>);

impl Step {
    /// From its start until everything is whole.
    pub(crate) fn lasts(&self) -> Duration {
        self.0.iter().map(Fault::end).max().unwrap_or_default()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> = self.0.iter().map(Fault::to_string).collect();
        formatter.write_str(&faults.join(" and "))
    }
}

/// What the short form can't do without: each kind of accident once, processes and stores killed and paused, networks that
/// fail, and pairs. An ingress that is paused for longer than `lease` is adopted by its peer.
pub(crate) fn short(subject: Subject, seed: u64, lease: Duration) -> Vec<Step> {
    match subject {
        Subject::Ingress => short_of_ingress(seed, lease),
        Subject::Delivery => short_of_delivery(seed),
    }
}

fn short_of_ingress(seed: u64, lease: Duration) -> Vec<Step> {
    let mut random = StdRng::seed_from_u64(seed);
    let one = random.random_range(0..REPLICAS);
    let other = (one + 1) % REPLICAS;
    let mut fault = |victim, harm, least: f64, most: f64| Fault {
        victim,
        harm,
        after: seconds(&mut random, 0.2, 0.8),
        lasts: seconds(&mut random, least, most),
    };
    // Until its heartbeat was seen to stand for so long.
    let past_lease = lease.as_secs_f64() + 1.5;
    vec![
        Step(vec![
            fault(Victim::Kafka, Harm::Network(Mode::Refuse), 2.0, 3.0),
            fault(Victim::Ingress(one), Harm::Kill, 0.5, 1.5),
        ]),
        Step(vec![fault(Victim::Ingress(other), Harm::Pause, past_lease, past_lease + 0.5)]),
        Step(vec![fault(Victim::Ingress(one), Harm::Kill, 0.3, 1.0)]),
        Step(vec![fault(Victim::Kafka, Harm::Network(Mode::Cut), 2.5, 3.5)]),
        Step(vec![fault(Victim::Postgres, Harm::Kill, 0.3, 1.0)]),
        Step(vec![fault(Victim::Postgres, Harm::Network(Mode::HalfOpen(Silent::Both)), 2.0, 3.0)]),
        Step(vec![fault(Victim::S3, Harm::Network(Mode::Cut), 1.0, 2.0)]),
        Step(vec![fault(Victim::S3, Harm::Kill, 0.3, 1.0), fault(Victim::Kafka, Harm::Pause, 1.5, 2.5)]),
    ]
}

/// Workers first: what a dead one had in the air is not waited for once all is over.
fn short_of_delivery(seed: u64) -> Vec<Step> {
    let mut random = StdRng::seed_from_u64(seed);
    let one = random.random_range(0..WORKERS);
    let other = (one + 1) % WORKERS;
    let mut fault = |victim, harm, least: f64, most: f64| Fault {
        victim,
        harm,
        after: seconds(&mut random, 0.2, 0.6),
        lasts: seconds(&mut random, least, most),
    };
    vec![
        Step(vec![fault(Victim::Worker(one), Harm::Kill, 0.3, 1.0)]),
        Step(vec![fault(Victim::Worker(other), Harm::Pause, SESSION + 0.5, SESSION + 1.0)]),
        Step(vec![
            fault(Victim::Receiver, Harm::Fails, 1.0, 2.0),
            fault(Victim::Worker(one), Harm::Kill, 0.3, 0.6),
        ]),
        Step(vec![
            fault(Victim::Postgres, Harm::Kill, 0.3, 1.0),
            fault(Victim::Receiver, Harm::Hangs, 0.5, 1.0),
        ]),
        Step(vec![fault(Victim::Kafka, Harm::Network(Mode::Cut), 1.0, 2.0)]),
        Step(vec![
            fault(Victim::Way(other, Store::Postgres), Harm::Network(Mode::HalfOpen(Silent::Both)), 2.0, 3.0),
            fault(Victim::Way(one, Store::S3), Harm::Network(Mode::Cut), 1.0, 2.0),
        ]),
        Step(vec![
            fault(Victim::S3, Harm::Pause, 0.5, 1.0),
            fault(Victim::Receiver, Harm::Network(Mode::Refuse), 1.0, 1.5),
        ]),
    ]
}

/// Steps that last about so long together. Every kind of fault comes before any comes again; two of five steps are pairs.
pub(crate) fn random(subject: Subject, seed: u64, total: Duration, lease: Duration) -> Vec<Step> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut bag = Vec::new();
    let mut steps = Vec::new();
    let mut planned = Duration::ZERO;
    while planned < total {
        let mut faults = vec![draw(subject, &mut random, &mut bag, lease)];
        if random.random_bool(0.4) {
            let mut second = draw(subject, &mut random, &mut bag, lease);
            while second.victim == faults[0].victim {
                second = draw(subject, &mut random, &mut bag, lease);
            }
            // It begins while the first one lasts.
            second.after = faults[0].after + faults[0].lasts.mul_f64(random.random_range(0.0..0.9));
            faults.push(second);
        }
        let step = Step(faults);
        planned += step.lasts();
        steps.push(step);
    }
    steps
}

/// A kind of fault, before its times are drawn.
#[derive(Clone, Copy)]
enum Kind {
    KillIngress,
    PauseIngress,
    PauseIngressPastItsLease,
    KillWorker,
    PauseWorker,
    PauseWorkerPastItsSession,
    ReceiverFails,
    ReceiverHangs,
    /// Of a store, or of the receiver, which has a network too.
    Store(Victim, StoreKind),
    /// Of the way between a worker and a store.
    Way(Store, StoreKind),
}

#[derive(Clone, Copy)]
enum StoreKind {
    Kill,
    Pause,
    Cut,
    Refuse,
    Reset,
    Delay,
    HalfOpen,
    Long,
}

fn draw(subject: Subject, random: &mut StdRng, bag: &mut Vec<Kind>, lease: Duration) -> Fault {
    if bag.is_empty() {
        *bag = kinds(subject);
        bag.shuffle(random);
    }
    let kind = bag.pop().unwrap_or(Kind::KillIngress);
    let after = seconds(random, 0.3, 1.5);
    let number = random.random_range(0..REPLICAS.min(WORKERS));
    let (replica, worker) = (Victim::Ingress(number), Victim::Worker(number));
    let lease = lease.as_secs_f64();
    let (victim, harm, lasts) = match kind {
        Kind::KillIngress => (replica, Harm::Kill, seconds(random, 0.2, 3.0)),
        Kind::PauseIngress => (replica, Harm::Pause, seconds(random, 0.3, lease - 1.0)),
        Kind::PauseIngressPastItsLease => (replica, Harm::Pause, seconds(random, lease + 1.0, lease + 5.0)),
        Kind::KillWorker => (worker, Harm::Kill, seconds(random, 0.2, 4.0)),
        Kind::PauseWorker => (worker, Harm::Pause, seconds(random, 0.3, SESSION - 1.0)),
        Kind::PauseWorkerPastItsSession => {
            (worker, Harm::Pause, seconds(random, SESSION + 0.5, SESSION + 6.0))
        }
        Kind::ReceiverFails => (Victim::Receiver, Harm::Fails, seconds(random, 0.5, 8.0)),
        Kind::ReceiverHangs => (Victim::Receiver, Harm::Hangs, seconds(random, 0.5, 8.0)),
        Kind::Store(victim, kind) => {
            let lasts = if matches!(kind, StoreKind::Long) { (8.0, 15.0) } else { (0.3, 6.0) };
            (victim, store_harm(random, kind), seconds(random, lasts.0, lasts.1))
        }
        Kind::Way(store, kind) => {
            (Victim::Way(number, store), store_harm(random, kind), seconds(random, 0.5, SESSION + 5.0))
        }
    };
    Fault { victim, harm, after, lasts }
}

fn kinds(subject: Subject) -> Vec<Kind> {
    use StoreKind::{Cut, Delay, HalfOpen, Kill, Long, Pause, Refuse, Reset};
    let mut kinds = match subject {
        Subject::Ingress => vec![Kind::KillIngress, Kind::PauseIngress, Kind::PauseIngressPastItsLease],
        Subject::Delivery => {
            // Its process is this one, which is not killed.
            let network = [Cut, Refuse, Reset, Delay, HalfOpen];
            let mut kinds: Vec<Kind> =
                network.map(|kind| Kind::Store(Victim::Receiver, kind)).into_iter().collect();
            kinds.extend([Kind::KillWorker, Kind::KillWorker, Kind::PauseWorker]);
            kinds.extend([Kind::PauseWorkerPastItsSession, Kind::ReceiverFails, Kind::ReceiverHangs]);
            kinds.extend([Cut, HalfOpen, Reset, Delay].map(|kind| Kind::Way(Store::Postgres, kind)));
            kinds.extend([Cut, HalfOpen].map(|kind| Kind::Way(Store::S3, kind)));
            kinds
        }
    };
    for victim in [Victim::Postgres, Victim::S3, Victim::Kafka] {
        let store = [Kill, Pause, Cut, Refuse, Reset, Delay, HalfOpen, Long];
        kinds.extend(store.map(|kind| Kind::Store(victim, kind)));
    }
    kinds
}

fn store_harm(random: &mut StdRng, kind: StoreKind) -> Harm {
    match kind {
        StoreKind::Kill => Harm::Kill,
        StoreKind::Pause => Harm::Pause,
        StoreKind::Cut => Harm::Network(Mode::Cut),
        StoreKind::Refuse => Harm::Network(Mode::Refuse),
        StoreKind::Reset => Harm::Network(Mode::Reset(seconds(random, 0.05, 0.5))),
        StoreKind::Delay => Harm::Network(Mode::Delay(seconds(random, 0.02, 0.3))),
        StoreKind::HalfOpen => Harm::Network(half_open(random)),
        StoreKind::Long => {
            let harms = [Harm::Pause, Harm::Network(Mode::Cut), Harm::Network(half_open(random))];
            harms[random.random_range(0..harms.len())]
        }
    }
}

fn half_open(random: &mut StdRng) -> Mode {
    let silent = [Silent::Both, Silent::ToTarget, Silent::FromTarget];
    Mode::HalfOpen(silent[random.random_range(0..silent.len())])
}

/// A time between two, to the millisecond.
fn seconds(random: &mut StdRng, least: f64, most: f64) -> Duration {
    let drawn = Duration::from_secs_f64(random.random_range(least..most));
    Duration::from_millis(u64::try_from(drawn.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);
    const LEASE: Duration = Duration::from_secs(10);

    #[test]
    fn a_seed_is_a_schedule() {
        for subject in [Subject::Ingress, Subject::Delivery] {
            assert_eq!(random(subject, 7, LONG, LEASE), random(subject, 7, LONG, LEASE));
            assert_ne!(random(subject, 7, LONG, LEASE), random(subject, 8, LONG, LEASE));
            assert_eq!(short(subject, 7, LEASE), short(subject, 7, LEASE));
        }
    }

    #[test]
    fn the_short_form_is_short_and_spares_no_store() {
        for seed in 0..100 {
            for subject in [Subject::Ingress, Subject::Delivery] {
                is_short_and_spares_no_store(&short(subject, seed, LEASE));
            }
        }
    }

    fn is_short_and_spares_no_store(steps: &[Step]) {
        let lasts: Duration = steps.iter().map(Step::lasts).sum();
        assert!(lasts < Duration::from_secs(40), "{lasts:?}");
        let faults: Vec<Fault> = steps.iter().flat_map(|step| step.0.clone()).collect();
        let suffers = |victim, harm| faults.iter().any(|fault| (fault.victim, fault.harm) == (victim, harm));
        let stores = [Victim::Postgres, Victim::S3, Victim::Kafka];
        assert!(stores.into_iter().any(|store| suffers(store, Harm::Kill)), "none is killed");
        assert!(stores.into_iter().any(|store| suffers(store, Harm::Pause)), "none is paused");
        for store in stores {
            assert!(faults.iter().any(|fault| fault.victim == store), "{store} is spared");
        }
    }

    #[test]
    fn in_delivery_workers_and_destinations_suffer_too() {
        let faults: Vec<Fault> =
            random(Subject::Delivery, 1, LONG, LEASE).into_iter().flat_map(|step| step.0).collect();
        let suffers = |victim, is_meant: fn(&Fault) -> bool| {
            faults.iter().any(|fault| fault.victim == victim && is_meant(fault))
        };
        assert!((0..WORKERS).any(|number| suffers(Victim::Worker(number), |fault| fault.harm == Harm::Kill)));
        let past_session = |fault: &Fault| fault.harm == Harm::Pause && fault.lasts.as_secs_f64() > SESSION;
        assert!((0..WORKERS).any(|number| suffers(Victim::Worker(number), past_session)));
        assert!(suffers(Victim::Receiver, |fault| fault.harm == Harm::Fails));
        assert!(suffers(Victim::Receiver, |fault| fault.harm == Harm::Hangs));
        assert!(suffers(Victim::Receiver, |fault| matches!(fault.harm, Harm::Network(_))));
        for store in [Store::Postgres, Store::S3] {
            assert!((0..WORKERS).any(|number| suffers(Victim::Way(number, store), |_| true)), "{store:?}");
        }
        // Nobody can kill or pause this process.
        assert!(!suffers(Victim::Receiver, |fault| matches!(fault.harm, Harm::Kill | Harm::Pause)));
        assert!(!faults.iter().any(|fault| matches!(fault.victim, Victim::Ingress(_))));
    }

    #[test]
    fn pairs_overlap_and_have_two_victims() {
        let steps = random(Subject::Ingress, 1, LONG, LEASE);
        let pairs: Vec<&Step> = steps.iter().filter(|step| step.0.len() == 2).collect();
        assert!(pairs.len() > steps.len() / 5);
        for Step(faults) in pairs {
            assert_ne!(faults[0].victim, faults[1].victim);
            assert!(faults[1].after < faults[0].end(), "{faults:?}");
        }
    }

    #[test]
    fn everything_suffers_in_every_way() {
        let faults: Vec<Fault> =
            random(Subject::Ingress, 1, LONG, LEASE).into_iter().flat_map(|step| step.0).collect();
        let suffers = |victim, is_meant: fn(Harm) -> bool| {
            faults.iter().any(|fault| fault.victim == victim && is_meant(fault.harm))
        };
        for victim in [Victim::Ingress(0), Victim::Ingress(1), Victim::Postgres, Victim::S3, Victim::Kafka] {
            assert!(suffers(victim, |harm| harm == Harm::Kill), "{victim} is never killed");
            assert!(suffers(victim, |harm| harm == Harm::Pause), "{victim} is never paused");
        }
        let networks: [fn(Harm) -> bool; 5] = [
            |harm| matches!(harm, Harm::Network(Mode::Cut)),
            |harm| matches!(harm, Harm::Network(Mode::Refuse)),
            |harm| matches!(harm, Harm::Network(Mode::Reset(_))),
            |harm| matches!(harm, Harm::Network(Mode::Delay(_))),
            |harm| matches!(harm, Harm::Network(Mode::HalfOpen(_))),
        ];
        for victim in [Victim::Postgres, Victim::S3, Victim::Kafka] {
            assert!(networks.iter().all(|network| suffers(victim, *network)), "{victim}");
        }
        assert!(faults.iter().any(|fault| fault.harm == Harm::Pause && fault.lasts > LEASE));
    }
}
