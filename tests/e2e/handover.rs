//! Workers join and leave, die and are stopped under a steady load: nothing is lost, the ledger balances, and only what
//! was in the air at a fault arrives twice. How much that was is printed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use chrono::{DateTime, Utc};
use ravenpost_testkit::{
    kafka,
    ledger::ledger,
    receiver::{Answer, Received},
    system::{Service, System},
    wait,
};
use serde_json::json;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{
    pacing::owner,
    support::{
        BOUND, Endpoint, alone, by_event, endpoint, partitions, retries, sample, send, until_all_succeed,
        until_balanced,
    },
};

/// How long receivers take, one after the other: what is finished before its group has noticed anything, what is in the
/// air for most of a second, what is parked in the air, and what is in the air for longer than a partition is kept.
const ANSWERS_AFTER: [u64; 6] = [20, 150, 400, 900, 1_500, 5_000];
/// Two a partition, more or less.
const ENDPOINTS: usize = 24;
/// Between two events: some fifteen are in the air at any time.
const PACE: Duration = Duration::from_millis(40);
/// No fault takes so many.
const MOST_EVENTS: usize = 3_000;
/// Of an attempt that was answered before a worker died: so much later it is recorded for certain, on a machine that
/// others load too. It is told to Kafka first, and recorded together with others.
const UNRECORDED: Duration = Duration::from_secs(1);
/// A request that was sent before a worker died may be noted by the receiver so much later. Nobody else sends in its
/// place so soon.
const NOTED: Duration = Duration::from_secs(1);
/// What was parked in the air is due again ten seconds after its destination's time to answer, which is ten seconds here.
const IN_THE_AIR: Duration = Duration::from_secs(90);

/// Producers that go on until they are told to stop.
struct Load {
    is_over: Arc<AtomicBool>,
    producing: JoinHandle<Result<BTreeSet<String>>>,
}

impl Load {
    /// Begins, and waits until it is steady.
    async fn start(system: &System, endpoints: &[Endpoint]) -> Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let producing = tokio::spawn(produce(endpoints.to_vec(), Arc::clone(&is_over)));
        let load = Self { is_over, producing };
        load.goes_on(system).await?;
        Ok(load)
    }

    /// Waits until so much more has come that all endpoints had their turn.
    async fn goes_on(&self, system: &System) -> Result<()> {
        let before = system.receiver.received().len();
        system.receiver.wait_for(before + 2 * ENDPOINTS, BOUND).await?;
        ensure!(!self.producing.is_finished(), "nothing is produced any more");
        Ok(())
    }

    /// Ends; gives what was accepted.
    async fn stop(self) -> Result<BTreeSet<String>> {
        self.is_over.store(true, Ordering::Relaxed);
        self.producing.await?
    }
}

async fn produce(endpoints: Vec<Endpoint>, is_over: Arc<AtomicBool>) -> Result<BTreeSet<String>> {
    let (mut pace, mut sent) = (tokio::time::interval(PACE), BTreeSet::new());
    for endpoint in endpoints.iter().cycle().take(MOST_EVENTS) {
        if is_over.load(Ordering::Relaxed) {
            return Ok(sent);
        }
        pace.tick().await;
        sent.insert(send(endpoint, "{}").await?);
    }
    anyhow::bail!("{MOST_EVENTS} events have not sufficed")
}

async fn slow_endpoints(system: &System) -> Result<Vec<Endpoint>> {
    let mut endpoints = Vec::new();
    for (number, answers_after) in (0..ENDPOINTS).zip(ANSWERS_AFTER.into_iter().cycle()) {
        let path = format!("/{number}");
        system.receiver.script(&path, [Answer::ok().after(Duration::from_millis(answers_after))]);
        // Whoever is sent to again must be sent to for a fault, and for no deadline that a loaded machine has missed.
        let fields = json!({ "timeout": "10s", "retry_policy": retries(&["200ms"; 10]) });
        endpoints.push(endpoint(system, &path, fields).await?);
    }
    Ok(endpoints)
}

