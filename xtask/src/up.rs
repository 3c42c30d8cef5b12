//! `cargo xtask up`: the whole system on this machine, from nothing to a curl that can be pasted.

use std::{
    fs,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use ravenpost_testkit::{
    database, kafka,
    process::{Listens, Process},
    receiver::Receiver,
    stack::{self, Addresses, Daemon, Options, Progress, Spec, Stack, WhenDropped, daemon, port::Ports},
    system::{Service, Settings},
};
use serde_json::json;

use crate::{
    cargo,
    demo::{self, Demo},
    folder, receiver,
    signals::Signals,
};

const DATABASE: &str = "ravenpost";
/// How often it is looked whether everything still runs.
const WATCH_INTERVAL: Duration = Duration::from_millis(300);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Return when everything is ready; `cargo xtask down` stops it
    #[arg(long)]
    detach: bool,
    /// Run the services as they are released
    #[arg(long)]
    release: bool,
}

/// Where everything will be.
pub(crate) struct Plan {
    binaries: PathBuf,
    ports: Ports,
    pub(crate) settings: Settings,
    when_dropped: WhenDropped,
}

impl Plan {
    pub(crate) fn binary(&self, service: Service) -> PathBuf {
        self.binaries.join(service.binary())
    }

    pub(crate) fn receiver_url(&self) -> String {
        format!("http://127.0.0.1:{}/webhooks", self.ports.get("receiver"))
    }

    fn listens(&self, service: Service) -> Listens {
        Listens {
            admin: self.ports.get(&format!("{}-admin", service.name())),
            service: service.serves().then(|| self.ports.get(service.name())),
        }
    }
}

/// A running system, in the order in which it is stopped.
struct System {
    services: Vec<Process>,
    receiver: DemoReceiver,
    stores: Stack,
}

