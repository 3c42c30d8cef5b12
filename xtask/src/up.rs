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
    stack::{
        self, Addresses, Daemon, Keycloak, Options, Progress, Spec, Stack, WhenDropped, daemon, port::Ports,
    },
    system::{Service, Settings},
};
use serde_json::json;

use crate::{
    cargo,
    demo::{self, Demo},
    folder,
    login::{self, Login},
    receiver,
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
        format!("{}/webhooks", self.url("receiver"))
    }

    pub(crate) fn url(&self, name: &str) -> String {
        url(&self.ports, name)
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
    keycloak: Keycloak,
    stores: Stack,
}

/// What a newcomer starts from.
struct Seeded {
    demo: Demo,
    login: Login,
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
    let (mut system, seeded) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            // What a detached start leaves running on purpose must not outlive its failure.
            stop_everything()?;
            return Err(error);
        }
    };
    announce(&system, &seeded, started.elapsed(), arguments.detach);
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

async fn start(arguments: &Arguments) -> Result<(System, Seeded)> {
    // Topics, schema, build, four services, receiver, demo, Keycloak, login.
    let progress = Progress::printed(Stack::STEPS + 11);
    let when_dropped = if arguments.detach { WhenDropped::Leave } else { WhenDropped::Stop };
    let options = Options { when_dropped, ..Options::for_people() };
    let (ports, smtp_port) = (ports()?, login::smtp_port(options)?);
    let (console_url, stores_folder) = (url(&ports, "management-api"), folder::stores());
    // Keycloak takes longest, and nobody needs it before somebody logs in: it starts beside all the rest.
    let (stores, mut keycloak) = tokio::try_join!(
        Stack::start(&stores_folder, &options, &progress),
        login::start(&console_url, smtp_port, &options, &progress)
    )?;
    let addresses = stores.addresses();
    progress.step("topics", kafka::create_topics(&addresses.kafka_brokers, "")).await?;
    let migrated = database::create_and_migrate(&addresses.postgres_url, DATABASE);
    let database_url = progress
        .step("schema", migrated)
        .await
        .context("the data in .stack may be of another version; `cargo xtask down --wipe` forgets them")?;
    let binaries = progress.step("building the services", cargo::build(arguments.release)).await?;
    let settings = settings(&ports, &addresses, &database_url, &keycloak)?;
    let plan = Plan { binaries, ports, settings, when_dropped };
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
    progress.step("Keycloak", keycloak.until_ready()).await?;
    let seeding = login::seed(&plan, keycloak.address(), management, &addresses.mailbox, &demo);
    let seeded = Seeded { login: progress.step("demo login", seeding).await?, demo };
    write_stack_json(&plan, &addresses, &keycloak, &seeded)?;
    Ok((System { services, receiver, keycloak, stores }, seeded))
}

fn ports() -> Result<Ports> {
    Ports::settle(
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
    )
}

fn settings(ports: &Ports, stores: &Addresses, database_url: &str, keycloak: &Keycloak) -> Result<Settings> {
    let mut settings = Settings::new(stores, database_url, &folder::master_key()?);
    settings.set("RAVENPOST_HOOK_BASE_URL", url(ports, "ingress"));
    settings.set("RAVENPOST_CONSOLE_URL", url(ports, "management-api"));
    settings.set("RAVENPOST_OIDC_ISSUER", keycloak.address().issuer());
    if let Ok(log) = std::env::var("RAVENPOST_LOG") {
        settings.set("RAVENPOST_LOG", log);
    }
    Ok(settings)
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
fn write_stack_json(plan: &Plan, stores: &Addresses, keycloak: &Keycloak, seeded: &Seeded) -> Result<()> {
    let Seeded { demo, login } = seeded;
    let content = json!({
        "ingress_url": plan.url("ingress"),
        "api_url": plan.url("management-api"),
        "oidc_issuer": keycloak.address().issuer(),
        "keycloak": keycloak.address(),
        "admin_urls": Service::ALL
            .iter()
            .map(|service| (service.name(), plan.url(&format!("{}-admin", service.name()))))
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
            "login": login.shown(),
        },
    });
    folder::write_secret(&folder::stack_json(), &serde_json::to_vec_pretty(&content)?)
}

fn url(ports: &Ports, name: &str) -> String {
    format!("http://127.0.0.1:{}", ports.get(name))
}

fn announce(system: &System, seeded: &Seeded, took: Duration, detached: bool) {
    let Seeded { demo, login } = seeded;
    println!("\nRavenpost runs (after {:.0} s).\n", took.as_secs_f32());
    for service in &system.services {
        println!("  {:<18} {}   operators: {}/metrics", service.name(), service.url(), service.admin_url());
    }
    println!("  {:<18} {}", "demo receiver", demo.receiver_url);
    println!("  {:<18} {}", "API key", demo.api_key);
    println!("  {:<18} {}", "issuer of logins", system.keycloak.address().issuer());
    println!("  {:<18} {}   password: {}", "demo login", login.email, login.password);
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
        let stores = system.stores.daemons().into_iter().chain([system.keycloak.daemon()]);
        for daemon in services.chain(stores) {
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
        system.keycloak.daemon().stop()?;
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