/// Waits until these workers have the same share of all partitions each.
async fn until_shared_by(system: &System, workers: &[usize]) -> Result<()> {
    let share = usize::try_from(kafka::PARTITIONS)? / workers.len();
    wait::until_true(&format!("workers {workers:?} to share all partitions"), BOUND, || async {
        let owned: Vec<usize> =
            workers.iter().map(|worker| partitions(system, *worker)).collect::<Result<_>>()?;
        Ok(owned.iter().all(|count| *count == share))
    })
    .await
}

fn now() -> Duration {
    ravenpost_testkit::clock::now()
}

/// What was done to a worker, and when.
struct Fault {
    from: Duration,
    to: Duration,
    /// The paths of what it had at that time; nothing else may suffer.
    victims: BTreeSet<String>,
}

impl Fault {
    /// What a worker suffers; `harm` is done between two looks at the clock.
    fn of(
        system: &mut System,
        endpoints: &[Endpoint],
        worker: usize,
        harm: impl FnOnce(&mut System) -> Result<()>,
    ) -> Result<Self> {
        let mut victims = BTreeSet::new();
        for (number, endpoint) in endpoints.iter().enumerate() {
            if owner(system, endpoint)? == worker {
                victims.insert(format!("/{number}"));
            }
        }
        let from = now();
        harm(system)?;
        Ok(Self { from, to: now(), victims })
    }

    /// Whether this request was in the air: it had been sent, and had not been answered long enough to be recorded.
    fn caught(&self, request: &Received) -> bool {
        self.victims.contains(&request.path)
            && begun(request) <= self.to + NOTED
            && request.answered.get().is_none_or(|answered| *answered + UNRECORDED >= self.from)
    }
}

/// When an attempt began. Its header tells in whole seconds, and counts only where the request itself came much later,
/// from a worker that stood still in between.
fn begun(request: &Received) -> Duration {
    let told = request.header("webhook-timestamp").and_then(|text| text.parse().ok());
    let told = told.map_or(request.at, Duration::from_secs);
    if told + NOTED + Duration::from_secs(1) < request.at { told } else { request.at }
}

/// What came more than once after a fault.
#[derive(Default)]
struct Repeats {
    kind: &'static str,
    events: usize,
    unanswered: usize,
    answered_after: usize,
    answered_before: usize,
    /// The longest that one had been answered before.
    longest: Duration,
    wrong: Vec<String>,
}

impl fmt::Display for Repeats {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, events, unanswered, answered_after, answered_before, longest, wrong } = self;
        let twice = unanswered + answered_after + answered_before + wrong.len();
        write!(
            formatter,
            "{kind}: of {events} events {twice} arrived twice: {unanswered} were in the air and never answered, \
             {answered_after} answered later, {answered_before} answered up to {longest:.0?} before and not \
             recorded, {} otherwise",
            wrong.len()
        )
    }
}

impl Repeats {
    /// Without a fault, none is right.
    fn count(
        kind: &'static str,
        arrived: &BTreeMap<String, Vec<Received>>,
        recorded: &BTreeMap<String, Duration>,
        fault: Option<&Fault>,
    ) -> Self {
        let mut repeats = Self { kind, events: arrived.len(), ..Self::default() };
        for (id, requests) in arrived.iter().filter(|(_, requests)| requests.len() > 1) {
            let caught = fault.and_then(|fault| Some((fault, requests.iter().find(|it| fault.caught(it))?)));
            let known = recorded.get(id).copied();
            match caught {
                Some((fault, request)) if requests.len() == 2 && known.is_none_or(|at| at >= fault.from) => {
                    repeats.note(fault, request);
                }
                _ => repeats.wrong.push(story(id, requests, known, fault)),
            }
        }
        repeats
    }

    fn note(&mut self, fault: &Fault, request: &Received) {
        match request.answered.get() {
            None => self.unanswered += 1,
            Some(answered) if *answered >= fault.from => self.answered_after += 1,
            Some(answered) => {
                self.answered_before += 1;
                self.longest = self.longest.max(fault.from.saturating_sub(*answered));
            }
        }
    }
}

