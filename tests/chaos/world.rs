//! The system under fault: its stores, its networks and its processes, and what was done to them when.

use std::{
    sync::{Mutex as BlockingMutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use futures::future::join_all;
use ravenpost_testkit::{
    fault::{FaultProxy, Mode},
    fragile::{Fragile, Network},
    process::Process,
    receiver::Answer,
    stack::{Daemon, Kafka, Postgres, SeaweedFs},
    system::{Service, System},
    wait,
};
use serde_json::{Value, json};
use tokio::{
    sync::{MappedMutexGuard, Mutex, MutexGuard},
    time::Instant,
};

use crate::{
    load::Load,
    producer::{self, Dialect, Endpoint},
    schedule::{Fault, Harm, REPLICAS, Step, Store, Subject, Victim},
    verdict::{Promise, Violation},
};

/// Endpoints of each dialect.
const ENDPOINTS: usize = 4;
/// What a lease has to be longer than Kafka's timeout, as ingress demands.
const ADOPTION_MARGIN: Duration = Duration::from_secs(5);
/// Within this after its stores are back a process is ready, and an ingress has accepted an event: "within seconds", on a
/// machine that others load too.
const RECOVERY: Duration = Duration::from_secs(20);

/// A system whose every part can be made to suffer. The stores are not its own: they outlive it.
pub(crate) struct World<'stores> {
    // Processes before the system, whose database goes with it.
    ingress: Vec<Mutex<Process>>,
    workers: Vec<Mutex<Process>>,
    others: Vec<Mutex<Process>>,
    pub(crate) system: System,
    pub(crate) endpoints: Vec<Endpoint>,
    stores: &'stores Fragile,
    /// In front of the destinations.
    receiver: FaultProxy,
    /// Between each worker and what all services see.
    ways: Vec<Ways>,
    journal: BlockingMutex<Vec<Entry>>,
}

/// One worker's ways to stores.
struct Ways {
    postgres: FaultProxy,
    s3: FaultProxy,
}

/// Something that was done or seen.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Since the Unix epoch.
    pub(crate) at: Duration,
    pub(crate) what: String,
}

impl<'stores> World<'stores> {
    pub(crate) async fn start(
        stores: &'stores Fragile,
        subject: Subject,
        workers: usize,
        lease: Duration,
    ) -> Result<Self> {
        let kafka_timeout = lease.saturating_sub(ADOPTION_MARGIN);
        let mut system = System::builder()
            .stores(stores.direct().clone())
            .services_see(stores.through().clone())
            .replicas(Service::Ingress, REPLICAS)
            .replicas(Service::DeliveryWorker, 0)
            .replicas(Service::Notifier, 0)
            .setting("RAVENPOST_ADOPT_AFTER", format!("{}s", lease.as_secs()))
            .setting("RAVENPOST_KAFKA_TIMEOUT", format!("{}s", kafka_timeout.as_secs()))
            .start()
            .await
            .context("the system does not start")?;
        let ways = add_workers(&mut system, &stores.network, workers).await?;
        let receiver = FaultProxy::start(&format!("127.0.0.1:{}", system.receiver.port())).await?;
        let endpoints = endpoints(&system, subject, &receiver).await?;
        let lock = |processes: &mut Vec<Process>| processes.drain(..).map(Mutex::new).collect();
        let (ingress, workers) = (lock(&mut system.ingress), lock(&mut system.workers));
        let (others, journal) = (lock(&mut system.management), BlockingMutex::default());
        Ok(Self { ingress, workers, others, system, endpoints, stores, receiver, ways, journal })
    }

    /// The base URL of each ingress.
    pub(crate) async fn ingress_urls(&self) -> Vec<String> {
        join_all(self.ingress.iter().map(async |process| process.lock().await.url())).await
    }

