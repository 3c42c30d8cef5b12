//! The whole system, fresh for one test: a database, a topic prefix and a key prefix of its own on the shared
//! stores, any number of each service on free ports, a destination, and a customer with an API key.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rand::{RngExt as _, distr::Alphanumeric};
use serde::Deserialize;

use crate::{
    api::Api,
    database::{Database, with_database},
    kafka, mail,
    process::{self, Listens, Process},
    receiver::Receiver,
    s3,
    stack::{self, Addresses, WhenDropped},
    workspace,
};

/// What one of our binaries is called, and whether it listens for anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Ingress,
    DeliveryWorker,
    ManagementApi,
    Notifier,
}

impl Service {
    pub const ALL: [Self; 4] = [Self::Ingress, Self::DeliveryWorker, Self::ManagementApi, Self::Notifier];

    /// The name of the service, of its folder and, after `ravenpost-`, of its binary.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::DeliveryWorker => "delivery-worker",
            Self::ManagementApi => "management-api",
            Self::Notifier => "notifier",
        }
    }

    pub fn binary(self) -> String {
        format!("ravenpost-{}", self.name())
    }

    /// Whether it has an address beside that for operators.
    pub fn serves(self) -> bool {
        matches!(self, Self::Ingress | Self::ManagementApi)
    }
}

/// What `management-api bootstrap` prints.
#[derive(Clone, Debug, Deserialize)]
pub struct Tenant {
    pub organization_id: String,
    pub api_key: String,
}