/// When an event came and was answered and recorded, in seconds since the fault, or since it first came.
fn story(id: &str, requests: &[Received], recorded: Option<Duration>, fault: Option<&Fault>) -> String {
    let zero = fault.map_or(requests[0].at, |fault| fault.from).as_secs_f64();
    let since = |at: Duration| format!("{:.3}", at.as_secs_f64() - zero);
    let times: Vec<String> = requests
        .iter()
        .map(|it| {
            format!("{} to {}", since(it.at), it.answered.get().copied().map_or("never".to_owned(), since))
        })
        .collect();
    let recorded = recorded.map_or("never".to_owned(), since);
    format!("{id} on {} came {}; recorded at {recorded}", requests[0].path, times.join(", "))
}

/// When the first attempt of each event was recorded.
async fn recorded(system: &System) -> Result<BTreeMap<String, Duration>> {
    let pool = system.database.pool().await?;
    let rows: Vec<(Uuid, DateTime<Utc>)> =
        sqlx::query_as("select event_id, min(created_at) from deliveries group by event_id")
            .fetch_all(&pool)
            .await?;
    pool.close().await;
    rows.into_iter()
        .map(|(id, at)| Ok((id.to_string(), Duration::from_micros(at.timestamp_micros().try_into()?))))
        .collect()
}