    pub(crate) fn journal(&self) -> Vec<Entry> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, what: String) {
        let entry = Entry { at: producer::now(), what };
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    /// Lets a step's faults happen, waits until its stores are back, and then until everybody has recovered.
    pub(crate) async fn suffer(&self, step: &Step, load: &Load) -> Result<Vec<Violation>> {
        for outcome in join_all(step.0.iter().map(|fault| self.suffer_one(fault))).await {
            outcome?;
        }
        self.until_whole().await?;
        self.note("all is whole".to_owned());
        let back = Instant::now();
        let numbered = self.ingress.iter().enumerate();
        let ingress = join_all(numbered.map(|(number, process)| recover(process, Some((load, number)))));
        let others = self.workers.iter().chain(&self.others);
        let others = join_all(others.map(|process| recover(process, None)));
        let (ingress, others) = tokio::join!(ingress, others);
        let mut violations = Vec::new();
        for recovery in ingress.into_iter().chain(others) {
            violations.extend(recovery?.map(|what| not_recovered(&what, step)));
        }
        self.note(format!("all have recovered after {:?}", back.elapsed()));
        Ok(violations)
    }

    async fn suffer_one(&self, fault: &Fault) -> Result<()> {
        tokio::time::sleep(fault.after).await;
        self.note(fault.to_string());
        match fault.harm {
            Harm::Kill => self.kill(fault.victim, fault.lasts).await,
            Harm::Pause => self.pause(fault.victim, fault.lasts).await,
            Harm::Network(mode) => self.disturb(fault.victim, mode, fault.lasts).await,
            Harm::Fails => self.answer(&Answer::status(500), fault.lasts).await,
            Harm::Hangs => self.answer(&Answer::hang(), fault.lasts).await,
        }
        .with_context(|| fault.to_string())?;
        self.note(format!("{} is back", fault.victim));
        Ok(())
    }

    /// Lets all destinations answer so for a while.
    async fn answer(&self, answer: &Answer, lasts: Duration) -> Result<()> {
        let all = |answer: &Answer| {
            for endpoint in &self.endpoints {
                self.system.receiver.script(&endpoint.destination, [answer.clone()]);
            }
        };
        all(answer);
        tokio::time::sleep(lasts).await;
        all(&Answer::ok());
        Ok(())
    }

    async fn kill(&self, victim: Victim, lasts: Duration) -> Result<()> {
        self.daemon(victim).await?.kill9()?;
        tokio::time::sleep(lasts).await;
        match victim {
            // It is ready when its stores are, which may suffer too.
            Victim::Ingress(number) => self.ingress[number].lock().await.start_again(),
            Victim::Worker(number) => self.workers[number].lock().await.start_again(),
            Victim::Receiver => bail!("the receiver is part of this process"),
            Victim::Way(..) => bail!("a network is not killed"),
            Victim::Postgres => self.stores.postgres.lock().await.restart().await,
            Victim::S3 => self.stores.s3.lock().await.restart().await,
            Victim::Kafka => self.stores.kafka.lock().await.restart().await,
        }
    }

    async fn pause(&self, victim: Victim, lasts: Duration) -> Result<()> {
        self.daemon(victim).await?.pause()?;
        tokio::time::sleep(lasts).await;
        self.daemon(victim).await?.resume()
    }

    async fn daemon(&self, victim: Victim) -> Result<MappedMutexGuard<'_, Daemon>> {
        Ok(match victim {
            Victim::Ingress(number) => MutexGuard::map(self.ingress[number].lock().await, Process::daemon),
            Victim::Worker(number) => MutexGuard::map(self.workers[number].lock().await, Process::daemon),
            Victim::Receiver => bail!("the receiver is part of this process"),
            Victim::Way(..) => bail!("a network is no process"),
            Victim::Postgres => MutexGuard::map(self.stores.postgres.lock().await, Postgres::daemon),
            Victim::S3 => MutexGuard::map(self.stores.s3.lock().await, SeaweedFs::daemon),
            Victim::Kafka => MutexGuard::map(self.stores.kafka.lock().await, Kafka::daemon),
        })
    }

    async fn disturb(&self, victim: Victim, mode: Mode, lasts: Duration) -> Result<()> {
        let network = self.network(victim).context("its network is not disturbed")?;
        network.set(mode);
        tokio::time::sleep(lasts).await;
        network.set(Mode::Pass);
        Ok(())
    }

    fn network(&self, victim: Victim) -> Option<&FaultProxy> {
        match victim {
            Victim::Ingress(_) | Victim::Worker(_) => None,
            Victim::Receiver => Some(&self.receiver),
            Victim::Way(number, Store::Postgres) => Some(&self.ways[number].postgres),
            Victim::Way(number, Store::S3) => Some(&self.ways[number].s3),
            Victim::Postgres => Some(&self.stores.network.postgres),
            Victim::S3 => Some(&self.stores.network.s3),
            Victim::Kafka => Some(&self.stores.network.kafka),
        }
    }

    /// Waits until every store serves, asked directly.
    async fn until_whole(&self) -> Result<()> {
        let (mut postgres, mut s3, mut kafka) =
            tokio::join!(self.stores.postgres.lock(), self.stores.s3.lock(), self.stores.kafka.lock());
        tokio::try_join!(postgres.until_ready(), s3.until_ready(), kafka.until_ready())?;
        Ok(())
    }
}