/// The settings under which every service finds the stores and the others.
#[derive(Clone, Debug)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// `database_url` is the system's own database; the rest is where the stores are.
    pub fn new(stores: &Addresses, database_url: &str, master_key: &str) -> Self {
        let settings = [
            ("DATABASE_URL", database_url),
            ("S3_ENDPOINT", &stores.s3.endpoint),
            ("S3_BUCKET", &stores.s3.bucket),
            ("S3_REGION", &stores.s3.region),
            ("S3_ACCESS_KEY_ID", &stores.s3.access_key_id),
            ("S3_SECRET_ACCESS_KEY", &stores.s3.secret_access_key),
            ("KAFKA_BROKERS", &stores.kafka_brokers),
            ("MASTER_KEY", master_key),
            // Destinations on this machine are what a local system is tried with.
            ("EGRESS_ALLOWED_NETWORKS", "127.0.0.0/8,::1/128"),
            ("SMTP_URL", &stores.smtp_url),
            ("SMTP_FROM", "ravenpost@example.com"),
        ];
        Self(
            settings.iter().map(|(name, value)| (format!("RAVENPOST_{name}"), (*value).to_owned())).collect(),
        )
    }

    /// Sets one; `name` is complete, with `RAVENPOST_`.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_owned(), value.into());
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// As pairs, for [`process::run`] and [`Process::spawn`].
    pub fn pairs(&self) -> Vec<(String, String)> {
        self.0.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

/// A new master key in the form of `RAVENPOST_MASTER_KEY`.
pub fn random_master_key() -> String {
    format!("k1:{}", STANDARD.encode(rand::random::<[u8; 32]>()))
}

/// Makes an organization with an API key that may do everything. `program` is the management API.
pub async fn bootstrap(program: &Path, settings: &Settings, organization: &str) -> Result<Tenant> {
    let arguments = ["bootstrap", "--organization", organization];
    let outcome = process::run(program, &arguments, &settings.pairs()).await?;
    let printed = outcome.into_stdout().context("bootstrap")?;
    let line =
        printed.lines().rev().find(|line| line.starts_with('{')).context("bootstrap printed no JSON")?;
    Ok(serde_json::from_str(line)?)
}

/// The binary of a service: from `folder`, else from where ours are.
fn program(folder: Option<&Path>, service: Service) -> Result<PathBuf> {
    match folder {
        Some(folder) => Ok(folder.join(service.binary())),
        None => workspace::binary(&service.binary()),
    }
}

/// How many of what a test wants.
#[derive(Clone, Debug)]
pub struct Builder {
    replicas: BTreeMap<&'static str, usize>,
    settings: Vec<(String, String)>,
    stores: Option<Addresses>,
    binaries: Option<PathBuf>,
    services_see: Option<Addresses>,
}

impl Builder {
    /// How many replicas of a service; by default one of each.
    #[must_use]
    pub fn replicas(mut self, service: Service, count: usize) -> Self {
        self.replicas.insert(service.name(), count);
        self
    }

    /// A setting for all services, for example `RAVENPOST_LOG`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: impl Into<String>) -> Self {
        self.settings.push((name.to_owned(), value.into()));
        self
    }

    /// Other stores than the shared ones: private ones, or shared ones behind a [`crate::fault::FaultProxy`]. The
    /// database, topics and prefixes are made through these addresses.
    #[must_use]
    pub fn stores(mut self, stores: Addresses) -> Self {
        self.stores = Some(stores);
        self
    }

    /// Binaries from another folder than that of [`workspace::binaries`], to compare builds.
    #[must_use]
    pub fn binaries(mut self, folder: impl Into<PathBuf>) -> Self {
        self.binaries = Some(folder.into());
        self
    }

    /// Where services are told that these stores are: behind networks that fail ([`crate::fragile::Fragile`]).
    #[must_use]
    pub fn services_see(mut self, stores: Addresses) -> Self {
        self.services_see = Some(stores);
        self
    }

    /// Starts everything and waits until all of it is ready.
    pub async fn start(self) -> Result<System> {
        let stores = match self.stores {
            Some(stores) => stores,
            None => stack::shared().await?.clone(),
        };
        let random: String = rand::rng().sample_iter(Alphanumeric).take(8).map(char::from).collect();
        let name = format!("t{}", random.to_lowercase());
        let database = Database::fresh(&stores).await?;
        kafka::create_topics(&stores.kafka_brokers, &format!("{name}.")).await?;
        let folder = stack::shared_folder().join("systems").join(&name);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;

        let ingress = Listens::anywhere(true)?;
        let seen = self.services_see.as_ref().unwrap_or(&stores);
        let database_url = with_database(&seen.postgres_url, database.name())?;
        let mut settings = Settings::new(seen, &database_url, &random_master_key());
        settings.set("RAVENPOST_KAFKA_TOPIC_PREFIX", format!("{name}."));
        settings.set("RAVENPOST_S3_KEY_PREFIX", format!("{name}/"));
        let hook_port = ingress.service.context("ingress serves")?;
        settings.set("RAVENPOST_HOOK_BASE_URL", format!("http://127.0.0.1:{hook_port}"));
        for (name, value) in &self.settings {
            settings.set(name, value);
        }
        let management_api = program(self.binaries.as_deref(), Service::ManagementApi)?;
        let tenant = bootstrap(&management_api, &settings, "First Organization").await?;
        let mut system = System {
            ingress: Vec::new(),
            workers: Vec::new(),
            management: Vec::new(),
            notifiers: Vec::new(),
            api: Api::new("http://127.0.0.1:1", Some(tenant.api_key.clone()))?,
            receiver: Receiver::start().await?,
            tenant,
            settings,
            stores,
            name,
            folder,
            binaries: self.binaries,
            keep_logs: false,
            database,
        };
        system.start_services(&self.replicas, ingress).await?;
        Ok(system)
    }
}

/// A running system. Dropping it kills its processes and drops its database.
pub struct System {
    // In the order in which they are dropped: processes before what they use.
    pub ingress: Vec<Process>,
    pub workers: Vec<Process>,
    pub management: Vec<Process>,
    pub notifiers: Vec<Process>,
    /// The first organization's view.
    pub api: Api,
    /// A destination that answers 200 to whatever has no script.
    pub receiver: Receiver,
    pub tenant: Tenant,
    pub settings: Settings,
    pub stores: Addresses,
    /// Starts with `t`; the topic prefix is `<name>.`, the key prefix `<name>/`.
    name: String,
    folder: PathBuf,
    binaries: Option<PathBuf>,
    keep_logs: bool,
    pub database: Database,
}

impl System {
    /// Everything once, unless told otherwise.
    pub fn builder() -> Builder {
        Builder {
            replicas: Service::ALL.iter().map(|service| (service.name(), 1)).collect(),
            settings: Vec::new(),
            stores: None,
            binaries: None,
            services_see: None,
        }
    }

