//! One Kafka broker (KRaft) from Maven Central.

use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    daemon::{Daemon, Spec, WhenDropped},
    install, java,
    port::Ports,
    {Options, progress::Progress},
};
use crate::wait;

const KAFKA: (&str, &str, &str) = ("org.apache.kafka", "kafka_2.13", "4.4.0");
const READY_BOUND: Duration = Duration::from_secs(90);
/// Java's memory, as much as Kafka's own scripts give it. With little for what is new it stands still every other second
/// under load to collect that. With little for the rest it collects all of it, for a tenth of a second: its cleaner keeps
/// 128 MiB there, and with 192 left each collection did so, with 384 none.
const HEAP: [&str; 3] = ["-Xms1g", "-Xmx1g", "-Xmn512m"];
/// The same for tests, of which several run at once, and whose brokers do little.
const SMALL_HEAP: [&str; 2] = ["-Xms128m", "-Xmx512m"];

/// A running Kafka broker.
#[derive(Debug)]
pub struct Kafka {
    daemon: Daemon,
    ports: Ports,
}

impl Kafka {
    /// Which version is started.
    pub const VERSION: &'static str = KAFKA.2;

    /// Starts a broker on the data in `folder`, which is made when it isn't there. Topics aren't created by use.
    pub async fn start(folder: &Path, options: &Options, progress: &Progress) -> Result<Self> {
        let installed = Installed::fetch(progress).await?;
        let (folder, options) = (folder.to_path_buf(), *options);
        let (spec, ports) =
            tokio::task::spawn_blocking(move || prepare(&installed, &folder, options)).await??;
        let daemon = Daemon::spawn(&spec, options.when_dropped)?;
        let mut kafka = Self { daemon, ports };
        kafka.until_ready().await?;
        Ok(kafka)
    }

    /// The value of `bootstrap.servers`.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.ports.get("kafka"))
    }

    /// Where the proxy of [`Options::kafka_proxy_port`] has to lead to.
    pub fn behind_proxy(&self) -> String {
        format!("127.0.0.1:{}", self.ports.get("behind-proxy"))
    }

    /// The process, to be paused, killed or looked at.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// Starts it again on the same ports, after [`Daemon::kill9`] or [`Daemon::stop`].
    pub async fn restart(&mut self) -> Result<()> {
        self.daemon.respawn()?;
        self.until_ready().await
    }

    /// Waits until it tells its metadata.
    pub async fn until_ready(&mut self) -> Result<()> {
        let brokers = self.brokers();
        let daemon = &mut self.daemon;
        wait::until("Kafka to tell its metadata", READY_BOUND, || {
            let running = daemon.ensure_running();
            let brokers = brokers.clone();
            async move {
                running?;
                crate::kafka::ping(&brokers).await?;
                Ok(Some(()))
            }
        })
        .await
        .with_context(|| self.daemon.log_tail())
    }
}

/// The jars and the Java that runs them.
struct Installed {
    java: PathBuf,
    kafka: PathBuf,
}

impl Installed {
    async fn fetch(progress: &Progress) -> Result<Self> {
        let java = java::home(progress).await?.join("bin/java");
        let (group, artifact, version) = KAFKA;
        let warm_java = java.clone();
        let kafka = install::part(&format!("{artifact}-{version}"), progress, move |folder| {
            install::maven_into(group, artifact, version, folder)?;
            archive_classes(&warm_java, folder);
            Ok(())
        })
        .await?;
        Ok(Self { java, kafka })
    }

    /// A Java that has Kafka's classes at hand.
    fn java(&self) -> Command {
        let mut command = Command::new(&self.java);
        command.args(self.java_arguments());
        command
    }

    fn java_arguments(&self) -> Vec<String> {
        let archive = self.kafka.join("classes.jsa");
        let mut arguments = vec!["-cp".to_owned(), format!("{}/lib/*", self.kafka.display())];
        if archive.is_file() {
            arguments.push(format!("-XX:SharedArchiveFile={}", archive.display()));
        }
        arguments
    }
}

