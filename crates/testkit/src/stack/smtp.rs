//! A mail server that keeps what it gets: PyPI's `aiosmtpd` with a Maildir.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
};

use super::{
    daemon::{Daemon, Spec},
    install::{self, PythonPackage},
    port::Ports,
    {Options, progress::Progress},
};
use crate::{authority::Identity, wait};

/// The server of [`Smtp::start_guarded`].
const GUARDED: &str = include_str!("smtp.py");
const PACKAGE: PythonPackage = PythonPackage { name: "aiosmtpd", version: "1.4.6" };
const READY_BOUND: Duration = Duration::from_secs(30);

/// What a guarded mail server wants of those who mail.
#[derive(Clone, Copy)]
pub struct Guard<'a> {
    /// What it shows.
    pub identity: &'a Identity,
    /// Whether TLS comes first (`smtps://`), or with `STARTTLS`.
    pub implicit: bool,
    /// Who may mail.
    pub user: &'a str,
    /// By which password.
    pub password: &'a str,
}

/// A running mail sink.
#[derive(Debug)]
pub struct Smtp {
    daemon: Daemon,
    port: u16,
    mailbox: PathBuf,
}

impl Smtp {
    /// Starts the sink; mails are kept in `folder`.
    pub async fn start(folder: &Path, options: &Options, progress: &Progress) -> Result<Self> {
        let python = install::python(PACKAGE, progress).await?.join("bin/python");
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let mailbox = folder.join("mailbox");
        let mut spec = Spec::new("smtp", python, folder);
        if let Some(mut left_behind) = Daemon::find(&spec)? {
            left_behind.stop()?;
        }
        let port = Self::port_in(folder, options)?;
        spec = spec
            .arguments(["-m", "aiosmtpd", "--nosetuid", "--listen", &format!("127.0.0.1:{port}")])
            .arguments(["--class", "aiosmtpd.handlers.Mailbox"])
            .arguments([&mailbox]);
        let daemon = Daemon::spawn(&spec, options.when_dropped)?;
        let mut smtp = Self { daemon, port, mailbox };
        smtp.ready().await?;
        Ok(smtp)
    }

    /// Starts a server that takes mail over TLS alone, from those who log in.
    pub async fn start_guarded(
        folder: &Path,
        guard: Guard<'_>,
        options: &Options,
        progress: &Progress,
    ) -> Result<Self> {
        let python = install::python(PACKAGE, progress).await?.join("bin/python");
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        fs::write(&certificate, &guard.identity.certificate)?;
        fs::write(&key, &guard.identity.key)?;
        let (port, mailbox) = (Self::port_in(folder, options)?, folder.join("mailbox"));
        let mode = if guard.implicit { "implicit" } else { "starttls" };
        let spec = Spec::new("smtp", python, folder)
            .arguments(["-c", GUARDED, &port.to_string()])
            .arguments([&mailbox, &certificate, &key])
            .arguments([guard.user, guard.password, mode]);
        let daemon = Daemon::spawn(&spec, options.when_dropped)?;
        let mut smtp = Self { daemon, port, mailbox };
        if guard.implicit {
            smtp.listens().await?;
        } else {
            smtp.ready().await?;
        }
        Ok(smtp)
    }

    /// Which port a sink takes that is started in `folder`: for those who start beside it and mail to it.
    pub fn port_in(folder: &Path, options: &Options) -> Result<u16> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        Ok(Ports::settle(&folder.join("ports.json"), &[("smtp", options.usual(21_025))])?.get("smtp"))
    }

    /// `smtp://…`, as the notifier wants it.
    pub fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    /// The port on the loopback address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The Maildir with the received mails, for [`crate::mail::read`].
    pub fn mailbox(&self) -> &Path {
        &self.mailbox
    }

    /// The process, to be paused, killed or looked at.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// Starts it again on the same port.
    pub async fn restart(&mut self) -> Result<()> {
        self.daemon.respawn()?;
        self.ready().await
    }

    async fn listens(&mut self) -> Result<()> {
        let port = self.port;
        let daemon = &mut self.daemon;
        wait::until_true("the mail server to listen", READY_BOUND, || {
            let running = daemon.ensure_running();
            async move {
                running?;
                Ok(TcpStream::connect(("127.0.0.1", port)).await.is_ok())
            }
        })
        .await
        .with_context(|| self.daemon.log_tail())
    }

    async fn ready(&mut self) -> Result<()> {
        let port = self.port;
        let daemon = &mut self.daemon;
        wait::until_true("the mail sink to greet", READY_BOUND, || {
            let running = daemon.ensure_running();
            async move {
                running?;
                let mut greeting = String::new();
                let stream = TcpStream::connect(("127.0.0.1", port)).await?;
                BufReader::new(stream).read_line(&mut greeting).await?;
                Ok(greeting.starts_with("220"))
            }
        })
        .await
        .with_context(|| self.daemon.log_tail())
    }
}