    /// One of each service.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    async fn start_services(
        &mut self,
        replicas: &BTreeMap<&str, usize>,
        first_ingress: Listens,
    ) -> Result<()> {
        for service in Service::ALL {
            for number in 0..replicas[service.name()] {
                let listens = if service == Service::Ingress && number == 0 {
                    first_ingress
                } else {
                    Listens::anywhere(service.serves())?
                };
                let process = self.spawn(service, number, listens)?;
                self.replicas_of(service).push(process);
            }
        }
        for service in Service::ALL {
            for process in self.replicas_of(service) {
                process.wait_until_ready().await?;
            }
        }
        if let Some(management) = self.management.first() {
            self.api = Api::new(management.url(), Some(self.tenant.api_key.clone()))?;
        }
        Ok(())
    }

    fn spawn(&self, service: Service, number: usize, listens: Listens) -> Result<Process> {
        let name = format!("{}-{number}", service.name());
        let settings = self.settings.pairs();
        let program = program(self.binaries.as_deref(), service)?;
        Process::spawn(&name, &program, &settings, listens, &self.folder, WhenDropped::Kill)
    }

    /// Starts one more replica and waits until it is ready.
    pub async fn add(&mut self, service: Service) -> Result<()> {
        let number = self.replicas_of(service).len();
        let mut process = self.spawn(service, number, Listens::anywhere(service.serves())?)?;
        process.wait_until_ready().await?;
        self.replicas_of(service).push(process);
        Ok(())
    }

    /// The replicas of a service.
    pub fn replicas_of(&mut self, service: Service) -> &mut Vec<Process> {
        match service {
            Service::Ingress => &mut self.ingress,
            Service::DeliveryWorker => &mut self.workers,
            Service::ManagementApi => &mut self.management,
            Service::Notifier => &mut self.notifiers,
        }
    }

    /// The full name of a topic, from one of `ravenpost_core::topic`.
    pub fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.name)
    }

    /// The messages that are in a topic now.
    pub async fn messages(&self, topic: &str) -> Result<Vec<kafka::Message>> {
        kafka::messages(&self.stores.kafka_brokers, &self.topic(topic)).await
    }

    /// What the keys of this system's objects begin with.
    pub fn key_prefix(&self) -> String {
        format!("{}/", self.name)
    }

    /// The keys of this system's objects, without its prefix.
    pub async fn object_keys(&self) -> Result<Vec<String>> {
        let prefix = self.key_prefix();
        let keys = s3::keys(&self.stores.s3, &prefix).await?;
        Ok(keys.iter().map(|key| key[prefix.len()..].to_owned()).collect())
    }

    /// The mails sent to an address; take one of this test's own, as the sink is shared.
    pub fn mails_to(&self, address: &str) -> Result<Vec<mail::Mail>> {
        let mut mails = mail::read(&self.stores.mailbox)?;
        mails.retain(|mail| mail.to.contains(address));
        Ok(mails)
    }

    /// Another organization, and its view of the API.
    pub async fn another_organization(&self, name: &str) -> Result<(Tenant, Api)> {
        let program = program(self.binaries.as_deref(), Service::ManagementApi)?;
        let tenant = bootstrap(&program, &self.settings, name).await?;
        let api = self.api.with_key(Some(tenant.api_key.clone()));
        Ok((tenant, api))
    }

    /// Creates an endpoint through the API; gives what it answered (`id`, `hook_url`, `secret`, `destinations`).
    pub async fn create_endpoint(
        &self,
        name: &str,
        target_url: &str,
        verification: serde_json::Value,
    ) -> Result<serde_json::Value> {
        let body =
            serde_json::json!({ "name": name, "target_url": target_url, "verification": verification });
        self.api.post("/api/v1/endpoints", &body).await
    }

    /// Where the logs of the services are. Kept when the test has failed by a panic, or by [`System::keep_logs`].
    pub fn logs(&self) -> &Path {
        &self.folder
    }

    /// Lets the logs stay where they are.
    pub fn keep_logs(&mut self) {
        self.keep_logs = true;
    }
}

impl Drop for System {
    fn drop(&mut self) {
        for process in [&mut self.ingress, &mut self.workers, &mut self.management, &mut self.notifiers] {
            process.clear();
        }
        if !std::thread::panicking() && !self.keep_logs {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}