/// Halves the time in which Kafka starts, on every start after this one: Java keeps the classes of a first run
/// in an archive. Only speed depends on it, so a failure is passed over.
fn archive_classes(java: &Path, folder: &Path) {
    let attempt = || -> Result<()> {
        // Java's own archive, which the second one builds on, isn't part of the package.
        install::run(Command::new(java).arg("-Xshare:dump"), "Java")?;
        let first_run = tempfile::tempdir()?;
        let installed = Installed { java: java.to_path_buf(), kafka: folder.to_path_buf() };
        let options = Options { when_dropped: WhenDropped::Stop, ..Options::for_tests() };
        let (mut spec, ports) = prepare(&installed, first_run.path(), options)?;
        spec.arguments
            .insert(0, format!("-XX:ArchiveClassesAtExit={}", folder.join("classes.jsa").display()).into());
        let mut daemon = Daemon::spawn(&spec, WhenDropped::Stop)?;
        let deadline = Instant::now() + READY_BOUND;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, ports.get("kafka"))).is_err() {
            daemon.ensure_running()?;
            if Instant::now() > deadline {
                bail!("Kafka did not start within {READY_BOUND:?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        daemon.stop()
    };
    if attempt().is_err() {
        let _ = fs::remove_file(folder.join("classes.jsa"));
    }
}

fn prepare(installed: &Installed, folder: &Path, options: Options) -> Result<(Spec, Ports)> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let properties = folder.join("server.properties");
    let logging = folder.join("log4j2.yaml");
    let mut spec = Spec::new("kafka", &installed.java, folder);
    if let Some(mut left_behind) = Daemon::find(&spec)? {
        left_behind.stop()?;
    }
    let ports = Ports::settle(
        &folder.join("ports.json"),
        &[("kafka", options.usual(29_092)), ("controller", None), ("behind-proxy", None)],
    )?;
    fs::write(&properties, server_properties(&folder.join("data"), &ports, options.kafka_proxy_port))?;
    fs::write(&logging, LOGGING)?;
    if !folder.join("data/meta.properties").is_file() {
        install::run(
            installed
                .java()
                .arg("kafka.tools.StorageTool")
                .args(["format", "--standalone", "--cluster-id", &cluster_id(), "--config"])
                .arg(&properties),
            "Java 17 or later",
        )?;
    }
    spec = spec
        .arguments(installed.java_arguments())
        .arguments(if options.durable { &HEAP[..] } else { &SMALL_HEAP })
        .arguments(["-XX:+UseSerialGC", "--sun-misc-unsafe-memory-access=allow"])
        .arguments([format!("-Dlog4j2.configurationFile={}", logging.display())])
        .arguments(["kafka.Kafka".into(), properties.into_os_string()]);
    Ok((spec, ports))
}

/// 16 random bytes, as Kafka writes its UUIDs.
fn cluster_id() -> String {
    // A leading `-` would be taken for an option.
    loop {
        let id = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>());
        if !id.starts_with('-') {
            return id;
        }
    }
}

fn server_properties(data: &Path, ports: &Ports, proxy: Option<u16>) -> String {
    let (broker, controller) = (ports.get("kafka"), ports.get("controller"));
    let mut listeners = format!("PLAINTEXT://127.0.0.1:{broker}");
    let mut advertised = listeners.clone();
    if let Some(proxy) = proxy {
        let _ = write!(listeners, ",PROXY://127.0.0.1:{}", ports.get("behind-proxy"));
        let _ = write!(advertised, ",PROXY://127.0.0.1:{proxy}");
    }
    format!(
        "\
process.roles=broker,controller
node.id=1
listeners={listeners},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={advertised}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXY:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=500
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.min.heartbeat.interval.ms=200
log.segment.bytes=67108864
",
        data.display()
    )
}

/// Warnings alone: a broker tells hundreds of lines while it starts.
const LOGGING: &str = "\
Configuration:
  status: ERROR
  Appenders:
    Console:
      name: standard-output
      PatternLayout:
        pattern: '%d{ISO8601} %p %c{1}: %m%n'
  Loggers:
    Root:
      level: WARN
      AppenderRef:
        ref: standard-output
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_ids_are_what_kafka_takes() {
        for _ in 0..200 {
            let id = cluster_id();
            assert_eq!(id.len(), 22);
            assert!(!id.starts_with('-'));
        }
    }
}