enum DemoReceiver {
    /// Prints to this terminal.
    Here(#[expect(dead_code, reason = "serves until it is dropped")] Receiver),
    /// Prints to its log.
    Detached(Box<Daemon>),
}

pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    fs::create_dir_all(folder::logs())?;
    ensure_not_running()?;
    let started = Instant::now();
    let begun = tokio::select! {
        begun = start(arguments) => begun,
        () = signals.next() => Err(anyhow::anyhow!("interrupted")),
    };
    let (mut system, demo) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            // What a detached start leaves running on purpose must not outlive its failure.
            stop_everything()?;
            return Err(error);
        }
    };
    announce(&system, &demo, started.elapsed(), arguments.detach);
    if arguments.detach {
        return Ok(ExitCode::SUCCESS);
    }
    let died = tokio::select! {
        died = watch(&mut system) => Some(died),
        () = signals.next() => None,
    };
    if let Some(report) = &died {
        eprintln!("\n{report}");
    }
    eprintln!("\nStopping; the data stay. Again to kill.");
    stop(system, &mut signals).await?;
    Ok(if died.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Two systems on the same data would ruin it.
fn ensure_not_running() -> Result<()> {
    let running = Daemon::find_all(&folder::logs())?;
    let names: Vec<&str> = running.iter().map(Daemon::name).collect();
    ensure!(names.is_empty(), "already running: {}. `cargo xtask down` stops it.", names.join(", "));
    Ok(())
}

async fn start(arguments: &Arguments) -> Result<(System, Demo)> {
    // Topics, schema, build, four services, receiver, demo.
    let progress = Progress::printed(Stack::STEPS + 9);
    let when_dropped = if arguments.detach { WhenDropped::Leave } else { WhenDropped::Stop };
    let options = Options { when_dropped, ..Options::for_people() };
    let stores = Stack::start(&folder::stores(), &options, &progress).await?;
    let addresses = stores.addresses();
    progress.step("topics", kafka::create_topics(&addresses.kafka_brokers, "")).await?;
    let migrated = database::create_and_migrate(&addresses.postgres_url, DATABASE);
    let database_url = progress
        .step("schema", migrated)
        .await
        .context("the data in .stack may be of another version; `cargo xtask down --wipe` forgets them")?;
    let binaries = progress.step("building the services", cargo::build(arguments.release)).await?;
    let plan = plan(binaries, &addresses, &database_url, when_dropped)?;
    let receiver = progress.step("demo receiver", start_receiver(&plan)).await?;
    let mut services = spawn_services(&plan)?;
    for service in &mut services {
        let name = service.name().to_owned();
        progress.step(&name, service.wait_until_ready()).await?;
    }
    let management = services
        .iter()
        .find(|process| process.name() == Service::ManagementApi.name())
        .context("the management API is one of the services")?;
    let demo = progress.step("demo organization", demo::seed(&plan, management)).await?;
    write_stack_json(&plan, &addresses, &demo)?;
    Ok((System { services, receiver, stores }, demo))
}

fn plan(
    binaries: PathBuf,
    stores: &Addresses,
    database_url: &str,
    when_dropped: WhenDropped,
) -> Result<Plan> {
    let ports = Ports::settle(
        &folder::stack().join("ports.json"),
        &[
            ("ingress", Some(8080)),
            ("management-api", Some(8081)),
            ("ingress-admin", Some(9090)),
            ("delivery-worker-admin", Some(9091)),
            ("management-api-admin", Some(9092)),
            ("notifier-admin", Some(9093)),
            ("receiver", Some(8099)),
        ],
    )?;
    let mut settings = Settings::new(stores, database_url, &folder::master_key()?);
    settings.set("RAVENPOST_HOOK_BASE_URL", format!("http://127.0.0.1:{}", ports.get("ingress")));
    if let Ok(log) = std::env::var("RAVENPOST_LOG") {
        settings.set("RAVENPOST_LOG", log);
    }
    Ok(Plan { binaries, ports, settings, when_dropped })
}

async fn start_receiver(plan: &Plan) -> Result<DemoReceiver> {
    let port = plan.ports.get("receiver");
    if plan.when_dropped == WhenDropped::Leave {
        let spec = Spec::new("receiver", std::env::current_exe()?, &folder::logs()).arguments([
            "receiver".to_owned(),
            "--port".to_owned(),
            port.to_string(),
        ]);
        return Ok(DemoReceiver::Detached(Box::new(Daemon::spawn(&spec, WhenDropped::Leave)?)));
    }
    Ok(DemoReceiver::Here(receiver::start(port).await?))
}

fn spawn_services(plan: &Plan) -> Result<Vec<Process>> {
    let logs = folder::logs();
    let settings = plan.settings.pairs();
    Service::ALL
        .iter()
        .map(|service| {
            // A log tells of this run.
            let _ = fs::remove_file(logs.join(format!("{}.log", service.name())));
            let (program, listens) = (plan.binary(*service), plan.listens(*service));
            Process::spawn(service.name(), &program, &settings, listens, &logs, plan.when_dropped)
        })
        .collect()
}

/// What load generators, test suites and the README's curl start from.
fn write_stack_json(plan: &Plan, stores: &Addresses, demo: &Demo) -> Result<()> {
    let content = json!({
        "ingress_url": url(plan, "ingress"),
        "api_url": url(plan, "management-api"),
        "admin_urls": Service::ALL
            .iter()
            .map(|service| (service.name(), url(plan, &format!("{}-admin", service.name()))))
            .collect::<std::collections::BTreeMap<_, _>>(),
        "database_url": plan.settings.get("RAVENPOST_DATABASE_URL"),
        "stores": stores,
        "demo": {
            "organization_id": demo.organization_id,
            "api_key": demo.api_key,
            "endpoint_id": demo.endpoint_id,
            "hook_url": demo.hook_url,
            "secret": demo.secret,
            "signing_secret": demo.signing_secret,
            "receiver_url": demo.receiver_url,
        },
    });
    folder::write_secret(&folder::stack_json(), &serde_json::to_vec_pretty(&content)?)
}

fn url(plan: &Plan, name: &str) -> String {
    format!("http://127.0.0.1:{}", plan.ports.get(name))
}

fn announce(system: &System, demo: &Demo, took: Duration, detached: bool) {
    println!("\nRavenpost runs (after {:.0} s).\n", took.as_secs_f32());
    for service in &system.services {
        println!("  {:<18} {}   operators: {}/metrics", service.name(), service.url(), service.admin_url());
    }
    println!("  {:<18} {}", "demo receiver", demo.receiver_url);
    println!("  {:<18} {}", "API key", demo.api_key);
    println!("  {:<18} {}", "logs", folder::logs().display());
    println!("  {:<18} {}", "for programs", folder::stack_json().display());
    println!("\nSend a signed webhook (paste into bash):\n\n{}\n", demo::curl(demo));
    println!("See it:\n\ncurl -s -H 'Authorization: Bearer {}' {}\n", demo.api_key, events_url(system));
    if detached {
        println!("`cargo xtask down` stops it. What arrives at the demo receiver is in its log.");
    } else {
        println!("Ctrl-C stops it. What arrives at the demo receiver:\n");
    }
}

fn events_url(system: &System) -> String {
    let management = system.services.iter().find(|process| process.name() == Service::ManagementApi.name());
    format!("{}/api/v1/events", management.map(Process::url).unwrap_or_default())
}

/// Returns, with a report, when something has died.
async fn watch(system: &mut System) -> String {
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        let services = system.services.iter_mut().map(Process::daemon);
        for daemon in services.chain(system.stores.daemons()) {
            if let Err(error) = daemon.ensure_running() {
                return format!("{error:#}");
            }
        }
    }
}

/// Stops the services, then the stores; a second signal kills what is left.
async fn stop(mut system: System, signals: &mut Signals) -> Result<()> {
    let stopping = tokio::task::spawn_blocking(move || -> Result<()> {
        daemon::stop_together(system.services.iter_mut().map(Process::daemon))?;
        if let DemoReceiver::Detached(receiver) = &mut system.receiver {
            receiver.stop()?;
        }
        let _ = fs::remove_file(folder::stack_json());
        system.stores.stop()
    });
    tokio::pin!(stopping);
    tokio::select! {
        stopped = &mut stopping => stopped?,
        () = signals.next() => {
            for folder in [folder::logs(), folder::stores()] {
                for mut daemon in Daemon::find_all(&folder)? {
                    daemon.kill9()?;
                }
            }
            stopping.await?
        }
    }
}

fn stop_everything() -> Result<()> {
    stack::stop_all(&folder::logs())?;
    stack::stop_all(&folder::stores())?;
    Ok(())
}
