//! Our binaries as processes: started with settings, awaited until ready, killed, paused, restarted.

use std::{
    net::Ipv4Addr,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::net::TcpStream;

use crate::{
    stack::{Daemon, Spec, WhenDropped, port},
    wait,
};

/// How long a service may take until it is ready.
pub const READY_BOUND: Duration = Duration::from_secs(60);

/// One running replica of a service.
#[derive(Debug)]
pub struct Process {
    daemon: Daemon,
    admin_port: u16,
    listen_port: Option<u16>,
}

/// Where a replica listens.
#[derive(Clone, Copy, Debug)]
pub struct Listens {
    /// `/livez`, `/readyz`, `/metrics`.
    pub admin: u16,
    /// `None` for a service that serves nobody.
    pub service: Option<u16>,
}

impl Listens {
    /// Free ports.
    pub fn anywhere(serves: bool) -> Result<Self> {
        Ok(Self { admin: port::free()?, service: serves.then(port::free).transpose()? })
    }
}

impl Process {
    /// Starts `program` under the name `name`, with log and pid file in `folder`. Doesn't wait: see
    /// [`Process::wait_until_ready`].
    pub fn spawn(
        name: &str,
        program: &Path,
        settings: &[(String, String)],
        listens: Listens,
        folder: &Path,
        when_dropped: WhenDropped,
    ) -> Result<Self> {
        let mut spec = Spec::new(name, program, folder);
        spec.environment = settings.to_vec();
        let mut set = |name: &str, value: String| {
            spec.environment.retain(|(candidate, _)| candidate != name);
            spec.environment.push((name.to_owned(), value));
        };
        set("RAVENPOST_ADMIN_ADDR", format!("127.0.0.1:{}", listens.admin));
        if let Some(port) = listens.service {
            set("RAVENPOST_LISTEN_ADDR", format!("127.0.0.1:{port}"));
        }
        // Longer than a service's own deadline for finishing.
        spec.stop_bound = Duration::from_secs(40);
        let daemon = Daemon::spawn(&spec, when_dropped)?;
        Ok(Self { daemon, admin_port: listens.admin, listen_port: listens.service })
    }

    pub fn name(&self) -> &str {
        self.daemon.name()
    }

    /// `http://127.0.0.1:…` of what it serves; of the admin port when it serves nobody.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    /// The port of what it serves; of the admin port when it serves nobody.
    pub fn port(&self) -> u16 {
        self.listen_port.unwrap_or(self.admin_port)
    }

    /// `http://127.0.0.1:…` of `/livez`, `/readyz` and `/metrics`.
    pub fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin_port)
    }

    /// The process: to be paused, resumed, killed, stopped, or its log read.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// Waits until `/readyz` says yes and, where it serves, until it listens. Ends at once, with the end of the log,
    /// when the process has died.
    pub async fn wait_until_ready(&mut self) -> Result<()> {
        let client = crate::http_client()?;
        let url = format!("{}/readyz", self.admin_url());
        let (daemon, listen_port) = (&mut self.daemon, self.listen_port);
        let what = format!("{} to be ready", daemon.name());
        let mut death = None;
        let waited = wait::until_true(&what, READY_BOUND, || {
            death = daemon.ensure_running().err();
            let (dead, asked) = (death.is_some(), client.get(&url).send());
            async move { Ok(dead || (asked.await?.status().is_success() && listens(listen_port).await)) }
        })
        .await;
        match death {
            Some(error) => Err(error),
            None => waited.with_context(|| self.daemon.log_tail()),
        }
    }

    /// Whether `/readyz` says yes now.
    pub async fn is_ready(&self) -> bool {
        let Ok(client) = crate::http_client() else { return false };
        let asked = client.get(format!("{}/readyz", self.admin_url())).send().await;
        asked.is_ok_and(|answer| answer.status().is_success())
    }

    /// `/metrics`, as text.
    pub async fn metrics(&self) -> Result<String> {
        let url = format!("{}/metrics", self.admin_url());
        Ok(crate::http_client()?.get(url).send().await?.error_for_status()?.text().await?)
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(&mut self) -> Result<()> {
        self.daemon.kill9()
    }

    /// SIGSTOP.
    pub fn pause(&self) -> Result<()> {
        self.daemon.pause()
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.daemon.resume()
    }

    /// SIGTERM, and its exit status. Waits without blocking the test's other tasks.
    pub fn terminate(&mut self, bound: Duration) -> Result<ExitStatus> {
        let status = tokio::task::block_in_place(|| self.daemon.terminate(bound))?;
        status.context("the process is not a child of this test")
    }

    /// Starts it again with the same settings on the same ports, and waits until it is ready.
    pub async fn restart(&mut self) -> Result<()> {
        self.start_again()?;
        self.wait_until_ready().await
    }

    /// Starts it again with the same settings on the same ports, and doesn't wait: a store may be away.
    pub fn start_again(&mut self) -> Result<()> {
        self.daemon.respawn()
    }
}

async fn listens(port: Option<u16>) -> bool {
    match port {
        Some(port) => TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok(),
        None => true,
    }
}

/// What a command of ours that ends by itself said.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// Standard output of a command that succeeded.
    pub fn into_stdout(self) -> Result<String> {
        anyhow::ensure!(self.status.success(), "{}: {}{}", self.status, self.stdout, self.stderr);
        Ok(self.stdout)
    }
}

/// Runs one of our binaries (see [`crate::workspace::binary`]) to its end, with nothing of our own settings but
/// `settings`.
pub async fn run(program: &Path, arguments: &[&str], settings: &[(String, String)]) -> Result<Outcome> {
    let mut command = tokio::process::Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RAVENPOST_")) {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .envs(settings.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(READY_BOUND, command.output()).await.with_context(|| {
        format!("{} {arguments:?} did not end within {READY_BOUND:?}", program.display())
    })??;
    Ok(Outcome {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