/// Starts workers that reach Postgres and S3 through networks of their own, and these through those that all see.
async fn add_workers(system: &mut System, network: &Network, count: usize) -> Result<Vec<Ways>> {
    let (database, s3) = ("RAVENPOST_DATABASE_URL", "RAVENPOST_S3_ENDPOINT");
    let all = [database, s3].map(|name| system.settings.get(name).unwrap_or_default().to_owned());
    let (seen, seen_s3) = (network.postgres.address(), network.s3.address());
    ensure!(all[0].contains(&seen) && all[1].contains(&seen_s3), "services see other stores: {all:?}");
    let mut ways = Vec::new();
    for _ in 0..count {
        let own = Ways { postgres: FaultProxy::start(&seen).await?, s3: FaultProxy::start(&seen_s3).await? };
        system.settings.set(database, all[0].replace(&seen, &own.postgres.address()));
        system.settings.set(s3, all[1].replace(&seen_s3, &own.s3.address()));
        system.add(Service::DeliveryWorker).await?;
        ways.push(own);
    }
    let [own_database, own_s3] = all;
    system.settings.set(database, own_database);
    system.settings.set(s3, own_s3);
    Ok(ways)
}

/// Waits until a process has recovered; tells what is wrong with one that does not, and starts it again as Kubernetes
/// would. An ingress comes with its number among the replicas of a load.
async fn recover(process: &Mutex<Process>, ingress: Option<(&Load, usize)>) -> Result<Option<String>> {
    let mut process = process.lock().await;
    let Some(wrong) = what_is_wrong(&mut process, ingress).await? else { return Ok(None) };
    let wrong = format!("{} {wrong}", process.name());
    process.restart().await?;
    Ok(Some(wrong))
}

/// Nothing, as soon as a process that did not end is ready, and accepts an event if it is an ingress.
async fn what_is_wrong(process: &mut Process, ingress: Option<(&Load, usize)>) -> Result<Option<String>> {
    if let Err(ended) = process.daemon().ensure_running() {
        return Ok(Some(format!("ended by itself: {ended:#}")));
    }
    let ready = wait::until_true("it to be ready", RECOVERY, || async { Ok(process.is_ready().await) });
    let wrong = match tokio::join!(ready, accepts(ingress)) {
        (_, Err(error)) => return Err(error),
        (Ok(()), Ok(true)) => return Ok(None),
        (Err(_elapsed), _) => format!("is not ready after {RECOVERY:?}"),
        (Ok(()), Ok(false)) => format!("is ready and has accepted nothing after {RECOVERY:?}"),
    };
    let ended = process.daemon().ensure_running().err();
    let why = ended.map(|error| format!("; {error:#}")).unwrap_or_default();
    Ok(Some(format!("{wrong}{why}")))
}

/// Whether an ingress accepts an event in time; who is none has nothing to accept.
async fn accepts(ingress: Option<(&Load, usize)>) -> Result<bool> {
    let Some((load, number)) = ingress else { return Ok(true) };
    Ok(load.until_accepted_by(number, RECOVERY).await?.is_some())
}

/// A destination that is tried again soon, and for longer than anything suffers.
async fn make_stubborn(system: &System, endpoint: &Value) -> Result<()> {
    let id = |pointer: &str| endpoint.pointer(pointer).and_then(Value::as_str).context("no id");
    let path = format!("/api/v1/endpoints/{}/destinations/{}", id("/id")?, id("/destinations/0/id")?);
    let retry_policy = json!({ "schedule": vec!["2s"; 29], "jitter": 0.5 });
    system.api.patch(&path, &json!({ "retry_policy": retry_policy, "timeout": "3s" })).await?;
    Ok(())
}

fn not_recovered(what: &str, step: &Step) -> Violation {
    let what = format!("{what}, after: {step}");
    Violation { promise: Promise::Recovered, what, original: None, events: [].into() }
}

async fn endpoints(system: &System, subject: Subject, receiver: &FaultProxy) -> Result<Vec<Endpoint>> {
    let mut endpoints = Vec::new();
    for number in 0..ENDPOINTS {
        for dialect in Dialect::ALL {
            let verification = match dialect {
                Dialect::StandardWebhooks => json!({ "type": "standard_webhooks" }),
                Dialect::GitHub => json!({ "type": "provider", "provider": "github" }),
                Dialect::IdempotencyKey => json!({ "type": "none" }),
            };
            let destination = format!("/{dialect:?}-{number}");
            let target = format!("http://{}{destination}", receiver.address());
            let created = system.create_endpoint(&destination, &target, verification).await?;
            if subject == Subject::Delivery {
                make_stubborn(system, &created).await?;
            }
            let hook_url = created["hook_url"].as_str().context("no hook_url")?;
            let hook = hook_url.find("/h/").map(|start| hook_url[start..].to_owned());
            endpoints.push(Endpoint {
                dialect,
                hook: hook.with_context(|| format!("not a hook URL: {hook_url}"))?,
                secret: created["secret"].as_str().unwrap_or_default().to_owned(),
                destination,
            });
        }
    }
    Ok(endpoints)
}