/// What is delivered may be in the air a second time.
async fn nothing_is_in_the_air(system: &System) -> Result<()> {
    wait::until_true("the workers to have nothing in the air", BOUND, || async {
        for worker in &system.workers {
            // One that has ended does not answer.
            let Ok(metrics) = worker.metrics().await else { continue };
            if sample(&metrics, "ravenpost_delivery_in_flight ") != Some(0.0) {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await
}

/// All of it has arrived, nothing else has, the ledger balances, and what came twice was in the air.
async fn settle(
    kind: &'static str,
    system: &System,
    sent: &BTreeSet<String>,
    fault: Option<&Fault>,
) -> Result<()> {
    until_all_succeed(system, sent, IN_THE_AIR).await?;
    nothing_is_in_the_air(system).await?;
    let arrived = by_event(system.receiver.received());
    let ids: BTreeSet<String> = arrived.keys().cloned().collect();
    ensure!(ids == *sent, "lost: {:?}; never sent: {:?}", sent - &ids, &ids - sent);
    let told = ledger(system, &[]).await?;
    ensure!(told["balanced"] == true, "{told}");
    let repeats = Repeats::count(kind, &arrived, &recorded(system).await?, fault);
    // Past the test's captured output: it is told of a success, too.
    writeln!(std::io::stderr(), "{repeats}")?;
    ensure!(repeats.wrong.is_empty(), "{repeats}\n{}", repeats.wrong.join("\n"));
    // The next fault is judged by what comes after it.
    system.receiver.clear();
    Ok(())
}

/// Lets workers change hands under load while nothing fails: nothing may come twice.
async fn change(
    kind: &'static str,
    system: &mut System,
    endpoints: &[Endpoint],
    story: impl AsyncFnOnce(&mut System) -> Result<()>,
) -> Result<()> {
    let load = Load::start(system, endpoints).await?;
    story(system).await?;
    load.goes_on(system).await?;
    let sent = load.stop().await?;
    settle(kind, system, &sent, None).await
}

/// It has a row already, one that is due: the next owner must not find it so.
#[test]
fn what_was_taken_from_the_schedule_does_not_come_twice_either() {
    alone(System::builder(), async |system| {
        let (mut endpoints, mut sent) = (Vec::new(), BTreeSet::new());
        for number in 0..ENDPOINTS {
            let path = format!("/held/{number}");
            // Longer than it takes another worker to join and to look at what is due.
            system.receiver.script(&path, [Answer::ok().after(Duration::from_secs(20))]);
            let endpoint = endpoint(system, &path, json!({ "timeout": "40s" })).await?;
            system.api.post(&format!("{}/pause", endpoint.destination_path()), &json!(null)).await?;
            sent.insert(send(&endpoint, "{}").await?);
            endpoints.push(endpoint);
        }
        wait::until_true("all to be held", BOUND, || async {
            let held = system.database.number("select count(*) from scheduled_deliveries").await?;
            Ok(usize::try_from(held)? == ENDPOINTS)
        })
        .await?;
        for endpoint in &endpoints {
            system.api.post(&format!("{}/resume", endpoint.destination_path()), &json!(null)).await?;
        }
        system.receiver.wait_for(ENDPOINTS, BOUND).await?;
        system.add(Service::DeliveryWorker).await?;
        wait::until_true("the other one to own something", BOUND, || async {
            Ok(partitions(system, 1)? > 0)
        })
        .await?;
        ensure!(
            system.receiver.received().iter().any(|request| request.answered.get().is_none()),
            "all were answered before anything changed hands"
        );
        until_all_succeed(system, &sent, IN_THE_AIR).await?;
        nothing_is_in_the_air(system).await?;
        let arrived = by_event(system.receiver.received());
        ensure!(arrived.len() == ENDPOINTS, "{} events", arrived.len());
        let twice: Vec<&String> = arrived.iter().filter(|(_, all)| all.len() > 1).map(|(id, _)| id).collect();
        ensure!(twice.is_empty(), "came twice: {twice:?}");
        Ok(())
    });
}

#[test]
fn workers_join_and_leave_and_nothing_comes_twice() {
    alone(System::builder(), async |system| {
        let endpoints = slow_endpoints(system).await?;
        change("a second worker joins", system, &endpoints, async |system| {
            system.add(Service::DeliveryWorker).await?;
            until_shared_by(system, &[0, 1]).await
        })
        .await?;
        change("it leaves", system, &endpoints, async |system| {
            system.workers[1].terminate(BOUND)?;
            until_shared_by(system, &[0]).await
        })
        .await?;
        change("two more join", system, &endpoints, async |system| {
            system.add(Service::DeliveryWorker).await?;
            system.add(Service::DeliveryWorker).await?;
            until_shared_by(system, &[0, 2, 3]).await
        })
        .await?;
        change("all but one leave", system, &endpoints, async |system| {
            system.workers[0].terminate(BOUND)?;
            system.workers[2].terminate(BOUND)?;
            until_shared_by(system, &[3]).await
        })
        .await
    });
}

#[test]
fn a_worker_is_killed_and_only_what_it_had_in_the_air_comes_twice() {
    alone(System::builder().replicas(Service::DeliveryWorker, 2), async |system| {
        let endpoints = slow_endpoints(system).await?;
        until_balanced(system).await?;
        let load = Load::start(system, &endpoints).await?;
        let fault = Fault::of(system, &endpoints, 1, |system| system.workers[1].kill9())?;
        until_shared_by(system, &[0]).await?;
        load.goes_on(system).await?;
        let sent = load.stop().await?;
        settle("kill -9 of a worker", system, &sent, Some(&fault)).await
    });
}

#[test]
fn a_worker_is_stopped_past_its_session_and_only_what_it_had_in_the_air_comes_twice() {
    alone(System::builder().replicas(Service::DeliveryWorker, 2), async |system| {
        let endpoints = slow_endpoints(system).await?;
        until_balanced(system).await?;
        let load = Load::start(system, &endpoints).await?;
        let fault = Fault::of(system, &endpoints, 1, |system| system.workers[1].pause())?;
        until_shared_by(system, &[0]).await?;
        load.goes_on(system).await?;
        system.workers[1].resume()?;
        until_balanced(system).await?;
        load.goes_on(system).await?;
        let sent = load.stop().await?;
        settle("SIGSTOP of a worker, past its session, and SIGCONT", system, &sent, Some(&fault)).await
    });
}
